"""A command, setting or metric without documentation fails here."""

import re
import tomllib
from pathlib import Path

import typer

from consumer.commands.app import app
from consumer.commands.upkeep import write_reference
from consumer.health.metrics import PictureCollector
from tests.unit.pictures import full_picture

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands() -> list[tuple[str, set[str]]]:
    """Every command with its options, as a person types it."""
    found: list[tuple[str, set[str]]] = []

    def walk(group: object, path: str) -> None:
        for name, command in getattr(group, "commands", {}).items():
            here = f"{path} {name}"
            if getattr(command, "commands", None):
                walk(command, here)
            else:
                options = {o for p in command.params for o in p.opts if o.startswith("--")}
                found.append((here, options))

    walk(typer.main.get_command(app), "dayfold")
    return found


def test_every_command_and_option_is_documented() -> None:
    text = (DOCS / "commands.md").read_text()
    sections = dict(
        re.findall(r"^## `(dayfold [^`]+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    )
    for name, options in commands():
        section = next(
            (body for head, body in sections.items() if head.split(" [")[0].startswith(name)), None
        )
        assert section is not None, f"docs/commands.md has no section for `{name}`"
        missing = {o for o in options - {"--config", "--json"} if f"`{o}" not in section}
        assert not missing, f"docs/commands.md: {name} does not mention {sorted(missing)}"


def test_every_setting_is_documented_as_it_is(tmp_path: Path) -> None:
    write_reference(tmp_path / "settings.md")
    assert (DOCS / "settings.md").read_text() == (tmp_path / "settings.md").read_text()


def test_every_metric_is_documented() -> None:
    text = (DOCS / "metrics.md").read_text()
    for metric in PictureCollector(full_picture, lambda _picture: True).collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        assert f"| `{name}` | {metric.type} |" in text
        assert metric.documentation in text


def test_every_dependency_has_its_reason_in_contributing() -> None:
    top = DOCS.parent
    project = tomllib.loads((top / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"`([a-z0-9-]+)`", (top / "CONTRIBUTING.md").read_text()))
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    missing = {re.split(r"[<>=\[]", one)[0] for one in wanted} - named
    assert not missing


def test_what_the_delivery_contract_calls_its_tests_exists() -> None:
    text = (DOCS / "delivery.md").read_text()
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", (DOCS.parent / "Makefile").read_text(), re.MULTILINE)
    tests = {path.name for path in (DOCS.parent / "tests").rglob("test_*.py")}
    named = set(re.findall(r"`(test_\w+\.py)`", (DOCS / "delivery.md").read_text()))
    assert named
    assert not named - tests


def test_every_test_that_the_conformance_page_names_exists() -> None:
    named = set(re.findall(r"tests/[\w/.]+", (DOCS / "conformance.md").read_text()))
    assert len(named) > 15
    assert not [path for path in named if not (DOCS.parent / path).exists()]
