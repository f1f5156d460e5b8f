"""What is done beside closing days, by the same thread.

Forgetting when it is asked for; once an hour retention, and a look at every byte of the indices:
what a disk has damaged is marked, and the coordinator embeds it again from the journal.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import structlog

from consumer.clock import Clock
from consumer.errors import ForgetError
from consumer.retention.forget import Forgetting
from consumer.retention.retention import Retention
from index.catalogue import Catalogue
from index.chunks import INDEX_NAMES
from index.mending import mark_damaged

log = structlog.get_logger("upkeep")

HOURLY_S = 3600.0
#: A day that could not be forgotten is tried again after this time.
FORGET_AGAIN_S = 60.0


class Upkeep:
    """For the thread that closes days: no fold runs while it is at work.

    Args:
        clock: the one by which things grow old, see `AgeClock`.
    """

    def __init__(
        self,
        forgetting: Forgetting,
        retention: Retention,
        catalogue: Catalogue,
        clock: Clock,
        *,
        data_dir: Path,
    ) -> None:
        self._forgetting = forgetting
        self._retention = retention
        self._catalogue = catalogue
        self._index_root = data_dir / "index"
        self._clock = clock
        self._hourly_at: float | None = None
        self._failed_at: float | None = None

    def step(self, now_ns: int | None) -> list[date]:
        """Do what is due; gives the days that were forgotten.

        Args:
            now_ns: the clock that closes days, UTC ns; None while it is not known.

        Raises:
            JournalError: the disk does not let a journal be removed.
            StoreError: the catalogue cannot be read.
        """
        forgotten = self.forget()
        if now_ns is not None and self._is_over(self._hourly_at, HOURLY_S):
            self._hourly_at = self._clock.monotonic()
            self._mark_damaged()
            # A wall clock that jumped ahead closes days, which can be undone; it lets none go.
            self._retention.apply(min(now_ns, self._clock.now_ns()))
        return forgotten

    def forget(self) -> list[date]:
        """Forget what was asked for; what fails is logged and tried again a minute later."""
        forgotten: list[date] = []
        if not self._is_over(self._failed_at, FORGET_AGAIN_S):
            return forgotten
        for tombstone in self._forgetting.unfinished():
            try:
                self._forgetting.finish(tombstone)
            except ForgetError as error:
                self._failed_at = self._clock.monotonic()
                log.error("day not forgotten", day=str(tombstone.day), error=str(error))
            else:
                forgotten.append(tombstone.day)
        return forgotten

    def _mark_damaged(self) -> None:
        for name in INDEX_NAMES:
            for day in mark_damaged(self._index_root, name, self._catalogue):
                log.error("rows damaged; they are embedded again", day=str(day), index=name)

    def _is_over(self, since: float | None, seconds: float) -> bool:
        return since is None or self._clock.monotonic() - since >= seconds
