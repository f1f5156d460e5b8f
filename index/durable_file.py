"""A new file that appears whole or not at all.

The order is the one that survives a power cut: write under another name, fsync the file, rename
it, fsync the folder. A reader sees the old file or the new one. A crash leaves at most a file
with the ending `.tmp`, which the owner of the folder removes when it next opens it for writing.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from index.errors import StoreWriteError

TEMPORARY = ".tmp"
_READ_BYTES = 1 << 20


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable.

    Raises:
        StoreWriteError: the fsync failed.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _write_error(folder, error) from error


class DurableFile:
    """Writes `path` anew and shows it only when it is durable. Mode 0600.

    Use it as a context manager. Leaving the block without an error publishes the file; leaving
    it with one removes what was written. `publish` may also be called inside the block, to learn
    the checksum first and to choose the name last. An fsync that fails is never tried again.

    Args:
        path: the file to replace.
        patched: allows `overwrite`; the checksum is then taken by reading the file once more.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, path: Path, *, patched: bool = False) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY)
        self._hash = hashlib.sha256()
        self._patched = patched
        self._published = False
        self.size = 0
        try:
            self._handle = os.open(
                self._temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise _write_error(self._temporary, error) from error

    def write(self, data: bytes | memoryview) -> None:
        """Append `data` (a memoryview must be contiguous).

        Raises:
            StoreWriteError: the disk is full or the write failed.
        """
        self._write_at(memoryview(data).cast("B"), self.size)
        if not self._patched:
            self._hash.update(data)
        self.size += memoryview(data).nbytes

    def overwrite(self, offset: int, data: bytes) -> None:
        """Replace bytes written before, for a header whose counts are known only at the end."""
        if not self._patched:
            raise ValueError(f"{self._path} was not opened to be patched.")
        self._write_at(memoryview(data), offset)

    def sha256(self) -> str:
        """Checksum of the content so far, in hexadecimal."""
        if not self._patched:
            return self._hash.hexdigest()
        whole = hashlib.sha256()
        offset = 0
        try:
            while part := os.pread(self._handle, _READ_BYTES, offset):
                whole.update(part)
                offset += len(part)
        except OSError as error:
            raise _write_error(self._temporary, error) from error
        if offset != self.size:
            raise StoreWriteError(
                f"{self._temporary} reads back as {offset} bytes of {self.size} written; "
                "check the disk."
            )
        return whole.hexdigest()

    def publish(self, name: str | None = None) -> Path:
        """Make the content durable and show it, as `name` in the same folder if that is given.

        Raises:
            StoreWriteError: fsync or rename failed. The old file, if any, is untouched.
        """
        target = self._path if name is None else self._path.with_name(name)
        try:
            os.fsync(self._handle)
            self._temporary.replace(target)
        except OSError as error:
            raise _write_error(target, error) from error
        self._published = True
        sync_folder(target.parent)
        return target

    def _write_at(self, data: memoryview, offset: int) -> None:
        try:
            while data:
                written = os.pwrite(self._handle, data, offset)
                data = data[written:]
                offset += written
        except OSError as error:
            raise _write_error(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._published:
                self.publish()
        finally:
            os.close(self._handle)
            if not self._published:
                self._temporary.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> str:
    """Replace `path` by `data`, durably and at once. Gives the SHA-256 of it in hexadecimal.

    Raises:
        StoreWriteError: nothing changed.
    """
    with DurableFile(path) as file:
        file.write(data)
        return file.sha256()


def _write_error(path: Path, error: OSError) -> StoreWriteError:
    return StoreWriteError(
        f"{path} could not be written: {error.strerror or error}. "
        "Free space or repair the disk, then restart; nothing that was committed is lost."
    )
