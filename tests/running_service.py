"""A service in a thread of the test's own process, a clock that can be set, and a detector."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consumer.clock import Clock, SystemClock
from consumer.replay.publisher import Publisher
from consumer.replay.seal import Sealer
from consumer.service import Service
from consumer.settings import Settings, load
from consumer.wire.keys import Key
from proto.network_security_pb2 import NetworkSecurityEvent

S = 1_000_000_000
#: Far enough from midnight that no test meets it.
NOON = datetime(2017, 7, 4, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * S
DAY = NOON.date()
#: Longer than anything takes that a test waits for, on a machine that is busy with other tests.
WAIT_S = 180.0

CONFIG = """\
[data]
dir = "data"
min_free_mb = 16
[registry]
kind = "static"
[api]
enabled = false
"""
ENDPOINT = '[[detector.endpoints]]\nname = "{name}"\naddress = "{address}"\n'
KEY = '[[detector.keys]]\nid = "{name}"\nscheme = "{scheme}"\nhex = "{digits}"\n'


def key_entry(name: str, digits: str, scheme: str = "chacha20poly1305-v1") -> str:
    """The lines of the settings that make a key known."""
    return KEY.format(name=name, scheme=scheme, digits=digits)


def write_config(folder: Path, endpoints: Mapping[str, str], more: str = "") -> Path:
    """Settings of a service without a registry that listens to these detectors; the file."""
    path = folder / "dayfold.toml"
    lines = (ENDPOINT.format(name=name, address=at) for name, at in endpoints.items())
    path.write_text(CONFIG + "".join(lines) + more, encoding="utf-8")
    return path


class BentClock:
    """Runs as real clocks do, and can be set. What has passed is not bent."""

    def __init__(self, start: datetime) -> None:
        self._offset_ns = 0
        self.set(start)

    def set(self, to: datetime) -> None:
        self._offset_ns = round(to.timestamp()) * S - time.monotonic_ns()

    def step(self, seconds: float) -> None:
        self._offset_ns += round(seconds * S)

    def now_ns(self) -> int:
        return self._offset_ns + time.monotonic_ns()

    def monotonic(self) -> float:
        return time.monotonic()


class Detector:
    """A real PUB socket that seals what it is given."""

    def __init__(self, key: Key) -> None:
        self._publisher = Publisher(SystemClock(), "tcp://127.0.0.1:*", lossy=False)
        self.address = self._publisher.start()
        self._sealer = Sealer(key)

    def send(self, *events: NetworkSecurityEvent) -> None:
        self._publisher.wait_for_subscribers(1, WAIT_S)
        for event in events:
            self._publisher.publish(self._sealer.seal(event.SerializeToString()))

    def stop(self) -> None:
        self._publisher.stop(1.0)


@contextmanager
def detecting(key: Key) -> Iterator[Detector]:
    """A detector for as long as it is needed."""
    detector = Detector(key)
    try:
        yield detector
    finally:
        detector.stop()


class Running:
    """Owns the service and its thread; `stop` ends both.

    Args:
        change: makes of the settings what no file may say.
    """

    def __init__(
        self,
        config: Path,
        clock: Clock,
        *,
        change: Callable[[Settings], Settings] = lambda settings: settings,
    ) -> None:
        self.settings = change(load(config))
        self.data_dir = self.settings.data.dir
        self.service = Service(self.settings, clock=clock, reload=lambda: load(config))
        self._thread = threading.Thread(target=self.service.run)
        self._thread.start()

    def hang_up(self) -> None:
        """As SIGHUP does."""
        self.service._on_reload_signal(1, None)

    def wait_for(self, what: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first picture of the service for which that is true."""
        end = time.monotonic() + WAIT_S
        while not reached(picture := self.service.picture()):
            assert time.monotonic() < end, f"waited in vain for {what}: {picture}"
            time.sleep(0.05)
        return picture

    def stop(self) -> None:
        self.service.ask_to_stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@contextmanager
def running(config: Path, clock: Clock) -> Iterator[Running]:
    """A service for as long as it is needed."""
    service = Running(config, clock)
    try:
        yield service
    finally:
        service.stop()
