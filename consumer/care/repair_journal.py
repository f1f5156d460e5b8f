"""The part of `dayfold repair` that mends journals. Needs the DataLock, and no open journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.care.repair_account import Account
from consumer.errors import JournalCorruptError, JournalError
from consumer.journal import Recovered, repair_day, scan_segment
from consumer.journal.counts import COUNTS_NAME, KeptCounts, why_unreadable, write_counts
from consumer.journal.durable import fsync_folder
from consumer.journal.folders import ZONE_NAME, day_folders, held_zone
from consumer.journal.lost import LostPart, find_lost
from consumer.journal.retired import is_retired
from consumer.journal.seal import SealedSegment, read_seal, seal_path, sealed_revisions
from consumer.journal.segment import DAMAGED_SUFFIX, IDS_SUFFIX, SEGMENT_SUFFIX, segment_number


@dataclass(slots=True)
class JournalsRepaired:
    """What the steps after this one have to know.

    Attributes:
        changed: days whose segments changed or whose last seal is damaged: to be sealed again.
        emptied: days of which no event is left.
    """

    changed: set[date] = field(default_factory=set)
    emptied: set[date] = field(default_factory=set)


def repair_journals(root: Path, zone: ZoneInfo, account: Account) -> JournalsRepaired:
    """Salvage every day below `root`, and name every event that is lost.

    Raises:
        JournalError: the disk does not let it.
    """
    result = JournalsRepaired()
    if not root.is_dir():
        return result
    try:
        _mend_zone(root, zone, account)
        for day, folder in list(day_folders(root)):
            if is_retired(folder):
                continue
            changed = _repair_day(root, day, folder, account)
            if _is_last_seal_damaged(folder, day):
                changed = True
            if changed:
                result.changed.add(day)
                if not _has_events(folder, day):
                    result.emptied.add(day)
    except OSError as error:
        raise JournalError(f"{root} cannot be repaired: {error}") from error
    return result


def set_damaged_seals_aside(root: Path, day: date, account: Account) -> None:
    """Take damaged seals away, but never the last one: its number must not be given twice.

    Raises OSError.
    """
    folder = root / day.isoformat()
    for revision in sealed_revisions(folder)[:-1]:
        path = seal_path(folder, revision)
        try:
            read_seal(folder, day, revision)
        except JournalCorruptError as error:
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
            fsync_folder(folder)
            account.mended("seal", f"{day}/{path.name}", f"set aside: {error}")


def _mend_zone(root: Path, zone: ZoneInfo, account: Account) -> None:
    try:
        held_zone(root)
    except JournalError as error:
        path = root / ZONE_NAME
        path.rename(path.with_name(ZONE_NAME + DAMAGED_SUFFIX))
        fsync_folder(root)
        account.mended("journal", str(path), f"set to {zone.key}, as the settings say: {error}")


def _repair_day(root: Path, day: date, folder: Path, account: Account) -> bool:
    sealed = _sealed_segments(folder, day)
    names = {path.name for path in folder.iterdir() if path.suffix == SEGMENT_SUFFIX}
    lost: dict[str, LostPart] = {}
    for name in names | set(sealed):
        number = segment_number(name)
        part = find_lost(folder, day, number, sealed.get(name)) if number is not None else None
        if part is not None:
            lost[name] = part
    damaged = why_unreadable(folder)
    if damaged is not None:
        write_counts(folder, KeptCounts(), durable=True)
        detail = f"begun anew, without the number of duplicates: {damaged}"
        account.mended("counts", f"{day}/{COUNTS_NAME}", detail)
    sidecars = {path.name for path in folder.iterdir() if path.suffix == IDS_SUFFIX}
    done = repair_day(root, day)
    for found in done:
        _tell(folder, found, lost.get(found.name), account)
    touched = {Path(found.name).stem for found in done}
    for name in sorted(sidecars - {path.name for path in folder.iterdir()}):
        if Path(name).stem not in touched:
            account.mended("id sidecar", f"{day}/{name}", "removed; it is made anew when needed")
    return bool(done)


def _tell(folder: Path, found: Recovered, part: LostPart | None, account: Account) -> None:
    where = f"{found.day}/{found.name}@{found.offset}"
    account.mended("segment", where, found.detail, kept=found.kept)
    if part is not None:
        if part.named:
            part.write_list(folder)
        how_many = {None: "an unknown number of events is", 1: "1 event is"}.get(
            part.events, f"{part.events} events are"
        )
        detail = f"{how_many} lost: {found.detail}"
        account.lost("events", where, detail, kept=found.kept, **part.to_json())


def _sealed_segments(folder: Path, day: date) -> dict[str, SealedSegment]:
    for revision in reversed(sealed_revisions(folder)):
        try:
            return {entry.name: entry for entry in read_seal(folder, day, revision).segments}
        except JournalCorruptError:
            continue
    return {}


def _is_last_seal_damaged(folder: Path, day: date) -> bool:
    revisions = sealed_revisions(folder)
    try:
        if revisions:
            read_seal(folder, day, revisions[-1])
    except JournalCorruptError:
        return True
    return False


def _has_events(folder: Path, day: date) -> bool:
    return any(
        scan_segment(path, day, number).extent.records
        for path in folder.glob(f"*{SEGMENT_SUFFIX}")
        if (number := segment_number(path.name)) is not None
    )
