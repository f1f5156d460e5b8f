"""Which files an earlier import has finished, so that it need not read them again.

``import/finished.jsonl`` below the data folder has one line per file (or group of artifacts), added
and synced when all of it is durable in the journal. A line is believed while the file is the same
(size and time of change, or content) and the journal still holds at least as many events of its
days as it did then: what was lost since is brought in again. Nothing but time depends on this file,
because events that come again are dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

import structlog

from consumer.backfill.layout import ArtifactGroup, Part
from consumer.journal.durable import fsync_folder, make_folder, open_private, write_all

log = structlog.get_logger("import")

FILE_NAME: Final = "finished.jsonl"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a file from what it was before.

    Attributes:
        key: its path; for artifacts the folder and the first of their names.
        size: bytes, of all files together.
        changed_ns: latest time of change.
        digest: of the content; of names, sizes and times of change for artifacts. Hex, or "" while
            it is not known.
    """

    key: str
    size: int
    changed_ns: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that was imported whole.

    Attributes:
        read: events in it, those that were rejected too.
        rejected: how many of them, by reason.
        days: for each of its days, how many events of it were read, and how many the journal then
            held in all.
    """

    stamp: Stamp
    read: int
    rejected: Mapping[str, int]
    days: Mapping[str, tuple[int, int]]


def stamp_of(part: Part) -> Stamp:
    """What a part is now. Raises OSError if a file of it is gone."""
    if not isinstance(part, ArtifactGroup):
        facts = part.path.stat()
        return Stamp(str(part.path.resolve()), facts.st_size, facts.st_mtime_ns)
    size = changed = 0
    listing = hashlib.sha256()
    for artifact in part.artifacts:
        for path in artifact.paths:
            facts = path.stat()
            size += facts.st_size
            changed = max(changed, facts.st_mtime_ns)
            listing.update(f"{path.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    first = part.artifacts[0].paths[0].name
    return Stamp(f"{part.folder.resolve()}/{first}", size, changed, listing.hexdigest())


def content_digest(path: Path) -> str:
    """SHA-256 of a file, hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FinishedFiles:
    """The list of finished files below a folder. One user at a time.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        if make_folder(folder):
            fsync_folder(folder.parent)
        self._known = {finished.stamp.key: finished for finished in self._read()}

    def find(self, part: Part, events_of: Callable[[date], int]) -> Finished | None:
        """What is known of a part that need not be read again, or None. Raises OSError.

        `events_of` says how many events of a day the journal holds now.
        """
        now = stamp_of(part)
        known = self._known.get(now.key)
        if known is None or known.stamp.size != now.size:
            return None
        if isinstance(part, ArtifactGroup):
            same = known.stamp.digest == now.digest
        else:
            same = known.stamp.changed_ns == now.changed_ns or known.stamp.digest == content_digest(
                part.path
            )
        held = all(
            events_of(date.fromisoformat(day)) >= held for day, (_, held) in known.days.items()
        )
        return known if same and held else None

    def add(self, finished: Finished) -> None:
        """Note a file whose events are durable. Raises OSError."""
        self._known[finished.stamp.key] = finished
        line = json.dumps(asdict(finished), separators=(",", ":")).encode()
        created = not self._path.exists()
        fd = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            # A line that a crash tore ends here, so that this one stands alone.
            write_all(fd, b"\n" + line + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        if created:
            fsync_folder(self._path.parent)

    def _read(self) -> Iterator[Finished]:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in text.splitlines():
            if not line:
                continue
            try:
                entry = json.loads(line)
                days = {
                    date.fromisoformat(day).isoformat(): (int(read), int(held))
                    for day, (read, held) in entry["days"].items()
                }
                yield Finished(Stamp(**entry["stamp"]), entry["read"], entry["rejected"], days)
            except (ValueError, KeyError, TypeError, AttributeError):
                log.warning("a line of the list of finished files is damaged", file=str(self._path))
