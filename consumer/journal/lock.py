"""One writer per data folder."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.errors import JournalLockedError
from consumer.journal.durable import FOLDER_MODE, open_private, write_all

LOCK_NAME = "dayfold.lock"
#: Holds what a restore has brought so far. A folder with it is not a whole data folder yet.
RESTORING_NAME = ".restoring"


class DataLock:
    """Holds a data folder for one process while the `with` block runs.

    The lock is the kernel's: it goes with the process however that ends. The file stays, because
    removing it would let two processes lock two files of the same name.

    Raises JournalLockedError, which names the folder and the process that holds it, or says that a
    restore into the folder was cut short.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._fd: int | None = None

    def __enter__(self) -> Self:
        """Take the lock, or raise JournalLockedError at once."""
        self._root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        path = self._root / LOCK_NAME
        fd = open_private(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise JournalLockedError(f"{path} cannot be locked: {error}") from error
            raise JournalLockedError(
                f"data folder {self._root} is in use by process {holder}: stop it, or use "
                "another data.dir"
            ) from None
        with contextlib.suppress(OSError):  # the number is for people; a full disk costs no lock
            os.ftruncate(fd, 0)
            write_all(fd, f"{os.getpid()}\n".encode())
        self._fd = fd
        if (self._root / RESTORING_NAME).exists():
            self.__exit__(None, None, None)
            raise JournalLockedError(
                f"data folder {self._root} is half restored: empty it and restore again"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go. Does nothing if the lock is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
