"""Files and folders that are there after a power cut, or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_MODE = 0o600
FOLDER_MODE = 0o700

#: Files that were being written when something stopped us. Never read, removed at the next start.
UNFINISHED_SUFFIX = ".tmp"

_CHECKSUM = "sha256"


def fsync_folder(folder: Path) -> None:
    """Make names created, renamed or removed in `folder` durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> bool:
    """Create `folder` (0700) and its parents. True if it was not there. Durable once the parent is.

    Raises OSError.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return True


def open_private(path: Path, flags: int) -> int:
    """Open with mode 0600 and return the file descriptor. Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError, after which any part of it may have been written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(path: Path, *parts: bytes, durable: bool = True) -> None:
    """Write a file as a whole or not at all: a new file takes the name of the old one.

    With `durable` the content, and then the name, are on the disk when this returns. Without, a
    power cut may bring back the old file. Raises OSError; the old file is then untouched.
    """
    unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
    try:
        fd = open_private(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for part in parts:
                write_all(fd, part)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def checked_json(document: Mapping[str, Any]) -> bytes:
    """Return `document` as JSON that carries the SHA-256 of its own content."""
    signed = {**document, _CHECKSUM: _digest_of(document)}
    return json.dumps(signed, indent=1).encode() + b"\n"


def parse_checked_json(text: bytes) -> dict[str, Any]:
    """Return the document that `checked_json` wrote. Raises ValueError if a bit of it changed."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    stated = document.pop(_CHECKSUM, None)
    if stated != _digest_of(document):
        raise ValueError("the content does not match its checksum")
    return document


def file_sha256(path: Path, size: int) -> str:
    """Return the SHA-256 of the first `size` bytes, hex. Raises OSError, also if there are fewer."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        left = size
        while left:
            block = file.read(min(left, 1 << 20))
            if not block:
                raise OSError(f"{path} ends {left} bytes before its size of {size}")
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _digest_of(document: Mapping[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
