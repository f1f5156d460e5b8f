"""`dayfold repair` after every kind of damage: what can be is rebuilt, what cannot is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from consumer.care.repair import repair_data
from consumer.care.verify import verify_data
from consumer.clock import ManualClock
from consumer.errors import JournalLockedError
from consumer.journal import DataLock
from consumer.settings import Settings
from index.faiss_store import FaissStore
from index.store import ModelIdentity
from tests.data_folder_kit import (
    DIMENSION,
    INDICES,
    MODEL,
    NOW,
    EventRows,
    add_days,
    chunk_of,
    day_folder,
    event,
    flip,
    given_model,
    ids_in_journal,
    open_days,
    quarantine_of,
    settings_of,
)

FOURTH, FIFTH = date(2017, 7, 4), date(2017, 7, 5)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two committed days of 20 events."""
    settings = settings_of(tmp_path)
    add_days(settings, [FOURTH, FIFTH])
    return settings


def repair(settings: Settings) -> dict[str, Any]:
    return repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)


def faults(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = verify_data(settings, deep=True)["faults"]
    # Models are not what is tested here.
    return [fault for fault in found if not fault["what"].startswith("model")]


def assert_whole(settings: Settings, day: date, revision: int, events: int) -> None:
    chunk = chunk_of(settings, day)
    assert chunk is not None
    assert (chunk.state, chunk.revision, chunk.events) == ("committed", revision, events)
    for name in INDICES:
        assert chunk.indices[name].rows == events + 1
        with FaissStore.open(settings.data.dir / "index", chunk.indices[name].edition) as store:
            assert store.shards()[day].revision == revision
            assert store.shards()[day].rows == events + 1


def assert_repaired_once(settings: Settings) -> None:
    again = repair(settings)
    assert (again["repaired"], again["unrecoverable"]) == ([], [])
    assert faults(settings) == []


def segment(settings: Settings, day: date = FOURTH) -> Path:
    return day_folder(settings, day) / "000001.seg"


def test_a_whole_folder_is_left_as_it_is(settings: Settings) -> None:
    before = {path: path.stat().st_mtime_ns for path in _files(settings)}
    answer = repair(settings)
    assert (answer["repaired"], answer["unrecoverable"]) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def _files(settings: Settings) -> list[Path]:
    parts = [settings.data.dir / "journal", settings.data.dir / "index"]
    names = {"CURRENT"}
    return [
        path
        for part in parts
        for path in part.rglob("*")
        if path.suffix in {".seg", ".faiss", ".json"} or path.name in names
    ]


def test_a_lost_event_is_named_and_the_day_is_sealed_anew(settings: Settings) -> None:
    flip(segment(settings), 24 + 8 + 40)  # in the payload of the first record
    assert {"record", "segment checksum"} <= {fault["what"] for fault in faults(settings)}
    answer = repair(settings)
    [lost] = answer["unrecoverable"]
    assert (lost["what"], lost["day"], lost["events"]) == ("events", "2017-07-04", 1)
    assert lost["where"] == "2017-07-04/000001.seg@24"
    assert lost["ranges"][0][0] == 24
    assert lost["bytes"] == lost["ranges"][0][1] - 24
    assert len(lost["named"]) == 1
    assert (day_folder(settings, FOURTH) / lost["kept"]).exists()
    assert answer["ok"] is False
    assert_whole(settings, FOURTH, revision=2, events=19)
    assert_whole(settings, FIFTH, revision=1, events=20)
    assert f"{FOURTH}-00000" not in ids_in_journal(settings, FOURTH)
    assert_repaired_once(settings)


def test_an_event_whose_checksum_alone_is_hurt_is_named_by_its_id(settings: Settings) -> None:
    flip(segment(settings), 24 + 4)  # in the checksum of the first record
    [lost] = repair(settings)["unrecoverable"]
    assert lost["named"][0]["event_id"] == f"{FOURTH}-00000"
    assert lost["named"][0]["node"] == "node-01"
    assert lost["named"][0]["time_ns"] == event(FOURTH, 0).time_ns
    listed = (day_folder(settings, FOURTH) / lost["list"]).read_text().splitlines()
    assert [json.loads(line)["event_id"] for line in listed] == [f"{FOURTH}-00000"]


def test_every_event_of_a_cut_segment_is_named(settings: Settings) -> None:
    path = segment(settings)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    [lost] = repair(settings)["unrecoverable"]
    kept = len(ids_in_journal(settings, FOURTH))
    assert lost["events"] == 20 - kept
    assert lost["after_ns"] == event(FOURTH, kept - 1).time_ns
    digests = {event(FOURTH, number).digest.hex() for number in range(kept, 20)}
    assert {one["digest"] for one in lost["named"]} == digests
    assert_whole(settings, FOURTH, revision=2, events=kept)
    assert_repaired_once(settings)


def test_a_day_without_any_event_left_keeps_its_rows(settings: Settings) -> None:
    segment(settings).unlink()
    answer = repair(settings)
    assert [lost["what"] for lost in answer["unrecoverable"]] == ["events", "journal"]
    assert answer["unrecoverable"][0]["events"] == 20
    assert_whole(settings, FOURTH, revision=1, events=20)
    assert_repaired_once(settings)


def test_a_day_whose_folder_is_gone_keeps_its_rows(settings: Settings) -> None:
    for path in day_folder(settings, FOURTH).iterdir():
        path.unlink()
    day_folder(settings, FOURTH).rmdir()
    assert [fault["what"] for fault in faults(settings)] == ["journal missing"]
    [lost] = repair(settings)["unrecoverable"]
    assert (lost["what"], lost["events"]) == ("journal", 20)
    assert_whole(settings, FOURTH, revision=1, events=20)
    assert_repaired_once(settings)


def spoil_seal(settings: Settings) -> None:
    flip(day_folder(settings, FOURTH) / "seal-000001.json", 40)


def lose_seal(settings: Settings) -> None:
    (day_folder(settings, FOURTH) / "seal-000001.json").unlink()


@pytest.mark.parametrize(("damage", "revision"), [(spoil_seal, 2), (lose_seal, 1)])
def test_a_day_without_a_good_seal_is_sealed_again(
    settings: Settings, damage: Callable[[Settings], None], revision: int
) -> None:
    damage(settings)
    assert faults(settings)
    answer = repair(settings)
    assert answer["unrecoverable"] == []
    assert_whole(settings, FOURTH, revision=revision, events=20)
    assert_repaired_once(settings)


def spoil_sidecar(settings: Settings) -> None:
    flip(segment(settings).with_suffix(".ids"), 150)


def spoil_shard(settings: Settings) -> None:
    flip(next((settings.data.dir / "index" / "semantic" / "shards").glob("2017-07-04*")), 300)


def lose_shard(settings: Settings) -> None:
    next((settings.data.dir / "index" / "attack" / "shards").glob("2017-07-04*")).unlink()


def spoil_current(settings: Settings) -> None:
    flip(settings.data.dir / "index" / "timeseries" / "CURRENT", 5)


def spoil_manifest(settings: Settings) -> None:
    newest = max((settings.data.dir / "index" / "timeseries").glob("manifest-*.json"))
    flip(newest, 100)


def spoil_catalogue(settings: Settings) -> None:
    path = settings.data.dir / "catalogue.sqlite"
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 512):
        data[at] ^= 0xFF
    path.write_bytes(data)


def lose_catalogue(settings: Settings) -> None:
    (settings.data.dir / "catalogue.sqlite").unlink()


def spoil_zone(settings: Settings) -> None:
    (settings.data.dir / "journal" / "timezone").write_text("Mars/Olympus\n")


@pytest.mark.parametrize(
    "damage",
    [
        spoil_sidecar,
        spoil_shard,
        lose_shard,
        spoil_current,
        spoil_manifest,
        spoil_catalogue,
        lose_catalogue,
        spoil_zone,
    ],
)
def test_what_the_journal_can_bring_back_is_brought_back(
    settings: Settings, damage: Callable[[Settings], None]
) -> None:
    damage(settings)
    assert faults(settings)
    answer = repair(settings)
    assert answer["repaired"]
    assert answer["unrecoverable"] == []
    for day in (FOURTH, FIFTH):
        assert_whole(settings, day, revision=1, events=20)
    assert_repaired_once(settings)


def test_an_open_day_stays_open(settings: Settings) -> None:
    with open_days(settings) as offline:
        offline.journal.append([event(date(2017, 7, 6), n) for n in range(5)])
        offline.journal.append([event(FIFTH, 30)])
        offline.coordinator.tick()
    lose_catalogue(settings)
    repair(settings)
    fifth, sixth = chunk_of(settings, FIFTH), chunk_of(settings, date(2017, 7, 6))
    assert fifth is not None
    assert fifth.revision == 1
    assert sixth is not None
    assert (sixth.state, sixth.events) == ("open", 5)


def test_damaged_quarantined_messages_are_named_and_the_others_kept(settings: Settings) -> None:
    kept = quarantine_of(settings)
    for number in range(5):
        kept.put(
            "tampered", b"x" * 50, detector="d", arrival_ns=NOW + number, detail="", sealed=True
        )
    kept.close()
    [file] = (settings.data.dir / "quarantine" / "tampered").glob("*.messages")
    flip(file, 12 + 8 + 30)
    assert [fault["what"] for fault in faults(settings)] == ["quarantine"]
    [lost] = repair(settings)["unrecoverable"]
    assert (lost["what"], lost["where"]) == ("quarantine", f"{file}@12")
    assert quarantine_of(settings).counts() == {"tampered": 4}
    assert_repaired_once(settings)


def test_repair_refuses_while_the_folder_is_in_use(settings: Settings) -> None:
    with DataLock(settings.data.dir), pytest.raises(JournalLockedError, match="in use by process"):
        repair(settings)


OTHER = ModelIdentity("other", "1" * 64)


def repair_with_other_model(settings: Settings) -> dict[str, Any]:
    return repair_data(
        settings,
        clock=ManualClock(NOW),
        executor=EventRows(OTHER),
        models=lambda _: (DIMENSION, OTHER),
    )


def test_every_day_is_embedded_again_with_the_model_of_a_new_version(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, models={})
    add_days(settings, [FOURTH, FIFTH])
    answer = repair_with_other_model(settings)
    assert answer["unrecoverable"] == []
    for day in (FOURTH, FIFTH):
        assert_whole(settings, day, revision=1, events=20)
        chunk = chunk_of(settings, day)
        assert chunk is not None
        assert {state.model for state in chunk.indices.values()} == {OTHER.sha256}
    assert repair_with_other_model(settings)["repaired"] == []


def test_rows_that_cannot_be_made_again_stay_with_the_model_that_made_them(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, models={})
    add_days(settings, [FOURTH, FIFTH])
    with open_days(settings) as offline:
        offline.journal.retire(FOURTH)
    answer = repair_with_other_model(settings)
    assert answer["unrecoverable"] == []
    for day, model in ((FOURTH, MODEL), (FIFTH, OTHER)):
        chunk = chunk_of(settings, day)
        assert chunk is not None
        for name in INDICES:
            state = chunk.indices[name]
            assert (state.state, state.rows, state.model) == ("committed", 21, model.sha256)
            with FaissStore.open(settings.data.dir / "index", state.edition) as store:
                assert (store.model, list(store.shards())) == (model, [day])
    assert repair_with_other_model(settings)["repaired"] == []
