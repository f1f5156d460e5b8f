"""Vectors of sentences across days, so that each is embedded once in the life of a model.

One file: a header that names the model, then records of the same size, appended, each with its
checksum. It holds digests of sentences and vectors, no text. It is never believed: another model's file,
one with a record that fails its checksum, and one that is full are begun anew; a record that a kill
cut short is taken off. What cannot be written is not kept; a day closes all the same.

Little-endian::

    header   8 B magic, u32 dimension, 32 B SHA-256 of the model's identity, u32 CRC-32 of these
    record   16 B BLAKE2b of the sentence, float32 x dimension, u32 CRC-32 of these
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embed.rows import ModelFacts, Vectors

MAGIC = b"dfsent1\n"
MOST_BYTES = 64 << 20
_HEADER = struct.Struct("<8sI32s")
_CRC = struct.Struct("<I")
_KEY_BYTES = 16
_RECORDS_AT_ONCE = 512


class SentenceCache:
    """Opens the file, or begins one; holds keys in memory and reads vectors when they are asked for.

    One process at a time: whoever finds it taken works without.

    Args:
        path: the file; its folder must be there.
        model: whose vectors.
        dimension: their width.
        most_bytes: a file that has grown beyond this is begun anew when it is next opened.
    """

    def __init__(
        self, path: Path, model: ModelFacts, dimension: int, *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._dimension = dimension
        self._record = _KEY_BYTES + 4 * dimension + _CRC.size
        self._most = most_bytes
        self._places: dict[bytes, int] = {}
        facts = _HEADER.pack(MAGIC, dimension, hashlib.sha256(model.identity.encode()).digest())
        self._header = facts + _CRC.pack(zlib.crc32(facts))
        self._end = len(self._header)
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._read():
                self._begin()
        except OSError:
            self.close()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, text: str) -> Vectors | None:
        """The vector of a text, float32 (dimension,), or None."""
        key = _key(text)
        place = self._places.get(key)
        if place is None or self._file is None:
            return None
        try:
            record = os.pread(self._file, self._record, place)
        except OSError:
            return None
        if not self._is_whole(record) or record[:_KEY_BYTES] != key:
            return None
        return np.frombuffer(record, dtype="<f4", count=self._dimension, offset=_KEY_BYTES)

    def put(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors, float32 (n, dimension), of n texts, as long as there is room."""
        if self._file is None:
            return
        records = bytearray()
        places: dict[bytes, int] = {}
        for text, vector in zip(texts, vectors, strict=True):
            place = self._end + len(records)
            if place + self._record > self._most:
                break
            body = (key := _key(text)) + vector.astype("<f4").tobytes()
            records += body + _CRC.pack(zlib.crc32(body))
            places[key] = place
        try:
            written = os.pwrite(self._file, records, self._end)
        except OSError:
            return
        if written == len(records):
            self._places |= places
            self._end += written

    def close(self) -> None:
        """Give the file back; may be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> bool:
        """Learn what the file holds; False if it is to be begun anew."""
        assert self._file is not None  # noqa: S101 - it was just opened
        size = os.fstat(self._file).st_size
        if os.pread(self._file, len(self._header), 0) != self._header:
            return False
        if size + self._record > self._most:
            return False
        while self._end + self._record <= size:
            block = os.pread(self._file, self._record * _RECORDS_AT_ONCE, self._end)
            for start in range(0, len(block) - self._record + 1, self._record):
                record = block[start : start + self._record]
                if not self._is_whole(record):
                    return False
                self._places[record[:_KEY_BYTES]] = self._end + start
            self._end += len(block) // self._record * self._record
        os.ftruncate(self._file, self._end)
        return True

    def _begin(self) -> None:
        assert self._file is not None  # noqa: S101 - it was just opened
        self._places, self._end = {}, len(self._header)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, self._header, 0)

    def _is_whole(self, record: bytes) -> bool:
        body, crc = record[: -_CRC.size], record[-_CRC.size :]
        return len(record) == self._record and _CRC.pack(zlib.crc32(body)) == crc


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
