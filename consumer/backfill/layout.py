"""What there is to import below some paths, and in which order.

The detector keeps ``events/YYYY-MM-DD.jsonl`` and ``artifacts/YYYY-MM-DD/event_ID.*``; folders are
searched for these wherever they lie, and for recordings (``.parquet``, ``.pb``). What carries the
real identity of an event comes before what does not: recordings first, then day by day, where the
log of a day waits for the artifacts of the day after, because the detector turns the page between
the two that it writes of one event.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

from consumer.errors import UsageError

#: How many events' artifacts are read together: whole events, and events with only a record.
GROUP_EVENTS: Final = 1000
GROUP_RECORDS: Final = 20_000

#: A log, also one that was rotated away under a number or a date.
LOG_NAME: Final = re.compile(r"(?P<stem>.+)\.jsonl(?:[.-](?P<rotated>\d+))?")
_ARTIFACT: Final = re.compile(r"event_(?P<id>.*)\.(?P<kind>pb|json)(?P<sealed>\.enc)?")
_YEARS: Final = range(2000, 2200)
_RECORDINGS: Final = (".parquet", ".pb")
# What protobuf's own JSON form begins with, in either spelling; no detector's record has it.
_EVENT_KEYS: Final = frozenset({"eventId", "event_id", "eventTimestamp", "event_timestamp"})


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log of records. `day` is the local date that its name says, if it says one."""

    path: Path
    day: date | None


@dataclass(frozen=True, slots=True)
class Recording:
    """Flows, or events one behind the other, as `consumer.replay.recordings` reads them."""

    path: Path


@dataclass(frozen=True, slots=True)
class ArtifactFolder:
    """A folder with artifacts in it.

    Attributes:
        folder: the folder.
        day: the local date that its name says, if it says one.
        files: about how many files there are; for a progress bar.
        names: only these files, if they were given one by one.
    """

    folder: Path
    day: date | None
    files: int
    names: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """The files of one event.

    Attributes:
        event_id: as the names of the files say it.
        event: the event, plain or sealed, if there is one.
        record: its record, plain or sealed, if there is one.
    """

    event_id: str
    event: Path | None
    record: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(path for path in (self.event, self.record) if path is not None)


@dataclass(frozen=True, slots=True)
class ArtifactGroup:
    """Some events' artifacts of one folder, in the order of their names: all have `event`, or none.

    `day` is the local date that the folder's name says, if it says one.
    """

    folder: Path
    day: date | None
    artifacts: tuple[Artifact, ...]


Unit = LogFile | Recording | ArtifactFolder
Part = LogFile | Recording | ArtifactGroup


def plan(paths: Iterable[Path]) -> list[Unit]:
    """What to import, in order; the same paths give the same plan.

    Raises:
        UsageError: a path that is not there, a file of no known kind, or nothing to import.
    """
    given = list(paths)
    units: dict[Path, Unit] = {}
    single: dict[Path, set[str]] = {}
    for path in given:
        if path.is_dir():
            for folder, names in _folders(path):
                units |= _units_in(folder, names)
        elif not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        elif _ARTIFACT.fullmatch(path.name):
            single.setdefault(path.parent, set()).add(path.name)
        elif (unit := _unit_of(path)) is not None:
            units[path.resolve()] = unit
        else:
            raise UsageError(
                f"{path}: not a known kind of file; import takes .jsonl, .parquet and .pb "
                "files, event_ID.pb and event_ID.pb.enc artifacts, and folders of them"
            )
    for folder, chosen in single.items():
        units.setdefault(
            folder.resolve(),
            ArtifactFolder(folder, _day(folder.name), len(chosen), frozenset(chosen)),
        )
    if not units:
        raise UsageError(
            f"{', '.join(str(path) for path in given)}: nothing to import: no events/*.jsonl, no "
            "artifacts/*/event_* and no .parquet or .pb recording"
        )
    return sorted(units.values(), key=_order)


def _folders(start: Path) -> Iterator[tuple[Path, list[str]]]:
    for folder, _, names in os.walk(start):
        yield Path(folder), names


def _units_in(folder: Path, names: Sequence[str]) -> dict[Path, Unit]:
    """What a folder holds, by where it really is."""
    real = folder.resolve()
    units: dict[Path, Unit] = {}
    artifacts = 0
    for name in names:
        if _ARTIFACT.fullmatch(name):
            artifacts += 1
        elif (unit := _unit_of(folder / name)) is not None:
            units[(real / name).resolve()] = unit
    if artifacts:
        units[real] = ArtifactFolder(folder, _day(folder.name), artifacts)
    return units


def _unit_of(path: Path) -> LogFile | Recording | None:
    if (match := LOG_NAME.fullmatch(path.name)) is not None:
        return _log_or_recording(path, match["stem"])
    return Recording(path) if path.suffix in _RECORDINGS else None


def _log_or_recording(path: Path, stem: str) -> LogFile | Recording:
    """Events in protobuf's JSON form have the same suffix as a detector's log."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(1 << 20))
    except (OSError, ValueError, RecursionError):
        first = None
    if isinstance(first, dict) and not _EVENT_KEYS.isdisjoint(first):
        return Recording(path)
    return LogFile(path, _day(stem))


def groups_of(unit: ArtifactFolder) -> Iterator[ArtifactGroup]:
    """The artifacts of a folder, a group at a time; whole events before those with a record only.

    Raises OSError if the folder cannot be read.
    """
    known: list[tuple[str, str, bool, str]] = []
    for name in unit.names or (path.name for path in unit.folder.iterdir()):
        match = _ARTIFACT.fullmatch(name)
        if match is not None:
            # Where both are there, the plain file comes last and is taken: it needs no key.
            known.append((match["id"], match["kind"], match["sealed"] is None, name))
    known.sort()
    events: list[Artifact] = []
    records: list[Artifact] = []
    for event_id, files in groupby(known, key=itemgetter(0)):
        kinds = {kind: unit.folder / name for _, kind, _, name in files}
        artifact = Artifact(event_id, kinds.get("pb"), kinds.get("json"))
        part, most = (events, GROUP_EVENTS) if artifact.event else (records, GROUP_RECORDS)
        part.append(artifact)
        if len(part) == most:
            yield ArtifactGroup(unit.folder, unit.day, tuple(part))
            part.clear()
    for part in (events, records):
        if part:
            yield ArtifactGroup(unit.folder, unit.day, tuple(part))


def _day(name: str) -> date | None:
    try:
        day = date.fromisoformat(name[:10])
    except ValueError:
        return None
    return day if day.year in _YEARS else None


def _order(unit: Unit) -> tuple[int, int, int, str]:
    if isinstance(unit, Recording):
        return (0, 0, 0, str(unit.path))
    ordinal = 0 if unit.day is None else unit.day.toordinal()
    if isinstance(unit, ArtifactFolder):
        return (1, ordinal, 0, str(unit.folder))
    if unit.day is None:
        return (2, 0, 0, str(unit.path))
    return (1, ordinal + 1, 1, str(unit.path))
