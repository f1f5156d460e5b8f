"""The record: how one event lies in a segment.

A record is a frame (see `frames`) whose body is, little-endian::

    i64   time_ns       effective time, UTC ns since 1970
    i64   arrival_ns    when it reached us, UTC ns since 1970
    16 B  digest        what identifies the event (see `identity`)
    u8    flags         bit 0: the payload is an LZ4 block; bit 1: time_ns is the event's own time
    u32   raw_size      size of the payload once decompressed, bytes
    payload
"""

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import lz4.block
import numpy as np
from numpy.typing import NDArray

from consumer import columns
from consumer.journal.frames import FRAME, FRAME_BYTES, BadFrameError, FrameRules, Frames
from consumer.wire.admitted import Admitted, Batch

HEAD = struct.Struct("<qq16sBI")
HEAD_BYTES = HEAD.size

COMPRESSED = 1
OWN_TIME = 2

#: Largest payload that a record takes, stored or decompressed, bytes.
MAX_PAYLOAD_BYTES = 256 * 1024 * 1024

_FLAGS_AT = FRAME_BYTES + 32
_RAW_SIZE_AT = FRAME_BYTES + 33


class Record(NamedTuple):
    """One event of a chunk. A named tuple, because a day makes millions of them.

    `payload` is the protobuf message as the detector wrote it, decompressed.
    """

    time_ns: int
    arrival_ns: int
    payload: bytes
    own_time: bool


def encode(batch: Batch) -> bytes:
    """Return the records of events, one behind the other.

    Raises struct.error if a time or a size of one does not fit into a record.
    """
    compiled = columns.compiled()
    records = None if compiled is None else compiled.encode(*batch.columns())
    return encode_plainly(batch) if records is None else records


def encode_plainly(events: Iterable[Admitted]) -> bytes:
    """`encode` without what is compiled."""
    crc32, pack_frame, pack_head = zlib.crc32, FRAME.pack, HEAD.pack
    pieces: list[bytes] = []
    for _, time_ns, own_time, digest, arrival_ns, payload, raw_size, compressed in events:
        head = pack_head(time_ns, arrival_ns, digest, compressed | own_time << 1, raw_size)
        checksum = crc32(payload, crc32(head))
        pieces += (pack_frame(HEAD_BYTES + len(payload), checksum), head, payload)
    return b"".join(pieces)


def decode(frames: Frames) -> list[Record]:
    """Return the records in frames whose checksums were good.

    Raises BadFrameError if a payload is not of the size that its record states; only a faulty
    writer does that.
    """
    unpack, decompress = HEAD.unpack_from, lz4.block.decompress
    records: list[Record] = []
    for offset, body in frames:
        time_ns, arrival_ns, _, flags, raw_size = unpack(body)
        stored = body[HEAD_BYTES:]
        if raw_size > MAX_PAYLOAD_BYTES:
            raise BadFrameError(offset, f"{raw_size} bytes of payload stated")
        try:
            payload = (
                decompress(stored, uncompressed_size=raw_size)
                if flags & COMPRESSED
                else bytes(stored)
            )
        except lz4.block.LZ4BlockError as error:
            raise BadFrameError(offset, f"its LZ4 block does not decompress: {error}") from error
        if len(payload) != raw_size:
            raise BadFrameError(offset, f"{len(payload)} bytes of payload, {raw_size} stated")
        records.append(Record(time_ns, arrival_ns, payload, flags & OWN_TIME != 0))
    return records


def _plausible(raw: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep positions whose flags are known and whose sizes can be true together."""
    at = at[raw[at + _FLAGS_AT] <= COMPRESSED | OWN_TIME]
    raw_size = _u32(raw, at + _RAW_SIZE_AT)
    stored = _u32(raw, at) - HEAD_BYTES
    bare = raw[at + _FLAGS_AT] & COMPRESSED == 0
    right = np.where(bare, raw_size == stored, raw_size <= MAX_PAYLOAD_BYTES)
    kept: NDArray[np.int64] = at[right]
    return kept


def _u32(raw: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    value = np.zeros(len(at), dtype=np.int64)
    for byte in range(4):
        value |= raw[at + byte].astype(np.int64) << (8 * byte)
    return value


RULES = FrameRules(head=HEAD_BYTES, longest=HEAD_BYTES + MAX_PAYLOAD_BYTES, plausible=_plausible)
