"""A detector, a service that dies again and again, and what must be true of it all the same.

The detector is a real PUB socket of the test's process and stays. The service is the real command,
armed by `arming`; every time it dies it is started again. What was acknowledged is what
`steps.Steps` saw become safe: it is read from the files when the process is gone and kept here, and
must be in the journal at every later look, each event once.

Events come in rounds, a day each. A round brings events of its day, one of them twice, a late one
for the day before, a message that is no event, and one under a key that is made known only later.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from zoneinfo import ZoneInfo

from consumer.clock import ManualClock, SystemClock
from consumer.folding.requests import Requests
from consumer.journal.frames import Gap
from consumer.journal.record import decode
from consumer.journal.segment import segment_number, valid_frames
from consumer.quarantine.quarantine import Quarantine, Quarantined
from consumer.replay.publisher import Publisher
from consumer.replay.seal import Sealer
from consumer.wire.keys import key_from_seed
from index.catalogue import Catalogue
from index.chunks import Chunk
from index.errors import StoreError
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.faults.arming import NOTES, armed
from tests.faults.nursery import Nursery, Ward
from tests.faults.steps import Mode

UTC = ZoneInfo("UTC")
FIRST_DAY = date(2017, 7, 1)
EVENTS = 5
#: Nothing new for so long is standing still. The machine may be busy with other tests.
LIMIT_S = 400.0
KEY = '[[detector.keys]]\nid = "{name}"\nscheme = "chacha20poly1305-v1"\nhex = "{digits}"\n'
CONFIG = """\
[data]
dir = "data"
min_free_mb = 1
[registry]
kind = "static"
[api]
enabled = false
[day]
clock = "event"
grace_s = 0
settle_s = 0.2
back_days = 4000
[journal]
commit_interval_ms = 20
[quarantine]
max_age_days = 10000
[fold]
nice = 0
threads = 1
retry_base_s = 0.05
retry_cap_s = 0.2
[log]
level = "warning"
[[detector.endpoints]]
name = "detector"
address = "{address}"
"""

Events = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Round:
    """What one day brings. Payloads by event id; `hidden` is sealed by the key of the round."""

    number: int
    day: date
    events: Events
    late: Events
    hidden: Events
    no_event: bytes

    @property
    def key(self) -> bytes:
        """The seed of the key that is made known late."""
        return (1 + self.number).to_bytes(32, "big")


def round_of(number: int) -> Round:
    """The round of a number, from 0; always the same."""
    day = FIRST_DAY + timedelta(days=number)
    return Round(
        number,
        day,
        dict(_event(day, place) for place in range(EVENTS)),
        dict([_event(day - timedelta(days=1), EVENTS + 1)]) if number else {},
        dict([_event(day, EVENTS)]),
        b"\xff no event " + bytes(str(day), "ascii"),
    )


def _event(day: date, place: int) -> tuple[str, bytes]:
    made = NetworkSecurityEvent(event_id=f"{day}-{place}", originating_node_id="detector")
    made.event_timestamp.FromSeconds((day - date(1970, 1, 1)).days * 86_400 + 3_600 * (place + 1))
    made.network_features.destination_port = 20 + place
    made.network_features.total_forward_packets = 1 + place
    return made.event_id, made.SerializeToString()


@dataclass(slots=True)
class Model:
    """What was acknowledged so far, and how the processes ended."""

    events: set[str] = field(default_factory=set)
    quarantined: set[bytes] = field(default_factory=set)
    restarts: int = 0
    looks: int = 0


class Site:
    """Owns the detector and the service. Use as a context manager.

    Args:
        folder: where configuration, data, log and notes go.
        nursery: starts the service.
        models: the tiny encoders, see `arming.write_models`.
        plan: gives the plan and the mode of each start, see `arming.armed`.
        impatience: called between two looks while something is waited for; may kill the service.
        settings: environment variables on top of the configuration.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        models: Path,
        *,
        plan: Callable[[], tuple[str, Mode]] = lambda: ("each", "kill"),
        impatience: Callable[[Site], None] = lambda _site: None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.notes = folder / "notes"
        self.model = Model()
        self.service: Ward | None = None
        self._nursery = nursery
        self._models = models
        self._plan = plan
        self._impatience = impatience
        self._settings = settings
        self.config = folder / "dayfold.toml"
        self._publisher = Publisher(SystemClock(), "tcp://127.0.0.1:*", lossy=False)
        self._address = self._publisher.start()
        self._key = key_from_seed("core", bytes(32))
        self._sealer = Sealer(self._key)
        self._read_notes = 0
        self.data.mkdir(mode=0o700)
        self.notes.mkdir()
        for name in NOTES:
            (self.notes / name).touch()
        self.set_keys(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.service is not None:
            self.service.send_signal(signal.SIGKILL)
            self.service.wait(LIMIT_S)
        self._publisher.stop(0.0)

    def set_keys(self, seeds: tuple[bytes, ...]) -> None:
        """Write the configuration with the core key and keys of these seeds."""
        text = CONFIG.format(address=self._address)
        for seed in (bytes(32), *seeds):
            text += KEY.format(name=f"k{int.from_bytes(seed)}", digits=seed.hex())
        self.config.write_text(text)

    def start(self) -> bool:
        """Start the service and wait until it listens. False if it died before.

        Then nothing of what was acknowledged may be missing.
        """
        self._launch()
        end = time.monotonic() + LIMIT_S
        while not self._publisher.subscribers:
            if not self.alive():
                return False
            self._impatience(self)
            assert time.monotonic() < end, f"the service does not start: {self.log()}"
            time.sleep(0.005)
        self.look()
        return True

    def _launch(self) -> None:
        while self._publisher.subscribers:
            time.sleep(0.005)
        plan, mode = self._plan()
        environment = armed(self.data, self.notes, plan=plan, mode=mode, models=self._models)
        self.service = self._nursery.start(
            ["run", "--config", str(self.config)],
            {**environment, **self._settings},
            self.folder / "service.log",
        )

    def alive(self) -> bool:
        """Whether the service runs. If it has just died, take stock of what was acknowledged."""
        if self.service is None:
            return False
        code = self.service.poll()
        if code is None:
            return True
        self.service = None
        assert code == -signal.SIGKILL, f"it ended by itself with {code}: {self.log()}"
        self.model.restarts += 1
        self.take_stock()
        self.look()
        return False

    def deaths(self) -> int:
        """Grows whenever the service or its child dies."""
        return self.model.restarts + (self.notes / "tried").stat().st_size

    def calm(self) -> None:
        """From the next start on nobody dies any more; the service is started anew."""
        self._plan, self._impatience = lambda: ("none", "kill"), lambda _site: None
        if self.service is not None:
            self.service.send_signal(signal.SIGKILL)
            self.service.wait(LIMIT_S)

    def log(self) -> str:
        """The end of the service's log."""
        return (self.folder / "service.log").read_text(errors="replace")[-3000:]

    def reach(
        self,
        what: str,
        reached: Callable[[], bool],
        again: Callable[[], None] = lambda: None,
        *,
        every_s: float = 0.5,
    ) -> None:
        """Do `again` until `reached`, and start the service whenever it is gone."""
        end, due, deaths = time.monotonic() + LIMIT_S, 0.0, self.deaths()
        while True:
            if not self.alive():
                if not self.start():
                    continue
                due = 0.0
            if reached():
                return
            if (now := self.deaths()) != deaths:
                end, deaths = time.monotonic() + LIMIT_S, now
            if time.monotonic() >= due:
                again()
                due = time.monotonic() + every_s
            self._impatience(self)
            assert time.monotonic() < end, f"waited in vain for {what}: {self.log()}"
            time.sleep(0.01)

    def publish(self, events: Events, seed: bytes = bytes(32)) -> None:
        """Send events under the key of a seed, to whoever listens."""
        sealer = self._sealer if seed == bytes(32) else Sealer(key_from_seed("late", seed))
        for payload in events.values():
            self._publisher.publish(sealer.seal(payload))

    def publish_sealed(self, message: bytes) -> None:
        """Send a message that `seal` made."""
        self._publisher.publish(message)

    def seal(self, payload: bytes) -> bytes:
        """A message under the key that is always known."""
        return self._sealer.seal(payload)

    def reread(self) -> None:
        """Let the service read its configuration again."""
        if self.service is not None:
            self.service.send_signal(signal.SIGHUP)

    def durable(self, events: Events) -> bool:
        """Whether all of these events are acknowledged."""
        if not events.keys() <= self.model.events:
            self.take_stock()
        return events.keys() <= self.model.events

    def kept(self, message: bytes) -> bool:
        """Whether a refused message is on the disk for certain."""
        if message not in self.model.quarantined:
            self.take_stock()
        return message in self.model.quarantined

    def take_stock(self) -> None:
        """Add to the model what became safe since the last time."""
        lines = (self.notes / "durable").read_text().splitlines()
        fresh = dict(line.split(" ", 1)[::-1] for line in lines[self._read_notes :])
        self._read_notes = len(lines)
        for path, size in fresh.items():
            if path.startswith("journal/") and path.endswith(".seg"):
                self.model.events |= set(read_segment(self.data / path, int(size)))
            elif path.startswith("quarantine/schema/") and (self.data / path).exists():
                # One in which a kill left no whole message is dropped at the next start.
                safe = self.notes / path
                safe.parent.mkdir(parents=True, exist_ok=True)
                safe.write_bytes((self.data / path).read_bytes()[: int(size)])
        self.model.quarantined = {m.message for m in _kept(self.notes / "quarantine", "schema")}

    def look(self) -> None:
        """Every acknowledged event is in the journal, once, and every refused message is kept."""
        self.model.looks += 1
        found = Counter(name for day in self.journal().values() for name in day)
        twice = [name for name, count in found.items() if count > 1]
        assert not twice, f"more than once in the journal: {twice}"
        lost = self.model.events - found.keys()
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        gone = self.model.quarantined - {m.message for m in self.quarantine("schema")}
        assert not gone, f"quarantined and lost: {gone}"

    def journal(self) -> dict[str, list[str]]:
        """The events that lie in the segments of each day."""
        return {
            folder.name: [
                name
                for path in sorted(folder.glob("*.seg"))
                for name in read_segment(path, path.stat().st_size)
            ]
            for folder in sorted((self.data / "journal").glob("2*"))
        }

    def quarantine(self, reason: str) -> list[Quarantined]:
        """The messages that are kept for a reason."""
        return _kept(self.data / "quarantine", reason)

    def chunk(self, day: date) -> Chunk | None:
        """What the catalogue says of a day."""
        try:
            with Catalogue.open(self.data / "catalogue.sqlite", read_only=True) as catalogue:
                return catalogue.chunk(day)
        except StoreError:
            return None

    def committed(self, day: date, events: int) -> bool:
        """Whether a day is committed in every index with so many events."""
        chunk = self.chunk(day)
        return chunk is not None and (chunk.state, chunk.events) == ("committed", events)

    def close(self, day: date) -> None:
        """Ask for a day to be closed."""
        Requests(self.data).ask_close(day)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.service is not None
        self.service.send_signal(signal.SIGTERM)
        code = self.service.wait(LIMIT_S)
        self.service = None
        return code


def _kept(root: Path, reason: str) -> list[Quarantined]:
    kept = Quarantine(root, ManualClock(), max_bytes=1 << 30, max_age_days=10_000)
    return kept.list(reason, 10_000)


def read_segment(path: Path, size: int) -> dict[str, bytes]:
    """Payloads by event id in the first `size` bytes of a segment."""
    gaps: list[Gap] = []
    number = segment_number(path.name)
    assert number is not None
    with path.open("rb", buffering=0) as file:
        found = [
            (NetworkSecurityEvent.FromString(record.payload).event_id, record.payload)
            for frames in valid_frames(
                file, size, date.fromisoformat(path.parent.name), number, gaps
            )
            for record in decode(frames)
        ]
    assert len(dict(found)) == len(found), f"more than once in {path}: {found}"
    return dict(found)
