from pathlib import Path

import pytest

from consumer.clock import ManualClock
from consumer.errors import ConfigurationError
from consumer.reception.detectors import Discovery, endpoints_from_registry, keys_from_registry
from consumer.reception.subscriber import Subscriber
from consumer.registry.base import DetectorEntry, KeyEntry
from consumer.registry.static import StaticRegistry
from consumer.settings import DetectorSettings, EndpointSettings, KeySettings
from consumer.wire.keys import KeyRing, derive_key

SEED = bytes(range(32))  # a test key


def entry(key_id: str, *, kind: str = "seed", material: str = SEED.hex()) -> KeyEntry:
    scheme = "chacha20poly1305-v1" if kind == "seed" else "secretbox-v0"
    return KeyEntry(key_id, "ml-detector", scheme, material, kind, "a context")  # type: ignore[arg-type]  # both are literals


def test_a_seed_is_derived_with_its_context_and_a_key_is_taken_as_it_is() -> None:
    seed, key = keys_from_registry([entry("s"), entry("k", kind="key")])
    assert seed.secret == derive_key(SEED, "a context")
    assert key.secret == SEED


def test_a_key_that_cannot_be_used_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    keys = keys_from_registry(
        [entry("bad", material="zz"), entry("short", material="00"), entry("good")]
    )
    assert [key.key_id for key in keys] == ["good"]


def test_a_wildcard_bind_is_reached_on_the_detectors_own_host() -> None:
    found = endpoints_from_registry([DetectorEntry("d1", ("tcp://*:5572",), {"host": "10.0.0.5"})])
    assert [(one.detector, one.address) for one in found] == [("d1", "tcp://10.0.0.5:5572")]


def test_one_address_per_detector_is_used() -> None:
    found = endpoints_from_registry(
        [DetectorEntry("d1", ("tcp://*:1", "tcp://10.0.0.5:2", "tcp://10.0.0.6:2"), {})]
    )
    assert [one.address for one in found] == ["tcp://10.0.0.5:2"]


def discovery(settings: DetectorSettings) -> tuple[Discovery, KeyRing]:
    clock = ManualClock(1)
    ring = KeyRing(clock)
    made = Discovery(settings, StaticRegistry(keys=[entry("r")]), Subscriber(clock), ring)
    return made, ring


def settings(folder: Path, *names: str) -> DetectorSettings:
    keys = []
    for name in names:
        path = folder / name
        path.write_bytes(name.encode().ljust(32, b"."))
        keys.append(KeySettings(id=name, scheme="chacha20poly1305-v1", file=path))
    return DetectorSettings(
        keys=tuple(keys),
        endpoints=(EndpointSettings(name="fixed", address="tcp://127.0.0.1:9"),),
    )


def test_keys_of_settings_and_registry_stand_side_by_side(tmp_path: Path) -> None:
    made, ring = discovery(settings(tmp_path, "a"))
    made.refresh()
    assert {held.key.key_id for held in ring.candidates()} == {"a", "r"}


def test_new_settings_are_used_from_the_next_refresh(tmp_path: Path) -> None:
    made, ring = discovery(settings(tmp_path, "a"))
    made.refresh()
    made.take_settings(settings(tmp_path, "a", "b"))
    made.refresh()
    assert {held.key.key_id for held in ring.candidates()} == {"a", "b", "r"}


def test_a_key_file_of_the_wrong_size_is_refused_and_the_old_keys_stay(tmp_path: Path) -> None:
    made, ring = discovery(settings(tmp_path, "a"))
    wrong = settings(tmp_path, "b")
    (tmp_path / "b").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="5 bytes; a seed has exactly 32"):
        made.take_settings(wrong)
    made.refresh()
    assert {held.key.key_id for held in ring.candidates()} == {"a", "r"}
