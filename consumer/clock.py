"""The time of day and the passing of time, handed to whoever needs them."""

import time
from typing import Protocol

#: A time of day that is off by so many seconds since the last look was set.
SET_S = 5.0


class Clock(Protocol):
    """Two clocks in one: what time it is, and how much time has passed."""

    def now_ns(self) -> int:
        """Return UTC nanoseconds since 1970. May jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now_ns(self) -> int:
        """Return UTC nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move. For tests and for replay."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns
        self._monotonic_ns = 0

    def now_ns(self) -> int:
        """Return the UTC nanoseconds that were set."""
        return self._now_ns

    def monotonic(self) -> float:
        """Return the seconds by which the clock was advanced so far."""
        return self._monotonic_ns / 1e9

    def set_ns(self, now_ns: int) -> None:
        """Set the time of day, forwards or backwards. No time passes."""
        self._now_ns = now_ns

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks. Raises ValueError if that is less than zero."""
        if seconds < 0:
            msg = f"time passes forwards only, not by {seconds} s; set_ns() sets a clock back"
            raise ValueError(msg)
        step = round(seconds * 1e9)
        self._now_ns += step
        self._monotonic_ns += step


class ClockSet:
    """Notices that the time of day was set, which the passing of time alone does not explain.

    A clock that is merely pulled right, or repeats a leap second, is not taken for one that was set.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ns = self._offset()

    def _offset(self) -> int:
        return self._clock.now_ns() - round(self._clock.monotonic() * 1e9)

    def look(self) -> float:
        """By how many seconds it was set since the last look, forwards or backwards; mostly 0."""
        before, self._offset_ns = self._offset_ns, self._offset()
        step_s = (self._offset_ns - before) / 1e9
        return step_s if abs(step_s) >= SET_S else 0.0
