from pathlib import Path

import pytest

from consumer.errors import ConfigurationError
from consumer.settings import load, reference


def write(folder: Path, text: str) -> Path:
    path = folder / "dayfold.toml"
    path.write_text(text)
    return path


def test_without_a_file_every_key_has_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load()
    assert settings.registry.kind == "etcd"
    assert settings.journal.commit_interval_ms == 100


def test_a_relative_data_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[data]\ndir = "events"\n')
    assert load(path).data.dir == tmp_path / "events"


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "[journal]\nsegment_mb = 8\ncommit_interval_ms = 50\n")
    monkeypatch.setenv("DAYFOLD_JOURNAL__SEGMENT_MB", "32")
    settings = load(path)
    assert settings.journal.segment_mb == 32
    assert settings.journal.commit_interval_ms == 50


FAULTS = {
    "unknown key": ("[journal]\nsegments = 3\n", "journal.segments: unknown key"),
    "unknown section": ("[jurnal]\nx = 3\n", "jurnal: unknown key"),
    "wrong type": ('[journal]\nsegment_mb = "big"\n', "journal.segment_mb: .*'big'"),
    "out of range": ("[journal]\nsegment_mb = 0\n", "journal.segment_mb: .*0"),
    "unknown time zone": ('[day]\ntimezone = "Mars/Base"\n', "Mars/Base"),
    "heartbeat longer than half the lease": (
        "[registry.etcd]\nlease_ttl_s = 10\nheartbeat_s = 9\n",
        "registry.etcd: .*at most half of lease_ttl_s",
    ),
    "user without TLS": (
        '[registry.etcd]\nuser = "u"\npassword = "p"\n',
        "registry.etcd: user and password need TLS",
    ),
    "open API without a token": ('[api]\nhost = "0.0.0.0"\n', "api: .*set a token"),
    "half a CURVE key pair": (
        '[subscriber]\ncurve_public_key = "x"\n',
        "subscriber: curve_public_key and curve_secret_key belong together",
    ),
    "key without material": (
        '[[detector.keys]]\nid = "k"\nscheme = "secretbox-v0"\n',
        "detector.keys.0: give exactly one of hex and file",
    ),
    "a floor above the limit": (
        "[quarantine]\nmax_mb = 5\nkeep_mb = 6\n",
        "quarantine: keep_mb = 6 must be at most max_mb = 5",
    ),
    "not TOML": ("[journal\n", "not valid TOML"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_refused_with_the_keys_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(write(tmp_path, text))


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "[journal]\nsegment_mb = 0\ncommit_interval_ms = 0\n")
    with pytest.raises(ConfigurationError) as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.toml: no such file"):
        load(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DAYFOLD_JOURNAL__SEGMENTS", r"journal\.segments: unknown key"),
        ("DAYFOLD_JURNAL__SEGMENT_MB", "DAYFOLD_JURNAL__SEGMENT_MB: unknown environment variable"),
    ],
)
def test_an_unknown_environment_variable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigurationError, match=message):
        load()


def test_a_bad_key_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    text = '[[detector.keys]]\nid = "k"\nscheme = "secretbox-v0"\nhex = "deadbeef"\n'
    with pytest.raises(ConfigurationError) as refused:
        load(write(tmp_path, text))
    assert "deadbeef" not in str(refused.value)
    assert "64 hex digits" in str(refused.value)


def test_the_reference_describes_every_key() -> None:
    assert all(entry.description.endswith(".") for entry in reference())
    assert len({entry.key for entry in reference()}) == len(reference())
