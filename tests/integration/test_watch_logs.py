"""Following logs: rotation, truncation and restarts, without losing or repeating a line."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.backfill.watch_logs import LogWatcher
from consumer.clock import SystemClock
from consumer.errors import JournalError, UsageError
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.backfill_kit import ServiceAtWork, Site
from tests.detector_layout import DetectorLayout, line_of, record_of

NOON = 1_499_169_600  # 2017-07-04 12:00 UTC
WAIT_S = 20.0


def event(number: int) -> NetworkSecurityEvent:
    made = NetworkSecurityEvent(event_id=f"e{number}")
    made.event_timestamp.seconds = NOON + number
    made.network_features.destination_port = number
    return made


def lines(*numbers: int) -> bytes:
    return b"".join(
        line_of(record_of(event(number), number, logged_s=NOON + number)) for number in numbers
    )


class Logs:
    """A folder of logs, and one watcher after the other on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "events"
        self.folder.mkdir()
        self.positions = folder / "state" / "positions.json"
        self.synced = 0
        self.taken: list[int] = []
        self.watcher: LogWatcher | None = None

    def append(self, content: bytes, name: str = "2017-07-04.jsonl") -> Path:
        path = self.folder / name
        with path.open("ab") as file:
            file.write(content)
        return path

    def _sync(self) -> None:
        self.synced += 1

    def open(self) -> LogWatcher:
        self.watcher = LogWatcher(
            self.folder.parent,
            self.positions,
            clock=SystemClock(),
            sync=self._sync,
            local=ZoneInfo("UTC"),
            save_s=0.0,
        )
        self.watcher.start()
        return self.watcher

    def read(self, limit: int = 100) -> list[int]:
        """Everything that is there now; the ports say which events it is."""
        watcher = self.watcher or self.open()
        found: list[int] = []
        while arrivals := watcher.take(limit, 0.0):
            for arrival in arrivals:
                made = NetworkSecurityEvent.FromString(arrival.message)
                found.append(made.network_features.destination_port)
        self.taken += found
        return found

    def close(self) -> None:
        """A stop that drains what was read ahead."""
        if self.watcher is not None:
            self.watcher.stop()
            self.read()
            self.watcher = None

    def die(self) -> None:
        """The process ends without a word."""
        if self.watcher is not None:
            self.watcher._close_files()
            self.watcher = None


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    made = Logs(tmp_path)
    yield made
    made.close()


def test_lines_come_as_they_are_added_and_only_whole(logs: Logs) -> None:
    assert logs.read() == []
    logs.append(lines(1, 2) + lines(3)[:50])
    assert logs.read() == [1, 2]
    logs.append(lines(3)[50:])
    assert logs.read() == [3]
    assert logs.read() == []


def test_a_new_day_begins_a_new_log_and_the_old_one_is_read_to_its_end(logs: Logs) -> None:
    logs.append(lines(1))
    assert logs.read() == [1]
    logs.append(lines(2))
    logs.append(lines(3), "2017-07-05.jsonl")
    logs.append(lines(4), "2017-07-06.jsonl")
    assert logs.read() == [2, 3, 4]
    logs.append(lines(5))
    assert logs.read() == [5]


@pytest.mark.parametrize("name", ["2017-07-04.jsonl.1", "2017-07-04.jsonl-20170705", "old.log"])
def test_a_renamed_log_is_followed_under_its_new_name(logs: Logs, name: str) -> None:
    path = logs.append(lines(1))
    assert logs.read() == [1]
    logs.append(lines(2))
    path.rename(path.with_name(name))
    logs.append(lines(3), name)
    logs.append(lines(4))
    assert logs.read() == [2, 3, 4]
    assert logs.read() == []


@pytest.mark.parametrize("name", ["2017-07-04.jsonl.1", "old.log"])
def test_a_log_that_is_renamed_while_nobody_looks_is_followed(logs: Logs, name: str) -> None:
    path = logs.append(lines(1))
    assert logs.read() == [1]
    logs.close()
    logs.append(lines(2))
    path.rename(path.with_name(name))
    logs.append(lines(3))
    assert logs.read() == [2, 3]


def test_a_removed_log_is_read_to_its_end(logs: Logs) -> None:
    path = logs.append(lines(1))
    assert logs.read() == [1]
    with path.open("ab") as writer:
        path.unlink()
        writer.write(lines(2))
        writer.flush()
        assert logs.read() == [2]
        writer.write(lines(3))
    assert logs.read() == [3]


def test_a_truncated_log_is_read_from_its_beginning(logs: Logs) -> None:
    path = logs.append(lines(1, 2, 3))
    assert logs.read() == [1, 2, 3]
    os.truncate(path, 0)
    logs.append(lines(4))
    assert logs.read() == [4]


def test_a_log_that_was_truncated_and_has_outgrown_its_old_size_is_read_from_its_beginning(
    logs: Logs,
) -> None:
    path = logs.append(lines(1, 2))
    assert logs.read() == [1, 2]
    os.truncate(path, 0)
    logs.append(lines(3, 4, 5, 6))
    assert logs.read() == [3, 4, 5, 6]


def test_what_a_truncation_takes_away_comes_from_the_copy_that_was_made_first(logs: Logs) -> None:
    path = logs.append(lines(1))
    assert logs.read() == [1]
    logs.append(lines(2))
    shutil.copy(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    logs.append(lines(3))
    # The journal knows the first one again by its identity.
    assert sorted(logs.read()) == [1, 2, 3]


@pytest.mark.parametrize("ends", ["close", "die"])
def test_a_restart_goes_on_behind_the_last_line(logs: Logs, ends: str) -> None:
    logs.append(lines(1, 2))
    assert logs.read() == [1, 2]
    getattr(logs, ends)()
    logs.append(lines(3) + lines(4)[:60])
    logs.append(lines(6), "2017-07-05.jsonl")
    assert logs.read() == [3, 6]
    getattr(logs, ends)()
    logs.append(lines(4)[60:] + lines(5))
    assert logs.read() == [4, 5]


def test_a_restart_after_a_truncation_reads_from_the_beginning(logs: Logs) -> None:
    path = logs.append(lines(1, 2))
    assert logs.read() == [1, 2]
    logs.close()
    path.write_bytes(lines(3, 4, 5))
    assert logs.read() == [3, 4, 5]


def test_another_file_with_the_inode_of_an_old_one_is_read_from_its_beginning(logs: Logs) -> None:
    path = logs.append(lines(1, 2))
    assert logs.read() == [1, 2]
    logs.close()
    path.unlink()
    for number in range(50):
        logs.append(lines(100 + number), f"2017-08-{number:03d}.jsonl")
    assert sorted(logs.read()) == list(range(100, 150))


def test_a_position_is_written_only_for_what_was_taken_and_made_durable(logs: Logs) -> None:
    logs.append(lines(1, 2, 3))
    watcher = logs.open()
    assert len(watcher.take(2, 0.0)) == 2
    assert logs.synced == 0
    assert not logs.positions.exists()
    assert len(watcher.take(2, 0.0)) == 1
    assert logs.synced == 1
    logs.die()
    assert logs.read() == [3]


def test_what_cannot_be_made_durable_is_read_again(logs: Logs) -> None:
    logs.append(lines(1))
    watcher = logs.open()

    def fail() -> None:
        raise JournalError("disk gone")

    watcher._sync = fail
    assert len(watcher.take(10, 0.0)) == 1
    with pytest.raises(JournalError):
        watcher.take(10, 0.0)
    logs.die()
    assert logs.read() == [1]


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 30])
def test_damaged_positions_mean_that_logs_are_read_again(logs: Logs, damage: bytes) -> None:
    logs.append(lines(1, 2))
    assert logs.read() == [1, 2]
    logs.close()
    logs.positions.write_bytes(damage)
    assert logs.read() == [1, 2]


def test_bad_lines_are_counted_and_spoil_nothing(logs: Logs) -> None:
    logs.append(lines(1) + b"\n" + lines(2)[:100] + lines(3) + b"12\n" + lines(4))
    assert logs.read() == [1, 3, 4]
    assert logs.watcher is not None
    assert logs.watcher.counts.rejected == {"corrupt": 1, "not_a_record": 1}
    assert logs.watcher.counts.lines == 5


def test_many_logs_need_few_open_files(logs: Logs) -> None:
    for number in range(200):
        logs.append(lines(number), f"2017-{number:03d}.jsonl")
    assert logs.read() == list(range(200))
    assert logs.watcher is not None
    logs.watcher.take(1, 0.0)
    assert len(logs.watcher._open) <= 16
    logs.append(lines(500), "2017-003.jsonl")
    assert logs.read() == [500]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    with pytest.raises(UsageError, match="no such folder"):
        site.run("watch-logs", tmp_path / "nowhere", "--once")


def test_once_reads_what_is_there_and_ends(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    made = DetectorLayout(tmp_path / "detector")
    made.write(map(event, range(1, 2000)))
    first = site.run("watch-logs", made.root, "--once")
    assert (first["read"], first["added"], first["duplicates"]) == (1999, 1999, 0)
    made.write(map(event, range(2000, 2010)))
    second = site.run("watch-logs", made.root, "--once")
    assert (second["read"], second["added"]) == (10, 10)
    assert site.run("import", made.root)["added"] == 0
    assert site.counts() == {date(2017, 7, 4): 2009}


def test_a_running_service_takes_what_is_followed(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    made = DetectorLayout(tmp_path / "detector")
    made.write(map(event, range(1, 100)))
    with ServiceAtWork(site) as service:
        answer = site.run("watch-logs", made.root, "--once")
        assert service.journal.durable_events == 99
    assert (answer["added"], answer["duplicates"]) == (99, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_that_ends_in_any_way_neither_loses_nor_repeats_a_line(
    tmp_path: Path, number: signal.Signals
) -> None:
    site = Site(tmp_path / "site")
    made = DetectorLayout(tmp_path / "detector")
    made.write([event(0)])
    written = 1
    for _ in range(2):
        watching = site.start("watch-logs", made.root)
        try:
            end = time.monotonic() + WAIT_S
            goal = written
            while sum(site.counts().values()) <= goal:
                made.write(map(event, range(written, written + 100)))
                written += 100
                time.sleep(0.1)
                assert watching.poll() is None, watching.communicate()
                assert time.monotonic() < end, "the watch takes nothing"
            watching.send_signal(number)
            watching.communicate(timeout=WAIT_S)
        finally:
            watching.kill()
            watching.communicate()
        assert watching.returncode in (0, -signal.SIGKILL)
    site.run("watch-logs", made.root, "--once")
    assert site.counts() == {date(2017, 7, 4): written}
    assert set(site.identities().values()) == {1}


def test_days_are_closed_while_logs_are_followed_without_a_service(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    made = DetectorLayout(tmp_path / "detector")
    made.write(map(event, range(10)))
    watching = site.start("watch-logs", made.root)
    try:
        end = time.monotonic() + WAIT_S
        while not list(site.data.glob("journal/2017-07-04/seal-*.json")):
            assert watching.poll() is None, watching.communicate()
            assert time.monotonic() < end, "the day is not closed"
            time.sleep(0.05)
    finally:
        watching.terminate()
        watching.communicate(timeout=WAIT_S)
    assert site.counts() == {date(2017, 7, 4): 10}
