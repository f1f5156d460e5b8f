"""Making a damaged index whole, as far as its own files allow, and saying what is left to do.

What is sound is kept. What is not is taken out, and its days are marked in the catalogue as
pending, so that they are embedded again from the journal.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType

from index.catalogue import Catalogue
from index.chunks import Chunk, IndexState
from index.code_files import FOLDER
from index.durable_file import sync_folder
from index.errors import CatalogueCorruptError, StoreCorruptError, StoreMissingError
from index.manifest import (
    Manifest,
    manifest_generations,
    manifest_name,
    read_current,
    read_generation,
    write_manifest,
)
from index.shards import read_shard
from index.store import ModelIdentity, ModelLike, Shard
from index.store_folder import remove_leftovers, take_lock
from index.verify_files import verify_files


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was found in the files of an index.

    Attributes:
        changed: whether a new generation had to be made.
        kept: days that are sound.
        lost: days that were named and are not; days that no readable manifest names are in
            neither.
    """

    changed: bool
    kept: list[date]
    lost: list[date]


def repair_index(
    root: Path, name: str, catalogue: Catalogue, *, dimension: int, model: ModelLike
) -> list[date]:
    """Repair the served edition of the index `name`. Gives the days to embed again, oldest first.

    The index must not be open for writing, and the catalogue must know the days of the journal:
    shards of days unknown to it are removed. Nothing is changed where nothing is wrong.

    Args:
        dimension: of its rows.
        model: what made them.

    Raises:
        StoreLockedError: the index is open for writing.
        StoreWriteError: a write failed; call it again.
        CatalogueError: the catalogue cannot be read or written; see `set_aside`.
    """
    edition = catalogue.serving(name)
    chunks = {chunk.day: chunk for chunk in catalogue.chunks()}
    known = {
        (day, revision)
        for day, chunk in chunks.items()
        if chunk.indices[name].edition == edition
        for revision in (chunk.revision, chunk.indices[name].revision)
        if revision is not None
    }
    held = _salvage(root / edition, edition, dimension, model, known)[1].shards
    counts = catalogue.count_facts()
    for stray in {day for index, day, _ in counts if index == edition and day not in chunks}:
        catalogue.delete_day(stray)
    behind = []
    for day, chunk in chunks.items():
        state = chunk.indices[name]
        if state.revision is None or state.edition != edition:
            continue
        if not _sound(catalogue, chunk, name, state, held.get(day), counts, model):
            catalogue.mark_pending(day, name, lost=True)
            behind.append(day)
    return behind


def salvage(root: Path, name: str, *, dimension: int, model: ModelLike) -> Salvaged:
    """Keep what is sound in the files of an index, under a new generation if need be.

    Raises:
        StoreLockedError: the index is open for writing.
        StoreWriteError: a write failed; call it again.
    """
    return _salvage(root / name, name, dimension, model, None)[0]


def set_aside(catalogue_path: Path, now_ns: int) -> Path:
    """Move a damaged catalogue out of the way, to be made anew from the journals.

    The catalogue must not be open anywhere. Gives the new place of the file.

    Raises:
        OSError: it cannot be renamed.
    """
    target = catalogue_path.with_name(f"{catalogue_path.name}.damaged-{now_ns}")
    # The journal goes first: left beside a new catalogue it would be taken for part of it.
    for ending in ("-wal", "-shm", ""):
        source = catalogue_path.with_name(catalogue_path.name + ending)
        if source.exists():
            source.replace(target.with_name(target.name + ending))
    sync_folder(catalogue_path.parent)
    return target


def _sound(
    catalogue: Catalogue,
    chunk: Chunk,
    name: str,
    state: IndexState,
    shard: Shard | None,
    counts: Mapping[tuple[str, date, int], int],
    model: ModelLike,
) -> bool:
    if shard is None or state.revision is None or state.model != model.sha256:
        return False
    if shard.revision != state.revision:
        # The index went ahead of the catalogue; the pending commit settles it.
        return state.state != "committed" and shard.revision == chunk.revision
    stored = counts.get((state.edition, chunk.day, shard.revision), 0)
    if not shard.rows == state.rows == stored:
        return False
    try:
        catalogue.facts_of(name, chunk.day)
    except CatalogueCorruptError:
        return False
    return True


def _salvage(
    folder: Path,
    name: str,
    dimension: int,
    model: ModelLike,
    known: set[tuple[date, int]] | None,
) -> tuple[Salvaged, Manifest]:
    lock = take_lock(folder)
    try:
        check = verify_files(folder, name, deep=False)
        if any(fault.what == "approximate" for fault in check.faults):
            # The next fold makes it again; until then the index is searched exactly.
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
            check = verify_files(folder, name, deep=False)
        best = check.manifest or _newest_readable(folder, name)
        wanted = ModelIdentity(model.name, model.sha256)
        shards = best.shards if best and _same_kind(best, dimension, wanted) else {}
        kept = {
            day: shard
            for day, shard in shards.items()
            if (known is None or (day, shard.revision) in known)
            and _reads_well(folder, shard, name, dimension)
        }
        lost = sorted(set(best.shards).difference(kept)) if best else []
        if best and not check.faults and not lost and best == check.manifest:
            return Salvaged(False, sorted(kept), []), best
        ordered = MappingProxyType({day: kept[day] for day in sorted(kept)})
        manifest = Manifest(name, _next_generation(folder, name), dimension, wanted, ordered)
        _put_alone(folder, manifest)
        return Salvaged(True, sorted(kept), lost), manifest
    finally:
        os.close(lock)


def _put_alone(folder: Path, manifest: Manifest) -> None:
    """Make a generation the one in force, without one before it: that may be what was damaged."""
    write_manifest(folder, manifest)
    for path in folder.glob("manifest-*.json"):
        if path.name != manifest_name(manifest.generation):
            path.unlink(missing_ok=True)
    remove_leftovers(folder, manifest)


def _same_kind(manifest: Manifest, dimension: int, model: ModelIdentity) -> bool:
    return manifest.dimension == dimension and manifest.model.sha256 == model.sha256


def _newest_readable(folder: Path, name: str) -> Manifest | None:
    """A manifest by its own checksum alone: `CURRENT` may be what is damaged."""
    for generation in reversed(manifest_generations(folder)):
        try:
            return read_generation(folder, name, generation)
        except StoreCorruptError:
            continue
    return None


def _next_generation(folder: Path, name: str) -> int:
    generations = manifest_generations(folder)
    with suppress(StoreCorruptError, StoreMissingError):
        generations.append(read_current(folder, name)[0])
    return max(generations, default=0) + 1


def _reads_well(folder: Path, shard: Shard, name: str, dimension: int) -> bool:
    try:
        for _ in read_shard(folder, shard, index=name, dimension=dimension):
            pass
    except StoreCorruptError:
        return False
    return True
