"""The quarantine survives crashes, full disks and damaged files, and loses only what is damaged."""

import errno
import os
from pathlib import Path

import pytest

from consumer.clock import ManualClock
from consumer.errors import QuarantineError
from consumer.quarantine import shelf as shelf_module
from consumer.quarantine.quarantine import Quarantine, Quarantined

NOW_NS = 1_500_000_000 * 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "quarantine"


def opened(root: Path, max_bytes: int = 100_000) -> Quarantine:
    return Quarantine(root, ManualClock(NOW_NS), max_bytes=max_bytes, max_age_days=30)


def put(quarantine: Quarantine, *numbers: int) -> None:
    for number in numbers:
        quarantine.put(
            "tampered",
            b"message %d" % number,
            detector="det",
            arrival_ns=NOW_NS + number,
            detail="",
            sealed=True,
        )


def numbers(quarantine: Quarantine) -> list[int]:
    return [number_of(message) for message in reversed(quarantine.list())]


def number_of(message: Quarantined) -> int:
    return int(message.message.split()[1])


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.messages"))


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_a_torn_tail_costs_the_last_message_only(root: Path, cut: int) -> None:
    put(opened(root), 1, 2, 3)
    [path] = files(root)
    path.write_bytes(path.read_bytes()[:-cut])
    again = opened(root)
    put(again, 4)
    assert numbers(again) == [1, 2, 4]


def test_a_damaged_message_costs_no_other(root: Path) -> None:
    put(opened(root), 1, 2, 3)
    [path] = files(root)
    data = bytearray(path.read_bytes())
    data[data.index(b"message 2")] ^= 1
    path.write_bytes(data)
    again = opened(root)
    assert numbers(again) == [1, 3]
    assert again.take("tampered", lambda message: number_of(message) == 1) == 1
    assert numbers(again) == [3]


@pytest.mark.parametrize("content", [b"", b"dayfold", b"something else altogether"])
def test_a_file_without_messages_is_no_obstacle(root: Path, content: bytes) -> None:
    folder = root / "tampered"
    folder.mkdir(parents=True)
    (folder / "00000007.messages").write_bytes(content)
    quarantine = opened(root)
    put(quarantine, 1)
    assert numbers(quarantine) == [1]


def test_a_crash_in_a_retry_hands_over_again_and_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(BaseException): ...

    def crash(*_: object) -> None:
        raise CrashError

    put(opened(root), 1, 2, 3)
    quarantine = opened(root)
    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(CrashError):
        quarantine.take("tampered", lambda message: number_of(message) != 2)
    assert numbers(opened(root)) == [1, 2, 3]


def test_a_full_disk_drops_the_oldest_and_never_raises(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [False]

    def write(fd: int, data: bytes) -> None:
        if full[0]:
            os.write(fd, data[:5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.write(fd, data)

    monkeypatch.setattr(shelf_module, "write_all", write)
    quarantine = opened(root)
    put(quarantine, 1, 2)
    full[0] = True
    put(quarantine, 3)
    full[0] = False
    put(quarantine, 4)
    assert numbers(quarantine) == [4]
    assert quarantine.dropped == {"tampered": 3}
    assert numbers(opened(root)) == [4]


def test_a_disk_that_fails_costs_the_message_and_is_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, data: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    quarantine = opened(root)
    put(quarantine, 1)
    with monkeypatch.context() as patch:
        patch.setattr(shelf_module, "write_all", broken)
        put(quarantine, 2)
    put(quarantine, 3)
    assert numbers(quarantine) == [1, 3]
    assert quarantine.dropped == {"tampered": 1}


def test_taken_messages_that_cannot_be_removed_are_handed_over_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    quarantine = opened(root)
    put(quarantine, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert quarantine.take("tampered", lambda message: number_of(message) == 1) == 1
    assert numbers(quarantine) == [1, 2]
    assert quarantine.take("tampered", lambda message: number_of(message) == 1) == 1
    assert numbers(quarantine) == [2]


def test_a_sync_that_fails_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    quarantine = opened(root)
    put(quarantine, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(QuarantineError, match="cannot be synced"):
            quarantine.sync()
    put(quarantine, 2)
    quarantine.sync()
    assert numbers(quarantine) == [1, 2]
    assert len(files(root)) == 2  # nothing is added to a file that could not be synced
