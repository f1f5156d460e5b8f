"""What a day's journal holds, and the little of it that no segment can tell.

`counts.json` is written with the periodic sync but not synced itself: after a power cut it may be
a moment old, torn, or missing. Nothing that must be exact depends on it. It keeps the number of
duplicates, and up to which byte at least the open segments were synced, so that the loss of
acknowledged events can be told from a torn tail.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from consumer.journal.durable import checked_json, parse_checked_json, replace_file

COUNTS_NAME = "counts.json"
FORMAT = "dayfold-counts-1"


@dataclass(frozen=True, slots=True)
class DayCounts:
    """A day so far. Times are UTC ns since 1970, None while there is no event.

    Attributes:
        events: distinct events in the journal. Exact.
        duplicates: repeats that were dropped. After a crash it may lack those of the last second.
        late: events that came after the day was first sealed. Exact.
        bytes: size of the day's segments.
    """

    events: int
    duplicates: int
    late: int
    first_ns: int | None
    last_ns: int | None
    bytes: int


@dataclass(frozen=True, slots=True)
class KeptCounts:
    """The content of `counts.json`; `synced` is bytes by segment number."""

    duplicates: int = 0
    synced: Mapping[int, int] = field(default_factory=dict)


def write_counts(folder: Path, counts: KeptCounts, *, durable: bool) -> None:
    """Replace `counts.json`. Raises OSError."""
    document = {
        "format": FORMAT,
        "duplicates": counts.duplicates,
        "synced": {str(number): size for number, size in counts.synced.items()},
    }
    replace_file(folder / COUNTS_NAME, checked_json(document), durable=durable)


def why_unreadable(folder: Path) -> str | None:
    """Why `counts.json` cannot be believed; None if it can, or is not there."""
    try:
        parse_checked_json((folder / COUNTS_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return str(error)
    return None


def read_counts(folder: Path) -> KeptCounts:
    """Return what was kept; nothing at all if the file is missing or damaged. Raises OSError."""
    try:
        document = parse_checked_json((folder / COUNTS_NAME).read_bytes())
        return KeptCounts(
            duplicates=int(document["duplicates"]),
            synced={int(number): int(size) for number, size in document["synced"].items()},
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return KeptCounts()
