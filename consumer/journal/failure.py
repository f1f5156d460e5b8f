"""Why the journal stopped, told once."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path

from consumer.errors import JournalError, JournalWriteError

#: Errors after which the disk is as good as before, once there is room.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Failure:
    """Tells errors that pass from errors that stop the journal for good. Thread-safe.

    A failed sync stops it: the kernel may have dropped the pages, so a second sync that succeeds
    would prove nothing. It is never tried again.
    """

    def __init__(self, root: Path, on_fatal: Callable[[JournalError], None]) -> None:
        self._root = root
        self._on_fatal = on_fatal
        self._lock = threading.Lock()
        self._error: JournalWriteError | None = None

    @property
    def error(self) -> JournalWriteError | None:
        """What stopped the journal, or None."""
        return self._error

    def check(self) -> None:
        """Raise JournalWriteError if the journal has stopped."""
        if self._error is not None:
            raise JournalWriteError(str(self._error))

    def refuse(self, error: OSError, what: str) -> JournalWriteError:
        """Return what to raise for a failed write, all of which has been undone."""
        if error.errno in NO_ROOM:
            return JournalWriteError(
                f"{what}: {error}; nothing of it was kept. Make room on the disk and try again"
            )
        return self.stop(what, error)

    def stop(self, what: str, error: OSError | None = None) -> JournalWriteError:
        """Stop the journal for good, and return what to raise."""
        failure = JournalWriteError(
            f"the journal at {self._root} has stopped: {what}{f': {error}' if error else ''}. What "
            "was not synced before may be lost. Check the disk, then start again"
        )
        with self._lock:
            if self._error is not None:
                return failure
            self._error = failure
        self._on_fatal(failure)
        return failure
