"""A day that is to be forgotten is gone everywhere, whenever the machine stops in between."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from consumer.care.verify import verify_data
from consumer.errors import ForgetError
from consumer.journal import Journal
from consumer.retention.forget import Forgetting, ask_to_forget, read_tombstone
from consumer.settings import Settings
from index import forget as index_forget
from index.catalogue import Catalogue
from index.errors import StoreWriteError
from index.faiss_store import FaissStore
from tests.data_folder_kit import (
    INDICES,
    NOW,
    add_days,
    chunk_of,
    day_folder,
    day_start,
    event,
    flip,
    open_days,
    quarantine_of,
    settings_of,
)

FOURTH, FIFTH = date(2017, 7, 4), date(2017, 7, 5)


class CutError(Exception):
    """Stands for the machine that stops here."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path)
    add_days(settings, [FOURTH, FIFTH], events=10)
    kept = quarantine_of(settings)
    for day in (FOURTH, FIFTH):
        for number in range(3):
            arrival_ns = (day_start(day) + number) * 1_000_000_000
            kept.put(
                "tampered", b"sealed", detector="d", arrival_ns=arrival_ns, detail="", sealed=True
            )
    kept.close()
    return settings


def forget(settings: Settings, day: date = FOURTH) -> None:
    ask_to_forget(settings.data.dir, day, NOW)
    with open_days(settings):
        pass


def traces(settings: Settings, day: date = FOURTH) -> list[str]:
    """Files that still have an event of the day, or its name, except the record of forgetting."""
    found = []
    for path in settings.data.dir.rglob("*"):
        if path.is_file() and path.parent.name != "forgotten":
            inside = f"{day}-0000".encode() in path.read_bytes()
            if inside or day.isoformat() in str(path.relative_to(settings.data.dir)):
                found.append(str(path.relative_to(settings.data.dir)))
    return found


def assert_forgotten(settings: Settings) -> None:
    assert traces(settings) == []
    assert chunk_of(settings, FOURTH) is None
    for name in INDICES:
        with FaissStore.open(settings.data.dir / "index", name) as store:
            assert list(store.shards()) == [FIFTH]
    assert quarantine_of(settings).counts() == {"tampered": 3}
    done = read_tombstone(settings.data.dir, FOURTH)
    assert done is not None
    assert done.finished_ns is not None
    assert done.removed is not None
    assert (done.removed.events, done.removed.rows) == (10, dict.fromkeys(INDICES, 11))
    found = verify_data(settings, deep=True)["faults"]
    assert [fault for fault in found if not fault["what"].startswith("model")] == []


def test_a_forgotten_day_leaves_no_trace(settings: Settings) -> None:
    assert traces(settings)
    forget(settings)
    assert_forgotten(settings)
    fifth = chunk_of(settings, FIFTH)
    assert fifth is not None
    assert fifth.state == "committed"


def test_the_account_says_what_was_removed(settings: Settings) -> None:
    forget(settings)
    done = read_tombstone(settings.data.dir, FOURTH)
    assert done is not None
    assert done.removed is not None
    assert done.removed.quarantined == 3
    assert done.removed.bytes > 0


def test_damaged_catalogues_that_were_set_aside_go_too(settings: Settings) -> None:
    aside = settings.data.dir / "catalogue.sqlite.damaged-1"
    aside.write_bytes((settings.data.dir / "catalogue.sqlite").read_bytes())
    forget(settings)
    assert not aside.exists()
    assert_forgotten(settings)


def test_what_earlier_days_left_of_their_sentences_goes_too(settings: Settings) -> None:
    kept = settings.data.dir / "cache" / "sentences"
    kept.parent.mkdir()
    kept.write_bytes(b"digests")
    forget(settings)
    assert not kept.exists()


CUTS = [
    (Journal, "forget"),
    (index_forget, "write_manifest"),
    (index_forget, "remove_leftovers"),
    (Catalogue, "erase_day"),
    (Forgetting, "_forget_quarantined"),
]


@pytest.mark.parametrize(("place", "name"), CUTS, ids=[name for _, name in CUTS])
def test_a_day_that_is_half_forgotten_is_forgotten_at_the_next_start(
    settings: Settings, place: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(place, name, stop)
        with pytest.raises(CutError):
            forget(settings)
    found = verify_data(settings, deep=False)["faults"]
    assert "tombstone" in {fault["what"] for fault in found}
    with open_days(settings):
        pass
    assert_forgotten(settings)


def test_an_index_that_cannot_be_written_is_told_and_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreWriteError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(index_forget, "write_manifest", full)
        ask_to_forget(settings.data.dir, FOURTH, NOW)
        with open_days(settings) as offline:
            [tombstone] = offline.forgetting.unfinished()
            assert tombstone.error is not None
            with pytest.raises(ForgetError, match="the disk is full"):
                offline.forgetting.finish(tombstone)
    with open_days(settings):
        pass
    assert_forgotten(settings)


def test_what_arrives_later_begins_the_day_anew(settings: Settings) -> None:
    forget(settings)
    with open_days(settings) as offline:
        assert offline.journal.append([event(FOURTH, 3)]).added == 1
        chunk = offline.close(FOURTH)
        assert (chunk.revision, chunk.events, chunk.state) == (1, 1, "committed")


def test_events_that_arrive_while_their_day_is_forgotten_are_lost_or_kept_whole(
    settings: Settings,
) -> None:
    sixth = FIFTH + timedelta(days=1)
    with open_days(settings) as offline:
        for number in range(50):
            offline.journal.append([event(sixth, number)])
            if number % 10 == 0:
                offline.journal.forget(sixth)
        offline.journal.sync()
        assert offline.journal.counts(sixth).events == 9
        chunk = offline.close(sixth)
        assert (chunk.events, chunk.indices["attack"].rows) == (9, 10)


def test_a_day_that_nobody_knows_is_forgotten_without_complaint(settings: Settings) -> None:
    forget(settings, FIFTH + timedelta(days=9))
    done = read_tombstone(settings.data.dir, FIFTH + timedelta(days=9))
    assert done is not None
    assert done.removed is not None
    assert done.removed.events == 0


def test_a_damaged_tombstone_is_found(settings: Settings) -> None:
    forget(settings)
    flip(settings.data.dir / "forgotten" / "2017-07-04.json", 30)
    found = verify_data(settings, deep=False)["faults"]
    assert "tombstone" in {fault["what"] for fault in found}
    with pytest.raises(ForgetError, match="ask again"):
        read_tombstone(settings.data.dir, FOURTH)
    forget(settings)
    done = read_tombstone(settings.data.dir, FOURTH)
    assert done is not None
    assert done.finished_ns is not None


def test_nothing_of_the_day_is_left_in_its_folder(settings: Settings) -> None:
    forget(settings)
    assert not day_folder(settings, FOURTH).exists()
