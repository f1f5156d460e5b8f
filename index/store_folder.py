"""The folder of one index: who may write in it, and what in it is left over."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from index.durable_file import TEMPORARY
from index.errors import StoreCorruptError, StoreLockedError, StoreWriteError
from index.manifest import Manifest, manifest_generations, manifest_name, read_generation
from index.shards import SHARD_FOLDER

LOCK = "writer.lock"


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Tells a file from another that took its name; None if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def take_lock(folder: Path) -> int:
    """Take the right to write in `folder`, made if need be. Gives a handle; closing it gives up.

    Raises:
        StoreLockedError: another process, or another object of this one, holds it.
        StoreWriteError: the folder cannot be made.
    """
    try:
        # One by one: `parents=True` would give the outer folders another mode.
        for each in (folder.parent, folder, folder / SHARD_FOLDER):
            each.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreWriteError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StoreLockedError(
            f"{folder} is being written by another process; stop it or wait for it to end."
        ) from None
    return handle


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove what neither `manifest` nor the generation before it names. Needs the lock."""
    kept = manifest.files() | previous_files(folder, manifest)
    manifests = {manifest_name(manifest.generation), manifest_name(manifest.generation - 1)}
    for path in [*folder.glob("manifest-*.json"), *folder.glob(f"*{TEMPORARY}")]:
        if path.name not in manifests:
            _remove(path)
    for path in (folder / SHARD_FOLDER).iterdir():
        if path.name not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    # What is committed is committed; a leftover that cannot go now goes at the next open.
    with suppress(OSError):
        path.unlink()


def previous_files(folder: Path, manifest: Manifest) -> set[str]:
    """Names of the shard files of the generation before `manifest`, if that can be read."""
    before = manifest.generation - 1
    if before not in manifest_generations(folder):
        return set()
    try:
        return read_generation(folder, manifest.index, before).files()
    except StoreCorruptError:
        # It is only a safety copy. What it alone named cannot be told from a leftover.
        return set()
