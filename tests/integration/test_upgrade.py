"""A data folder that an earlier version left is opened, verified, searched and gone on with."""

from __future__ import annotations

import sqlite3
import tarfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from consumer.care.offline import OfflineDays
from consumer.care.repair import repair_data
from consumer.care.verify import verify_data
from consumer.clock import ManualClock
from consumer.questions.recall import Recall
from consumer.settings import Settings
from index.migrations import MIGRATIONS, migrate, schema_version
from tests.data_folder_kit import (
    INDICES,
    NOW,
    chunk_of,
    event,
    ids_in_journal,
    quarantine_of,
    settings_of,
)

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FOURTH, FIFTH, OPEN_DAY = date(2017, 7, 4), date(2017, 7, 5), date(2017, 7, 6)
EVENTS = 24


@pytest.fixture(params=sorted(FIXTURES.glob("data_folder_v*.tar.xz")), ids=lambda path: path.name)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return settings_of(tmp_path, models={})


def faults(settings: Settings) -> list[dict[str, Any]]:
    """What is wrong, but for rows of models that this version does not have any more."""
    found: list[dict[str, Any]] = verify_data(settings, deep=True)["faults"]
    return [fault for fault in found if fault["what"] != "model of index"]


def test_it_verifies(settings: Settings) -> None:
    assert faults(settings) == []


def test_its_days_are_what_they_were(settings: Settings) -> None:
    fourth, fifth, sixth = (chunk_of(settings, day) for day in (FOURTH, FIFTH, OPEN_DAY))
    assert fourth is not None
    assert fifth is not None
    assert sixth is not None
    assert (fourth.state, fourth.revision, fourth.events, fourth.late) == (
        "committed",
        2,
        EVENTS,
        4,
    )
    assert (fifth.state, fifth.revision, fifth.events) == ("committed", 1, EVENTS)
    assert (sixth.state, sixth.events) == ("open", 5)
    for day in (FOURTH, FIFTH):
        assert len(set(ids_in_journal(settings, day))) == EVENTS
    assert quarantine_of(settings).counts() == {"tampered": 1, "unknown_key": 1}


def test_it_is_searched_if_need_be_after_a_repair(settings: Settings) -> None:
    if any(f["what"] == "model of index" for f in verify_data(settings, deep=False)["faults"]):
        answer = repair_data(settings, clock=ManualClock(NOW))
        assert answer["faults"] == []
        assert answer["unrecoverable"] == []
    with Recall.open(settings) as recall:
        found = recall.search("ftp password guessing", k=5)["results"]
        assert {result["day"] for result in found} <= {str(FOURTH), str(FIFTH)}
        assert len(found) == 5
        similar = recall.similar(FOURTH, k=3)["results"]
        assert [result["day"] for result in similar] == [str(FIFTH)]
        assert set(similar[0]["by_index"]) == set(INDICES)


def test_it_is_gone_on_with(settings: Settings) -> None:
    known = ids_in_journal(settings, FIFTH)
    with OfflineDays(settings) as offline:
        assert offline.journal.recovered == []
        assert offline.journal.append([event(FIFTH, 1)]).added == 1
        assert offline.journal.seal(FIFTH).revision == 2
    assert ids_in_journal(settings, FIFTH) == [*known, f"{FIFTH}-00001"]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_catalogue_of_every_earlier_version_becomes_the_same_as_a_new_one(version: int) -> None:
    def schema(connection: sqlite3.Connection) -> set[tuple[str, str]]:
        return set(connection.execute("SELECT name, sql FROM sqlite_master"))

    old, new = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    try:
        migrate(old, "old", lambda: NOW, MIGRATIONS[:version])
        assert schema_version(old) == version
        migrate(old, "old", lambda: NOW)
        migrate(new, "new", lambda: NOW)
        assert schema_version(old) == schema_version(new) == len(MIGRATIONS)
        assert schema(old) == schema(new)
    finally:
        old.close()
        new.close()
