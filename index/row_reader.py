"""Single rows of an index out of its shards on the disk, without loading them."""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np

from index.errors import StoreCorruptError
from index.manifest import Manifest
from index.shards import SHARD_FOLDER, shard_size, vectors_offset
from index.store import ROW_BITS, RowIds, Shard, Vectors, row_id, split_row_id

OPEN_FILES = 64


class RowReader:
    """Reads rows of the manifest it was given last. Unchecked: the caller has their checksums.

    Files are read and not mapped: one that a disk cuts short is then an error and not a signal.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder / SHARD_FOLDER
        self._files: OrderedDict[str, int] = OrderedDict()
        self.show(manifest)

    def show(self, manifest: Manifest) -> None:
        """Read from the shards of another generation from now on."""
        self.close()
        self._index, self._dimension = manifest.index, manifest.dimension
        self._shards = {
            row_id(shard.day, shard.revision, 0) >> ROW_BITS: shard
            for shard in manifest.shards.values()
        }

    def close(self) -> None:
        """Close what is open."""
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()

    def __call__(self, ids: RowIds) -> Vectors:
        """Rows by identifier, float32 (n, d), in their order.

        Raises:
            StoreCorruptError: a shard is missing, cut short or cannot be read.
        """
        wide = self._dimension * 4
        vectors = np.empty((len(ids), self._dimension), dtype="<f4")
        start = vectors_offset(self._dimension)
        at = 0
        while at < len(ids):
            # Neighbours in a shard are read at once.
            end = at + 1
            while end < len(ids) and ids[end] == ids[end - 1] + 1:
                end += 1
            shard = self._shards[int(ids[at]) >> ROW_BITS]
            row = split_row_id(int(ids[at]))[2]
            data = self._read(shard, start + row * wide, (end - at) * wide)
            vectors[at:end] = np.frombuffer(data, dtype="<f4").reshape(end - at, -1)
            at = end
        return vectors

    def _read(self, shard: Shard, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._handle(shard), size, offset)
        except FileNotFoundError as error:
            raise self._corrupt(shard, "is missing") from error
        except OSError as error:
            raise self._corrupt(shard, f"cannot be read: {error.strerror or error}") from error
        if len(data) != size:
            raise self._corrupt(shard, "ends early")
        return data

    def _handle(self, shard: Shard) -> int:
        handle = self._files.pop(shard.file, None)
        if handle is None:
            if len(self._files) >= OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            handle = os.open(self._folder / shard.file, os.O_RDONLY | os.O_CLOEXEC)
        self._files[shard.file] = handle
        return handle

    def check_size(self, shard: Shard) -> None:
        """Whether the file of a shard is there at its full size: as much as is looked at early.

        Raises:
            StoreCorruptError: it is not.
        """
        try:
            size = (self._folder / shard.file).stat().st_size
        except OSError as error:
            raise self._corrupt(shard, "is missing") from error
        if size != shard_size(self._dimension, shard.rows):
            raise self._corrupt(shard, f"has {size} bytes, {shard.size} expected")

    def _corrupt(self, shard: Shard, detail: str) -> StoreCorruptError:
        return StoreCorruptError(self._index, f"{SHARD_FOLDER}/{shard.file}", detail, shard.day)
