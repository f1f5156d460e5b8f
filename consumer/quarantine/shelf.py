"""The files of one reason in the quarantine.

A file is 12 bytes of header (8 bytes magic, u32 version, little-endian) and then frames (see
`journal.frames`), whose body is, little-endian::

    i64   arrival_ns        UTC ns since 1970
    u8    sealed            1 if the message is as it was on the wire, 0 if it never was encrypted
    u16   length of the detector's name, bytes
    u16   length of the detail, bytes
    detector, detail (both UTF-8), message

Files are only appended to, and go as a whole: the oldest first when the reason is full, or when all
that is in one is too old.
"""

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumer.journal.durable import (
    UNFINISHED_SUFFIX,
    fsync_folder,
    make_folder,
    open_private,
    write_all,
)
from consumer.journal.failure import NO_ROOM
from consumer.journal.frames import CUT_SHORT, FRAME, FrameRules, Gap, walk_frames

SUFFIX = ".messages"
HEADER = struct.pack("<8sI", b"dayfoldQ", 1)

#: Longest detector name and detail that are kept, bytes.
LONGEST_TEXT = 2000
#: Longest message that is kept, bytes.
LONGEST_MESSAGE = 256 * 1024 * 1024

_HEAD = struct.Struct("<qBHH")
_FILES = 8
_LARGEST_FILE = 16 * 1024 * 1024


def _plausible(raw: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    kept: NDArray[np.int64] = at[raw[at + FRAME.size + 8] <= 1]
    return kept


RULES = FrameRules(
    head=_HEAD.size,
    longest=_HEAD.size + 2 * LONGEST_TEXT + LONGEST_MESSAGE,
    plausible=_plausible,
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that could not be accepted. `arrival_ns` is UTC ns since 1970."""

    reason: str
    detector: str
    arrival_ns: int
    detail: str
    sealed: bool
    message: bytes

    def to_json(self) -> dict[str, str | int | bool]:
        """Return what may be shown: everything but the message itself."""
        arrival = datetime.fromtimestamp(self.arrival_ns / 1e9, tz=UTC)
        return {
            "reason": self.reason,
            "detector": self.detector,
            "arrival": arrival.isoformat(timespec="milliseconds"),
            "detail": self.detail,
            "sealed": self.sealed,
            "bytes": len(self.message),
        }


@dataclass(slots=True, eq=False)
class ShelfFile:
    """One file: its size, how many messages are in it, and when the latest of them came.

    `rewrites` counts how often it was written anew, which moves the messages in it.
    """

    path: Path
    bytes: int = 0
    messages: int = 0
    newest_ns: int = 0
    rewrites: int = 0
    damaged: list[Gap] = field(default_factory=list)


class Shelf:
    """Not thread-safe; the quarantine's lock guards it, except where a method says otherwise."""

    def __init__(self, folder: Path, reason: str, max_bytes: int) -> None:
        self.reason = reason
        self.dropped = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._file_bytes = min(_LARGEST_FILE, max_bytes // _FILES)
        self._fd: int | None = None
        self.files = self._find()
        # Whoever wrote these may have been killed before they were synced.
        self._unsynced = list(self.files)
        self._folder_changed = bool(self.files)
        #: How much the files take, bytes.
        self.size = sum(file.bytes for file in self.files)
        self._last_number = max((int(file.path.stem) for file in self.files), default=0)

    def _find(self) -> list[ShelfFile]:
        """Count what is there. Raises OSError."""
        files: list[ShelfFile] = []
        if self._folder.is_dir():
            for path in sorted(self._folder.glob(f"*{SUFFIX}")):
                # Who only lists may see a file go that the service has just emptied.
                with contextlib.suppress(FileNotFoundError):
                    file = ShelfFile(path, path.stat().st_size)
                    for _, message in self.read(file):
                        file.messages += 1
                        file.newest_ns = max(file.newest_ns, message.arrival_ns)
                    files.append(file)
        return files

    @property
    def messages(self) -> int:
        """How many messages are kept."""
        return sum(file.messages for file in self.files)

    def cut_torn_tail(self) -> int:
        """Cut off what a kill or a power cut left of the last message; return how many bytes.

        They are not kept: nobody could say whose day they are of, and so forget them. Only for who writes
        here: each process begins files of its own, so that no other file can be torn. Damage that a
        message follows stays. Raises OSError.
        """
        if not self.files:
            return 0
        file = self.files[-1]
        if file.bytes < len(HEADER):
            self.remove(file)
            return file.bytes
        tail = file.damaged[-1] if file.damaged else None
        if tail is None or tail.end < file.bytes or tail.reason != CUT_SHORT:
            return 0
        os.truncate(file.path, tail.start)
        file.damaged.pop()
        self._grow(file, tail.start - file.bytes)
        return tail.end - tail.start

    def put(self, data: bytes, arrival_ns: int) -> None:
        """Keep a message, as `encode` returns it; drop the oldest ones if there is no room.

        Never raises OSError.
        """
        if self.size + len(data) + len(HEADER) > self._max_bytes and not self._make_room(len(data)):
            self.dropped += 1
            return
        try:
            self._append(data, arrival_ns)
        except OSError as error:
            self._abandon()
            if error.errno in NO_ROOM:
                # What came before gives way, as it does when the shelf itself is full.
                self._drop_oldest()
                self._append_or_drop(data, arrival_ns)
            else:
                self.dropped += 1

    def _append_or_drop(self, data: bytes, arrival_ns: int) -> None:
        try:
            self._append(data, arrival_ns)
        except OSError:
            self._abandon()
            self.dropped += 1

    def _make_room(self, size: int) -> bool:
        needed = size + len(HEADER)
        while self.files and needed <= self._max_bytes < self.size + needed:
            self._drop_oldest()
        return needed <= self._max_bytes

    def _append(self, data: bytes, arrival_ns: int) -> None:
        if self._fd is None or self.files[-1].bytes + len(data) > self._file_bytes:
            self._begin_file()
        file = self.files[-1]
        if file not in self._unsynced:
            self._unsynced.append(file)
        if self._fd is not None:
            write_all(self._fd, data)
        self._grow(file, len(data))
        file.messages += 1
        file.newest_ns = max(file.newest_ns, arrival_ns)

    def _begin_file(self) -> None:
        self.end_file()
        make_folder(self._folder)
        self._last_number += 1
        path = self._folder / f"{self._last_number:08d}{SUFFIX}"
        self._fd = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        self._folder_changed = True
        self.files.append(ShelfFile(path))
        write_all(self._fd, HEADER)
        self._grow(self.files[-1], len(HEADER))

    def _grow(self, file: ShelfFile, by: int) -> None:
        file.bytes += by
        self.size += by

    def _abandon(self) -> None:
        """Write no more to the open file; cut off what a failed write left in it."""
        if self._fd is not None:
            with contextlib.suppress(OSError):  # a reader steps over a torn message, too
                os.ftruncate(self._fd, self.files[-1].bytes)
        self.end_file()

    def end_file(self) -> None:
        """Close the open file. The next message begins another."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _drop_oldest(self) -> None:
        if self.files:
            self.dropped += self.remove(self.files[0])

    def drop_older(self, than_ns: int, *, keep_bytes: int = 0) -> None:
        """Drop files whose latest message came before `than_ns`, as long as `keep_bytes` stay."""
        for file in list(self.files):
            if file.newest_ns < than_ns and self.size - file.bytes >= keep_bytes:
                self.dropped += self.remove(file)

    def remove(self, file: ShelfFile) -> int:
        """Remove a file; return how many messages were in it. Never raises OSError."""
        if file is self.files[-1]:
            self.end_file()
        self.files.remove(file)
        self.size -= file.bytes
        with contextlib.suppress(OSError):  # found again at the next start, and dropped then
            file.path.unlink(missing_ok=True)
        # Else a power cut, however late, could bring it back.
        self._folder_changed = True
        return file.messages

    def pending_sync(self) -> tuple[list[Path], bool]:
        """Take what is to be synced: files, and whether their names are, too.

        They are the files that were written to since the last time, and at first all.
        """
        files, self._unsynced = [file.path for file in self._unsynced], []
        changed, self._folder_changed = self._folder_changed, False
        return files, changed

    def sync(self, files: Sequence[Path], *, folder_changed: bool) -> None:
        """Make files durable, and the names of all of them. Needs no lock. Raises OSError."""
        for path in files:
            with contextlib.suppress(FileNotFoundError):  # dropped, with all that was in it
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
        if folder_changed:
            fsync_folder(self._folder)
            fsync_folder(self._folder.parent)

    def read(self, file: ShelfFile) -> Iterator[tuple[int, Quarantined]]:
        """Yield (offset, message), oldest first; steps over damage. Needs no lock. Raises OSError."""
        gaps: list[Gap] = []
        with file.path.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            for frames in walk_frames(opened, min(len(HEADER), size), size, RULES, gaps):
                for offset, body in frames:
                    yield offset, _decode(self.reason, body)
        file.damaged = gaps

    def replace(self, file: ShelfFile, fresh: Path, size: int, messages: int) -> None:
        """Let the file that `rewritten` made take the name of the old one. Raises OSError."""
        fresh.replace(file.path)
        self._grow(file, size - file.bytes)
        file.messages = messages
        file.rewrites += 1

    def rewritten(self, file: ShelfFile, without: Collection[int]) -> tuple[Path, int, int]:
        """Write the file anew without the messages at some offsets; it does not take its name yet.

        Returns the new file, its size and its number of messages. Needs no lock. Raises OSError.
        """
        fresh = file.path.with_name(file.path.name + UNFINISHED_SUFFIX)
        kept = 0
        with (
            file.path.open("rb", buffering=0) as source,
            os.fdopen(open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as target,
        ):
            target.write(HEADER)
            for offset, body in _bodies(source):
                if offset not in without:
                    target.write(FRAME.pack(len(body), zlib.crc32(body)))
                    target.write(body)
                    kept += 1
            target.flush()
            os.fsync(target.fileno())
            size = target.tell()
        return fresh, size, kept


def _bodies(source: io.FileIO) -> Iterator[tuple[int, memoryview]]:
    size = os.fstat(source.fileno()).st_size
    for frames in walk_frames(source, min(len(HEADER), size), size, RULES, []):
        yield from frames


def encode(detector: str, arrival_ns: int, detail: str, *, sealed: bool, message: bytes) -> bytes:
    """Return a message as it lies in a file. Long names and details are cut."""
    detector_bytes = detector.encode("utf-8", "replace")[:LONGEST_TEXT]
    detail_bytes = detail.encode("utf-8", "replace")[:LONGEST_TEXT]
    head = _HEAD.pack(arrival_ns, sealed, len(detector_bytes), len(detail_bytes))
    body = b"".join((head, detector_bytes, detail_bytes, message))
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def _decode(reason: str, body: memoryview) -> Quarantined:
    arrival_ns, sealed, detector_length, detail_length = _HEAD.unpack_from(body)
    detail_at = _HEAD.size + detector_length
    message_at = detail_at + detail_length
    return Quarantined(
        reason=reason,
        detector=str(body[_HEAD.size : detail_at], "utf-8", "replace"),
        arrival_ns=arrival_ns,
        detail=str(body[detail_at:message_at], "utf-8", "replace"),
        sealed=bool(sealed),
        message=bytes(body[message_at:]),
    )
