"""When a day closes: a pure decision, apart from the threads that act on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What the decision needs to know of a day that has events after its last seal.

    Attributes:
        end_ns: end of the day, UTC ns.
        sealed: whether an earlier revision exists.
        last_append_ns: arrival of its latest event, UTC ns.
    """

    day: date
    end_ns: int
    sealed: bool
    last_append_ns: int


@dataclass(frozen=True, slots=True)
class CloseRule:
    """Grace after a day's end, and the quiet time before late events make a new revision."""

    grace_s: float
    settle_s: float

    def due(self, facts: DayFacts, *, day_clock_ns: int, arrival_clock_ns: int) -> bool:
        """Whether the day is to be sealed now.

        Args:
            day_clock_ns: the clock that closes days: the wall clock, or the watermark in replay.
            arrival_clock_ns: the wall clock, against which late events settle.

        A day first closes when the day clock is past its end plus the grace time. A day that was
        sealed before closes again when nothing has arrived for it during the settling time, so
        that a trickle of late events makes one revision and not one each. An event that came, by
        the clock of then, further ahead than that has settled: the clock was set back meanwhile.
        """
        if day_clock_ns < facts.end_ns + int(self.grace_s * S):
            return False
        if not facts.sealed:
            return True
        return abs(arrival_clock_ns - facts.last_append_ns) >= int(self.settle_s * S)
