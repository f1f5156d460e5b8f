"""The mark of a day whose events are gone while its rows stay.

`retired.json` in the day's folder says that the journal of the day was let go, by retention or
because nothing of it could be salvaged, and what it held. It is on the disk before the first
event is removed. Such a day takes no more events: a new revision would hold only those, and would
replace the rows of all the others.
"""

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

from consumer.errors import JournalCorruptError
from consumer.journal.counts import DayCounts
from consumer.journal.durable import checked_json, fsync_folder, parse_checked_json, replace_file
from consumer.journal.segment import DAMAGED_SUFFIX, TORN_SUFFIX

RETIRED_NAME = "retired.json"
#: Lists the events of a segment that are lost, one a line (see `lost`).
LOST_SUFFIX = ".lost"
FORMAT = "dayfold-retired-1"

Why = Literal["retention", "lost"]

_EVIDENCE = (DAMAGED_SUFFIX, TORN_SUFFIX, LOST_SUFFIX)


@dataclass(frozen=True, slots=True)
class Retired:
    """What a retired day held.

    Attributes:
        revision: the last one that was sealed; its rows are those that stay.
        counts: as the journal counted the day last.
        why: `retention`, or `lost` if the disk lost every event of the day.
        retired_ns: when, UTC ns since 1970.
    """

    day: date
    revision: int
    counts: DayCounts
    why: Why
    retired_ns: int


def is_retired(folder: Path) -> bool:
    """Whether the events of the day in `folder` were let go. A damaged mark is a mark."""
    return (folder / RETIRED_NAME).exists()


def write_retired(folder: Path, mark: Retired) -> None:
    """Mark a day as retired, durably. Raises OSError; the day is then what it was."""
    document = {"format": FORMAT, **asdict(mark), "day": mark.day.isoformat()}
    replace_file(folder / RETIRED_NAME, checked_json(document))


def read_retired(folder: Path, day: date) -> Retired:
    """Return the mark. Raises JournalCorruptError if it cannot be read or is not of this day."""
    path = folder / RETIRED_NAME
    try:
        mark = _parse(parse_checked_json(path.read_bytes()))
    except OSError as error:
        raise JournalCorruptError(f"day {day}: {path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise JournalCorruptError(
            f"day {day}: {path} is damaged ({error}); `dayfold repair` writes it again"
        ) from error
    if mark.day != day:
        raise JournalCorruptError(f"day {day}: {path} is the mark of {mark.day}")
    return mark


def remove_events(folder: Path, mark: Retired) -> int:
    """Remove all that a retired day needs no more; return how many bytes that were.

    What the disk damaged is evidence and stays, if that is why the day was retired. Doing it again
    finishes what a crash cut short. Raises OSError.
    """
    freed = 0
    for path in sorted(folder.iterdir()):
        kept = mark.why == "lost" and path.suffix in _EVIDENCE
        if path.name != RETIRED_NAME and not kept:
            freed += path.stat().st_size
            path.unlink()
    if freed:
        fsync_folder(folder)
    return freed


def _parse(document: dict[str, Any]) -> Retired:
    if document["format"] != FORMAT:
        raise ValueError(f"the format is not {FORMAT}")
    why = document["why"]
    if why not in get_args(Why):
        raise ValueError(f"why = {why!r} is not known")
    return Retired(
        day=date.fromisoformat(document["day"]),
        revision=int(document["revision"]),
        counts=DayCounts(**document["counts"]),
        why=why,
        retired_ns=int(document["retired_ns"]),
    )
