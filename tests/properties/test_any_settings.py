"""Settings of any kind: those that can be meant load as they are, all others are refused by name."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.errors import ConfigurationError
from consumer.setting_section import LARGEST
from consumer.settings import Settings, load, reference

# One key of each kind, with values that it takes. Pairs that depend on each other are left out.
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "data.min_free_mb": st.integers(0, LARGEST),
    "registry.component": st.text(max_size=20),
    "registry.etcd.timeout_s": st.floats(1e-3, 1e6),
    "registry.http.urls": st.lists(st.text(max_size=20), max_size=3).map(tuple),
    "subscriber.handover_mb": st.integers(1, 10_000),
    "subscriber.heartbeat_ms": st.integers(100, 5_999),
    "day.timezone": st.sampled_from(["UTC", "Europe/Madrid", "Asia/Kathmandu"]),
    "day.clock": st.sampled_from(["wall", "event"]),
    "day.grace_s": st.floats(0, 1e6),
    "journal.segment_mb": st.integers(1, 4096),
    "quarantine.max_age_days": st.floats(1e-3, 36_500),
    "fold.memory_mb": st.integers(512, 10**6),
    "fold.nice": st.integers(0, 19),
    "fold.idle": st.booleans(),
    "api.port": st.integers(0, 65_535),
    "log.level": st.sampled_from(["debug", "info", "warning", "error"]),
}
# What none of them takes; `[]` and `{}` are no single value either.
WRONG = st.one_of(
    st.dates(),
    st.lists(st.integers(), min_size=1, max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), min_size=1, max_size=2),
    st.sampled_from([math.nan, math.inf, -math.inf, -1, -0.5, 10**12, 1 << 20_000, "\0", "\n"]),
)
KNOWN = {entry.key for entry in reference()}
TABLES = {key.rsplit(".", 1)[0] for key in KNOWN}


def literal(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        safe = "".join(
            c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08X}" for c in value
        )
        return f'"{safe}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)} = {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and value > 10**18:
        return hex(value)
    return repr(value)


def toml(values: dict[str, object]) -> str:
    """Values by dotted key, as a file."""
    return "".join(f"{key} = {literal(value)}\n" for key, value in values.items())


def at(settings: object, key: str) -> object:
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "dayfold.toml"


def refusal(path: Path, text: str) -> list[str]:
    """The lines with which a file is refused."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load(path)
    return str(refused.value).split("\n")


@examples(max_examples=40)
@given(values=st.fixed_dictionaries({}, optional=GOOD))
def test_what_can_be_meant_is_loaded_as_it_is_written(path: Path, values: dict[str, Any]) -> None:
    path.write_text(toml(values), encoding="utf-8")
    settings = load(path)
    assert {key: at(settings, key) for key in values} == values
    # What was not said is as it would be without the file.
    plain = Settings().model_dump()
    told = settings.model_dump()
    for key in KNOWN - values.keys() - {"data.dir"}:
        section, _, rest = key.partition(".")
        assert _in(told[section], rest) == _in(plain[section], rest), key


def _in(values: dict[str, Any], key: str) -> object:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found


@examples(max_examples=40)
@given(
    good=st.fixed_dictionaries({}, optional=GOOD),
    bad=st.dictionaries(st.sampled_from(sorted(GOOD)), WRONG, min_size=1, max_size=3),
)
def test_what_cannot_be_meant_is_refused_with_one_line_for_each_key(
    path: Path, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    bad = {key: value for key, value in bad.items() if not _takes(key, value)}
    if not bad:
        return
    lines = refusal(path, toml({**good, **bad}))
    assert {line.split(":")[0] for line in lines} >= bad.keys() - _paired(lines)
    for line in lines:
        name = line.split(":")[0]
        assert any(name == key or name.startswith(f"{key}.") for key in bad), line
        assert len(line) < 400


def _takes(key: str, value: object) -> bool:
    """Whether a value that is wrong for most keys is right for this one."""
    if key == "registry.component":
        return isinstance(value, str)
    if key in {"day.grace_s", "registry.etcd.timeout_s", "quarantine.max_age_days"}:
        return False
    return key == "registry.http.urls" and isinstance(value, list) and not value


def _paired(lines: list[str]) -> set[str]:
    """Keys of a list whose lines name the item."""
    return {line.split(":")[0].rsplit(".", 1)[0] for line in lines}


@examples(max_examples=40)
@given(
    table=st.sampled_from([*sorted(TABLES), ""]),
    name=st.text(min_size=1, max_size=12)
    | st.sampled_from(["_env_file", "_cli_parse_args", "_case_sensitive", "model_config"]),
)
def test_an_unknown_key_is_refused_by_its_path(path: Path, table: str, name: str) -> None:
    whole = f"{table}.{name}" if table else name
    if whole in KNOWN or any(known.startswith(f"{whole}.") for known in KNOWN | TABLES):
        return
    (line,) = refusal(path, f"{table}{'.' if table else ''}{literal(name)} = 1\n")
    shown = name if name.isprintable() else repr(name)
    assert line == f"{whole[: len(whole) - len(name)]}{shown}: {UNKNOWN}"


UNKNOWN = "unknown key; see `dayfold config reference`"


@examples(max_examples=40)
@given(text=st.text(max_size=60))
def test_a_file_of_any_text_is_read_or_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with suppress(ConfigurationError):
        load(path)


@pytest.mark.parametrize(
    "text",
    ["fold.nice = " + "9" * 5000, "fold.nice = 0x" + "f" * 9000, "a = " + "[" * 5000],
    ids=["more digits than Python reads", "more digits than Python writes", "a deep nest"],
)
def test_what_the_parser_itself_cannot_take_is_refused(path: Path, text: str) -> None:
    assert all(len(line) < 1000 for line in refusal(path, text))


def test_an_environment_variable_that_is_no_json_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYFOLD_DETECTOR__ENDPOINTS", "[{")
    (line,) = refusal(path, "")
    assert line.startswith("environment: ")
    assert "detector" in line


def test_yes_and_no_are_no_numbers(path: Path) -> None:
    assert refusal(path, "day.grace_s = true") == ["day.grace_s: a number is needed (value: True)"]
