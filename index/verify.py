"""Verification of an index against the catalogue, and of the catalogue itself.

Nothing here raises what it finds, takes a lock or writes; it runs beside the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from index.catalogue import Catalogue
from index.chunks import Chunk, IndexState
from index.errors import CatalogueError
from index.manifest import Manifest
from index.store import Fault
from index.verify_files import REPAIR, verify_files

__all__ = ["Fault", "Verified", "verify_catalogue", "verify_index"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked, by kind, and what was wrong."""

    checked: Mapping[str, int]
    faults: list[Fault]

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults


def verify_catalogue(catalogue: Catalogue, *, deep: bool) -> Verified:
    """Check the catalogue: SQLite's own check and every record's checksum.

    With `deep` the checksum of every row fact too.
    """
    faults = [
        Fault("catalogue", where, detail, REPAIR) for where, detail in catalogue.check(deep=deep)
    ]
    try:
        chunks = len(catalogue.chunks())
        facts = sum(catalogue.count_facts().values()) if deep else 0
    except CatalogueError:
        chunks, facts = 0, 0
    return Verified({"chunks": chunks, "facts": facts}, faults)


def verify_index(root: Path, name: str, catalogue: Catalogue, *, deep: bool) -> Verified:
    """Check the files of the index `name` below `root`, and that the catalogue agrees.

    That is its edition in service, and those that are kept or being made. An index that is behind
    is no fault: the catalogue says so and it is tried again. A catalogue that cannot be read is
    reported by `verify_catalogue`, not once per index.
    """
    try:
        beside = [
            edition.name
            for edition in catalogue.editions()
            if edition.index == name and edition.role != "serving"
        ]
        served = catalogue.serving(name)
    except CatalogueError:
        beside, served = [], name
    parts = [_verify_edition(root, name, served, catalogue, deep=deep)]
    parts += [
        _verify_edition(root, name, edition, catalogue, deep=deep)
        for edition in beside
        # The next edition has no folder before its first day.
        if edition != served and (root / edition).exists()
    ]
    return Verified(
        {what: sum(part.checked[what] for part in parts) for what in ("files", "rows")},
        [fault for part in parts for fault in part.faults],
    )


def _verify_edition(
    root: Path, name: str, edition: str, catalogue: Catalogue, *, deep: bool
) -> Verified:
    check = verify_files(root / edition, edition, deep=deep)
    faults = list(check.faults)
    if check.manifest is not None:
        crossed = _compare(name, check.manifest, catalogue)
        if crossed:
            # A commit between the two readings looks like a disagreement; a real one stays.
            again = verify_files(root / edition, edition, deep=False)
            second = _compare(name, again.manifest, catalogue) if again.manifest else crossed
            faults += [fault for fault in second if fault in crossed]
    return Verified({"files": check.files, "rows": check.rows}, faults)


def _compare(name: str, manifest: Manifest, catalogue: Catalogue) -> list[Fault]:
    try:
        chunks = {chunk.day: chunk for chunk in catalogue.chunks()}
        counts = catalogue.count_facts()
    except CatalogueError:
        return []
    faults = [
        Fault(
            "unknown day",
            f"{manifest.index}/shards/{shard.file}",
            f"the catalogue does not know {day}",
            REPAIR,
            manifest.index,
            day,
        )
        for day, shard in manifest.shards.items()
        if day not in chunks
    ]
    for chunk in chunks.values():
        for state in (chunk.indices[name], chunk.upcoming.get(name)):
            if state is not None and state.edition == manifest.index:
                faults += _compare_day(manifest, chunk, state, counts)
    faults += [
        Fault(
            "unknown facts",
            f"catalogue, index {index}, {day} revision {revision}",
            f"{count} facts of a day that the catalogue does not know",
            REPAIR,
            index,
            day,
        )
        for (index, day, revision), count in counts.items()
        if index == manifest.index and day not in chunks
    ]
    return faults


def _compare_day(
    manifest: Manifest,
    chunk: Chunk,
    state: IndexState,
    counts: Mapping[tuple[str, date, int], int],
) -> list[Fault]:
    name, day = manifest.index, chunk.day
    shard = manifest.shards.get(day)

    def fault(what: str, detail: str) -> list[Fault]:
        return [Fault(what, f"index {name}, {day}", detail, REPAIR, name, day)]

    # A commit that was cut between the store's switch and the catalogue's flip is done again.
    ahead = state.state != "committed" and shard is not None and shard.revision == chunk.revision
    if state.revision is None:
        if shard is not None and not ahead:
            return fault("revision", f"revision {shard.revision} is held, none is in the catalogue")
        return []
    if shard is None:
        return fault("day missing", f"the catalogue says revision {state.revision} is held")
    if shard.revision != state.revision:
        if ahead:
            return []
        return fault(
            "revision", f"revision {shard.revision} is held, {state.revision} in the catalogue"
        )
    if shard.rows != state.rows:
        return fault("rows", f"{shard.rows} rows are held, {state.rows} in the catalogue")
    if state.model != manifest.model.sha256:
        return fault("model", f"rows of model {state.model}, index of {manifest.model.sha256}")
    stored = counts.get((name, day, shard.revision), 0)
    if stored != shard.rows:
        return fault("facts", f"{stored} facts of {shard.rows} rows")
    return []
