"""`dayfold verify`: every checksum, count and cross-reference of a data folder. Reads only."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from consumer.journal import verify_day
from consumer.journal.folders import day_folders
from consumer.journal.seal import sealed_revisions
from consumer.offline import service_is_live
from consumer.settings import INDEX_NAMES, Settings
from index.catalogue import Catalogue
from index.errors import StoreError
from index.store import Fault
from index.verify import verify_catalogue, verify_index
from models.manifest import load_manifest
from models.store import state as model_state


def verify_data(settings: Settings, *, deep: bool) -> dict[str, Any]:
    """Check journals, catalogue, indices and models.

    Args:
        settings: name the data folder and the models.
        deep: also load every vector.
    """
    data_dir = settings.data.dir
    faults: list[Fault] = []
    checked = {"days": 0, "models": 0}
    live = service_is_live(data_dir)
    for day, _ in journal_days(settings):
        checked["days"] += 1
        faults += [
            Fault(fault.what, fault.where, fault.detail, fault.repair)
            for fault in verify_day(data_dir / "journal", day, deep=deep, live=live)
        ]
    faults += _verify_indices(settings, checked, deep=deep)
    for entry in load_manifest():
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


def _verify_indices(settings: Settings, checked: dict[str, int], *, deep: bool) -> list[Fault]:
    data_dir = settings.data.dir
    path = data_dir / "catalogue.sqlite"
    if not path.exists():
        return []
    try:
        with Catalogue.open(path, read_only=True) as catalogue:
            parts = [verify_catalogue(catalogue, deep=deep)]
            parts += [
                verify_index(data_dir / "index", name, catalogue, deep=deep)
                for name in INDEX_NAMES
                if _has_something(catalogue, name)
            ]
            faults = _seals_against_catalogue(settings, catalogue)
    except StoreError as error:
        return [Fault("catalogue", str(path), str(error), "dayfold repair")]
    for part in parts:
        faults += part.faults
        for what, count in part.checked.items():
            checked[what] = checked.get(what, 0) + count
    return faults


def _has_something(catalogue: Catalogue, index: str) -> bool:
    """Whether the index ought to be there: something was committed to it once."""
    return any(chunk.indices[index].revision is not None for chunk in catalogue.chunks())


def _seals_against_catalogue(settings: Settings, catalogue: Catalogue) -> list[Fault]:
    faults: list[Fault] = []
    for day, folder in journal_days(settings):
        revisions = sealed_revisions(folder)
        chunk = catalogue.chunk(day)
        if not revisions or chunk is None:
            continue
        if chunk.revision != revisions[-1]:
            faults.append(
                Fault(
                    "revision",
                    str(day),
                    f"journal sealed as {revisions[-1]}, catalogue has {chunk.revision}",
                    "start the service: it catches up by itself",
                )
            )
    return faults
