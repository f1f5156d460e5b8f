"""One log file that is being written, read line by line as it grows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

from consumer.backfill.jsonl import LINE_BYTES
from consumer.backfill.positions import Position, line_digest

#: How much is read at a time, bytes.
BLOCK_BYTES: Final = 1 << 20


class NewLine(NamedTuple):
    """A whole line, and where reading goes on after it.

    `content` is without the newline; None if the line is longer than `LINE_BYTES`.
    """

    content: bytes | None
    after: Position


class FollowedFile:
    """An open log. It stays open when it is renamed or removed, so that its end can be read.

    `offset` is behind the last whole line that was read. Close it when it is not needed any more.
    """

    def __init__(self, path: Path, fd: int, known: Position | None) -> None:
        facts = os.fstat(fd)
        self.name = path.name
        self.device = facts.st_dev
        self.inode = facts.st_ino
        self.offset = 0
        #: How often it was found to be shorter, or to hold something else, than before.
        self.truncations = 0
        self._fd = fd
        self._last_bytes = 0
        self._last_digest = ""
        self._too_long = False
        self._dry_at: tuple[int, int] | None = None
        if known is not None:
            self.offset = known.offset
            self._last_bytes = known.last_bytes
            self._last_digest = known.last_digest

    @classmethod
    def open(cls, path: Path, known: Position | None = None) -> Self:
        """Open a log; `known` is where reading of this very file goes on. Raises OSError."""
        return cls(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), known)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    @property
    def position(self) -> Position:
        """Where reading goes on."""
        return Position(
            self.name,
            self.device,
            self.inode,
            self.offset,
            self._last_bytes,
            self._last_digest,
        )

    def lines(self) -> Iterator[NewLine]:
        """The whole lines that were added, up to a block of them. Raises OSError.

        A line without its newline is not handed out: its writer may not have finished it.
        """
        facts = os.fstat(self._fd)
        size, state = facts.st_size, (facts.st_size, facts.st_mtime_ns)
        if state == self._dry_at:
            return
        if size < self.offset or not self._ends_as_before():
            self.truncations += 1
            self.offset = self._last_bytes = 0
            self._last_digest = ""
            self._too_long = False
        # A line may be longer than a block; what is longer than any line is passed over.
        wanted = BLOCK_BYTES
        block = self._read(self.offset, wanted)
        while b"\n" not in block and len(block) == wanted and wanted <= LINE_BYTES:
            wanted = min(2 * wanted, LINE_BYTES + 1)
            block = self._read(self.offset, wanted)
        if b"\n" not in block and len(block) > LINE_BYTES:
            self._pass_over(block)
            return
        if len(block) < wanted:
            self._dry_at = state
        begin = 0
        while (end := block.find(b"\n", begin) + 1) > 0:
            yield self._line(block[begin:end])
            begin = end

    def rest(self) -> bytes:
        """What lies behind the last whole line, for a file that nobody writes any more."""
        return self._read(self.offset, LINE_BYTES)

    def _line(self, raw: bytes) -> NewLine:
        content = None if self._too_long else raw.rstrip(b"\r\n")
        self._too_long = False
        self._advance(raw)
        return NewLine(content, self.position)

    def _pass_over(self, block: bytes) -> None:
        self._too_long = True
        self._advance(block)

    def _advance(self, done: bytes) -> None:
        # A part of it is enough to know the line again.
        last = done[-BLOCK_BYTES:]
        self.offset += len(done)
        self._last_bytes = len(last)
        self._last_digest = line_digest(last)

    def _ends_as_before(self) -> bool:
        before = self._read(self.offset - self._last_bytes, self._last_bytes)
        return not self._last_bytes or line_digest(before) == self._last_digest

    def _read(self, offset: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                break
            data = data + more if data else more
        return data
