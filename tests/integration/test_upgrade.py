"""A data folder that an earlier version left is opened, verified, searched and gone on with."""

from __future__ import annotations

import json
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
from index.catalogue import Catalogue
from index.migrations import MIGRATIONS, migrate, schema_version
from tests.data_folder_kit import (
    INDICES,
    NOW,
    add_days,
    chunk_of,
    event,
    ids_in_journal,
    open_days,
    quarantine_of,
    settings_of,
)
from tests.faults.steps import kind_of

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


def test_conditions_find_the_same_before_and_after_it_is_opened_for_writing(
    settings: Settings,
) -> None:
    path = settings.data.dir / "catalogue.sqlite"

    def found(catalogue: Catalogue) -> list[list[int]]:
        conditions = (("destination_port", "21"), ("source_ip", "172.16.0.1"), ("flagged", "true"))
        return [catalogue.rows_where("semantic", *condition).tolist() for condition in conditions]

    with Catalogue.open(path, read_only=True) as catalogue:
        before = found(catalogue)
    assert all(before)
    with Catalogue.open(path) as catalogue:
        assert found(catalogue) == before
        catalogue.make_terms("semantic")
        assert found(catalogue) == before


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
        migrate(old, "old", MIGRATIONS[:version])
        assert schema_version(old) == version
        migrate(old, "old")
        migrate(new, "new")
        assert schema_version(old) == schema_version(new) == len(MIGRATIONS)
        assert schema(old) == schema(new)
    finally:
        old.close()
        new.close()


def mark(path: Path) -> str:
    """What a file says of its own format: magic and version, or the keys of its JSON."""
    if path.suffix == ".sqlite":
        connection = sqlite3.connect(path)
        version = schema_version(connection)
        connection.close()
        return f"schema {version}"
    head = path.read_bytes()
    if path.suffix == ".json" or path.name == "CURRENT":
        document = json.loads(head)
        return f"{document.get('format')} {sorted(document)}"
    # Segment: magic, u16. Sidecar and quarantine: magic, u32. FAISS: the name of its type.
    length = {".seg": 10, ".ids": 12, ".messages": 12, ".faiss": 4}.get(path.suffix, 0)
    return head[:length].hex()


def formats(data: Path) -> set[tuple[str, str]]:
    """Every kind of file in a data folder with the mark of its format."""
    return {
        (kind_of(str(path.relative_to(data))), mark(path))
        for path in data.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", "-wal", "-shm"))
    }


def test_every_format_that_this_version_writes_is_in_a_fixture(tmp_path: Path) -> None:
    """A format moves only together with a fixture of it, which every later version has to open.

    Make it with `python -m tests.make_data_folder tests/fixtures/data_folder_vN.tar.xz`; those that
    are there stay as they are.
    """
    kept: set[tuple[str, str]] = set()
    for number, fixture in enumerate(sorted(FIXTURES.glob("data_folder_v*.tar.xz"))):
        with tarfile.open(fixture) as archive:
            archive.extractall(tmp_path / str(number), filter="data")
        kept |= formats(tmp_path / str(number) / "data")
    now = settings_of(tmp_path / "now")
    now.data.dir.mkdir(parents=True, mode=0o700)
    add_days(now, [FOURTH])
    with open_days(now) as offline:
        offline.journal.append([event(FOURTH, number) for number in range(50, 55)])
        offline.close(FOURTH)
        offline.journal.append([event(OPEN_DAY, 1)])
        offline.coordinator.tick()
    quarantine = quarantine_of(now)
    for reason in ("tampered", "unknown_key"):
        quarantine.put(reason, b"x", detector="d", arrival_ns=NOW, detail="", sealed=True)
    quarantine.close()
    written = formats(now.data.dir)
    assert len(written) > 10
    assert written - kept == set()
    schemas = {text for kind, text in kept if kind == "catalogue.sqlite"}
    assert schemas >= {f"schema {step.version}" for step in MIGRATIONS}
