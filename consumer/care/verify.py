"""`dayfold verify`: every checksum, count and cross-reference of a data folder. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from consumer.care.offline import service_is_live
from consumer.errors import ForgetError, JournalError
from consumer.folding.installed import installed
from consumer.journal import verify_day
from consumer.journal.folders import day_folders
from consumer.journal.retired import is_retired, read_retired
from consumer.journal.seal import sealed_revisions
from consumer.quarantine.shelf import HEADER, Shelf
from consumer.retention.forget import Tombstone, read_tombstone, tombstones
from consumer.settings import INDEX_NAMES, MIB, Settings
from index.catalogue import Catalogue
from index.chunks import Chunk
from index.editions import held_model, progress
from index.errors import StoreError
from index.store import Fault
from index.verify import verify_catalogue, verify_index
from models.store import installed_models
from models.store import state as model_state

REPAIR = "dayfold repair"
RESTORE = "restore a snapshot that has the day, or `dayfold forget` it"
CATCHES_UP = "start the service: it catches up by itself"
MOVES = "start the service, or `dayfold reconcile`: every day is embedded again"


def verify_data(settings: Settings, *, deep: bool) -> dict[str, Any]:
    """Check journals, catalogue, indices, quarantine and models.

    Args:
        settings: name the data folder and the models.
        deep: also read every record and every vector.
    """
    data_dir = settings.data.dir
    faults: list[Fault] = []
    checked = {"days": 0, "models": 0}
    live = service_is_live(data_dir)
    for day, _ in journal_days(settings):
        checked["days"] += 1
        faults += _verify_day(data_dir / "journal", day, deep=deep, live=live)
    faults += _verify_indices(settings, checked, deep=deep)
    faults += _verify_tombstones(data_dir, live=live)
    if deep:
        faults += _verify_quarantine(settings, checked, live=live)
    for entry in installed_models(settings.models.cache_dir):
        checked["models"] += 1
        state = model_state(entry, settings.models.cache_dir)
        if state != "ready":
            faults.append(
                Fault("model", entry.name, f"the model is {state}", "dayfold models build")
            )
    return {
        "ok": not faults,
        "checked": checked,
        "faults": [fault.to_json() for fault in faults],
    }


def journal_days(settings: Settings) -> list[tuple[date, Path]]:
    """The days that the journal holds, with their folders; none if there is no journal yet."""
    root = settings.data.dir / "journal"
    return list(day_folders(root)) if root.is_dir() else []


def _verify_day(root: Path, day: date, *, deep: bool, live: bool) -> list[Fault]:
    try:
        found = verify_day(root, day, deep=deep, live=live)
    except JournalError as error:
        return [Fault("journal", str(day), str(error), REPAIR)]
    return [Fault(fault.what, fault.where, fault.detail, fault.repair) for fault in found]


def _verify_indices(settings: Settings, checked: dict[str, int], *, deep: bool) -> list[Fault]:
    data_dir = settings.data.dir
    path = data_dir / "catalogue.sqlite"
    if not path.exists():
        if not _should_have_catalogue(settings):
            return []
        return [Fault("catalogue", str(path), "is missing", REPAIR)]
    try:
        with Catalogue.open(path, read_only=True) as catalogue:
            parts = [verify_catalogue(catalogue, deep=deep)]
            parts += [
                verify_index(data_dir / "index", name, catalogue, deep=deep)
                for name in INDEX_NAMES
                if _has_something(catalogue, name)
            ]
            faults = _journals_against_catalogue(settings, catalogue)
            faults += _verify_models_of_indices(
                data_dir / "index", catalogue, settings.models.cache_dir
            )
    except StoreError as error:
        return [Fault("catalogue", str(path), str(error), REPAIR)]
    for part in parts:
        faults += part.faults
        for what, count in part.checked.items():
            checked[what] = checked.get(what, 0) + count
    return faults


def _verify_models_of_indices(
    root: Path, catalogue: Catalogue, cache_dir: Path | None
) -> list[Fault]:
    """Rows of another model than this version's cannot be searched by it, nor joined by new ones."""
    faults = []
    for name in INDEX_NAMES:
        held = held_model(root, catalogue.serving(name))
        current = installed(name, cache_dir)[1]
        if held is None or held[1] == current:
            continue
        detail = f"its rows were made by {held[1].name}, this version has {current.name}"
        detail += f" ({held[1].sha256[:12]}, {current.sha256[:12]})"
        made = progress(catalogue, name)
        if made is not None:
            detail += f"; {made.done} of {made.days} days are embedded again"
        faults.append(Fault("model of index", f"index {name}", detail, MOVES, name))
    return faults


def indices_of_other_models(settings: Settings) -> list[str]:
    """Names of the indices whose rows another model than the installed one made.

    Raises:
        StoreError: the catalogue cannot be read.
    """
    path = settings.data.dir / "catalogue.sqlite"
    if not path.exists():
        return []
    with Catalogue.open(path, read_only=True) as catalogue:
        faults = _verify_models_of_indices(
            settings.data.dir / "index", catalogue, settings.models.cache_dir
        )
    return [fault.index for fault in faults if fault.index is not None]


def _should_have_catalogue(settings: Settings) -> bool:
    """Whether a day was ever closed here: the catalogue is made before the first one is."""
    index = settings.data.dir / "index"
    closed = any(
        sealed_revisions(folder) or is_retired(folder) for _, folder in journal_days(settings)
    )
    return closed or (index.is_dir() and any(index.iterdir()))


def _has_something(catalogue: Catalogue, index: str) -> bool:
    """Whether the index ought to be there: something was committed to it once."""
    return any(chunk.indices[index].revision is not None for chunk in catalogue.chunks())


def _journals_against_catalogue(settings: Settings, catalogue: Catalogue) -> list[Fault]:
    faults: list[Fault] = []
    chunks = {chunk.day: chunk for chunk in catalogue.chunks()}
    held = dict(journal_days(settings))
    for day, folder in held.items():
        if is_retired(folder):
            faults += _compare_retired(day, folder, chunks.get(day))
        else:
            faults += _compare_seals(day, folder, chunks.get(day))
    going = {tombstone.day for tombstone in _readable(settings.data.dir).values()}
    faults += [
        Fault(
            "journal missing",
            str(chunk.day),
            f"the catalogue counts {chunk.events} events, the journal has no such day",
            f"{REPAIR}: the rows stay, the events are gone",
        )
        for chunk in chunks.values()
        if chunk.day not in held and chunk.day not in going
    ]
    return faults


def _compare_seals(day: date, folder: Path, chunk: Chunk | None) -> list[Fault]:
    revisions = sealed_revisions(folder)
    known = chunk.revision if chunk else 0
    if known == (revisions[-1] if revisions else 0):
        return []
    sealed = f"sealed as {revisions[-1]}" if revisions else "not sealed"
    remedy = CATCHES_UP if revisions and known < revisions[-1] else REPAIR
    return [Fault("revision", str(day), f"journal {sealed}, catalogue has {known}", remedy)]


def _compare_retired(day: date, folder: Path, chunk: Chunk | None) -> list[Fault]:
    """A day whose journal was let go has to be in the catalogue, or nothing is left of it."""
    try:
        mark = read_retired(folder, day)
    except JournalError:
        return []  # told by `verify_day`
    if chunk is None:
        return [Fault("retired day", str(day), "the catalogue does not know it", RESTORE)]
    if chunk.revision != mark.revision:
        detail = f"journal let go at revision {mark.revision}, catalogue has {chunk.revision}"
        return [Fault("retired day", str(day), detail, RESTORE)]
    return []


def _readable(data_dir: Path) -> Mapping[Path, Tombstone]:
    found = {}
    for path in tombstones(data_dir):
        try:
            tombstone = read_tombstone(data_dir, date.fromisoformat(path.stem))
        except (ForgetError, ValueError):
            continue
        if tombstone is not None:
            found[path] = tombstone
    return found


def _verify_tombstones(data_dir: Path, *, live: bool) -> list[Fault]:
    readable = _readable(data_dir)
    faults = [
        Fault("tombstone", str(path), "is damaged", f"ask again: dayfold forget {path.stem} --yes")
        for path in tombstones(data_dir)
        if path not in readable
    ]
    faults += [
        Fault(
            "tombstone",
            str(path),
            f"the day is not wholly forgotten: {tombstone.error or 'cut short'}",
            "start the service: it goes on with it",
        )
        for path, tombstone in readable.items()
        if tombstone.finished_ns is None and (tombstone.error or not live)
    ]
    return faults


def quarantine_shelves(settings: Settings) -> list[Shelf]:
    """The quarantine, reason by reason, every message of it read."""
    root = settings.data.dir / "quarantine"
    folders = [path for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    return [Shelf(folder, folder.name, settings.quarantine.max_mb * MIB) for folder in folders]


def has_header(path: Path) -> bool:
    """Whether a file of the quarantine begins as it should."""
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def _verify_quarantine(settings: Settings, checked: dict[str, int], *, live: bool) -> list[Fault]:
    faults = []
    for shelf in quarantine_shelves(settings):
        checked["quarantined"] = checked.get("quarantined", 0) + shelf.messages
        for file in shelf.files:
            if not live and not has_header(file.path):
                detail = "not the header of a quarantine file"
                faults.append(Fault("quarantine", f"{file.path}@0", detail, REPAIR))
            for gap in file.damaged:
                if live and file is shelf.files[-1] and gap.end >= file.bytes:
                    continue  # a message that is being written
                detail = f"{gap.end - gap.start} bytes: {gap.reason}"
                faults.append(Fault("quarantine", f"{file.path}@{gap.start}", detail, REPAIR))
    return faults
