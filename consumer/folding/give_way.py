"""Reception goes first: a child is stopped while events pile up, and goes on after.

Niceness shares out the cores, and nothing else: caches, memory and disk are still shared with the thread that
receives.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

#: After so long a stopped child goes on, and for as long: a day ends, although the events never do.
LONGEST_S = 10.0


class GiveWay:
    """Stops one child (SIGSTOP) and lets it go on (SIGCONT). `look` is to be called often.

    A child that is stopped can still be killed, and is when its parent ends. It may hold the catalogue's
    lock for writing meanwhile, which reception does not need.

    Args:
        child: the process.
        pressed: whether reception needs the machine now.
        longest_s: the longest that the child is stopped for, and the least that it runs after that.
        monotonic: seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        pressed: Callable[[], bool],
        *,
        longest_s: float = LONGEST_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._pressed = pressed
        self._longest_s = longest_s
        self._monotonic = monotonic
        self._stopped_at: float | None = None
        self._runs_until = monotonic()
        self._before_s = 0.0

    @property
    def seconds(self) -> float:
        """How long the child has been stopped, in all."""
        now = 0.0 if self._stopped_at is None else self._monotonic() - self._stopped_at
        return self._before_s + now

    def look(self) -> None:
        """Stop the child or let it go on, as it is now."""
        now, pressed = self._monotonic(), self._pressed()
        if self._stopped_at is None:
            if pressed and now >= self._runs_until:
                self._child.send_signal(signal.SIGSTOP)
                self._stopped_at = now
            return
        stopped_s = now - self._stopped_at
        if pressed and stopped_s < self._longest_s:
            return
        self._child.send_signal(signal.SIGCONT)
        self._before_s += stopped_s
        self._stopped_at = None
        if pressed:
            self._runs_until = now + self._longest_s
