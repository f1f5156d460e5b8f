"""A full disk loses nothing that was there, and passes; a failed sync stops the journal for good."""

import errno
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumer.errors import JournalError, JournalWriteError
from consumer.journal import commit as commit_module
from consumer.journal import seal as seal_module
from consumer.journal import verify_day
from tests.journal_kit import (
    DAY,
    NEXT_DAY,
    assert_once,
    event,
    events,
    kill,
    make_journal,
    running,
    sealed_numbers,
    segments,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


class Disk:
    """Writes as the kernel does, until its room is used up."""

    def __init__(self) -> None:
        self.room = 10**9
        self.error = errno.ENOSPC

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if not self.room:
            raise OSError(self.error, os.strerror(self.error))
        written = os.write(fd, data[: self.room])
        self.room -= written
        return written


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`: the kernel itself cuts writes short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("room", [0, 1, 50, 100, 800])
def test_a_batch_that_does_not_fit_leaves_no_trace(root: Path, room: int) -> None:
    disk = Disk()
    with running(root, write=disk.write) as journal:
        journal.append(events(range(5)))
        before = segments(root)[0].read_bytes()
        disk.room = room
        with pytest.raises(JournalWriteError, match="Make room"):
            journal.append(events(range(5, 20)))
        assert segments(root)[0].read_bytes() == before
        assert journal.failed is None
        assert journal.appended_events == 5


def test_the_same_batch_goes_in_once_there_is_room(root: Path) -> None:
    disk = Disk()
    with running(root, write=disk.write) as journal:
        journal.append(events(range(5)))
        disk.room = 300
        with pytest.raises(JournalWriteError):
            journal.append(events(range(20)))
        disk.room = 10**9
        assert journal.append(events(range(20))).added == 15
        journal.seal(DAY)
        assert journal.counts(DAY).duplicates == 5
    assert sealed_numbers(root) == list(range(20))


def test_a_batch_that_may_wait_for_room_goes_in_by_itself(root: Path) -> None:
    disk, heard = Disk(), list[str]()

    def make_room(error: JournalWriteError) -> bool:
        heard.append(str(error))
        disk.room = 300 * len(heard)
        return True

    with running(root, write=disk.write, no_room=make_room) as journal:
        journal.append(events(range(5)))
        disk.room = 0
        assert journal.append(events(range(20))).added == 15
        journal.seal(DAY)
        assert journal.counts(DAY).duplicates == 5
    assert len(heard) > 1
    assert "Make room" in heard[0]
    assert sealed_numbers(root) == list(range(20))


def test_nothing_waits_for_a_journal_that_has_stopped(root: Path) -> None:
    disk = Disk()
    with running(root, write=disk.write, no_room=lambda _: pytest.fail("asked")) as journal:
        disk.room, disk.error = 10, errno.EIO
        with pytest.raises(JournalWriteError, match="has stopped"):
            journal.append([event(1)])


def test_a_batch_of_two_days_goes_in_whole_or_not_at_all(root: Path) -> None:
    disk = Disk()
    with running(root, write=disk.write) as journal:
        journal.append([event(1), event(1, NEXT_DAY)])
        disk.room = 5 * 85 + 10  # the first day fits, the second does not
        with pytest.raises(JournalWriteError):
            journal.append(events(range(2, 7)) + events(range(2, 7), NEXT_DAY))
        assert [journal.counts(day).events for day in (DAY, NEXT_DAY)] == [1, 1]
        disk.room = 10**9
        assert journal.append(events(range(2, 7)) + events(range(2, 7), NEXT_DAY)).added == 10


def test_a_segment_that_cannot_be_begun_leaves_no_file(root: Path) -> None:
    disk = Disk()
    disk.room = 10
    with running(root, write=disk.write) as journal:
        with pytest.raises(JournalWriteError):
            journal.append([event(1)])
        assert segments(root) == []
        disk.room = 10**9
        assert journal.append([event(1)]).added == 1


def test_a_write_that_the_kernel_cuts_short_is_cut_back(root: Path) -> None:
    with running(root, commit_interval_s=3600) as journal:
        journal.append(events(range(5)))
        before = segments(root)[0].read_bytes()
        with (
            largest_file(len(before) + 130),
            pytest.raises(JournalWriteError, match=os.strerror(errno.EFBIG)),
        ):
            journal.append(events(range(5, 10)))
        assert segments(root)[0].read_bytes() == before
        assert journal.append(events(range(5, 10))).added == 5
        journal.seal(DAY)
    assert sealed_numbers(root) == list(range(10))


def test_a_seal_that_does_not_fit_may_be_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with running(root) as journal:
        journal.append(events(range(5)))
        monkeypatch.setattr(seal_module, "replace_file", full)
        with pytest.raises(JournalWriteError, match="not sealed"):
            journal.seal(DAY)
        assert journal.unsealed(DAY)
        assert journal.append([event(9)]).added == 1
        monkeypatch.undo()
        assert journal.seal(DAY).revision == 1
    assert_once(sealed_numbers(root), [*range(5), 9])


def test_an_error_that_is_not_want_of_room_stops_the_journal(root: Path) -> None:
    disk, told = Disk(), list[JournalError]()
    with running(root, write=disk.write, on_fatal=told.append) as journal:
        journal.append(events(range(5)))
        disk.room, disk.error = 100, errno.EIO
        with pytest.raises(JournalWriteError, match="has stopped"):
            journal.append(events(range(5, 9)))
        disk.room = 10**9
        with pytest.raises(JournalWriteError, match="has stopped"):
            journal.append([event(9)])
    assert told == [journal.failed]


def test_a_segment_that_cannot_be_cut_back_stops_the_journal(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk, told = Disk(), list[JournalError]()
    with running(root, write=disk.write, on_fatal=told.append) as journal:
        journal.append(events(range(5)))
        disk.room = 100
        monkeypatch.setattr(os, "ftruncate", broken)
        with pytest.raises(JournalWriteError, match="cannot be cut back"):
            journal.append(events(range(5, 9)))
        monkeypatch.undo()
        assert told == [journal.failed]
    with running(root) as journal:
        assert [found.kind for found in journal.recovered] == ["torn"]
        journal.append(events(range(9)))
        journal.seal(DAY)
    assert_once(sealed_numbers(root), range(9))


class FailingSync:
    """Syncs until it is told to fail; counts how often it was asked."""

    def __init__(self) -> None:
        self.fails = False
        self.asked = 0

    def __call__(self, fd: int) -> None:
        self.asked += 1
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


@pytest.mark.parametrize(
    "act",
    [
        lambda journal: journal.sync(),
        lambda journal: journal.seal(DAY),
        lambda journal: journal.stop(),
    ],
)
def test_a_failed_sync_is_told_once_and_never_tried_again(
    root: Path, act: Callable[[object], None]
) -> None:
    sync, told = FailingSync(), list[JournalError]()
    journal = make_journal(root, sync=sync, on_fatal=told.append, commit_interval_s=3600)
    journal.start()
    journal.append(events(range(5)))
    journal.sync()
    journal.append(events(range(5, 9)))
    sync.fails = True
    with pytest.raises(JournalWriteError, match="a sync failed"):
        act(journal)
    asked = sync.asked
    sync.fails = False
    for again in (lambda: journal.append([event(9)]), journal.sync, lambda: journal.seal(DAY)):
        with pytest.raises(JournalError):
            again()
    journal.stop()
    assert (sync.asked, told) == (asked, [journal.failed])
    assert journal.durable_events == 5


def test_an_event_is_not_durable_before_the_name_of_its_file_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    journal = make_journal(root, commit_interval_s=3600)
    journal.start()
    journal.append([event(1)])
    monkeypatch.setattr(commit_module, "fsync_folder", broken)
    with pytest.raises(JournalWriteError, match="a sync failed"):
        journal.sync()
    assert journal.durable_events == 0
    journal.stop()


def test_a_sync_that_fails_in_the_background_stops_the_journal(root: Path) -> None:
    sync, told = FailingSync(), threading.Event()
    sync.fails = True
    journal = make_journal(root, sync=sync, on_fatal=lambda _: told.set())
    journal.start()
    journal.append([event(1)])
    assert told.wait(60)
    with pytest.raises(JournalWriteError, match="has stopped"):
        journal.append([event(2)])
    journal.stop()
    assert journal.durable_events == 0


def test_a_thread_that_dies_stops_the_journal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_: int) -> None:
        raise RuntimeError("a fault of ours")

    told = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    journal = make_journal(root, sync=fault, on_fatal=lambda _: told.set())
    journal.start()
    journal.append([event(1)])
    assert told.wait(60)
    with pytest.raises(JournalWriteError, match="thread died"):
        journal.append([event(2)])
    journal.stop()


def test_a_file_that_was_closed_is_not_synced_any_more(root: Path) -> None:
    with running(root, commit_interval_s=3600) as journal:
        journal.append([event(1), event(1, NEXT_DAY)])
        with journal._commits.quiet():
            for writer in journal._days.pop(DAY).let_go():
                journal._commits.close(writer)
        journal.sync()
        assert journal.failed is None
        assert journal.seal(NEXT_DAY).events == 1


def test_append_does_not_wait_for_a_sync(root: Path) -> None:
    """With a sync that never ends, a thousand appends still do."""
    release_read, release_write = os.pipe()
    journal = make_journal(root, sync=lambda _: os.read(release_read, 1) and None)
    journal.start()
    for number in range(1000):
        journal.append([event(number)])
    assert journal.appended_events == 1000
    assert journal.durable_events == 0
    os.write(release_write, b"go" * 50)
    journal.sync()
    assert journal.durable_events == 1000
    journal.stop()
    os.close(release_read)
    os.close(release_write)


def test_what_a_failed_journal_had_synced_is_there_at_the_next_start(root: Path) -> None:
    sync = FailingSync()
    journal = make_journal(root, sync=sync, commit_interval_s=3600)
    journal.start()
    journal.append(events(range(5)))
    journal.sync()
    sync.fails = True
    journal.append(events(range(5, 9)))
    with pytest.raises(JournalWriteError):
        journal.sync()
    kill(journal)
    with running(root) as journal:
        assert journal.append(events(range(5))).added == 0
        journal.append(events(range(9)))
        journal.seal(DAY)
    assert_once(sealed_numbers(root), range(9))
    assert verify_day(root, DAY) == []
