"""Frames: the length and checksum around everything in a segment or in the quarantine.

::

    u32 little-endian   length of the body, bytes
    u32 little-endian   CRC-32 (the one of zlib) of the body
    body

A reader never trusts a length before the checksum of its body agrees. Where a frame is bad, the
next good one is searched for byte by byte, so that damage costs the damaged frames only.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME = struct.Struct("<II")
FRAME_BYTES = FRAME.size
#: Why a frame is bad that goes on beyond the end of its file.
CUT_SHORT = "cut short"

#: How much is read at a time. Longer frames are read whole.
BLOCK_BYTES = 512 * 1024

Frames = list[tuple[int, memoryview]]

_U8 = NDArray[np.uint8]
_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FrameRules:
    """What a body may look like, for one kind of file.

    `plausible(bytes, positions)` drops positions whose body header cannot be right before the cost
    of a checksum is paid; `bytes` is uint8 and every position has `head` bytes of body after it.
    """

    head: int
    longest: int
    plausible: Callable[[_U8, _I64], _I64]


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes `[start, end)` of a file that hold no valid frame.

    `unreadable` says that the disk did not give them, so nothing is known of what is in them.
    """

    start: int
    end: int
    reason: str
    unreadable: bool = False


class BadFrameError(Exception):
    """The bytes at `offset` are not a valid frame. Stays inside this package."""

    def __init__(self, offset: int, reason: str, *, unreadable: bool = False) -> None:
        super().__init__(f"offset {offset}: {reason}")
        self.offset = offset
        self.reason = reason
        self.unreadable = unreadable


def read_frames(file: io.FileIO, start: int, end: int, rules: FrameRules) -> Iterator[Frames]:
    """Yield the frames in `[start, end)` block by block, as (offset, body).

    Bodies are views into their block and stay valid as long as they are kept. Raises BadFrameError
    at the first frame that is not valid, after everything before it was yielded.
    """
    base = start
    wanted = BLOCK_BYTES
    while base < end:
        block = _read(file, base, min(wanted, end - base))
        found, used, fault = _split(block, base, rules)
        if found:
            yield found
        base += used
        if fault:
            raise BadFrameError(base, fault)
        # The frame that the block cut in two is read again, whole, with the next block.
        size = _begun_frame(block, used)
        if base < end < base + size:
            raise BadFrameError(base, CUT_SHORT)
        wanted = max(BLOCK_BYTES, size)


def _split(block: bytes, base: int, rules: FrameRules) -> tuple[Frames, int, str]:
    """Return the whole frames at the start of `block`, their size in all, and what is wrong then."""
    crc32, unpack = zlib.crc32, FRAME.unpack_from
    shortest, longest = rules.head, rules.longest
    view = memoryview(block)
    found: Frames = []
    at = 0
    while len(block) - at >= FRAME_BYTES:
        length, checksum = unpack(block, at)
        if not shortest <= length <= longest:
            return found, at, f"length {length} is out of range"
        stop = at + FRAME_BYTES + length
        if stop > len(block):
            break
        body = view[at + FRAME_BYTES : stop]
        if crc32(body) != checksum:
            return found, at, "checksum does not match"
        found.append((base + at, body))
        at = stop
    return found, at, ""


def _begun_frame(block: bytes, at: int) -> int:
    """Return the size of the frame that begins at `at` and is not all in `block`."""
    if len(block) - at < FRAME_BYTES:
        return FRAME_BYTES
    length: int = FRAME.unpack_from(block, at)[0]
    return FRAME_BYTES + length


def walk_frames(
    file: io.FileIO, start: int, end: int, rules: FrameRules, gaps: list[Gap]
) -> Iterator[Frames]:
    """Yield every valid frame in `[start, end)`; what lies between them is added to `gaps`."""
    while start < end:
        try:
            yield from read_frames(file, start, end, rules)
        except BadFrameError as bad:
            start = end if bad.unreadable else _resume_at(file, bad.offset + 1, end, rules)
            gaps.append(Gap(bad.offset, start, bad.reason, bad.unreadable))
        else:
            return


def find_frame(file: io.FileIO, start: int, end: int, rules: FrameRules) -> int | None:
    """Return the offset of the first valid frame at or after `start`, or None."""
    header = FRAME_BYTES + rules.head
    while start + header <= end:
        block = _read(file, start, min(BLOCK_BYTES + header, end - start))
        candidates = _candidates(block, end - start, rules)
        for position in candidates.tolist():
            if _is_frame(file, start + position, end, rules):
                return start + int(position)
        start += BLOCK_BYTES
    return None


def _resume_at(file: io.FileIO, start: int, end: int, rules: FrameRules) -> int:
    try:
        following = find_frame(file, start, end, rules)
    except BadFrameError:  # the file shrank under a reader that holds no lock
        return end
    return end if following is None else following


def _candidates(block: bytes, remaining: int, rules: FrameRules) -> _I64:
    """Positions in `block` at which a frame may start, in order."""
    raw: _U8 = np.frombuffer(block, dtype=np.uint8)
    last = len(block) - FRAME_BYTES - rules.head
    found = []
    for shift in range(4):
        words = (len(block) - shift) // 4
        lengths = np.frombuffer(block, dtype="<u4", count=words, offset=shift).astype(np.int64)
        positions = np.arange(words, dtype=np.int64) * 4 + shift
        fits = (lengths >= rules.head) & (lengths <= rules.longest) & (positions <= last)
        fits &= positions + FRAME_BYTES + lengths <= remaining
        found.append(positions[fits])
    return rules.plausible(raw, np.sort(np.concatenate(found)))


def _is_frame(file: io.FileIO, offset: int, end: int, rules: FrameRules) -> bool:
    length: int
    checksum: int
    length, checksum = FRAME.unpack(_read(file, offset, FRAME_BYTES))
    if not rules.head <= length <= min(rules.longest, end - offset - FRAME_BYTES):
        return False
    return zlib.crc32(_read(file, offset + FRAME_BYTES, length)) == checksum


def _read(file: io.FileIO, offset: int, length: int) -> bytes:
    """Read exactly `length` bytes. Raises BadFrameError if the file or the disk does not give them."""
    data = b""
    try:
        while len(data) < length:
            more = os.pread(file.fileno(), length - len(data), offset + len(data))
            if not more:
                raise BadFrameError(offset, f"the file ends at {offset + len(data)}")
            data = data + more if data else more
    except OSError as error:
        raise BadFrameError(offset, f"cannot be read: {error}", unreadable=True) from error
    return data
