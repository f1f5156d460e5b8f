"""Intake: the one thread between reception and the journal.

It takes what the event source has, opens it, admits it and appends it to the journal, batch by
batch. What cannot be accepted goes to quarantine with its reason. It never waits for anything
below the journal.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, compress

import structlog

from consumer.errors import (
    DayfoldError,
    DecompressionError,
    EnvelopeError,
    UnknownKeyError,
)
from consumer.journal import Journal
from consumer.quarantine.quarantine import Quarantine, Quarantined
from consumer.quarantine.retry import Retry
from consumer.reception.desks import Desk, Desks, is_logged
from consumer.reception.sources import Arrival, EventSource, Run, runs_of
from consumer.wire.admission import Admission, Refused
from consumer.wire.admitted import Admitted, Batch, by_day, joined
from consumer.wire.envelope import Envelope, Opened
from consumer.wire.keys import KeyRing
from consumer.wire.losses import LossLedger
from consumer.wire.profiles import Profiles
from consumer.wire.schemes import Burst

log = structlog.get_logger("intake")

BATCH = 512
WAIT_S = 0.05
#: Bytes of messages opened together: as LZ4 blocks they decompress to 32 MiB at most.
OPENED_BYTES = 128 * 1024
# A batch costs as much as ten events, and more on a day of millions. After a small one the next may
# gather, a moment only: less than any detector's queue holds, and far less than a group commit takes.
FEW = 256
GATHER_S = 0.005
# A v1 nonce is four zero bytes and a u64 counter. A message that no key opens but whose counter
# follows closely on the last one that opened is damaged rather than under an unknown key.
NEAR_COUNTER = 1 << 16
# What a new key may open, and what a clock that was set right may admit.
KEYED_REASONS = ("unknown_key", "tampered")
RETRIED_REASONS = (*KEYED_REASONS, "future")


@dataclass(slots=True)
class IntakeCounts:
    """What the intake did since it started. Written by the intake thread only."""

    received: int = 0
    received_bytes: int = 0
    journaled: int = 0
    duplicates: int = 0
    late: int = 0
    filtered: int = 0
    quarantined: int = 0
    retried: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """A copy for status and metrics."""
        return asdict(self)


class Intake:
    """Owns the intake thread. `start`, then `stop`, which drains what was received.

    Args:
        source: where messages come from.
        room: says whether the disk has room; while it has not, nothing is taken from the source.
        on_fatal: called once, from the intake thread, when the journal refuses an append or the
            source broke down.
        profiles: how the detectors differ.
        between: work between two batches; True while there is more of it.
        now_ns: the time of day, UTC ns.
    """

    def __init__(
        self,
        source: EventSource,
        ring: KeyRing,
        envelope: Envelope,
        admission: Admission,
        journal: Journal,
        quarantine: Quarantine,
        losses: LossLedger,
        *,
        room: Callable[[], bool],
        on_fatal: Callable[[DayfoldError], None],
        profiles: Profiles | None = None,
        between: Callable[[], bool] = lambda: False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.counts = IntakeCounts()
        self.losses = losses
        self._source = source
        self._ring = ring
        self._envelope = envelope
        self._desks = Desks(admission, profiles or Profiles())
        self._journal = journal
        self._quarantine = quarantine
        self._room = room
        self._between = between
        self._now_ns = now_ns
        self._on_fatal = on_fatal
        self._stopping = threading.Event()
        self._retry_asked = threading.Event()
        # Only what is on disk may leave the quarantine.
        self._retries = Retry(quarantine, self._retry, settle=journal.sync)
        self._ring_generation = ring.generation
        self._last_counter: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish what the source still holds, then end. True if all of it reached the journal.

        The source must have been told to stop receiving before, or this never catches up.
        """
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def retry_quarantine(self) -> None:
        """Ask for another try at what may be admitted by now; done by the intake thread.

        That is what no key opened, and what came from the future.
        """
        self._retry_asked.set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        busy = False
        try:
            while True:
                stopping = self._stopping.is_set()
                if self._room():
                    arrivals = self._source.take(BATCH, 0.0 if stopping or busy else WAIT_S)
                    if arrivals:
                        self.accept(arrivals)
                        if len(arrivals) < FEW and not (stopping or busy):
                            self._stopping.wait(GATHER_S)
                    elif stopping:
                        break
                    busy = not stopping and (self._step_retry() | self._between())
                elif self._stopping.wait(0.2):
                    break
        except DayfoldError as error:
            self._on_fatal(error)

    def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Take a batch the whole way to the journal.

        Raises:
            JournalError: the journal did not take the batch; the messages of this batch are then
                not acknowledged and count as received but not journaled.
        """
        admitted: list[Batch] = []
        for run in runs_of(arrivals):
            self.counts.received += len(run.messages)
            self.counts.received_bytes += sum(map(len, run.messages))
            for sent in _slices(run):
                admitted += self._take(self._desks[run.detector], sent)
        if admitted:
            self._append(joined(admitted))

    def _take(self, desk: Desk, sent: Run) -> list[Batch]:
        """Open and admit messages of one detector; refuse the others."""
        if sent.sealed:
            burst = self._envelope.open_all(sent.detector, sent.messages)
            if burst.refused:
                sent = self._refuse_unopened(sent, burst)
            for scheme, count in burst.schemes.items():
                desk.schemes[scheme] += count
            self._note_counters(sent.detector, burst.counters)
        else:
            burst = Burst(sent.messages, [None] * len(sent.messages))
        if desk.logged_only:
            sent = self._keep_logged(desk, sent, burst)
        return self._admit(desk, sent, burst)

    def _append(self, admitted: Sequence[Admitted]) -> None:
        done = self._journal.append(admitted)
        self.counts.journaled += done.added
        self.counts.duplicates += done.duplicates
        self.counts.late += done.late

    def found(self, detector: str) -> dict[str, object] | None:
        """What was found about a detector, beside what its profile says; None before it sends."""
        desk = self._desks.get(detector)
        return None if desk is None else desk.found()

    def _refuse_unopened(self, sent: Run, burst: Burst) -> Run:
        """Refuse what did not open; return the messages that did."""
        opened = 0
        last = self._last_counter.get(sent.detector)
        for place, arrival in enumerate(sent.rows()):
            error = burst.refused.get(place)
            if error is None:
                counter = burst.counters[opened]
                last = last if counter is None else counter
                opened += 1
            else:
                self._refuse(arrival, _why(error, arrival, last), str(error))
        return sent.where([place not in burst.refused for place in range(len(sent.messages))])

    def _note_counters(self, detector: str, counters: Sequence[int | None]) -> None:
        seen = [counter for counter in counters if counter is not None]
        if seen:
            self._last_counter[detector] = seen[-1]
            self.losses.note_all(detector, seen)

    def _keep_logged(self, desk: Desk, sent: Run, burst: Burst) -> Run:
        """Keep in the burst what a detector would have logged; the rest is counted and dropped."""
        logged = list(map(is_logged, burst.payloads))
        self._count_filtered(desk, logged.count(False))
        burst.payloads = list(compress(burst.payloads, logged))
        burst.blocks = list(compress(burst.blocks, logged))
        return sent.where(logged)

    def _count_filtered(self, desk: Desk, count: int) -> None:
        self.counts.filtered += count
        desk.filtered += count

    def _admit(self, desk: Desk, sent: Run, burst: Burst) -> list[Batch]:
        """Admit what was opened; refuse what is not an event of any day."""
        answers = desk.admit_all(burst.payloads, burst.blocks, sent.arrivals_ns)
        if isinstance(answers, Batch):
            return [answers]
        for arrival, answer in zip(sent.rows(), answers, strict=True):
            if isinstance(answer, Refused):
                self._refuse(arrival, answer.reason, answer.detail)
        return by_day([answer for answer in answers if isinstance(answer, Admitted)])

    def _refuse(self, arrival: Arrival, reason: str, detail: str) -> None:
        self.counts.quarantined += 1
        self.counts.refused[reason] = self.counts.refused.get(reason, 0) + 1
        self._quarantine.put(
            reason,
            arrival.message,
            detector=arrival.detector,
            arrival_ns=arrival.arrival_ns,
            detail=detail,
            sealed=arrival.sealed,
        )

    def _step_retry(self) -> bool:
        """Try a slice of the quarantine again, if a key came or it was asked for."""
        generation = self._ring.generation
        if generation != self._ring_generation:
            self._ring_generation = generation
            self._retries.ask(KEYED_REASONS)
        if self._retry_asked.is_set():
            self._retry_asked.clear()
            self._retries.ask(RETRIED_REASONS)
        return self._retries.step()

    def _retry(self, message: Quarantined) -> bool:
        """Admit one quarantined message; False leaves it where it is."""
        try:
            opened = self._envelope.open(message.detector, message.message)
        except EnvelopeError:
            return False
        desk = self._desks[message.detector]
        if desk.logged_only and not is_logged(opened.payload):
            self._count_filtered(desk, 1)
            self._not_lost(message, opened)
            return True
        arrival_ns = message.arrival_ns
        if message.reason == "future":
            # By now its time may have come, or our clock was behind when it arrived.
            arrival_ns = max(arrival_ns, self._now_ns())
        (event,) = desk.admit_all([opened.payload], [opened.block], [arrival_ns])
        if isinstance(event, Refused):
            return False
        desk.schemes[opened.scheme] += 1
        self._not_lost(message, opened)
        self._append([event])
        self.counts.retried += 1
        return True

    def _not_lost(self, message: Quarantined, opened: Opened) -> None:
        if opened.counter is not None:
            self.losses.note(message.detector, opened.counter)


def _slices(run: Run) -> Iterator[Run]:
    """The same messages, so few at a time that what they decompress to has a limit.

    Once admitted, an event is held as it was received.
    """
    ends = list(accumulate(map(len, run.messages)))
    begin = before = 0
    while begin < len(ends):
        end = max(begin + 1, bisect_right(ends, before + OPENED_BYTES))
        yield run.between(begin, end)
        begin, before = end, ends[end - 1]


def _why(error: EnvelopeError, arrival: Arrival, last: int | None) -> str:
    """The reason for the quarantine. `last` is the counter of the message before."""
    if isinstance(error, UnknownKeyError):
        return "tampered" if _looks_damaged(arrival.message, last) else "unknown_key"
    return "decompression" if isinstance(error, DecompressionError) else "tampered"


def _looks_damaged(message: bytes, last: int | None) -> bool:
    if last is None or message[:4] != b"\0\0\0\0":
        return False
    counter = int.from_bytes(message[4:12], "little")
    return last < counter <= last + NEAR_COUNTER
