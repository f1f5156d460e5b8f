"""Following a detector's logs as a source of events, for sites that have no wire.

The logs of a folder (`layout.LOG_NAME`) are read in the order of their names, each to its end, and
then looked at again every `poll_s`. A log that was renamed is followed under its new name, one that
was removed is read to its end, and one that was truncated is read from its beginning. A line counts
when its newline is there. Lost can be only what a truncation took away before it was read, unless
the copy that logrotate's `copytruncate` makes first is left in the folder, uncompressed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple
from zoneinfo import ZoneInfo

import structlog

from consumer.backfill.following import FollowedFile
from consumer.backfill.jsonl import LINE_BYTES, read_line, read_record
from consumer.backfill.layout import LOG_NAME
from consumer.backfill.local_time import noon_ns
from consumer.backfill.positions import Position, read_positions, write_positions
from consumer.clock import Clock
from consumer.errors import JournalError, UsageError
from consumer.reception.sources import Arrival, EventSource

log = structlog.get_logger("watch")

Key = tuple[int, int]

#: What events from logs are said to come from.
SOURCE = "logs"
#: How much is read ahead: lines, and bytes of events.
AHEAD = 2048
AHEAD_BYTES = 16 * 1024 * 1024
#: How long a removed log is kept open after its last line, seconds.
LINGER_S = 10.0
#: How many logs stay open at least; idle ones beyond are closed.
OPEN_FILES = 16
_SHOWN_FAULTS = 20


class _Item(NamedTuple):
    """A line that was read: its event, if it is one, and the position that it leads to."""

    arrival: Arrival | None
    key: Key
    after: Position | None


@dataclass(slots=True)
class WatchCounts:
    """What was read since the start.

    Attributes:
        lines: whole lines.
        rejected: parts of lines that are no record, by reason.
        truncations: logs that were shorter than before, or written anew.
    """

    lines: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    truncations: int = 0


class LogWatcher(EventSource):
    """The events in the ``*.jsonl`` files of a folder, now and as they are added.

    Where reading goes on after a restart is written to a file, about every `save_s`, after `sync`
    has made durable what was taken: a caller that asks for more has done its work with what it got
    before. A crash in between reads some lines again, which are duplicates by their identity.

    Args:
        folder: the detector's folder with ``events`` in it, or that one itself.
        positions: the file that remembers how far reading is.
        sync: makes durable what was taken; may wait.
        local: time zone of the dates in file names.
    """

    def __init__(
        self,
        folder: Path,
        positions: Path,
        *,
        clock: Clock,
        sync: Callable[[], None],
        local: ZoneInfo,
        poll_s: float = 0.2,
        save_s: float = 1.0,
    ) -> None:
        events = folder / "events"
        self.folder = events if events.is_dir() else folder
        self.counts = WatchCounts()
        self._positions = positions
        self._clock = clock
        self._sync = sync
        self._local = local
        self._poll_s = poll_s
        self._save_s = save_s
        self._started = False
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._items: deque[_Item] = deque()
        self._item_bytes = 0
        self._open: dict[Key, FollowedFile] = {}
        self._grown: dict[Key, float] = {}
        # How far reading is, how far it is done with, and what the latter says on the disk.
        self._read_to: dict[Key, Position] = {}
        self._handed: dict[Key, Position] = {}
        self._done_to: dict[Key, Position] = {}
        self._quiet: dict[Key, tuple[int, int]] = {}
        self._unsaved = False
        self._saved_at = clock.monotonic()

    def start(self) -> None:
        """Begin to read. Raises UsageError if it was started before, or there is no such folder."""
        if self._started or self._stopping.is_set():
            raise UsageError("a source is started once; make another one")
        if not self.folder.is_dir():
            raise UsageError(f"{self.folder}: no such folder")
        self._started = True
        try:
            known = read_positions(self._positions)
        except OSError as error:
            raise UsageError(f"{self._positions}: cannot be read: {error}") from error
        self._done_to = {(entry.device, entry.inode): entry for entry in known}
        self._read_to = dict(self._done_to)

    def stop(self) -> None:
        """Read nothing more. What was read ahead can still be taken."""
        self._stopping.set()
        if self._lock.acquire(timeout=1.0):
            try:
                self._close_files()
            finally:
                self._lock.release()

    @property
    def drained(self) -> bool:
        """Whether it was stopped and all that was read ahead is taken."""
        return self._stopping.is_set() and not self._items

    def take(self, limit: int, timeout_s: float) -> list[Arrival]:
        """Hand out the events of some lines.

        Raises:
            ValueError: `limit` is less than 1.
            JournalError: what was taken before cannot be made durable, or the position not written.
        """
        if limit < 1:
            raise ValueError(f"limit = {limit}; at least one message must be asked for")
        with self._lock:
            self._acknowledge()
            until = time.monotonic() + timeout_s
            while True:
                taken = self._pop(limit)
                stopping = self._stopping.is_set() or not self._started
                if not taken and not stopping:
                    self._poll()
                    taken = self._pop(limit)
                if taken:
                    return taken
                if stopping:
                    self._acknowledge(at_once=True)
                    self._close_files()
                    return []
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._stopping.wait(min(self._poll_s, left))

    def _pop(self, limit: int) -> list[Arrival]:
        taken: list[Arrival] = []
        while self._items and (len(taken) < limit or self._items[0].arrival is None):
            item = self._items.popleft()
            if item.arrival is not None:
                taken.append(item.arrival)
                self._item_bytes -= len(item.arrival.message)
            if item.after is not None:
                self._handed[item.key] = item.after
        return taken

    def _acknowledge(self, *, at_once: bool = False) -> None:
        """What was handed out is done with: remember it, now and then on the disk."""
        if self._handed:
            self._done_to |= self._handed
            self._handed = {}
            self._unsaved = True
        now = self._clock.monotonic()
        if not self._unsaved or (now - self._saved_at < self._save_s and not at_once):
            return
        self._sync()
        # Logs that are gone need no position any more.
        self._done_to = {key: at for key, at in self._done_to.items() if key in self._read_to}
        try:
            write_positions(self._positions, self._done_to.values())
        except OSError as error:
            raise JournalError(f"{self._positions}: cannot be written: {error}") from error
        self._unsaved = False
        self._saved_at = now

    @property
    def _full(self) -> bool:
        return len(self._items) >= AHEAD or self._item_bytes >= AHEAD_BYTES

    def _poll(self) -> None:
        """Read what was added, as far ahead as is allowed."""
        there = self._look()
        if there is None:
            return
        now_ns = self._clock.now_ns()
        wanted = {key: path for key, (path, _) in there.items() if LOG_NAME.fullmatch(path.name)}
        renamed = [key for key in self._read_to if key in there and key not in wanted]
        for key in [*renamed, *sorted(wanted, key=lambda key: _age(wanted[key].name))]:
            path, facts = there[key]
            if self._quiet.get(key) != facts and self._read(key, path, now_ns):
                self._quiet[key] = facts
            if self._full:
                return
        for key in [key for key in self._read_to if key not in there]:
            self._read_removed(key, now_ns)
        self._close_idle()

    def _look(self) -> dict[Key, tuple[Path, tuple[int, int]]] | None:
        """Every file of the folder: its path, and its size and time of change. None: no answer."""
        found: dict[Key, tuple[Path, tuple[int, int]]] = {}
        try:
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    if S_ISREG(facts.st_mode):
                        state = (facts.st_size, facts.st_mtime_ns)
                        found[facts.st_dev, facts.st_ino] = (path, state)
        except OSError as error:
            log.warning("cannot look at the logs", folder=str(self.folder), error=str(error))
            return None
        return found

    def _read(self, key: Key, path: Path, now_ns: int) -> bool:
        """Read on in a log. True if there is nothing more in it for now."""
        try:
            file = self._open.get(key)
            if file is None:
                file = self._open[key] = FollowedFile.open(path, self._read_to.get(key))
                if (file.device, file.inode) != key:
                    # Another file took the name meanwhile: it is seen at the next look.
                    self._close(key)
                    return False
            file.name = path.name
            return self._read_lines(key, file, now_ns)
        except OSError as error:
            log.warning("a log cannot be read", file=str(path), error=str(error))
            return True

    def _read_lines(self, key: Key, file: FollowedFile, now_ns: int) -> bool:
        while not self._full:
            before, truncations = file.offset, file.truncations
            for line in file.lines():
                self.counts.lines += 1
                self._add(key, line.content, file.name, now_ns, line.after)
            self.counts.truncations += file.truncations - truncations
            self._read_to[key] = file.position
            if file.offset == before:
                return True
            self._grown[key] = self._clock.monotonic()
        return False

    def _read_removed(self, key: Key, now_ns: int) -> None:
        """Read a log that is in the folder no more to its end, then let go of it."""
        file = self._open.get(key)
        if file is not None:
            try:
                if not self._read_lines(key, file, now_ns):
                    return
                if self._clock.monotonic() - self._grown.get(key, 0.0) < LINGER_S:
                    return
                if rest := file.rest().strip():
                    self._add(key, rest, file.name, now_ns, None)
            except OSError as error:
                log.warning("a removed log cannot be read", file=file.name, error=str(error))
        self._close(key)
        for kept in (self._read_to, self._quiet, self._grown):
            kept.pop(key, None)
        self._unsaved = True

    def _add(
        self, key: Key, content: bytes | None, name: str, now_ns: int, after: Position | None
    ) -> None:
        arrivals = list(self._events(content, name, now_ns))
        self._item_bytes += sum(len(arrival.message) for arrival in arrivals)
        for arrival in arrivals[:-1]:
            self._items.append(_Item(arrival, key, None))
        self._items.append(_Item(arrivals[-1] if arrivals else None, key, after))

    def _events(self, content: bytes | None, name: str, now_ns: int) -> Iterator[Arrival]:
        if content is None:
            self._reject(name, "too_long", f"longer than {LINE_BYTES} bytes")
            return
        if not content.strip():
            return
        found = read_line(content)
        if found.reason is not None:
            self._reject(name, found.reason, f"{len(content)} bytes")
        for _, _, record in found.records:
            try:
                logged = read_record(record, fallback_ns=self._fallback_ns(name, now_ns))
            except ValueError as error:
                self._reject(name, "corrupt", str(error))
            else:
                yield Arrival(SOURCE, now_ns, logged.payload(), sealed=False)

    def _fallback_ns(self, name: str, now_ns: int) -> int:
        try:
            return noon_ns(date.fromisoformat(name[:10]), self._local)
        except (ValueError, OverflowError):
            return now_ns

    def _reject(self, name: str, reason: str, detail: str) -> None:
        count = self.counts.rejected[reason] = self.counts.rejected.get(reason, 0) + 1
        if count <= _SHOWN_FAULTS:
            log.warning("a line is not imported", file=name, reason=reason, detail=detail)

    def _close_idle(self) -> None:
        idle = sorted(self._open, key=lambda key: self._grown.get(key, 0.0))
        for key in idle[: max(0, len(idle) - OPEN_FILES)]:
            self._close(key)

    def _close(self, key: Key) -> None:
        file = self._open.pop(key, None)
        if file is not None:
            file.close()

    def _close_files(self) -> None:
        for key in list(self._open):
            self._close(key)


def _age(name: str) -> tuple[str, int]:
    """Sorts logs: by date, and of the same date the longest rotated first."""
    match = LOG_NAME.fullmatch(name)
    if match is None:
        return (name, 0)
    return (match["stem"], -int(match["rotated"] or 0))
