import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.clock import ManualClock
from consumer.days import NS_PER_DAY
from consumer.quarantine import shelf
from consumer.quarantine.quarantine import Quarantine, Quarantined
from consumer.quarantine.shelf import LONGEST_TEXT, Shelf, ShelfFile

NOW_NS = 1_500_000_000 * 10**9
MIB = 1024 * 1024


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_NS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "quarantine"


def opened(root: Path, clock: ManualClock, max_bytes: int = MIB, keep_bytes: int = 0) -> Quarantine:
    return Quarantine(root, clock, max_bytes=max_bytes, max_age_days=30, keep_bytes=keep_bytes)


def put(
    quarantine: Quarantine, number: int, reason: str = "unknown_key", size: int = 20, age: int = 0
) -> None:
    quarantine.put(
        reason,
        b"%d:" % number + b"x" * size,
        detector="det-1",
        arrival_ns=NOW_NS + number - age,
        detail=f"detail {number}",
        sealed=True,
    )


def numbers(quarantine: Quarantine, reason: str = "unknown_key") -> list[int]:
    return [number_of(message) for message in reversed(quarantine.list(reason, limit=10**6))]


def number_of(message: Quarantined) -> int:
    return int(message.message.split(b":")[0])


def test_a_message_comes_back_as_it_was_put(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    quarantine.put(
        "tampered", b"\x00\xff", detector="dét", arrival_ns=NOW_NS, detail="why", sealed=False
    )
    expected = Quarantined("tampered", "dét", NOW_NS, "why", False, b"\x00\xff")
    assert quarantine.list() == [expected]
    assert quarantine.counts() == {"tampered": 1}


def test_it_survives_a_restart_without_a_word_of_goodbye(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    for number in range(3):
        put(quarantine, number)
    again = opened(root, clock)
    put(again, 3)
    assert numbers(again) == [0, 1, 2, 3]
    assert again.counts() == {"unknown_key": 4}


def test_a_file_that_the_service_removes_under_a_reader_is_not_there(
    root: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = opened(root, clock)
    put(writing, 1)
    put(writing, 2, reason="tampered")
    writing.close()
    read = Shelf.read

    def remove_first(shelf: Shelf, file: ShelfFile) -> Iterator[tuple[int, Quarantined]]:
        if shelf.reason == "unknown_key":
            file.path.unlink()
        return read(shelf, file)

    monkeypatch.setattr(Shelf, "read", remove_first)
    assert opened(root, clock).counts() == {"tampered": 1}


def test_the_latest_messages_come_first(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    for number in range(20):
        put(quarantine, number, reason=["schema", "future"][number % 2])
    assert [number_of(message) for message in quarantine.list(limit=3)] == [19, 18, 17]
    assert [number_of(message) for message in quarantine.list("schema", limit=2)] == [18, 16]
    assert quarantine.list(limit=0) == []


def test_a_reason_without_messages_has_no_count(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    assert quarantine.counts() == {}
    assert quarantine.list("schema") == []
    assert quarantine.take("schema", lambda _: True) == 0
    assert not root.exists()


def test_a_full_reason_drops_its_oldest_and_counts_them(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    for number in range(200):
        put(quarantine, number)
        kept = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        assert kept <= 4000
    held = numbers(quarantine)
    assert held == list(range(200 - len(held), 200))
    assert len(held) > 30
    assert quarantine.dropped == {"unknown_key": 200 - len(held)}


def test_a_flood_of_one_reason_leaves_the_others_alone(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    put(quarantine, 1, reason="unknown_key")
    for number in range(200):
        put(quarantine, number, reason="tampered")
    assert numbers(quarantine, "unknown_key") == [1]


def test_a_message_larger_than_the_limit_is_dropped_alone(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    put(quarantine, 1)
    put(quarantine, 2, size=4000)
    put(quarantine, 3, size=3980)
    assert numbers(quarantine) == [1]
    assert quarantine.dropped == {"unknown_key": 2}


def test_the_latest_stay_whatever_their_age_down_to_the_floor(
    root: Path, clock: ManualClock
) -> None:
    quarantine = opened(root, clock, max_bytes=40_000, keep_bytes=12_000)
    for number in range(300):
        put(quarantine, number, age=31 * NS_PER_DAY)
    clock.advance(61)
    quarantine.expire()
    kept = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    held = numbers(quarantine)
    assert 12_000 <= kept < 40_000
    assert held == list(range(300 - len(held), 300))
    assert quarantine.dropped == {"unknown_key": 300 - len(held)}
    assert 0 < len(held) < 300


def test_old_messages_go_and_are_counted(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1, age=31 * NS_PER_DAY)
    put(quarantine, 2, reason="schema", age=29 * NS_PER_DAY)
    clock.advance(61)
    quarantine.expire()
    assert quarantine.counts() == {"schema": 1}
    assert quarantine.dropped == {"unknown_key": 1, "schema": 0}
    clock.advance(2 * 86_400)
    put(quarantine, 3, reason="future")
    assert quarantine.counts() == {"future": 1}


def test_taken_messages_are_gone_and_the_others_stay(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    for number in range(20):
        put(quarantine, number)
    seen: list[int] = []

    def take_even(message: Quarantined) -> bool:
        seen.append(number_of(message))
        return number_of(message) % 2 == 0

    assert quarantine.take("unknown_key", take_even) == 10
    assert seen == list(range(20))
    assert numbers(quarantine) == list(range(1, 20, 2))
    assert numbers(opened(root, clock)) == list(range(1, 20, 2))
    assert quarantine.counts() == {"unknown_key": 10}


def test_taking_all_leaves_no_file(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1)
    assert quarantine.take("unknown_key", lambda _: True) == 1
    assert [path for path in root.rglob("*") if path.is_file()] == []
    put(quarantine, 2)
    assert numbers(quarantine) == [2]


def test_messages_that_a_retry_puts_back_are_not_handed_over_again(
    root: Path, clock: ManualClock
) -> None:
    quarantine = opened(root, clock)
    for number in range(3):
        put(quarantine, number)

    def put_back(message: Quarantined) -> bool:
        put(quarantine, 10 + number_of(message))
        return True

    assert quarantine.take("unknown_key", put_back) == 3
    assert numbers(quarantine) == [10, 11, 12]


def test_a_retry_that_fails_half_way_keeps_the_rest(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    for number in range(5):
        put(quarantine, number)

    def fail_at_three(message: Quarantined) -> bool:
        if number_of(message) == 3:
            raise RuntimeError("the journal has stopped")
        return True

    with pytest.raises(RuntimeError, match="stopped"):
        quarantine.take("unknown_key", fail_at_three)
    assert numbers(quarantine) == [3, 4]


def test_what_a_flood_drops_during_a_retry_does_not_come_back(
    root: Path, clock: ManualClock
) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    for number in range(5):
        put(quarantine, number)

    def flood(message: Quarantined) -> bool:
        for number in range(100, 200):
            put(quarantine, number)
        return number_of(message) == 0

    quarantine.take("unknown_key", flood)
    held = numbers(quarantine)
    assert min(held) >= 100
    assert quarantine.counts() == {"unknown_key": len(held)}


def test_a_file_that_is_dropped_while_it_is_written_anew_stays_dropped(
    root: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = opened(root, clock, max_bytes=4000)
    for number in range(5):
        put(quarantine, number)
    rewritten = Shelf.rewritten

    def flooded(shelf: Shelf, file: ShelfFile, without: set[int]) -> tuple[Path, int, int]:
        fresh = rewritten(shelf, file, without)
        for number in range(100, 200):
            put(quarantine, number)
        return fresh

    monkeypatch.setattr(Shelf, "rewritten", flooded)
    quarantine.take("unknown_key", lambda message: number_of(message) == 0)
    assert min(numbers(quarantine)) >= 100
    assert numbers(opened(root, clock, max_bytes=4000)) == numbers(quarantine)


@pytest.mark.parametrize(
    ("reason", "left"), [("schema", {"future": 1}), (None, {}), ("absent", None)]
)
def test_purging_removes_for_good(
    root: Path, clock: ManualClock, reason: str | None, left: dict[str, int] | None
) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1, reason="schema")
    put(quarantine, 2, reason="future")
    everything = {"schema": 1, "future": 1}
    expected = everything if left is None else left
    assert quarantine.purge(reason) == 2 - len(expected)
    assert quarantine.counts() == expected
    assert opened(root, clock).counts() == expected
    assert quarantine.dropped == {"schema": 0, "future": 0}


def test_long_texts_are_cut_and_the_message_is_not(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    message = b"m" * 5000
    quarantine.put(
        "schema", message, detector="d" * 9000, arrival_ns=NOW_NS, detail="é" * 9000, sealed=True
    )
    [kept] = quarantine.list()
    assert kept.message == message
    assert kept.detector == "d" * LONGEST_TEXT
    assert kept.detail.startswith("é" * 900)


@pytest.mark.parametrize("reason", ["", "../up", "Schema", "a b"])
def test_a_reason_is_a_plain_word(root: Path, clock: ManualClock, reason: str) -> None:
    with pytest.raises(ValueError, match="plain lower-case word"):
        put(opened(root, clock), 1, reason=reason)


def test_what_is_shown_does_not_hold_the_message(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1)
    [shown] = [message.to_json() for message in quarantine.list()]
    assert shown == {
        "reason": "unknown_key",
        "detector": "det-1",
        "arrival": "2017-07-14T02:40:00.000+00:00",
        "detail": "detail 1",
        "sealed": True,
        "bytes": 22,
    }


def test_files_are_private(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1)
    quarantine.close()
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_it_takes_messages_after_it_was_closed(root: Path, clock: ManualClock) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1)
    quarantine.close()
    put(quarantine, 2)
    assert numbers(quarantine) == [1, 2]


def synced_by(quarantine: Quarantine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that a sync makes durable."""
    done: list[str] = []

    def note(fd: int) -> None:
        done.append(Path(f"/proc/self/fd/{fd}").readlink().name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", note)
        quarantine.sync()
    return done


def test_what_a_killed_process_had_put_is_synced_by_the_next_one(
    root: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(opened(root, clock), 1)
    again = opened(root, clock)
    assert synced_by(again, monkeypatch) == ["00000001.messages"]
    assert synced_by(again, monkeypatch) == []


def test_a_file_that_was_full_before_the_sync_is_synced_too(
    root: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = opened(root, clock, max_bytes=8000)
    for number in range(3):
        put(quarantine, number, size=700)
    assert synced_by(quarantine, monkeypatch) == [f"{n:08d}.messages" for n in (1, 2, 3)]


def test_that_a_file_is_gone_is_synced_too(
    root: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = opened(root, clock)
    put(quarantine, 1)
    quarantine.sync()
    quarantine.take("unknown_key", lambda _: True)
    synced: list[Path] = []
    monkeypatch.setattr(shelf, "fsync_folder", synced.append)
    quarantine.sync()
    quarantine.sync()
    assert synced == [root / "unknown_key", root]


@pytest.mark.parametrize("left", [1, 8, 30])
def test_what_a_kill_left_of_a_message_is_cut(root: Path, clock: ManualClock, left: int) -> None:
    put(opened(root, clock), 1)
    (path,) = root.rglob("*.messages")
    whole = path.read_bytes()
    record = whole[len(shelf.HEADER) :]
    path.write_bytes(whole + record[:left])
    quarantine = opened(root, clock)
    quarantine.cut_torn_tails()
    assert path.read_bytes() == whole
    assert [*path.parent.iterdir()] == [path]
    put(quarantine, 2)
    assert numbers(opened(root, clock)) == [1, 2]


def test_a_file_whose_header_was_cut_short_goes(root: Path, clock: ManualClock) -> None:
    put(opened(root, clock), 1)
    (path,) = root.rglob("*.messages")
    path.write_bytes(shelf.HEADER[:5])
    opened(root, clock).cut_torn_tails()
    assert not path.exists()


def test_damage_that_a_message_follows_is_left_for_repair(root: Path, clock: ManualClock) -> None:
    put(quarantine := opened(root, clock), 1)
    put(quarantine, 2)
    (path,) = root.rglob("*.messages")
    spoilt = bytearray(path.read_bytes())
    spoilt[len(shelf.HEADER) + 20] ^= 1
    path.write_bytes(spoilt)
    opened(root, clock).cut_torn_tails()
    assert path.read_bytes() == spoilt
