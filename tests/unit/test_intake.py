"""Intake on real parts: sealed messages in, journal and quarantine out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.clock import ManualClock
from consumer.errors import DayfoldError
from consumer.journal import Journal, open_chunk
from consumer.quarantine.quarantine import Quarantine
from consumer.quarantine.retry import SLICE_MESSAGES
from consumer.reception.intake import BATCH, Intake
from consumer.reception.sources import Arrival, EventSource
from consumer.replay.seal import Sealer
from consumer.wire.admission import Admission
from consumer.wire.envelope import Envelope
from consumer.wire.keys import Key, KeyRing, key_from_seed
from consumer.wire.losses import LossLedger
from proto.network_security_pb2 import NetworkSecurityEvent

pytestmark = pytest.mark.usefixtures("each_way")

UTC = ZoneInfo("UTC")
NOON = 1_499_169_600_000_000_000  # 2017-07-04 12:00 UTC
DETECTOR = "detector-01"
OLD_KEY = key_from_seed("old", bytes(32))  # test keys
NEW_KEY = key_from_seed("new", bytes([1]) * 32)


class GivenMessages(EventSource):
    """Hands out what a test puts in."""

    def __init__(self) -> None:
        self.waiting: list[Arrival] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self, limit: int, timeout_s: float) -> list[Arrival]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    @property
    def drained(self) -> bool:
        return not self.waiting


@dataclass
class Bench:
    intake: Intake
    journal: Journal
    quarantine: Quarantine
    ring: KeyRing
    source: GivenMessages
    clock: ManualClock
    fatal: list[DayfoldError]
    room: list[bool]
    root: Path

    def accept(self, *messages: bytes) -> None:
        self.intake.accept([Arrival(DETECTOR, self.clock.now_ns(), one) for one in messages])

    def journaled(self) -> list[str]:
        self.journal.sync()
        found = []
        for day in self.journal.days():
            self.journal.seal(day)
            chunk = open_chunk(self.root / "journal", day, zone=UTC)
            found += [
                NetworkSecurityEvent.FromString(record.payload).event_id
                for batch in chunk.batches(100)
                for record in batch
            ]
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = ManualClock(NOON)
    fatal: list[DayfoldError] = []
    room = [True]
    journal = Journal(tmp_path / "journal", zone=UTC, clock=clock, on_fatal=fatal.append)
    journal.start()
    ring = KeyRing(clock, [OLD_KEY])
    quarantine = Quarantine(tmp_path / "quarantine", clock, max_bytes=1 << 20, max_age_days=30)
    source = GivenMessages()
    intake = Intake(
        source,
        ring,
        Envelope(ring),
        Admission(UTC),
        journal,
        quarantine,
        LossLedger(),
        room=lambda: room[0],
        on_fatal=fatal.append,
    )
    yield Bench(intake, journal, quarantine, ring, source, clock, fatal, room, tmp_path)
    journal.stop()


def event(number: int, at_ns: int = NOON) -> bytes:
    made = NetworkSecurityEvent(event_id=f"e{number}", originating_node_id="n1")
    made.event_timestamp.FromNanoseconds(at_ns)
    return made.SerializeToString()


def sealed(*numbers: int, key: Key = OLD_KEY, at_ns: int = NOON) -> list[bytes]:
    sealer = Sealer(key)
    return [sealer.seal(event(number, at_ns)) for number in numbers]


def test_events_go_to_the_journal_once(bench: Bench) -> None:
    first, second = sealed(1, 2)
    bench.accept(first, second, first)
    assert bench.journaled() == ["e1", "e2"]
    assert bench.intake.counts.received == 3
    assert bench.intake.counts.duplicates == 1


def test_gaps_of_the_counter_are_counted_as_losses(bench: Bench) -> None:
    messages = sealed(*range(10))
    bench.accept(*messages[:3], *messages[7:])
    assert bench.intake.losses.facts(DETECTOR).lost == 4


def test_a_message_under_an_unknown_key_is_admitted_when_the_key_arrives(bench: Bench) -> None:
    bench.accept(*sealed(1, 2, key=NEW_KEY))
    assert bench.quarantine.counts() == {"unknown_key": 2}
    assert bench.journaled() == []
    bench.ring.add(NEW_KEY)
    bench.intake.start()
    assert bench.intake.stop(10)
    assert bench.journaled() == ["e1", "e2"]
    assert bench.quarantine.counts().get("unknown_key", 0) == 0
    assert bench.intake.counts.retried == 2


def test_good_messages_flow_between_the_slices_of_a_retry(bench: Bench) -> None:
    """A quarantine of four slices, and four batches of good messages: they take turns."""
    bench.accept(*sealed(*range(4 * SLICE_MESSAGES), key=NEW_KEY))
    good = sealed(*range(10_000, 10_000 + 4 * BATCH))
    bench.source.waiting = [Arrival(DETECTOR, NOON, one) for one in good]
    turns: list[tuple[int, int]] = []
    counts = bench.intake.counts

    def note_turn() -> bool:
        turns.append((counts.retried, counts.journaled))
        return False

    bench.intake._between = note_turn
    bench.ring.add(NEW_KEY)
    bench.intake.start()
    while counts.retried < 4 * SLICE_MESSAGES:
        time.sleep(0.001)
    assert bench.intake.stop(10)
    steps = [turn for turn in dict.fromkeys(turns) if turn[0] < 4 * SLICE_MESSAGES]
    assert [journaled - retried for retried, journaled in steps] == [
        BATCH * number for number in range(1, len(steps) + 1)
    ]
    assert len(bench.journaled()) == 4 * SLICE_MESSAGES + 4 * BATCH


def test_a_damaged_message_among_good_ones_is_tampered(bench: Bench) -> None:
    first, second, third = sealed(1, 2, 3)
    damaged = bytearray(second)
    damaged[-1] ^= 1
    bench.accept(first, bytes(damaged), third)
    assert bench.quarantine.counts() == {"tampered": 1}
    assert bench.journaled() == ["e1", "e3"]


def test_a_truncated_message_is_tampered(bench: Bench) -> None:
    bench.accept(sealed(1)[0][:20])
    assert bench.quarantine.counts() == {"tampered": 1}


def test_an_event_from_the_future_is_quarantined_and_moves_no_clock(bench: Bench) -> None:
    bench.accept(*sealed(1, at_ns=NOON + 3600 * 10**9))
    assert bench.quarantine.counts() == {"future": 1}
    assert bench.journal.watermark_ns is None


def test_bytes_that_are_not_the_schema_are_quarantined(bench: Bench) -> None:
    bench.accept(Sealer(OLD_KEY).seal(b"\xff" * 40))
    assert sum(bench.quarantine.counts().values()) == 1
    assert bench.journaled() == []


def test_one_bad_message_does_not_hold_up_the_others(bench: Bench) -> None:
    good = sealed(*range(20))
    bench.accept(*good[:10], b"", b"x" * 5, bytes(64), *good[10:])
    assert len(bench.journaled()) == 20
    assert bench.intake.counts.quarantined == 3


def test_nothing_is_taken_while_there_is_no_room_and_all_of_it_after(bench: Bench) -> None:
    bench.room[0] = False
    bench.source.waiting = [Arrival(DETECTOR, NOON, one) for one in sealed(*range(5))]
    bench.intake.start()
    assert len(bench.source.waiting) == 5
    bench.room[0] = True
    while bench.source.waiting:
        pass
    assert bench.intake.stop(10)
    assert len(bench.journaled()) == 5


def test_stop_drains_what_was_received(bench: Bench) -> None:
    bench.source.waiting = [Arrival(DETECTOR, NOON, one) for one in sealed(*range(2000))]
    bench.intake.start()
    assert bench.intake.stop(10)
    assert bench.intake.counts.journaled == 2000


def test_a_journal_that_refuses_is_reported_once(bench: Bench) -> None:
    bench.journal.stop()
    bench.source.waiting = [Arrival(DETECTOR, NOON, one) for one in sealed(1)]
    bench.intake.start()
    assert bench.intake.stop(10)
    assert len(bench.fatal) == 1
