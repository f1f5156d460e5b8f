"""One thread appends while others seal, sync, count and keep house: nothing is lost or doubled."""

import threading
from collections.abc import Callable
from pathlib import Path

from consumer.journal import Journal, verify_day
from tests.journal_kit import (
    DAY,
    NEXT_DAY,
    assert_once,
    event,
    running,
    sealed_numbers,
)

BATCHES = 1000
BATCH = 8


def seal_whatever_is_new(journal: Journal) -> None:
    for day in journal.days():
        if journal.unsealed(day):
            journal.seal(day)


def look_at_everything(journal: Journal) -> None:
    for day in journal.days():
        counts = journal.counts(day)
        seal = journal.latest_seal(day)
        assert seal is None or seal.events <= counts.events
        assert journal.last_append_ns(day) > 0


def release_everything(journal: Journal) -> None:
    with journal._house.at_work:
        for state in list(journal._days.values()):
            journal._house._tidy(state, release=True)


def repeat(
    job: Callable[[Journal], None], journal: Journal, done: threading.Event, faults: list[Exception]
) -> None:
    while not done.is_set():
        try:
            job(journal)
        except Exception as fault:  # noqa: BLE001 - told by the test's own thread
            faults.append(fault)
            return


def test_nothing_is_lost_between_threads(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    done, faults = threading.Event(), list[Exception]()
    jobs = [seal_whatever_is_new, look_at_everything, release_everything, Journal.sync]
    with running(root, segment_bytes=5_000) as journal:
        threads = [
            threading.Thread(target=repeat, args=(job, journal, done, faults)) for job in jobs
        ]
        for thread in threads:
            thread.start()
        added = 0
        for batch in range(BATCHES):
            # Each event comes twice, in two batches that follow each other.
            first = batch * BATCH // 2
            numbers = range(first, first + BATCH)
            sent = [event(number, [DAY, NEXT_DAY][number % 2]) for number in numbers]
            added += journal.append(sent).added
        done.set()
        for thread in threads:
            thread.join()
        assert faults == []
        seal_whatever_is_new(journal)
        assert journal.counts(DAY).events + journal.counts(NEXT_DAY).events == added
    everything = range((BATCHES + 1) * BATCH // 2)
    assert_once(sealed_numbers(root, DAY), [number for number in everything if number % 2 == 0])
    assert_once(sealed_numbers(root, NEXT_DAY), [number for number in everything if number % 2])
    assert verify_day(root, DAY) == verify_day(root, NEXT_DAY) == []
