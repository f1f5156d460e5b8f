"""Keys change under a running service: overlap, and messages that wait for their key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.folding.requests import Requests
from consumer.wire.keys import key_from_seed
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.running_service import (
    DAY,
    NOON,
    NOON_NS,
    BentClock,
    Detector,
    Running,
    S,
    key_entry,
    write_config,
)

OLD, NEW = bytes(range(32)), bytes(range(32, 64))  # test keys

SETTLE = "[day]\nsettle_s = 0.5\n"


def event(number: int) -> NetworkSecurityEvent:
    made = NetworkSecurityEvent(event_id=f"e{number}", originating_node_id="n")
    made.event_timestamp.FromNanoseconds(NOON_NS - 3600 * S + number)
    made.network_features.destination_port = 443
    return made


class Site(Running):
    """A detector, a service, and a settings file that can be changed."""

    def __init__(self, folder: Path, seed: bytes) -> None:
        self.detector = Detector(key_from_seed("k", seed))
        self._folder = folder
        super().__init__(self.set_keys(old=OLD), BentClock(NOON))

    def set_keys(self, **seeds: bytes) -> Path:
        keys = "".join(key_entry(name, seed.hex()) for name, seed in seeds.items())
        return write_config(self._folder, {"d": self.detector.address}, SETTLE + keys)

    def stop(self) -> None:
        super().stop()
        self.detector.stop()


@pytest.fixture
def ahead_of_its_key(tmp_path: Path) -> Iterator[Site]:
    """The detector seals with a key that the service does not know yet."""
    site = Site(tmp_path, NEW)
    yield site
    site.stop()


def test_messages_wait_for_their_key_and_go_to_their_closed_day(ahead_of_its_key: Site) -> None:
    site = ahead_of_its_key
    site.detector.send(event(1), event(2))
    site.wait_for("quarantine", lambda p: p["quarantine"]["reasons"] == {"unknown_key": 2})
    # Meanwhile the day is closed without them: one event under the old key makes it a day.
    other = Detector(key_from_seed("k", OLD))
    try:
        site.service._subscriber.set_endpoints(
            [*_endpoints(site), _endpoint("other", other.address)]
        )
        other.send(event(3))
        site.wait_for("one event", lambda p: p["journal"]["durable"] == 1)
        Requests(site.data_dir).ask_close(DAY)
        site.wait_for("revision 1", lambda p: _state(p) == ("committed", 1, 1))
        site.set_keys(old=OLD, new=NEW)
        site.hang_up()
        site.wait_for("the two", lambda p: p["intake"]["retried"] == 2)
        Requests(site.data_dir).ask_close(DAY)
        picture = site.wait_for("revision 2", lambda p: _state(p) == ("committed", 2, 3))
    finally:
        other.stop()
    assert picture["quarantine"]["reasons"] == {}
    assert picture["days"][0]["late"] == 2


def _state(picture: dict[str, Any]) -> tuple[str, int, int] | None:
    if not picture["days"]:
        return None
    day = picture["days"][0]
    return day["state"], day["revision"], day["events"]


def _endpoint(name: str, address: str) -> Any:
    from consumer.reception.endpoints import Endpoint

    return Endpoint(name, address, None)


def _endpoints(site: Site) -> list[Any]:
    return [_endpoint("d", site.detector.address)]


def test_a_key_and_its_successor_overlap(tmp_path: Path) -> None:
    site = Site(tmp_path, OLD)
    try:
        site.detector.send(event(1))
        site.wait_for("the first", lambda p: p["journal"]["durable"] == 1)
        # The settings move on to the new key; the running detector still seals with the old one.
        site.set_keys(new=NEW)
        site.hang_up()
        site.wait_for("both keys", lambda p: sorted(p["keys"]) == ["new", "old"])
        site.detector.send(event(2))
        picture = site.wait_for("the second", lambda p: p["journal"]["durable"] == 2)
        assert picture["intake"]["quarantined"] == 0
    finally:
        site.stop()
