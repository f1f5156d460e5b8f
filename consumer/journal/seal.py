"""The seal: what a closed day consists of, one file per revision.

`seal-000001.json` lists the segments of revision 1 with their sizes and SHA-256, and carries the
SHA-256 of its own content. It is written once, as a whole, and never changed.
"""

import re
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from consumer.errors import JournalCorruptError, JournalError
from consumer.journal.durable import checked_json, parse_checked_json, replace_file

FORMAT = "dayfold-seal-1"

_NAME = re.compile(r"seal-(\d{6,})\.json")


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """One segment of a sealed day: file name, size in bytes, records, SHA-256 in hex."""

    name: str
    bytes: int
    records: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Seal:
    """A closed day, whole. Times are UTC ns since 1970; `bytes` is the size of all segments."""

    day: date
    revision: int
    events: int
    first_ns: int
    last_ns: int
    bytes: int
    segments: tuple[SealedSegment, ...]


def seal_path(folder: Path, revision: int) -> Path:
    """Return where the seal of a revision lies."""
    return folder / f"seal-{revision:06d}.json"


def revision_of(name: str) -> int | None:
    """Return the revision in the name of a seal, or None for another name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def sealed_revisions(folder: Path) -> list[int]:
    """Return the revisions that `folder` has seals of, in order. Raises OSError."""
    revisions = (revision_of(path.name) for path in folder.iterdir())
    return sorted(revision for revision in revisions if revision is not None)


def write_seal(folder: Path, seal: Seal) -> None:
    """Write a seal durably. Raises OSError, and then the day is as unsealed as before."""
    document = {"format": FORMAT, **asdict(seal), "day": seal.day.isoformat()}
    replace_file(seal_path(folder, seal.revision), checked_json(document))


def read_seal(folder: Path, day: date, revision: int) -> Seal:
    """Return a seal. Raises JournalError if there is none, JournalCorruptError if it is damaged."""
    path = seal_path(folder, revision)
    try:
        document = parse_checked_json(path.read_bytes())
        if document.pop("format") != FORMAT:
            raise ValueError(f"the format is not {FORMAT}")
        segments = tuple(SealedSegment(**entry) for entry in document.pop("segments"))
        stated = date.fromisoformat(document.pop("day"))
        seal = Seal(day=stated, segments=segments, **document)
    except FileNotFoundError:
        raise JournalError(f"day {day} has no revision {revision}: {path} is missing") from None
    except OSError as error:
        raise JournalCorruptError(f"day {day}: {path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise JournalCorruptError(
            f"day {day}: seal {path.name} is damaged ({error}); close the day again to write a new one"
        ) from error
    if seal.day != day or seal.revision != revision:
        raise JournalCorruptError(
            f"day {day}: {path} is the seal of {seal.day} revision {seal.revision}"
        )
    return seal
