"""Journals go when they are old or many; rows stay; nothing goes that cannot be spared."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from consumer.care.repair import repair_data
from consumer.care.verify import verify_data
from consumer.clock import ManualClock
from consumer.errors import JournalError
from consumer.journal import open_chunk
from consumer.journal.retired import RETIRED_NAME, read_retired
from consumer.retention.retention import HeldDay, Retention, days_to_retire
from consumer.settings import MIB, RetentionSettings, Settings
from consumer.wire.admission import Admission, Refused
from index.faiss_store import FaissStore
from tests.data_folder_kit import (
    INDICES,
    NOW,
    UTC,
    EventRows,
    add_days,
    chunk_of,
    day_folder,
    day_start,
    event,
    flip,
    given_model,
    open_days,
    settings_of,
)

FIRST = date(2017, 7, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
RULE = RetentionSettings(journal_days=30, keep_days=10)
LATER = DAYS[0] + timedelta(days=31)


def held(*ages: int, today: date = LATER, size: int = MIB, whole: bool = True) -> list[HeldDay]:
    return [HeldDay(today - timedelta(days=age), size, whole) for age in ages]


def ages(days: list[date], today: date = LATER) -> list[int]:
    return [(today - day).days for day in days]


def test_days_older_than_the_limit_go_the_oldest_first() -> None:
    assert ages(days_to_retire(held(5, 29, 30, 31, 40), RULE, LATER)) == [40, 31]


def test_the_oldest_go_until_the_rest_fits() -> None:
    rule = RetentionSettings(journal_max_mb=3, keep_days=1)
    assert ages(days_to_retire(held(2, 3, 4, 5, 6), rule, LATER)) == [6, 5]


def test_the_last_days_stay_whatever_their_size() -> None:
    rule = RetentionSettings(journal_max_mb=1, keep_days=4)
    assert ages(days_to_retire(held(0, 1, 2, 3, 4, 5), rule, LATER)) == [5]


def test_a_day_that_is_not_whole_stays_whatever_its_age() -> None:
    assert days_to_retire(held(100, whole=False), RULE, LATER) == []


def test_without_a_limit_everything_stays() -> None:
    assert days_to_retire(held(1000), RetentionSettings(), LATER) == []


def test_impossible_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="journal_days = 5 must be at least keep_days = 14"):
        RetentionSettings(journal_days=5)
    with pytest.raises(ValueError, match=r"keep_days = 6 must be more than day.back_days = 7"):
        Settings.model_validate({"retention": {"journal_days": 60, "keep_days": 6}})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path)
    add_days(settings, DAYS, events=10)
    return settings


def apply(settings: Settings, today: date = LATER, rule: RetentionSettings = RULE) -> list[date]:
    with open_days(settings) as offline:
        retention = Retention(
            rule, offline.journal, offline.catalogue, data_dir=settings.data.dir, zone=UTC
        )
        now_ns = day_start(today) * 1_000_000_000
        gone = retention.apply(now_ns)
        assert retention.apply(now_ns) == []
        return gone


def faults(settings: Settings) -> list[str]:
    found = verify_data(settings, deep=True)["faults"]
    return [fault["what"] for fault in found if not fault["what"].startswith("model")]


def test_rows_outlive_their_journal(settings: Settings) -> None:
    before = chunk_of(settings, FIRST)
    assert apply(settings) == [FIRST]
    assert [path.name for path in day_folder(settings, FIRST).iterdir()] == [RETIRED_NAME]
    mark = read_retired(day_folder(settings, FIRST), FIRST)
    assert (mark.revision, mark.counts.events, mark.why) == (1, 10, "retention")
    assert chunk_of(settings, FIRST) == before
    for name in INDICES:
        with FaissStore.open(settings.data.dir / "index", name) as store:
            assert store.shards()[FIRST].rows == 11
    assert faults(settings) == []


def test_a_day_with_late_events_keeps_its_journal(settings: Settings) -> None:
    with open_days(settings) as offline:
        offline.journal.append([event(FIRST, 50)])
    assert apply(settings) == []
    with open_days(settings) as offline, pytest.raises(JournalError, match="is not closed"):
        offline.journal.retire(FIRST)


def test_a_day_whose_rows_are_damaged_keeps_its_journal(settings: Settings) -> None:
    shard = next((settings.data.dir / "index" / "semantic" / "shards").glob(f"{FIRST}*"))
    flip(shard, 300)
    assert apply(settings) == []
    repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)
    assert apply(settings) == [FIRST]


def test_a_retired_day_takes_no_more_events(settings: Settings) -> None:
    apply(settings)
    with open_days(settings) as offline:
        assert offline.journal.days() == DAYS[1:]
        admission = Admission(UTC, event_clock=True, is_retired=offline.journal.is_retired)
        refused = admission.admit(event(FIRST, 3).payload, None, NOW)
        assert isinstance(refused, Refused)
        assert refused.reason == "retired"
        with pytest.raises(JournalError, match="takes no more events"):
            offline.journal.append([event(FIRST, 3)])
        assert offline.journal.append([event(DAYS[1], 99)]).added == 1


def test_a_retired_day_is_not_embedded_again(settings: Settings) -> None:
    apply(settings)
    with pytest.raises(JournalError, match="let go"):
        open_chunk(settings.data.dir / "journal", FIRST, zone=UTC)
    with open_days(settings) as offline:
        offline.catalogue.mark_pending(FIRST, "attack", lost=True)
        chunk = next(one for one in offline.reconcile() if one.day == FIRST)
        assert chunk.state == "degraded"
        assert "restore a snapshot" in str(chunk.indices["attack"].error)
        assert chunk.indices["attack"].next_retry_ns is None
        assert chunk.indices["semantic"].state == "committed"


def test_what_a_crash_left_of_a_retired_day_goes_at_the_next_start(settings: Settings) -> None:
    leftover = day_folder(settings, FIRST) / "000001.seg"
    events = leftover.read_bytes()
    apply(settings)
    leftover.write_bytes(events)
    assert faults(settings) == []
    with open_days(settings):
        pass
    assert [path.name for path in day_folder(settings, FIRST).iterdir()] == [RETIRED_NAME]


def test_repair_brings_over_the_facts_of_a_retired_day(settings: Settings) -> None:
    apply(settings)
    before = chunk_of(settings, FIRST)
    path = settings.data.dir / "catalogue.sqlite"
    damaged = path.read_bytes().replace(f"{DAYS[1]}-00004".encode(), b"2017-07-02-0000X")
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    assert faults(settings)
    answer = repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)
    assert answer["unrecoverable"] == []
    after = chunk_of(settings, FIRST)
    assert before is not None
    assert after is not None
    assert {n: s.rows for n, s in after.indices.items()} == {
        n: s.rows for n, s in before.indices.items()
    }
    assert after.state == "committed"
    assert faults(settings) == []


def test_rows_of_a_retired_day_that_are_lost_are_named_and_not_served(settings: Settings) -> None:
    apply(settings)
    (settings.data.dir / "catalogue.sqlite").unlink()
    answer = repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)
    lost = [entry["where"] for entry in answer["unrecoverable"]]
    assert lost == [f"index {name}, {FIRST}" for name in INDICES]
    for name in INDICES:
        with FaissStore.open(settings.data.dir / "index", name) as store:
            assert list(store.shards()) == DAYS[1:]
    chunk = chunk_of(settings, FIRST)
    assert chunk is not None
    assert (chunk.state, chunk.events) == ("degraded", 10)
    again = repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)
    assert (again["repaired"], again["unrecoverable"]) == ([], [])
    assert {fault["what"] for fault in again["faults"]} >= {"index behind"}


def test_a_damaged_mark_is_written_again(settings: Settings) -> None:
    apply(settings)
    flip(day_folder(settings, FIRST) / RETIRED_NAME, 30)
    assert faults(settings) == ["retired day"]
    answer = repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)
    assert [entry["what"] for entry in answer["repaired"]] == ["retired day"]
    assert faults(settings) == []
