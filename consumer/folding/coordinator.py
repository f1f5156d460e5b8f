"""The coordinator: closes days, has them folded, retries what failed.

One thread, one decision at a time. What is to be done is read from the journal (days with events
after their last seal) and from the catalogue (indices that are behind), so a restart at any
moment goes on where it was.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby, islice
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import structlog

from consumer.backoff import backoff
from consumer.clock import Clock
from consumer.days import day_bounds_ns
from consumer.errors import DayfoldError, JournalError
from consumer.folding.closing import CloseRule, DayFacts
from consumer.folding.executor import FoldExecutor, FoldJob, FoldReport
from consumer.folding.installed import Models
from consumer.folding.moving import Moving
from consumer.folding.requests import Asked, Requests
from consumer.journal import Journal
from consumer.retention.upkeep import Upkeep
from consumer.settings import FoldSettings
from embed.sensors import PLAIN, Sensors
from index.catalogue import Catalogue
from index.chunks import Due
from index.errors import StoreError

log = structlog.get_logger("coordinator")

S = 1_000_000_000
FAR_FUTURE_NS = (1 << 63) - 1
CANNOT_BE_MADE_AGAIN = (
    "its journal was let go, so it cannot be embedded again: restore a snapshot, or forget the day"
)
STAYS_IN_OLD_EDITION = (
    "its journal was let go, so it cannot be embedded by the new model: its rows stay with the old "
    "one, compared among themselves alone"
)


@dataclass(slots=True)
class FoldFacts:
    """What the coordinator is doing and has done since it started."""

    running: str | None = None
    folds: int = 0
    failures: int = 0
    last_seconds: float = 0.0
    last_rss_peak_mb: float = 0.0
    last_error: str | None = None


class Coordinator:
    """Owns the coordinator thread; `start`, then `stop`, which ends a running child.

    Args:
        day_clock: gives the time that closes days (wall clock or watermark), UTC ns or None.
        requests: days that an operator asks to close now.
        sensors: what is peculiar about the site's sensors.
        upkeep: what else is done between folds, if anything.
        models: what is installed; indices are brought to it. None leaves them as they are.
        random: source of the retry jitter.
    """

    def __init__(
        self,
        journal: Journal,
        catalogue: Catalogue,
        executor: FoldExecutor,
        requests: Requests,
        *,
        data_dir: Path,
        zone: ZoneInfo,
        clock: Clock,
        day_clock: Callable[[], int | None],
        rule: CloseRule,
        fold: FoldSettings,
        models_cache: Path | None,
        random: random.Random,
        sensors: Sensors = PLAIN,
        upkeep: Upkeep | None = None,
        models: Models | None = None,
        poll_s: float = 0.25,
    ) -> None:
        self.facts = FoldFacts()
        self._journal = journal
        self._catalogue = catalogue
        self._executor = executor
        self._requests = requests
        self._data_dir = data_dir
        self._zone = zone
        self._clock = clock
        self._day_clock = day_clock
        self._rule = rule
        self._fold = fold
        self._models_cache = models_cache
        self._sensors = sensors
        self._random = random
        self._upkeep = upkeep
        self._moving = Moving(catalogue, models, clock, data_dir=data_dir)
        self._poll_s = poll_s
        self._stopping = threading.Event()
        self._counted: dict[date, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End a running child and the thread. Unfinished work is found again at the next start."""
        self._stopping.set()
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.tick()
            except (DayfoldError, StoreError) as error:
                self.facts.last_error = str(error)
                log.error("coordinator", error=str(error))
            self._stopping.wait(max(0.0, self._poll_s - (time.monotonic() - began)))

    def tick(self) -> None:
        """One round: note open days, seal what is due, fold what is behind.

        While a snapshot asks for it, only open days are noted.

        Raises:
            JournalError: a day cannot be sealed.
            StoreError: the catalogue cannot be written.
        """
        if self._requests.held():
            self._note_open_days()
            return
        # Before retention looks: a journal that is still needed for another model must stay.
        self._moving.begin()
        if self._upkeep is not None:
            for day in self._upkeep.step(self._day_clock()):
                self._counted.pop(day, None)
        self._note_open_days()
        asked = self._requests.take()
        for day in self._due_days(asked):
            self.close(day)
        # One chunk a round, so that days that are over meanwhile are noted and sealed.
        self.fold_what_is_behind(at_once=asked.reconcile, most=None if asked.reconcile else 1)
        self._note_open_days()

    def _note_open_days(self) -> None:
        for day in self._journal.days():
            if self._journal.unsealed(day):
                counts = self._journal.counts(day)
                seen = (counts.events, counts.duplicates)
                if self._counted.get(day) != seen:
                    self._catalogue.note_chunk(day, counts)
                    self._counted[day] = seen

    def _due_days(self, asked: Asked) -> list[date]:
        day_clock = self._day_clock()
        due: list[date] = []
        for day in self._journal.days():
            if not self._journal.unsealed(day):
                continue
            facts = DayFacts(
                day=day,
                end_ns=day_bounds_ns(day, self._zone)[1],
                sealed=self._journal.latest_seal(day) is not None,
                last_append_ns=self._journal.last_append_ns(day),
            )
            if day in asked.close or (
                day_clock is not None
                and self._rule.due(
                    facts, day_clock_ns=day_clock, arrival_clock_ns=self._clock.now_ns()
                )
            ):
                due.append(day)
        return due

    def close(self, day: date) -> None:
        """Seal a day and note its revision as pending in every index.

        A seal that the catalogue does not know yet (a crash between the two) is noted at the next
        start by `catch_up`.
        """
        try:
            seal = self._journal.seal(day)
        except JournalError as error:
            self.facts.last_error = f"{day}: {error}"
            log.error("day cannot be sealed", day=str(day), error=str(error))
            return
        self._catalogue.seal_chunk(day, seal.revision, self._journal.counts(day))
        log.info("day sealed", day=str(day), revision=seal.revision, events=seal.events)

    def catch_up(self) -> None:
        """At start: tell the catalogue of every seal that it does not know."""
        for day in self._journal.days():
            seal = self._journal.latest_seal(day)
            if seal is None:
                continue
            known = self._catalogue.chunk(day)
            if known is None or known.revision < seal.revision:
                self._catalogue.seal_chunk(day, seal.revision, self._journal.counts(day))

    def fold_what_is_behind(self, *, at_once: bool = False, most: int | None = None) -> None:
        """Fold chunks whose try is due, oldest first.

        Args:
            at_once: also those that wait for a retry.
            most: at most so many chunks; None for all.
        """
        self._moving.begin(at_once=at_once)
        now_ns = FAR_FUTURE_NS if at_once else self._clock.now_ns()
        behind = self._catalogue.due(now_ns, longest_wait_ns=int(self._fold.retry_cap_s * S))
        chunks = groupby(behind, key=lambda due: (due.day, due.revision))
        for (day, revision), dues in islice(chunks, most):
            waiting = list(dues)
            # After a failure each index goes alone: a model that kills the child must not take
            # the others with it again.
            together = tuple(due for due in waiting if due.attempts == 0)
            alone = [(due,) for due in waiting if due.attempts > 0]
            for batch in ([together] if together else []) + alone:
                if self._stopping.is_set():
                    return
                if self._journal.is_retired(day):
                    self._give_up(day, batch)
                else:
                    keys = {due.index: due.key for due in batch}
                    self.fold(day, revision, tuple(keys), keys=keys)
                for due in batch:
                    if due.edition is not None:
                        self._moving.settle(due.index)

    def fold(
        self,
        day: date,
        revision: int,
        indices: tuple[str, ...],
        *,
        keys: Mapping[str, str] = MappingProxyType({}),
    ) -> FoldReport:
        """Run one fold and record what failed; the child records what it committed.

        Args:
            keys: under which name the catalogue keeps the state of an index, if not its own.
        """
        job = FoldJob(
            data_dir=self._data_dir,
            day=day,
            revision=revision,
            indices=indices,
            timezone=str(self._zone),
            models_cache=self._models_cache,
            memory_mb=self._fold.memory_mb,
            nice=self._fold.nice,
            threads=self._fold.threads,
            batch_events=self._fold.batch_events,
            sensors=self._sensors,
            idle=self._fold.idle,
        )
        self.facts.running = f"{day} revision {revision}: {', '.join(indices)}"
        try:
            report = self._executor.run(job, self._stopping)
        finally:
            self.facts.running = None
        self.facts.folds += 1
        self.facts.last_seconds = report.seconds
        self.facts.last_rss_peak_mb = report.rss_peak_mb
        if not self._stopping.is_set():
            for name in indices:
                self._record_failure(day, revision, name, keys.get(name, name), report)
        log.info(
            "day folded",
            day=str(day),
            revision=revision,
            seconds=round(report.seconds, 2),
            rows={name: o.rows for name, o in report.outcomes.items() if o.error is None},
            stages={name: round(s, 2) for name, s in report.stages.items()},
        )
        return report

    def _give_up(self, day: date, dues: tuple[Due, ...]) -> None:
        """Say that indices of a day cannot be made any more, and do not try again."""
        for due in dues:
            error = STAYS_IN_OLD_EDITION if due.edition else CANNOT_BE_MADE_AGAIN
            self._catalogue.mark_failed(day, due.key, error=error, attempts=1, next_retry_ns=None)
            self.facts.last_error = f"{day} {due.index}: {error}"
            log.error("index lost", day=str(day), index=due.index, error=error)

    def _record_failure(
        self, day: date, revision: int, name: str, key: str, report: FoldReport
    ) -> None:
        state = self._catalogue.state(day, key)
        if state is None or (state.state, state.revision) == ("committed", revision):
            return
        outcome = report.outcomes.get(name)
        error = (outcome.error if outcome else None) or report.failure or "not reached"
        pause = backoff(
            state.attempts,
            base_s=self._fold.retry_base_s,
            cap_s=self._fold.retry_cap_s,
            random=self._random,
        )
        self._catalogue.mark_failed(
            day,
            key,
            error=error,
            attempts=state.attempts + 1,
            next_retry_ns=self._clock.now_ns() + int(pause * S),
        )
        self.facts.failures += 1
        self.facts.last_error = f"{day} {name}: {error}"
        log.warning(
            "index is behind", day=str(day), index=name, error=error, retry_in_s=round(pause, 1)
        )
