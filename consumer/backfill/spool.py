"""Handing events to the running service, which alone writes the journal.

The one who has events puts them into files in ``run/import`` below the data folder; the service's
intake takes them between two batches of its own. A file ``NAME.batch`` is a header and then frames
(u32 length and u32 CRC-32 of the body, little-endian), whose body is an i64 arrival time in UTC ns
and the payload. It appears whole, by rename, after its bytes are on the disk. When its events are
durable in the journal the service writes ``NAME.done`` with what became of them and removes it. A
service that dies in between begins the file again, and events that were added come as duplicates.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import structlog

from consumer.journal.durable import (
    UNFINISHED_SUFFIX,
    fsync_folder,
    make_folder,
    replace_file,
)
from consumer.reception.sources import Arrival

log = structlog.get_logger("spool")

FOLDER: Final = Path("run") / "import"
BATCH_SUFFIX: Final = ".batch"
DONE_SUFFIX: Final = ".done"
BAD_SUFFIX: Final = ".bad"
HEADER: Final = struct.pack("<8sI", b"dayfoldI", 1)

_FRAME: Final = struct.Struct("<II")
_TIME: Final = struct.Struct("<q")


@dataclass(slots=True)
class Outcome:
    """What became of some events.

    Attributes:
        added: how many are new, by day.
        duplicates: how many were there before.
        refused: how many were not admitted, by reason.
    """

    added: dict[date, int] = field(default_factory=dict)
    duplicates: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Count another outcome in."""
        for day, count in other.added.items():
            self.added[day] = self.added.get(day, 0) + count
        self.duplicates += other.duplicates
        for reason, count in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count

    def refuse(self, reason: str) -> None:
        """Count an event that is not admitted."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """As a ``.done`` file holds it."""
        return {
            "added": {day.isoformat(): count for day, count in self.added.items()},
            "duplicates": self.duplicates,
            "refused": self.refused,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Outcome:
        """Read back what `to_json` gave. Raises ValueError, KeyError or TypeError."""
        return cls(
            {date.fromisoformat(day): int(n) for day, n in document["added"].items()},
            int(document["duplicates"]),
            {str(reason): int(n) for reason, n in document["refused"].items()},
        )


def write_batch(folder: Path, name: str, arrivals: Iterable[Arrival]) -> Path:
    """Put events into the spool; they are on the disk when this returns. Raises OSError."""
    if make_folder(folder):
        fsync_folder(folder.parent)
    pieces = [HEADER]
    for arrival in arrivals:
        time = _TIME.pack(arrival.arrival_ns)
        checksum = zlib.crc32(arrival.message, zlib.crc32(time))
        pieces += (_FRAME.pack(len(time) + len(arrival.message), checksum), time, arrival.message)
    path = folder / f"{name}{BATCH_SUFFIX}"
    replace_file(path, b"".join(pieces))
    return path


def read_batch(path: Path) -> Iterator[Arrival]:
    """The events of a batch.

    Raises:
        ValueError: it is not one, or fails a checksum; names the place.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    if not data.startswith(HEADER):
        raise ValueError(f"{path}: not a batch of the spool")
    at = len(HEADER)
    while at < len(data):
        if len(data) - at < _FRAME.size:
            raise ValueError(f"{path}: offset {at}: cut short")
        length, checksum = _FRAME.unpack_from(data, at)
        body = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(body) != length or length < _TIME.size or zlib.crc32(body) != checksum:
            raise ValueError(f"{path}: offset {at}: checksum does not match")
        yield Arrival("import", _TIME.unpack_from(body)[0], body[_TIME.size :], sealed=False)
        at += _FRAME.size + length


class Spool:
    """The consuming end: hands out what lies in the spool, oldest batch first. For one thread.

    Args:
        folder: ``run/import`` below the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._left: list[Arrival] = []
        self._outcome = Outcome()

    def take(self, limit: int) -> list[Arrival]:
        """Up to `limit` events; an empty list if there is none now. Never waits.

        What was taken must be answered with `done` before the next call. A batch that cannot be
        read is put aside as ``.bad`` and said so in its ``.done``. Raises OSError.
        """
        if not self._left:
            # One that is done with, if it could not be removed before.
            self.finish()
            self._open_next()
        taken, self._left = self._left[:limit], self._left[limit:]
        return taken

    def done(self, outcome: Outcome) -> bool:
        """Say what became of the events last taken. True if this was the last of a batch.

        Then make them durable and call `finish`.
        """
        self._outcome.add(outcome)
        return not self._left

    def finish(self) -> None:
        """All of the batch is durable: tell whoever put it there, and remove it. Raises OSError."""
        if self._path is None:
            return
        self._answer(self._path, self._outcome.to_json())
        self._path.unlink(missing_ok=True)
        self._path = None
        self._outcome = Outcome()

    def _answer(self, batch: Path, document: dict[str, Any]) -> None:
        replace_file(batch.with_suffix(DONE_SUFFIX), json.dumps(document).encode(), durable=False)

    def _open_next(self) -> None:
        for path in _batches(self._folder):
            try:
                self._left = list(read_batch(path))
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as error:
                log.error("a batch in the spool cannot be read", error=str(error))
                path.rename(path.with_suffix(BAD_SUFFIX))
                self._answer(path, {"error": str(error)})
                continue
            self._path = path
            if self._left:
                return
            self.finish()


def _batches(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == BATCH_SUFFIX)


def forget_old(folder: Path, before_ns: int) -> None:
    """Remove answers and unfinished files that nobody waits for: those older than `before_ns`."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix in (DONE_SUFFIX, UNFINISHED_SUFFIX) and path.stat().st_mtime_ns < before_ns:
            path.unlink(missing_ok=True)
