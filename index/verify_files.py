"""Check the files of one index: `CURRENT`, manifests, shards.

Nothing is opened for writing and no lock is taken, so this runs beside the service. A generation
committed meanwhile is told from a fault by reading `CURRENT` again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index import lazy_faiss as faiss
from index.code_files import damaged
from index.errors import StoreCorruptError, StoreMissingError, VectorError
from index.manifest import (
    Manifest,
    manifest_generations,
    manifest_name,
    read_current,
    read_generation,
    read_manifest,
)
from index.shards import SHARD_FOLDER, ids_of, read_shard
from index.store import Fault, Shard
from index.vectors import check_vectors

REPAIR = "dayfold repair"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class FilesCheck:
    """What the files of an index look like.

    Attributes:
        faults: everything wrong.
        manifest: the generation in force, if it can be read.
        files: how many files were read to the end.
        rows: how many rows they held.
    """

    faults: list[Fault]
    manifest: Manifest | None
    files: int
    rows: int


def verify_files(folder: Path, index: str, *, deep: bool) -> FilesCheck:
    """Check every file of the index in `folder`. Raises nothing for what it finds.

    Every byte of every shard of the last two generations is hashed. With `deep` the vectors are
    looked at too, and FAISS itself loads each shard.
    """
    check = _verify_once(folder, index, deep=deep)
    for _ in range(_ATTEMPTS - 1):
        if not check.faults or check.manifest is None or _in_force(folder, check.manifest):
            break
        check = _verify_once(folder, index, deep=deep)
    return check


def _verify_once(folder: Path, index: str, *, deep: bool) -> FilesCheck:
    try:
        manifest = read_manifest(folder, index)
    except StoreMissingError as error:
        fault = Fault("index missing", str(folder), str(error), REPAIR, index)
        return FilesCheck([fault], None, 0, 0)
    except StoreCorruptError as error:
        return FilesCheck([_fault("manifest", folder, error)], None, 0, 0)
    faults: list[Fault] = []
    before = _previous(folder, manifest, faults)
    shards = {shard.file: shard for shard in before.shards.values()} if before else {}
    shards |= {shard.file: shard for shard in manifest.shards.values()}
    rows = 0
    for shard in shards.values():
        try:
            _read_through(folder, manifest, shard, deep=deep)
            rows += shard.rows
        except StoreCorruptError as error:
            faults.append(_fault("shard", folder, error))
    for name, detail in damaged(folder, manifest.shards):
        remedy = f"{REPAIR}, or the next fold: made again from the shards"
        faults.append(Fault("approximate", str(folder / name), detail, remedy, index))
    return FilesCheck(faults, manifest, len(shards) + (2 if before is None else 3), rows)


def _previous(folder: Path, manifest: Manifest, faults: list[Fault]) -> Manifest | None:
    generation = manifest.generation - 1
    if generation not in manifest_generations(folder):
        return None
    try:
        before = read_generation(folder, manifest.index, generation)
    except StoreCorruptError as error:
        where = str(folder / manifest_name(generation))
        detail = f"{error.detail}; it is the previous generation, kept for safety only"
        faults.append(Fault("manifest", where, detail, REPAIR, manifest.index))
        return None
    # A generation of another model has other vectors; its shards go with the next commit.
    return before if before.dimension == manifest.dimension else None


def _read_through(folder: Path, manifest: Manifest, shard: Shard, *, deep: bool) -> None:
    start = 0
    for block in read_shard(folder, shard, index=manifest.index, dimension=manifest.dimension):
        if deep:
            try:
                check_vectors(block, manifest.dimension, f"after row {start}")
            except VectorError as error:
                raise _corrupt(manifest, shard, f"holds a bad vector: {error}") from error
        start += len(block)
    if deep:
        _load_with_faiss(folder, manifest, shard)


def _load_with_faiss(folder: Path, manifest: Manifest, shard: Shard) -> None:
    # Only after its checksum: FAISS believes whatever size a file claims.
    try:
        loaded: Any = faiss.read_index(
            str(folder / SHARD_FOLDER / shard.file), faiss.IO_FLAG_MMAP_IFC
        )
    except RuntimeError as error:
        raise _corrupt(manifest, shard, f"is refused by FAISS: {error}") from error
    if (loaded.d, loaded.ntotal) != (manifest.dimension, shard.rows):
        raise _corrupt(
            manifest, shard, f"loads as {loaded.ntotal} rows of {loaded.d}, {shard.rows} expected"
        )
    if not np.array_equal(faiss.vector_to_array(loaded.id_map), ids_of(shard)):
        raise _corrupt(manifest, shard, "names its rows otherwise than its day and revision")


def _in_force(folder: Path, manifest: Manifest) -> bool:
    try:
        return read_current(folder, manifest.index)[0] == manifest.generation
    except (StoreCorruptError, StoreMissingError):
        return False


def _corrupt(manifest: Manifest, shard: Shard, detail: str) -> StoreCorruptError:
    return StoreCorruptError(manifest.index, f"{SHARD_FOLDER}/{shard.file}", detail, shard.day)


def _fault(what: str, folder: Path, error: StoreCorruptError) -> Fault:
    where = str(folder / error.file)
    return Fault(what, where, error.detail, REPAIR, error.index, error.day)
