"""The file of one shard, written and read as a stream.

The content is what ``faiss.serialize_index`` gives for an `IndexIDMap2` over an `IndexFlatIP`
(format of FAISS 1.7 to 1.15, `write_index` in faiss/impl/index_write.cpp), little-endian:

===========================  ====================================================
`IxM2` and the header        dimension i32, rows i64, two fillers i64 (1 << 20),
                             trained u8 (1), metric i32 (0, inner product)
`IxFI` and the same header   of the flat index inside
u64 and the vectors          how many float32 values, then the values
u64 and the identifiers      how many int64 values, then the values
===========================  ====================================================

It is written here rather than by FAISS for three reasons: a million rows of 256 need one block of
memory instead of a gigabyte or two; FAISS reports no error when the disk is full; and FAISS loads
flipped bits without a word, so bytes are hashed before anything believes them. The tests hold
both directions against FAISS itself.
"""

import hashlib
import io
import os
import struct
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import numpy as np

from index.durable_file import DurableFile
from index.errors import StoreCorruptError, VectorError
from index.store import MAX_ROWS, RowIds, Shard, Vectors, row_id
from index.vectors import check_vectors

SHARD_FOLDER = "shards"
SHARD_ENDING = ".faiss"
_HEADER = struct.Struct("<4siqqqBi")
_COUNT = struct.Struct("<Q")
_FILLER = 1 << 20
_BLOCK_BYTES = 4 << 20


def shard_name(day: date, revision: int, generation: int | None = None) -> str:
    """File name of a shard, with the generation when the plain name is already taken."""
    behind = "" if generation is None else f"-g{generation:08d}"
    return f"{day.isoformat()}-r{revision:04d}{behind}{SHARD_ENDING}"


def shard_size(dimension: int, rows: int) -> int:
    """Exact size in bytes of a shard file."""
    return len(_prefix(dimension, 0)) + rows * dimension * 4 + _COUNT.size + rows * 8


def vectors_offset(dimension: int) -> int:
    """Where in a shard file its first vector begins."""
    return len(_prefix(dimension, 0))


def write_shard(
    file: DurableFile, blocks: Iterable[Vectors], *, day: date, revision: int, dimension: int
) -> int:
    """Write blocks of rows to `file`, one in memory at a time. Gives the number of rows.

    Raises:
        VectorError: no rows, or rows that `check_vectors` refuses.
        RevisionError: more rows than an identifier can name.
        StoreWriteError: the disk is full or the write failed.
    """
    file.write(_prefix(dimension, 0))
    rows = 0
    for block in blocks:
        checked = check_vectors(block, dimension, f"{day} revision {revision}, after row {rows}")
        if len(checked):
            rows += len(checked)
            row_id(day, revision, rows - 1)
            file.write(checked.data)
    if rows == 0:
        raise VectorError(f"{day} revision {revision}: no rows; a chunk has at least its day row.")
    file.write(_COUNT.pack(rows))
    step = _BLOCK_BYTES // 8
    for start in range(0, rows, step):
        file.write(_ids(day, revision, start, min(start + step, rows)).data)
    file.overwrite(0, _prefix(dimension, rows))
    return rows


def read_shard(folder: Path, shard: Shard, *, index: str, dimension: int) -> Iterator[Vectors]:
    """Yield the vectors of a shard by blocks; read to the end or believe nothing of it.

    The file is compared with the manifest byte by byte as it passes: size, header, identifiers
    and SHA-256. A flipped bit is found at the latest when the last block has been taken, so a
    caller undoes what it kept of the earlier ones.

    Args:
        folder: the folder of the index.
        shard: what the manifest says of it.
        index: name of the index, for the error.
        dimension: length of each vector.

    Raises:
        StoreCorruptError: missing, unreadable, or not what the manifest says.
    """

    def corrupt(detail: str) -> StoreCorruptError:
        return StoreCorruptError(index, f"{SHARD_FOLDER}/{shard.file}", detail, shard.day)

    try:
        with (folder / SHARD_FOLDER / shard.file).open("rb", buffering=0) as raw:
            size = os.fstat(raw.fileno()).st_size
            if not 0 < shard.rows <= MAX_ROWS or size != shard_size(dimension, shard.rows):
                raise corrupt(f"has {size} bytes, {shard.size} expected")
            seen = hashlib.sha256()
            prefix = _prefix(dimension, shard.rows)
            if _take(raw, len(prefix), seen) != prefix:
                raise corrupt("has another header than the manifest says")
            step = max(1, _BLOCK_BYTES // (4 * dimension))
            for start in range(0, shard.rows, step):
                count = min(step, shard.rows - start)
                data = _take(raw, count * dimension * 4, seen)
                yield np.frombuffer(data, dtype="<f4").reshape(count, dimension)
            _take(raw, _COUNT.size + shard.rows * 8, seen)
            if seen.hexdigest() != shard.sha256:
                raise corrupt(f"fails its checksum {shard.sha256[:12]}")
    except FileNotFoundError as error:
        raise corrupt("is missing") from error
    except EOFError as error:
        raise corrupt("ends early") from error
    except OSError as error:
        raise corrupt(f"cannot be read: {error.strerror or error}") from error


def ids_of(shard: Shard) -> RowIds:
    """Identifiers of all rows of a shard, in order."""
    return _ids(shard.day, shard.revision, 0, shard.rows)


def _ids(day: date, revision: int, start: int, end: int) -> RowIds:
    base = row_id(day, revision, 0)
    return np.arange(base + start, base + end, dtype=np.int64)


def _prefix(dimension: int, rows: int) -> bytes:
    return (
        _HEADER.pack(b"IxM2", dimension, rows, _FILLER, _FILLER, 1, 0)
        + _HEADER.pack(b"IxFI", dimension, rows, _FILLER, _FILLER, 1, 0)
        + _COUNT.pack(rows * dimension)
    )


def _take(raw: io.FileIO, count: int, seen: "hashlib._Hash") -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    done = 0
    while done < count:
        got = raw.readinto(view[done:])
        if not got:
            raise EOFError
        done += got
    seen.update(data)
    return data
