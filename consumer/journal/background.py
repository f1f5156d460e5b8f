"""A thread that does one kind of work: soon after it is asked, or every so often."""

import threading
from collections.abc import Callable


class Background:
    """Runs `work` in a thread of its own, never twice at a time.

    Args:
        name: of the thread.
        work: must not raise; `on_death` is called from the dying thread if it does.
        delay_s: how long after `wake` the work begins, so that more can gather.
        period_s: do the work also when nobody asked for so long; None: only when asked.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        delay_s: float = 0.0,
        period_s: float | None = None,
        on_death: Callable[[], None],
    ) -> None:
        self._work = work
        self._delay_s = delay_s
        self._period_s = period_s
        self._on_death = on_death
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Ask for the work to be done. Never waits; cheap when it was asked before."""
        if not self._asked.is_set():
            self._asked.set()

    def stop(self) -> None:
        """End the thread and wait until work in progress is done. Does not do what was asked."""
        self._stopping.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        ended_well = False
        try:
            while not self._stopping.is_set():
                if self._asked.wait(self._period_s):
                    self._stopping.wait(self._delay_s)
                if self._stopping.is_set():
                    break
                self._asked.clear()
                self._work()
            ended_well = True
        finally:
            if not ended_well:
                self._on_death()
