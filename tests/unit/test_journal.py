import struct
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.clock import ManualClock
from consumer.days import NS_PER_SECOND
from consumer.errors import JournalError
from consumer.journal import Appended, Journal, open_chunk
from consumer.journal.day import DayJournal
from consumer.journal.segment import SegmentWriter
from consumer.journal.sidecar import SegmentFacts
from tests.journal_kit import (
    DAY,
    NEXT_DAY,
    assert_once,
    event,
    events,
    make_journal,
    running,
    sealed_numbers,
    segments,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_is_appended_is_sealed_in_its_order(root: Path) -> None:
    with running(root) as journal:
        assert journal.append(events([3, 1, 2])) == Appended(added=3, duplicates=0, late=0)
        seal = journal.seal(DAY)
    assert (seal.revision, seal.events) == (1, 3)
    assert sealed_numbers(root) == [3, 1, 2]


def test_a_repeat_in_one_batch_counts_once(root: Path) -> None:
    with running(root) as journal:
        assert journal.append(events([1, 2, 1, 1])) == Appended(added=2, duplicates=2, late=0)


def test_a_repeat_in_a_later_batch_counts_once(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(10)))
        assert journal.append(events(range(5, 15))) == Appended(added=5, duplicates=5, late=0)
        counts = journal.counts(DAY)
    assert (counts.events, counts.duplicates) == (15, 5)


def test_a_repeat_after_a_restart_counts_once(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(10)))
    with running(root) as journal:
        assert journal.append(events(range(12))).added == 2
        journal.seal(DAY)
    assert_once(sealed_numbers(root), range(12))


def test_a_repeat_of_a_sealed_event_counts_once(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(10)))
        first = journal.seal(DAY)
        assert journal.append(events(range(10))) == Appended(added=0, duplicates=10, late=0)
        assert not journal.unsealed(DAY)
        assert journal.seal(DAY) == first


def test_repeats_are_found_across_many_segments(root: Path) -> None:
    with running(root, segment_bytes=2000) as journal:
        for begin in range(0, 200, 10):
            journal.append(events(range(begin, begin + 10)))
        assert journal.append(events(range(200))) == Appended(added=0, duplicates=200, late=0)
        seal = journal.seal(DAY)
    assert len(seal.segments) == len(segments(root)) > 5
    assert_once(sealed_numbers(root), range(200))


def test_an_empty_batch_changes_nothing(root: Path) -> None:
    with running(root) as journal:
        assert journal.append([]) == Appended(0, 0, 0)
        assert journal.days() == []


def test_a_batch_may_span_days(root: Path) -> None:
    with running(root) as journal:
        assert journal.append([event(1), event(1, NEXT_DAY), event(2)]).added == 3
        assert journal.days() == [DAY, NEXT_DAY]
        assert (journal.counts(DAY).events, journal.counts(NEXT_DAY).events) == (2, 1)


def test_counts_say_when_and_how_much(root: Path) -> None:
    with running(root) as journal:
        journal.append(events([5]))
        journal.append(events([9, 2]))
        journal.append(events([7]))
        counts = journal.counts(DAY)
        journal.sync()
        assert counts.bytes == segments(root)[0].stat().st_size
    assert (counts.first_ns, counts.last_ns) == (event(2).time_ns, event(9).time_ns)


def test_a_day_without_events_has_zero_counts_and_no_seal(root: Path) -> None:
    with running(root) as journal:
        assert journal.counts(DAY).events == 0
        assert journal.counts(DAY).first_ns is None
        assert journal.watermark_ns is None
        assert journal.latest_seal(DAY) is None
        assert not journal.unsealed(DAY)
        with pytest.raises(JournalError, match="2017-07-04 has no events"):
            journal.seal(DAY)
        with pytest.raises(JournalError, match="2017-07-04 has no events"):
            journal.last_append_ns(DAY)


def test_late_events_make_the_next_revision_of_the_whole_day(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(5)))
        journal.seal(DAY)
        assert journal.append(events(range(3, 8))) == Appended(added=3, duplicates=2, late=3)
        assert journal.unsealed(DAY)
        seal = journal.seal(DAY)
        assert (seal.revision, seal.events, journal.counts(DAY).late) == (2, 8, 3)
        assert journal.latest_seal(DAY) == seal
    assert sealed_numbers(root) == list(range(8))
    assert sealed_numbers(root, revision=1) == list(range(5))


def test_late_counts_survive_a_restart(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(5)))
        journal.seal(DAY)
        journal.append(events([7, 8]))
    with running(root) as journal:
        assert journal.counts(DAY).late == 2
        assert journal.unsealed(DAY)
        journal.seal(DAY)
    with running(root) as journal:
        assert journal.counts(DAY).late == 2
        assert not journal.unsealed(DAY)


def test_duplicates_survive_a_restart(root: Path) -> None:
    with running(root) as journal:
        journal.append(events([1, 1, 1]))
    with running(root) as journal:
        assert journal.counts(DAY).duplicates == 2


def test_the_watermark_is_the_highest_time_and_survives_a_restart(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(9, NEXT_DAY), event(3)])
        assert journal.watermark_ns == event(9, NEXT_DAY).time_ns
    with running(root) as journal:
        assert journal.watermark_ns == event(9, NEXT_DAY).time_ns


def test_the_last_append_is_told_by_the_clock_and_by_the_records_after_a_restart(
    root: Path,
) -> None:
    clock = ManualClock(77 * NS_PER_SECOND)
    with running(root, clock=clock) as journal:
        journal.append([event(1)])
        clock.advance(5)
        journal.append([event(2)])
        assert journal.last_append_ns(DAY) == 82 * NS_PER_SECOND
        journal.seal(DAY)
    with running(root) as journal:
        assert journal.last_append_ns(DAY) == event(2).arrival_ns


def test_what_was_synced_is_durable(root: Path) -> None:
    with running(root, commit_interval_s=3600) as journal:
        journal.append(events(range(5)))
        assert [journal.appended_events, journal.durable_events] == [5, 0]
        journal.sync()
        assert journal.durable_events == 5


def test_a_full_segment_is_followed_by_the_next(root: Path) -> None:
    with running(root, segment_bytes=400) as journal:
        for number in range(6):
            journal.append([event(number, size=100)])
        journal.sync()
        assert all(path.stat().st_size <= 400 for path in segments(root))
        seal = journal.seal(DAY)
    assert [entry.name for entry in seal.segments] == ["000001.seg", "000002.seg", "000003.seg"]


def test_a_restart_goes_on_in_the_same_segment(root: Path) -> None:
    for number in range(4):
        with running(root) as journal:
            journal.append([event(number)])
    assert len(segments(root)) == 1


def test_a_segment_that_grows_has_no_sidecar(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(1)])
    sidecar = segments(root)[0].with_suffix(".ids")
    assert sidecar.exists()
    with running(root) as journal:
        journal.append([event(2)])
        assert not sidecar.exists()


def test_a_sealed_segment_never_changes(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(5)))
        journal.seal(DAY)
        before = segments(root)[0].read_bytes()
        journal.append([event(9)])
    with running(root) as journal:
        journal.append([event(10)])
    assert segments(root)[0].read_bytes() == before


def test_an_idle_day_is_released_and_still_knows_its_events(root: Path) -> None:
    clock = ManualClock()
    with running(root, clock=clock) as journal:
        journal.append(events(range(5)))
        clock.advance(3600)
        journal._house._keep_house()
        assert journal._days[DAY].dedupe is None
        assert journal._days[DAY].writer is None
        assert journal.append(events(range(6))) == Appended(added=1, duplicates=5, late=0)
        journal.seal(DAY)
    assert len(segments(root)) == 1
    assert_once(sealed_numbers(root), range(6))


def test_only_so_many_days_stay_in_memory(root: Path) -> None:
    days = [date(2017, 6, number) for number in range(1, 31)]
    clock = ManualClock()
    with running(root, clock=clock) as journal:
        for day in days:
            clock.advance(1)
            journal.append([event(1, day)])
        journal._house._keep_house()
        loaded = [day for day in days if journal._days[day].dedupe is not None]
        assert loaded == days[-16:]
        assert journal.append([event(1, day) for day in days]).duplicates == 30


def test_events_appended_after_a_release_began_are_not_lost(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(root) as journal:
        journal.append(events(range(5)))
        state = journal._days[DAY]
        write = journal._house._write_sidecar

        def append_meanwhile(day: DayJournal, writer: SegmentWriter) -> SegmentFacts:
            facts = write(day, writer)
            journal.append([event(7)])
            return facts

        monkeypatch.setattr(journal._house, "_write_sidecar", append_meanwhile)
        journal._house.release(state)
        monkeypatch.undo()
        assert state.writer is not None
        journal.seal(DAY)
    assert sealed_numbers(root) == [*range(5), 7]


def test_files_are_private(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(1)])
        journal.seal(DAY)
        journal.append([event(2)])
    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_stopping_twice_is_stopping_once(root: Path) -> None:
    journal = make_journal(root)
    journal.start()
    journal.append([event(1)])
    journal.stop()
    journal.stop()
    assert journal.durable_events == 1


@pytest.mark.parametrize("started", [False, True])
def test_a_journal_that_does_not_run_takes_nothing(root: Path, started: bool) -> None:
    journal = make_journal(root)
    if started:
        journal.start()
        journal.stop()
    with pytest.raises(JournalError, match="not started"):
        journal.append([event(1)])


def test_days_of_another_time_zone_are_not_mixed_with_ours(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(1)])
    other: Journal = make_journal(root, zone=ZoneInfo("Europe/Madrid"))
    with pytest.raises(JournalError, match="UTC, not Europe/Madrid"):
        other.start()


def test_a_digest_of_another_length_is_refused_before_anything_is_written(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(1)])
        with pytest.raises(ValueError, match="16 bytes"):
            journal.append([event(2)._replace(digest=b"short")])
        assert journal.append([event(2)]).added == 1
        journal.seal(DAY)
    assert sealed_numbers(root) == [1, 2]


def test_a_batch_with_an_event_that_cannot_be_written_leaves_no_trace(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(1)])
        unwritable = event(3, NEXT_DAY)._replace(arrival_ns=2**64)
        with pytest.raises(struct.error):
            journal.append([event(2), unwritable])
        assert journal.append([event(2)]) == Appended(added=1, duplicates=0, late=0)
        journal.seal(DAY)
        assert journal.days() == [DAY]
    assert sealed_numbers(root) == [1, 2]


def test_the_bounds_of_a_chunk_are_those_of_its_day(root: Path) -> None:
    zone = ZoneInfo("Europe/Madrid")
    with running(root, zone=zone) as journal:
        journal.append([event(1)])
        journal.seal(DAY)
    chunk = open_chunk(root, DAY, zone=zone)
    assert (chunk.end_ns - chunk.start_ns) / NS_PER_SECOND == 24 * 3600
    assert event(1).time_ns - chunk.start_ns == (2 * 3600 + 1) * NS_PER_SECOND
