"""Removing a day from an index for good, the copy that is kept for safety included."""

import os
from datetime import date
from pathlib import Path

from index.code_files import FOLDER
from index.errors import StoreMissingError
from index.manifest import manifest_name, read_manifest, write_manifest
from index.store_folder import remove_leftovers, take_lock


def forget_day(root: Path, name: str, day: date) -> int:
    """Remove every row of `day` from the index `name` below `root`; return how many there were.

    `VectorStore.drop` keeps the previous generation, and with it the rows; this does not. Doing it
    again is harmless, and finishes what a crash cut short.

    Raises:
        StoreLockedError: the index is open for writing.
        StoreCorruptError: its manifest is damaged; repair it first.
        StoreWriteError: a write failed; call it again.
    """
    folder = root / name
    if not folder.exists():
        return 0
    lock = take_lock(folder)
    try:
        try:
            manifest = read_manifest(folder, name)
        except StoreMissingError:
            return 0
        rows = manifest.shards[day].rows if day in manifest.shards else 0
        if rows:
            left = {held: shard for held, shard in manifest.shards.items() if held != day}
            manifest = manifest.following(left)
            write_manifest(folder, manifest)
        for path in folder.glob("manifest-*.json"):
            if path.name != manifest_name(manifest.generation):
                path.unlink(missing_ok=True)
        remove_leftovers(folder, manifest)
        for path in (folder / FOLDER).glob(f"{day.isoformat()}-*"):
            path.unlink(missing_ok=True)
        return rows
    finally:
        os.close(lock)
