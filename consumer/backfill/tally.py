"""What an import has come across so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from consumer.days import day_of

#: How many places are named for each reason.
SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was not imported.

    Attributes:
        where: the file, with the number of the line (from 1) where there is one.
        reason: a word, as it is counted.
        detail: what is wrong, for people; nothing secret.
    """

    where: str
    reason: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """For the command's answer."""
        return {"where": self.where, "reason": self.reason, "detail": self.detail}


@dataclass(slots=True)
class Tally:
    """Counts of what was read, and what became of it before it came to a sink.

    Attributes:
        read: events and lines, those that were rejected too.
        duplicates: events that were recognised as being there before.
        rejected: how many were not imported, by reason.
        faults: the first of them for each reason.
        days: events read, by the day that they belong to.
        unfinished: files of which another import may bring in more.
    """

    zone: ZoneInfo
    read: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    days: Counter[date] = field(default_factory=Counter)
    unfinished: list[str] = field(default_factory=list)

    def reject(self, where: str, reason: str, detail: str) -> None:
        """Count something that is not imported."""
        self.read += 1
        self.rejected[reason] += 1
        if self.rejected[reason] <= SHOWN_FAULTS:
            self.faults.append(Fault(where, reason, detail))

    def event(self, time_ns: int) -> date:
        """Count an event, and return its day."""
        self.read += 1
        day = day_of(time_ns, self.zone)
        self.days[day] += 1
        return day


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is, about, in bytes of its files, and what it is reading."""

    done: int
    total: int
    reading: str


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did. ``read == added + duplicates + sum(rejected)``.

    Attributes:
        days: by day, how many events were read and how many of them added.
        files: imported, skipped because an earlier import had finished them, and unfinished.
    """

    read: int
    added: int
    duplicates: int
    rejected: dict[str, int]
    days: dict[date, tuple[int, int]]
    files: dict[str, int]
    faults: tuple[Fault, ...]

    def to_json(self) -> dict[str, Any]:
        """As `dayfold import --json` prints it."""
        return {
            "read": self.read,
            "added": self.added,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "days": [
                {"day": day.isoformat(), "read": read, "added": added}
                for day, (read, added) in sorted(self.days.items())
            ],
            "files": self.files,
            "faults": [fault.to_json() for fault in self.faults],
        }
