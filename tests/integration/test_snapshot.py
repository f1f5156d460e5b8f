"""A snapshot taken at any moment is whole: restored, it verifies and holds what was acknowledged."""

from __future__ import annotations

import json
import threading
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from consumer.care.restore import restore_snapshot
from consumer.care.snapshot import MANIFEST, take_snapshot
from consumer.care.verify import verify_data
from consumer.clock import ManualClock
from consumer.errors import JournalLockedError, SnapshotError
from consumer.folding.requests import Requests
from consumer.journal import DataLock
from consumer.journal.durable import checked_json
from consumer.journal.lock import RESTORING_NAME
from consumer.retention.upkeep import Upkeep
from consumer.settings import Settings
from index.faiss_store import FaissStore
from tests.data_folder_kit import (
    INDICES,
    NOW,
    add_days,
    chunk_of,
    day_folder,
    event,
    flip,
    ids_in_journal,
    open_days,
    quarantine_of,
    settings_of,
)

FOURTH, FIFTH, SIXTH = (date(2017, 7, day) for day in (4, 5, 6))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two committed days, an open one, and something in quarantine."""
    settings = settings_of(tmp_path)
    add_days(settings, [FOURTH, FIFTH])
    with open_days(settings) as offline:
        offline.journal.append([event(SIXTH, number) for number in range(7)])
        offline.coordinator.tick()
    kept = quarantine_of(settings)
    kept.put("tampered", b"sealed", detector="d", arrival_ns=NOW, detail="", sealed=True)
    kept.close()
    return settings


def snap(settings: Settings, target: Path, **options: Any) -> dict[str, Any]:
    return take_snapshot(settings, target, clock=ManualClock(NOW), **options)


def restored(tmp_path: Path, snapshot: Path, name: str = "restored") -> Settings:
    settings = settings_of(tmp_path / name)
    settings.data.dir.parent.mkdir()
    restore_snapshot(settings, snapshot)
    return settings


def faults(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = verify_data(settings, deep=True)["faults"]
    return [fault for fault in found if not fault["what"].startswith("model")]


def state_of(settings: Settings, day: date) -> str | None:
    chunk = chunk_of(settings, day)
    return None if chunk is None else chunk.state


def files_of(snapshot: Path) -> list[str]:
    return [entry["name"] for entry in json.loads((snapshot / MANIFEST).read_text())["files"]]


def test_a_restored_folder_is_the_folder_that_it_was(settings: Settings, tmp_path: Path) -> None:
    answer = snap(settings, tmp_path / "snapshot")
    assert answer["settled"] is True
    back = restored(tmp_path, tmp_path / "snapshot")
    assert faults(back) == []
    for day in (FOURTH, FIFTH):
        assert chunk_of(back, day) == chunk_of(settings, day)
        assert ids_in_journal(back, day) == ids_in_journal(settings, day)
    assert quarantine_of(back).counts() == {"tampered": 1}
    with open_days(back) as offline:
        assert offline.journal.recovered == []
        assert offline.journal.counts(SIXTH).events == 7
        assert offline.close(SIXTH).state == "committed"
        assert offline.journal.append([event(FOURTH, 3)]).duplicates == 1


def test_what_only_saves_work_is_left_out(settings: Settings, tmp_path: Path) -> None:
    kept = settings.data.dir / "cache" / "sentences"
    kept.parent.mkdir()
    kept.write_bytes(b"digests")
    snap(settings, tmp_path / "snapshot")
    assert "cache/sentences" not in files_of(tmp_path / "snapshot")


def test_what_never_changes_is_linked_and_what_grows_is_copied(
    settings: Settings, tmp_path: Path
) -> None:
    answer = snap(settings, tmp_path / "snapshot")
    assert answer["linked"] > 0
    here, there = settings.data.dir, tmp_path / "snapshot"
    sealed = day_folder(settings, FOURTH).relative_to(here) / "000001.seg"
    growing = day_folder(settings, SIXTH).relative_to(here) / "000001.seg"
    assert (there / sealed).samefile(here / sealed)
    assert not (there / growing).samefile(here / growing)


def test_with_copies_alone_nothing_is_shared(settings: Settings, tmp_path: Path) -> None:
    assert snap(settings, tmp_path / "snapshot", links=False)["linked"] == 0
    for path in (tmp_path / "snapshot").rglob("*"):
        assert path.is_dir() or path.stat().st_nlink == 1
    assert faults(restored(tmp_path, tmp_path / "snapshot")) == []


def test_a_snapshot_stays_as_it_is_whatever_becomes_of_the_folder(
    settings: Settings, tmp_path: Path
) -> None:
    snap(settings, tmp_path / "snapshot")
    back = restored(tmp_path, tmp_path / "snapshot", "first")
    for one in (settings, back):
        with open_days(one) as offline:
            offline.journal.append([event(SIXTH, number) for number in range(20, 40)])
            offline.journal.append([event(FOURTH, 77)])
            offline.close(FOURTH)
            offline.close(SIXTH)
    again = restored(tmp_path, tmp_path / "snapshot", "second")
    assert faults(again) == []
    assert len(ids_in_journal(again, FOURTH)) == 20


def test_files_and_folders_are_private(settings: Settings, tmp_path: Path) -> None:
    snap(settings, tmp_path / "snapshot")
    back = restored(tmp_path, tmp_path / "snapshot")
    for root in (tmp_path / "snapshot", back.data.dir):
        for path in [root, *root.rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_one_altered_byte_in_any_file_is_refused_and_nothing_is_put_in_place(
    settings: Settings, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot"
    snap(settings, snapshot, links=False)
    empty = settings_of(tmp_path / "empty")
    for name in [*files_of(snapshot), MANIFEST]:
        path = snapshot / name
        good = path.read_bytes()
        flip(path, len(good) // 2)
        with pytest.raises(SnapshotError, match="damaged"):
            restore_snapshot(empty, snapshot)
        path.write_bytes(good)
        there = list(empty.data.dir.iterdir()) if empty.data.dir.exists() else []
        assert {path.name for path in there} <= {"dayfold.lock"}
    restore_snapshot(empty, snapshot)
    assert faults(empty) == []


def test_a_missing_file_is_named(settings: Settings, tmp_path: Path) -> None:
    snap(settings, tmp_path / "snapshot")
    (tmp_path / "snapshot" / "index" / "semantic" / "CURRENT").unlink()
    with pytest.raises(SnapshotError, match="index/semantic/CURRENT: No such file"):
        restored(tmp_path, tmp_path / "snapshot")


def test_a_list_that_names_files_elsewhere_is_refused(settings: Settings, tmp_path: Path) -> None:
    snap(settings, tmp_path / "snapshot")
    path = tmp_path / "snapshot" / MANIFEST
    for name in ("../outside", "/etc/passwd"):
        document = json.loads(path.read_text())
        del document["sha256"]
        document["files"].append({"name": name, "size": 0, "sha256": ""})
        path.write_bytes(checked_json(document))
        with pytest.raises(SnapshotError, match="no name inside a snapshot"):
            restored(tmp_path, tmp_path / "snapshot", name.replace("/", "-"))


def test_a_folder_in_use_is_not_restored_over(settings: Settings, tmp_path: Path) -> None:
    snap(settings, tmp_path / "snapshot")
    before = chunk_of(settings, FOURTH)
    with pytest.raises(SnapshotError, match="is not empty"):
        restore_snapshot(settings, tmp_path / "snapshot")
    assert chunk_of(settings, FOURTH) == before


def test_nobody_writes_a_folder_that_is_half_restored(settings: Settings) -> None:
    (settings.data.dir / RESTORING_NAME).mkdir()
    with pytest.raises(JournalLockedError, match="half restored"), DataLock(settings.data.dir):
        pass


def test_a_place_that_cannot_be_right_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"inside data.dir"):
        snap(settings, settings.data.dir / "snapshot")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SnapshotError, match="is not empty"):
        snap(settings, tmp_path / "full")
    (tmp_path / "other.partial").mkdir()
    with pytest.raises(SnapshotError, match="cut short or is being taken"):
        snap(settings, tmp_path / "other")


def test_the_record_that_is_being_written_is_left_out(settings: Settings, tmp_path: Path) -> None:
    path = day_folder(settings, SIXTH) / "000001.seg"
    with path.open("ab") as file:
        file.write(path.read_bytes()[24:60])
    [file_in_quarantine] = (settings.data.dir / "quarantine").rglob("*.messages")
    with file_in_quarantine.open("ab") as file:
        file.write(b"\x20\0\0\0half")
    snap(settings, tmp_path / "snapshot")
    back = restored(tmp_path, tmp_path / "snapshot")
    assert faults(back) == []
    with open_days(back) as offline:
        assert offline.journal.counts(SIXTH).events == 7


def test_a_snapshot_that_fails_leaves_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("consumer.care.snapshot._copy", fail)
    with pytest.raises(SnapshotError, match="No space left"):
        snap(settings, tmp_path / "snapshot")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


class Writer:
    """Feeds, closes, reopens, retires and forgets days as fast as it can, in its own thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0
        self.gone: set[date] = set()
        #: How many events of each day are durable; days that were let go are not in it.
        self.durable: dict[date, int] = {}
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with open_days(self._settings) as offline:
                kept = quarantine_of(self._settings)
                requests = Requests(self._settings.data.dir)
                while not self._stop.is_set():
                    if requests.held():
                        time.sleep(0.001)
                    else:
                        self._round(offline, kept)
                        journal = offline.journal
                        self.durable = {day: journal.counts(day).events for day in journal.days()}
                        self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error

    def _round(self, offline: Any, kept: Any) -> None:
        n = self.rounds
        day = FOURTH + timedelta(days=n // 2)
        offline.journal.append([event(day, n % 2 * 100 + number) for number in range(10)])
        kept.put("schema", b"x" * 100, detector="d", arrival_ns=NOW, detail="", sealed=True)
        offline.close(day)  # every second time as a new revision
        offline.journal.append([event(day + timedelta(days=1), number) for number in range(3)])
        if n % 6 == 5:
            self.gone.add(day - timedelta(days=1))
            offline.journal.retire(day - timedelta(days=1))
        if n % 8 == 7:
            gone = day - timedelta(days=2)
            self.gone.add(gone)
            offline.journal.forget(gone)
            for name in INDICES:
                with FaissStore.open(
                    self._settings.data.dir / "index",
                    name,
                    dimension=8,
                    model=_model(self._settings, name),
                    writable=True,
                ) as store:
                    store.drop(gone)
            offline.catalogue.erase_day(gone)
        offline.journal.sync()


def _model(settings: Settings, name: str) -> Any:
    with FaissStore.open(settings.data.dir / "index", name) as store:
        return store.model


def test_every_snapshot_of_a_folder_in_motion_is_whole(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.data.dir.mkdir(mode=0o700)
    with Writer(settings) as writer:
        while writer.rounds < 3 and writer.error is None:
            writer._thread.join(0.01)
        for number in range(8):
            began, acknowledged = writer.rounds, dict(writer.durable)
            answer = snap(settings, tmp_path / f"snapshot-{number}")
            assert answer["settled"] is True
            back = restored(tmp_path, tmp_path / f"snapshot-{number}", f"restored-{number}")
            assert faults(back) == []
            with open_days(back) as offline:
                days = {chunk.day: chunk.state for chunk in offline.reconcile()}
                counts = {day: offline.journal.counts(day).events for day in acknowledged}
            assert "degraded" not in days.values()
            for day in acknowledged.keys() - writer.gone:
                assert counts[day] >= acknowledged[day]
            while writer.rounds == began and writer.error is None:
                writer._thread.join(0.01)
    assert writer.error is None


def test_days_stay_as_they_are_while_a_snapshot_asks_for_it(settings: Settings) -> None:
    requests = Requests(settings.data.dir)
    with open_days(settings) as offline:
        requests.ask_to_hold()
        requests.ask_close(SIXTH)
        offline.coordinator.tick()
        assert state_of(settings, SIXTH) == "open"
        requests.release()
        offline.coordinator.tick()
        assert state_of(settings, SIXTH) == "committed"


def test_the_upkeep_of_a_service_applies_retention_once_an_hour(settings: Settings) -> None:
    clock = ManualClock(NOW)
    applied: list[int] = []

    class Counting:
        def apply(self, now_ns: int) -> list[date]:
            applied.append(now_ns)
            return []

    with open_days(settings) as offline:
        upkeep = Upkeep(
            offline.forgetting,
            Counting(),  # type: ignore[arg-type]
            offline.catalogue,
            clock,
            data_dir=settings.data.dir,
        )
        upkeep.step(None)
        for second in range(0, 7300, 100):
            upkeep.step(second)
            clock.advance(100)
    assert applied == [0, 3600, 7200]
