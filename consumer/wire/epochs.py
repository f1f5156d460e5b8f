"""The bookkeeping behind `LossLedger`: one detector's epochs, and what is still in doubt of them.

The rules are written down in `consumer.wire.losses`. Pure: no clock, no files, no locks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, Literal, Self, get_args

WINDOW: Final = 4096
SPAN: Final = 64
CONFIRMING: Final = 3
HISTORY: Final = 32
_PENDING: Final = 2 * SPAN
_DOUBTS: Final = 4
_MASK: Final = WINDOW - 1
# Between the ring's bytes 0 and 1 and the digits of a binary number.
_TO_DIGITS: Final = bytes.maketrans(b"\0\1", b"01")
_FROM_DIGITS: Final = bytes.maketrans(b"01", b"\0\1")

Kind = Literal["repeat", "late", "early"]


@dataclass(frozen=True, slots=True)
class EpochLosses:
    """One epoch. `received + lost == last_counter - first_counter + 1`, if none came early.

    Attributes:
        epoch: 1 for the first that was seen.
        first_counter: 0, or the base if the epoch ran already when we joined.
        last_counter: the highest counter.
        received: different counters that came.
        lost: counters after the first one that never came.
        repeats: counters that came again.
    """

    epoch: int
    first_counter: int
    last_counter: int
    received: int
    lost: int
    repeats: int


class Epoch:
    """One run of a detector: its figures and which of its last 4,096 counters came."""

    __slots__ = ("first", "high", "lost", "number", "received", "repeats", "seen")

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        self.first = first
        self.high = first - 1
        self.received = 0
        self.lost = 0
        self.repeats = 0
        self.seen = bytearray(WINDOW)

    def copy(self) -> Epoch:
        """One that changes by itself from now on."""
        twin = Epoch(self.number, self.first)
        twin.high, twin.seen = self.high, bytearray(self.seen)
        twin.received, twin.lost, twin.repeats = self.received, self.lost, self.repeats
        return twin

    def advance(self, counter: int) -> None:
        """Note a counter above the highest."""
        gap = counter - self.high - 1
        if gap >= WINDOW:
            self.seen = bytearray(WINDOW)
        elif gap:
            start = (self.high + 1) & _MASK
            tail = min(gap, WINDOW - start)
            self.seen[start : start + tail] = bytes(tail)
            if tail < gap:
                self.seen[: gap - tail] = bytes(gap - tail)
        self.lost += gap
        self.high = counter
        self.received += 1
        self.seen[counter & _MASK] = 1

    def follow(self, count: int) -> None:
        """Note the next `count` counters, none missing."""
        start = (self.high + 1) & _MASK
        self.high += count
        self.received += count
        if count >= WINDOW:
            self.seen = bytearray(b"\1" * WINDOW)
            return
        tail = min(count, WINDOW - start)
        self.seen[start : start + tail] = b"\1" * tail
        if tail < count:
            self.seen[: count - tail] = b"\1" * (count - tail)

    def look_back(self, counter: int) -> Kind:
        """Note a counter not above the highest, for what it seems to be."""
        slot = counter & _MASK
        if counter <= self.high - WINDOW or self.seen[slot]:
            self.repeats += 1
            return "repeat"
        self.seen[slot] = 1
        self.received += 1
        if counter < self.first:
            return "early"
        self.lost -= 1
        return "late"

    def undo(self, counter: int, kind: Kind) -> None:
        """Take back what `look_back` noted."""
        if kind == "repeat":
            self.repeats -= 1
            return
        self.seen[counter & _MASK] = 0
        self.received -= 1
        if kind == "late":
            self.lost += 1

    def may_restart_at(self, counter: int) -> bool:
        """Whether a counter not above the highest is low enough to begin another epoch."""
        return counter < SPAN or counter <= self.high - WINDOW

    def facts(self) -> EpochLosses:
        """A copy for readers."""
        return EpochLosses(
            self.number, self.first, self.high, self.received, self.lost, self.repeats
        )

    def to_json(self) -> dict[str, Any]:
        """The whole state; what came is written as one hexadecimal number."""
        seen = int(self.seen.translate(_TO_DIGITS), 2)
        return {"figures": list(astuple(self.facts())), "seen": f"{seen:x}"}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not write this.
        """
        number, first, high, received, lost, repeats = map(int, state["figures"])
        epoch = cls(number, first)
        epoch.high, epoch.received, epoch.lost, epoch.repeats = high, received, lost, repeats
        digits = f"{int(state['seen'], 16):0{WINDOW}b}".encode()
        if len(digits) != WINDOW:
            raise ValueError(f"seen has {len(digits)} bits, expected {WINDOW}")
        epoch.seen = bytearray(digits.translate(_FROM_DIGITS))
        return epoch


@dataclass(slots=True)
class _Doubt:
    """What was there before a new epoch or a leap, and how many messages came since."""

    before: Epoch
    leap: bool
    noted: int

    def goes_on_with(self, counter: int) -> bool:
        """Whether `counter` is what would have come next, had there been no epoch or leap."""
        return 0 < counter - self.before.high <= SPAN


class Track:
    """One detector: the current epoch, what is in doubt of it, and the sums of those that are over.

    Args:
        base: the first counter that came; it is noted by `note`, not here.
    """

    __slots__ = ("_closed", "_current", "_doubts", "_history", "_pending")

    def __init__(self, base: int) -> None:
        self._current = Epoch(1, base)
        self._doubts: list[_Doubt] = []
        self._pending: deque[tuple[int, Kind]] = deque(maxlen=_PENDING)
        self._closed = (0, 0, 0)
        self._history: deque[EpochLosses] = deque(maxlen=HISTORY)

    def note_all(self, counters: Sequence[int]) -> None:
        """Note counters in the order of arrival."""
        first, count = self._current.high + 1, len(counters)
        # Nearly always they go on where the last ones ended.
        if not (self._doubts or self._pending) and counters == list(range(first, first + count)):
            self._current.follow(count)
            return
        for counter in counters:
            self.note(counter)

    def note(self, counter: int) -> None:
        """Note a counter in the order of arrival."""
        current = self._current
        if self._doubts:
            self._weigh_doubts(counter)
            current = self._current
        if counter > current.high:
            if counter - current.high > WINDOW:
                self._doubt(_Doubt(current.copy(), leap=True, noted=1))
            current.advance(counter)
            self._pending.clear()
            return
        may_restart = current.may_restart_at(counter)
        kind = current.look_back(counter)
        if may_restart:
            self._pending.append((counter, kind))
            self._confirm(counter)

    def sums(self) -> tuple[int, int, int]:
        """Received, lost and repeated, over all epochs."""
        received, lost, repeats = self._closed
        for epoch in self._open():
            received += epoch.received
            lost += epoch.lost
            repeats += epoch.repeats
        return received, lost, repeats

    def history(self) -> tuple[EpochLosses, ...]:
        """The last 32 epochs, the current one last."""
        return (*self._history, *(epoch.facts() for epoch in self._open()))[-HISTORY:]

    def _open(self) -> list[Epoch]:
        return [doubt.before for doubt in self._doubts if not doubt.leap] + [self._current]

    def _weigh_doubts(self, counter: int) -> None:
        beyond = counter - self._current.high > SPAN
        # An epoch's own counters pass through what it was before its leap only by going back.
        behind = counter < self._current.high
        for index in reversed(range(len(self._doubts))):
            doubt = self._doubts[index]
            behind = behind and doubt.leap
            if (beyond or behind) and doubt.goes_on_with(counter):
                self._current = doubt.before
                self._current.repeats += doubt.noted
                del self._doubts[index:]
                self._pending.clear()
                break
        for doubt in self._doubts:
            doubt.noted += 1
        while self._doubts and self._doubts[0].noted > WINDOW:
            self._settle(self._doubts.pop(0))

    def _confirm(self, newest: int) -> None:
        """Begin a new epoch if the counters near the newest one bear it out."""
        # Newest first, so that of a counter that came more than once the first kind stays.
        near = {
            counter: kind
            for counter, kind in reversed(self._pending)
            if newest - SPAN < counter <= newest
        }
        # A counter that was missing says nothing, it may just be late; once there is a new epoch
        # it belongs to it like the others.
        if sum(kind != "late" for kind in near.values()) < CONFIRMING:
            return
        epoch = Epoch(self._current.number + 1, 0)
        for counter in sorted(near):
            self._current.undo(counter, near[counter])
            epoch.advance(counter)
        self._doubt(_Doubt(self._current, leap=False, noted=len(near)))
        self._current = epoch
        self._pending.clear()

    def _doubt(self, doubt: _Doubt) -> None:
        if len(self._doubts) == _DOUBTS:
            self._settle(self._doubts.pop(0))
        self._doubts.append(doubt)

    def _settle(self, doubt: _Doubt) -> None:
        """The doubt is over: what was before a leap is forgotten, an earlier epoch is closed."""
        if doubt.leap:
            return
        over = doubt.before.facts()
        received, lost, repeats = self._closed
        self._closed = (received + over.received, lost + over.lost, repeats + over.repeats)
        self._history.append(over)

    def to_json(self) -> dict[str, Any]:
        """The whole state."""
        return {
            "current": self._current.to_json(),
            "doubts": [
                {"before": doubt.before.to_json(), "leap": doubt.leap, "noted": doubt.noted}
                for doubt in self._doubts
            ],
            "pending": [list(entry) for entry in self._pending],
            "closed": list(self._closed),
            "history": [list(astuple(past)) for past in self._history],
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it did not write this.
        """
        track = cls(0)
        track._current = Epoch.from_json(state["current"])
        track._doubts = [
            _Doubt(Epoch.from_json(doubt["before"]), bool(doubt["leap"]), int(doubt["noted"]))
            for doubt in state["doubts"][-_DOUBTS:]
        ]
        track._pending.extend((int(counter), _kind(kind)) for counter, kind in state["pending"])
        received, lost, repeats = map(int, state["closed"])
        track._closed = (received, lost, repeats)
        track._history.extend(_epoch_losses(past) for past in state["history"])
        return track


def _kind(text: object) -> Kind:
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        if text == kind:
            return kind
    raise ValueError(f"{text!r} is not a kind of pending counter")


def _epoch_losses(figures: Sequence[Any]) -> EpochLosses:
    epoch, first, last, received, lost, repeats = map(int, figures)
    return EpochLosses(epoch, first, last, received, lost, repeats)
