"""Making an index anew by another model, while the old edition is served.

`Catalogue.begin_edition` records the next edition; its days are then due like any others (`Catalogue.due`) and are
committed to `open_edition`, one by one. `Catalogue.switch_edition`
makes it the one that is served, in a single transaction, once it has every day it can have. `tidy` removes what nobody serves any more. Each step
may be cut short anywhere and is taken again from the catalogue.
"""

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from index.catalogue import Catalogue
from index.edition_table import Edition
from index.errors import ModelMismatchError, StoreCorruptError, StoreMissingError, StoreWriteError
from index.faiss_store import FaissStore
from index.forget import forget_day
from index.manifest import manifest_generations, read_generation, read_manifest
from index.store import ModelIdentity, ModelLike


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the next edition of an index is.

    Attributes:
        model: what makes its rows.
        done: days it has.
        days: days it will have.
        kept: days that cannot be made again: their rows stay in the old edition.
    """

    model: ModelIdentity
    done: int
    days: int
    kept: tuple[date, ...]


def open_edition(
    root: Path, catalogue: Catalogue, index: str, *, dimension: int, model: ModelLike
) -> FaissStore:
    """Open for writing the edition of an index that takes rows of this model.

    Raises:
        ModelMismatchError: neither the served nor the next edition is of this model.
        StoreError: as `FaissStore.open`.
    """
    wanted = ModelIdentity(model.name, model.sha256)
    upcoming = catalogue.upcoming(index)
    name = catalogue.serving(index)
    if upcoming is not None:
        if upcoming.model != wanted:
            raise ModelMismatchError(
                f"index {index} is being made anew with {upcoming.model}, not with {wanted}."
            )
        name = upcoming.name
    return FaissStore.open(root, name, dimension=dimension, model=model, writable=True)


def held_model(root: Path, edition: str) -> tuple[int, ModelIdentity] | None:
    """Dimension and model of the rows of an edition; None if none of its manifests tells."""
    folder = root / edition
    try:
        manifest = read_manifest(folder, edition)
    except StoreMissingError:
        return None
    except StoreCorruptError:
        for generation in reversed(manifest_generations(folder) if folder.is_dir() else []):
            try:
                manifest = read_generation(folder, edition, generation)
            except StoreCorruptError:
                continue
            break
        else:
            return None
    return manifest.dimension, manifest.model


def adopt(root: Path, catalogue: Catalogue, index: str) -> None:
    """Take the edition that is there for the one that is served, if the catalogue knows of none.

    For a catalogue that was made anew: rows of days whose journal was let go are nowhere else.
    """
    if (root / index).exists() or catalogue.serving(index) != index:
        return
    found = []
    for folder in sorted(root.glob(f"{index}-*")):
        try:
            manifest = read_manifest(folder, folder.name)
        except (StoreCorruptError, StoreMissingError):
            continue
        found.append((manifest.rows, folder.name, manifest.model))
    if found:
        _, name, model = max(found, key=lambda one: one[:2])
        catalogue.adopt_edition(Edition(name, index, "serving", model))


def progress(catalogue: Catalogue, index: str) -> Progress | None:
    """How far the next edition of an index is; None if none is being made."""
    upcoming = catalogue.upcoming(index)
    if upcoming is None or upcoming.model is None:
        return None
    done, days, kept = 0, 0, []
    for chunk in catalogue.chunks():
        state = chunk.upcoming.get(index)
        if state is None:
            continue
        if state.state == "failed" and state.next_retry_ns is None:
            kept.append(chunk.day)
            continue
        days += 1
        done += (state.state, state.revision) == ("committed", chunk.revision)
    return Progress(upcoming.model, done, days, tuple(kept))


def tidy(root: Path, catalogue: Catalogue, index: str) -> None:
    """Remove the editions of an index that nobody serves, and of kept ones the days served anew.

    Raises:
        StoreError: something cannot be removed; call it again.
    """
    known = {edition.name: edition.role for edition in catalogue.editions()}
    for folder in sorted(root.glob(f"{index}*")):
        name = folder.name
        if name != index and not name.startswith(f"{index}-"):
            continue
        if name == catalogue.serving(index) or known.get(name) == "next":
            continue
        left = set(catalogue.held_revisions(name)) if known.get(name) == "kept" else set()
        catalogue.forget_facts(name, left)
        if left:
            for day in set(read_manifest(folder, name).shards) - left:
                forget_day(root, name, day)
            continue
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreWriteError(f"{folder} cannot be removed: {error}") from error
