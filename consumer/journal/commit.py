"""Group commit: what was appended becomes durable soon after, without the appender waiting."""

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from consumer.errors import JournalError
from consumer.journal.background import Background
from consumer.journal.durable import fsync_folder
from consumer.journal.failure import Failure
from consumer.journal.segment import SegmentWriter

Sync = Callable[[int], None]


class GroupCommit:
    """Owns the thread that syncs. Events count as durable once their file and its folder are.

    Args:
        state: guards the writers and the methods that say so. Never held during a sync.
        interval_s: how long events gather before they are synced.
        sync: makes one file descriptor durable.
    """

    def __init__(
        self, state: threading.Lock, failure: Failure, *, interval_s: float, sync: Sync
    ) -> None:
        self.appended = 0
        self.durable = 0
        self._state = state
        self._failure = failure
        self._sync = sync
        # Held through a whole sync, so that no file is closed while it is being synced.
        self._syncing = threading.Lock()
        self._writers: set[SegmentWriter] = set()
        self._folders: set[Path] = set()
        self._thread = Background(
            "journal-commit", self._commit_quietly, delay_s=interval_s, on_death=self._died
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. What is not durable by then waits for `commit`."""
        self._thread.stop()

    def created(self, folders: Collection[Path]) -> None:
        """Note folders that have a new name in them. The caller holds the state lock."""
        self._folders.update(folders)

    def written(self, writer: SegmentWriter, events: int) -> None:
        """Note events that were written. The caller holds the state lock, and wakes us after."""
        self._writers.add(writer)
        self.appended += events

    def wake(self) -> None:
        """Ask for a commit within the interval. Never waits."""
        self._thread.wake()

    def commit(self) -> None:
        """Make durable what was written before this call. Raises JournalWriteError, for good."""
        try:
            with self._syncing:
                self._failure.check()
                self._commit()
        except OSError as error:
            raise self._failure.stop("a sync failed", error) from error

    def _commit(self) -> None:
        with self._state:
            sizes = [(writer, writer.extent.bytes) for writer in self._writers]
            folders, appended = self._folders, self.appended
            self._writers, self._folders = set(), set()
        for writer, _ in sizes:
            self._sync(writer.fd)
        for folder in folders:
            fsync_folder(folder)
        for writer, size in sizes:
            writer.synced_bytes = size
        self.durable = appended

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Hold the state lock while nothing is being synced, so that files may be closed."""
        with self._syncing, self._state:
            yield

    def close(self, writer: SegmentWriter) -> None:
        """Close a file, inside `quiet`. What was not committed of it is not synced any more."""
        self._writers.discard(writer)
        os.close(writer.fd)

    def dropped(self, folder: Path) -> None:
        """Note that a folder is no longer there to be synced. Inside `quiet`."""
        self._folders.discard(folder)

    def _commit_quietly(self) -> None:
        with contextlib.suppress(JournalError):  # the failure has been told already
            self.commit()

    def _died(self) -> None:
        self._failure.stop("its commit thread died")
