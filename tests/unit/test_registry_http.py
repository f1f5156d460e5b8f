from pathlib import Path

import pytest

from consumer.clock import SystemClock
from consumer.errors import ConfigurationError
from consumer.registry.base import DetectorEntry
from consumer.registry.choice import open_registry, shown_settings
from consumer.registry.entries import MalformedError
from consumer.registry.http import HttpRegistry
from consumer.registry.http_answers import (
    MAX_COMPONENTS,
    MAX_ENDPOINTS,
    read_components,
    read_config,
)
from consumer.registry.http_directory import MAX_KEYS, HttpDirectory
from consumer.registry.options import HttpOptions, host_and_port
from consumer.settings import Settings, load

ENTRY = DetectorEntry("ml-detector", ("tcp://a:1",))


@pytest.fixture
def directory() -> HttpDirectory:
    made = HttpDirectory("ml-detector")
    made.registered()
    return made


def test_a_url_has_host_and_port() -> None:
    assert host_and_port("http://registry.example:2379") == ("registry.example", 2379)
    assert host_and_port("http://[::1]:2379") == ("::1", 2379)
    assert HttpOptions(("http://a:1/",)).urls == ("http://a:1",)


@pytest.mark.parametrize(
    ("urls", "fault"),
    [
        ((), "urls is empty"),
        (("https://a:1",), "asks for TLS"),
        (("a:1",), "is not http://host:port"),
        (("http://a",), "is not http://host:port"),
        (("http://:1",), "is not http://host:port"),
        (("http://a:x",), "is not http://host:port"),
        (("http://a:99999",), "is not http://host:port"),
        (("http://a:1/path",), "is not http://host:port"),
        (("http://a:1?q",), "is not http://host:port"),
        (("http://a..b:1",), "is not http://host:port"),
        (("http://[::1:1",), "is not http://host:port"),
        (("http://user:secret@a:1",), "has a user or password"),
    ],
)
def test_a_url_that_cannot_work_is_refused(urls: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault) as refused:
        HttpOptions(urls)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("heartbeat_s", "timeout_s"), [(0.0, 5.0), (46.0, 5.0), (30.0, 0.0)])
def test_times_that_cannot_work_are_refused(heartbeat_s: float, timeout_s: float) -> None:
    with pytest.raises(ConfigurationError, match=r"registry\.http: "):
        HttpOptions(heartbeat_s=heartbeat_s, timeout_s=timeout_s)


def test_the_settings_choose_it(tmp_path: Path) -> None:
    path = tmp_path / "dayfold.toml"
    path.write_text(
        '[registry]\nkind = "http"\n[registry.http]\nurls = ["http://a:1"]\nheartbeat_s = 10\n'
    )
    made = open_registry(load(path), "one", SystemClock())
    assert isinstance(made, HttpRegistry)
    assert made.facts().kind == "http"


def test_a_heartbeat_that_would_lose_us_is_refused_in_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "dayfold.toml"
    path.write_text("[registry.http]\nheartbeat_s = 60\n")
    with pytest.raises(ConfigurationError, match=r"registry\.http\.heartbeat_s"):
        load(path)


def test_a_detectors_name_that_cannot_be_one_is_refused() -> None:
    settings = Settings.model_validate(
        {"registry": {"kind": "http", "http": {"detectors": ["a/b"]}}}
    )
    with pytest.raises(ConfigurationError, match="a/b"):
        open_registry(settings, "one", SystemClock())


def test_what_others_see_of_our_settings_holds_no_secret_and_no_path() -> None:
    settings = Settings.model_validate(
        {
            "data": {"dir": "/srv/hidden"},
            "api": {"token": "hidden"},
            "detector": {"keys": [{"id": "k", "scheme": "secretbox-v0", "hex": "ab" * 32}]},
        }
    )
    shown = str(shown_settings(settings))
    assert "hidden" not in shown
    assert "ab" * 32 not in shown


def test_a_detector_is_gone_after_two_answers_without_it(directory: HttpDirectory) -> None:
    directory.take_detector("ml-detector", ENTRY)
    assert not directory.take_detector("ml-detector", None)
    assert directory.detectors() == [ENTRY]
    assert directory.take_detector("ml-detector", None)
    assert directory.detectors() == []


def test_an_absence_that_was_not_the_last_word_does_not_count(directory: HttpDirectory) -> None:
    for _ in range(3):
        directory.take_detector("ml-detector", ENTRY)
        directory.take_detector("ml-detector", None)
    assert directory.detectors() == [ENTRY]


def test_a_detector_is_kept_after_we_registered_anew(directory: HttpDirectory) -> None:
    directory.take_detector("ml-detector", ENTRY)
    directory.take_detector("ml-detector", None)
    directory.registered()
    for _ in range(5):
        assert not directory.take_detector("ml-detector", None)
    assert directory.detectors() == [ENTRY]


def test_a_flood_of_keys_keeps_the_newest_and_those_handed_out_now(
    directory: HttpDirectory,
) -> None:
    directory.take_key("encryption_key", "f" * 64)
    for number in range(2 * MAX_KEYS):
        directory.take_key("seed", f"{number:064x}")
    keys = directory.keys()
    listed = [key.material for key in keys]
    assert len(listed) == MAX_KEYS
    assert listed[0] == "f" * 64
    assert listed[-1] == f"{2 * MAX_KEYS - 1:064x}"


def test_a_flood_of_faults_is_counted_but_not_kept(directory: HttpDirectory) -> None:
    for number in range(100):
        directory.note(f"GET /config/{number}", "it is not JSON")
    count, kept = directory.faults()
    assert count == 100
    assert len(kept) == 20


def test_components_that_are_no_names_are_left_out() -> None:
    body = b'{"components": ["b", "a", 3, "", null, "line\\nbreak", "\\ud800", "a"]}'
    assert read_components(body) == (("a", "b"), "5 of its components are not names")


def test_components_are_bounded() -> None:
    names = ",".join(f'"c{number}"' for number in range(MAX_COMPONENTS + 1))
    taken, fault = read_components(f'{{"components": [{names}]}}'.encode())
    assert len(taken) == MAX_COMPONENTS
    assert fault == f"it has more than {MAX_COMPONENTS} components"


def test_endpoints_that_are_not_printable_or_too_long_are_left_out() -> None:
    body = b'{"endpoints": ["tcp://a:1", "tcp://\\ud800:1", "tcp://a:' + b"1" * 300 + b'"]}'
    entry, fault = read_config("ml-detector", body)
    assert entry is not None
    assert entry.endpoints == ("tcp://a:1",)
    assert fault is not None


def test_a_flood_of_endpoints_is_refused() -> None:
    addresses = ",".join(f'"tcp://a:{port}"' for port in range(1, MAX_ENDPOINTS + 2))
    with pytest.raises(MalformedError, match="17 usable endpoints"):
        read_config("ml-detector", f'{{"endpoints": [{addresses}]}}'.encode())
