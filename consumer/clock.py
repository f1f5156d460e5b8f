"""The time of day and the passing of time, handed to whoever needs them."""

import time
from typing import Protocol


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
