"""What the tests of the journal share: events, journals, and ways to end one badly."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from consumer.clock import ManualClock
from consumer.days import NS_PER_SECOND, day_bounds_ns
from consumer.errors import JournalError
from consumer.journal import Journal, open_chunk
from consumer.wire.admitted import Admitted
from consumer.wire.identity import identity_digest

UTC = ZoneInfo("UTC")
DAY = date(2017, 7, 4)
NEXT_DAY = date(2017, 7, 5)


def event(number: int, day: date = DAY, size: int = 40) -> Admitted:
    """An event that its number identifies, a second of the day after the other."""
    time_ns = day_bounds_ns(day, UTC)[0] + number * NS_PER_SECOND
    payload = f"{number}:".encode().ljust(size, b"x")
    return Admitted(
        day=day,
        time_ns=time_ns,
        own_time=True,
        digest=identity_digest("node", str(number), time_ns),
        arrival_ns=time_ns + 5,
        payload=payload,
        raw_size=len(payload),
        compressed=False,
    )


def events(numbers: Iterable[int], day: date = DAY, size: int = 40) -> list[Admitted]:
    return [event(number, day, size) for number in numbers]


def make_journal(root: Path, **options: Any) -> Journal:
    """A journal whose fatal errors go to `journal.fatal`, a list, if none is handed in."""
    given: dict[str, Any] = {
        "zone": UTC,
        "clock": ManualClock(1_500_000_000 * NS_PER_SECOND),
        "on_fatal": ignore,
        "commit_interval_s": 0.002,
    }
    return Journal(root, **(given | options))


def ignore(error: JournalError) -> None:
    """For tests that look at `Journal.failed`."""


@contextmanager
def running(root: Path, **options: Any) -> Iterator[Journal]:
    """A started journal, stopped well at the end."""
    journal = make_journal(root, **options)
    journal.start()
    try:
        yield journal
    finally:
        journal.stop()


def kill(journal: Journal) -> None:
    """End a journal as a kill does: nothing is synced, finished or kept."""
    journal._running = False
    journal._commits.stop()
    journal._house.stop()
    with journal._commits.quiet():
        for state in journal._days.values():
            for writer in state.let_go():
                journal._commits.close(writer)


def sealed_numbers(root: Path, day: date = DAY, revision: int | None = None) -> list[int]:
    """The numbers of all events of a sealed day, as they come."""
    chunk = open_chunk(root, day, revision, zone=UTC)
    return [int(record.payload.split(b":")[0]) for batch in chunk.batches(7) for record in batch]


def assert_once(numbers: Sequence[int], expected: Iterable[int]) -> None:
    """Each expected number is there, each only once, and nothing else is."""
    assert Counter(numbers) == Counter(set(expected))


def segments(root: Path, day: date = DAY) -> list[Path]:
    return sorted((root / day.isoformat()).glob("*.seg"))
