"""Retention: which journals are let go when they are old or many. Rows outlive journals.

What is let go is only the events as received: the rows of the day in the three indices and their
facts stay, and so does what the catalogue counts of the day. It cannot be embedded again after
that, so nothing goes before it is held for certain by all three indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from consumer.days import day_of
from consumer.journal import Journal
from consumer.settings import MIB, RetentionSettings
from index.catalogue import Catalogue
from index.whole import why_not_whole

log = structlog.get_logger("retention")


@dataclass(frozen=True, slots=True)
class HeldDay:
    """A day whose events are in the journal.

    Attributes:
        bytes: size of its segments.
        whole: whether it is closed, and committed in all three indices at its last revision, and
            none of them is being embedded anew by another model.
    """

    day: date
    bytes: int
    whole: bool


def days_to_retire(days: Sequence[HeldDay], rule: RetentionSettings, today: date) -> list[date]:
    """The days to let go, oldest first.

    Those older than `journal_days`, and then the oldest until all that stays is no more than
    `journal_max_mb`. Never the last `keep_days`, and never a day that is not whole, even if more
    than the limit stays then.
    """
    left = sum(held.bytes for held in days)
    limit = rule.journal_max_mb * MIB
    gone: list[date] = []
    for held in sorted(days, key=lambda held: held.day):
        age = (today - held.day).days
        if age <= rule.keep_days or not held.whole:
            continue
        too_old = bool(rule.journal_days) and age > rule.journal_days
        too_much = bool(limit) and left > limit
        if too_old or too_much:
            gone.append(held.day)
            left -= held.bytes
    return gone


class Retention:
    """Applies the rule to a running journal. Called by the thread that closes days."""

    def __init__(
        self,
        rule: RetentionSettings,
        journal: Journal,
        catalogue: Catalogue,
        *,
        data_dir: Path,
        zone: ZoneInfo,
    ) -> None:
        self._rule = rule
        self._journal = journal
        self._catalogue = catalogue
        self._index_root = data_dir / "index"
        self._zone = zone

    def apply(self, now_ns: int) -> list[date]:
        """Let go of what is due at `now_ns`, UTC ns by the clock that closes days. Gives the days.

        A day whose rows turn out to be damaged keeps its journal, which alone can mend them.

        Raises:
            JournalError: the disk does not let a journal be removed.
            StoreError: the catalogue cannot be read.
        """
        if not self._rule.journal_days and not self._rule.journal_max_mb:
            return []
        due = days_to_retire(self._held(), self._rule, day_of(now_ns, self._zone))
        return [day for day in due if self._retire(day)]

    def _held(self) -> list[HeldDay]:
        chunks = {chunk.day: chunk for chunk in self._catalogue.chunks()}
        held = []
        for day in self._journal.days():
            chunk, seal = chunks.get(day), self._journal.latest_seal(day)
            whole = (
                chunk is not None
                and seal is not None
                and (chunk.state, chunk.revision) == ("committed", seal.revision)
                and not self._journal.unsealed(day)
                and not chunk.upcoming
            )
            held.append(HeldDay(day, self._journal.counts(day).bytes, whole))
        return held

    def _retire(self, day: date) -> bool:
        fault = why_not_whole(self._index_root, self._catalogue, day)
        if fault is not None:
            log.error("journal kept: its rows are not sound", day=str(day), error=fault)
            return False
        freed = self._journal.retire(day)
        log.info("journal retired", day=str(day), freed_mb=round(freed / MIB, 1))
        return True
