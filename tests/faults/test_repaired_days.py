"""Verify finds every kind of damage; repair carries over what is valid, and says what is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.journal import repair_day, verify_day
from consumer.journal.record import encode
from consumer.journal.segment import HEADER_BYTES, segment_header
from consumer.wire.admitted import Batch
from tests.journal_kit import (
    DAY,
    NEXT_DAY,
    assert_once,
    event,
    events,
    running,
    sealed_numbers,
    segments,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten sealed events in three segments, and two that came late."""
    root = tmp_path / "journal"
    with running(root, segment_bytes=400) as journal:
        for number in range(10):
            journal.append([event(number)])
        journal.seal(DAY)
        journal.append([event(10)])
        journal.append([event(11)])
    return root


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def whats(root: Path) -> list[str]:
    return sorted({fault.what for fault in verify_day(root, DAY)})


def test_a_whole_day_has_no_faults(root: Path) -> None:
    assert verify_day(root, DAY) == []
    assert verify_day(root, DAY, deep=False) == []
    assert repair_day(root, DAY) == []


def rot(root: Path) -> None:
    flip(segments(root)[1], HEADER_BYTES + 60)


def cut(root: Path) -> None:
    segments(root)[1].write_bytes(segments(root)[1].read_bytes()[:-10])


def lose(root: Path) -> None:
    segments(root)[1].unlink()


def spoil_seal(root: Path) -> None:
    flip(root / DAY.isoformat() / "seal-000001.json", 30)


def spoil_sidecar(root: Path) -> None:
    flip(segments(root)[1].with_suffix(".ids"), 130)


def tear(root: Path) -> None:
    path = segments(root)[-1]
    path.write_bytes(path.read_bytes() + b"torn")


def repeat(root: Path) -> None:
    path = root / DAY.isoformat() / "000009.seg"
    path.write_bytes(segment_header(DAY, 9) + encode(Batch.of([event(1)])))


def misplace(root: Path) -> None:
    path = root / DAY.isoformat() / "000009.seg"
    path.write_bytes(segment_header(DAY, 9) + encode(Batch.of([event(1, NEXT_DAY)])))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (rot, ["record", "segment checksum", "segment count"]),
        (cut, ["record", "segment count", "segment size"]),
        (lose, ["segment"]),
        (spoil_seal, ["seal"]),
        (spoil_sidecar, ["id sidecar"]),
        (tear, ["torn tail"]),
        (repeat, ["repeated event"]),
        (misplace, ["event time"]),
    ],
)
def test_verify_finds_the_damage(
    root: Path, damage: Callable[[Path], None], what: list[str]
) -> None:
    damage(root)
    assert whats(root) == what


def test_a_fault_says_where_and_what_to_do(root: Path) -> None:
    rot(root)
    fault = next(fault for fault in verify_day(root, DAY) if fault.what == "record")
    assert fault.where == f"2017-07-04/000002.seg@{HEADER_BYTES}"
    assert "checksum does not match" in fault.detail
    assert "repair" in fault.repair


def test_a_record_that_is_still_being_written_is_no_fault_of_a_live_day(root: Path) -> None:
    tear(root)
    assert verify_day(root, DAY, live=True) == []


@pytest.mark.parametrize(("damage", "lost"), [(rot, {4}), (cut, {7}), (lose, {4, 5, 6, 7})])
def test_a_repaired_day_is_sealed_again_with_what_is_left(
    root: Path, damage: Callable[[Path], None], lost: set[int]
) -> None:
    damage(root)
    [done] = repair_day(root, DAY)
    assert done.name == "000002.seg"
    assert done.bytes > 0
    with running(root) as journal:
        assert journal.recovered == []
        assert journal.append(events(set(range(12)) - lost)).added == 0
        assert journal.append(events(lost)).added == len(lost)
        assert journal.seal(DAY).revision == 2
    assert_once(sealed_numbers(root), range(12))
    assert verify_day(root, DAY) == []


def test_the_damaged_file_is_kept(root: Path) -> None:
    rot(root)
    damaged = segments(root)[1].read_bytes()
    [done] = repair_day(root, DAY)
    assert done.kept == "000002.damaged"
    assert (root / DAY.isoformat() / done.kept).read_bytes() == damaged


def test_repairing_twice_is_repairing_once(root: Path) -> None:
    for damage in (rot, lose):
        damage(root)
        assert len(repair_day(root, DAY)) == 1
        assert repair_day(root, DAY) == []


def test_damage_after_a_repair_is_damage_again(root: Path) -> None:
    rot(root)
    repair_day(root, DAY)
    path = segments(root)[1]
    record = (path.stat().st_size - HEADER_BYTES) // 3
    path.write_bytes(path.read_bytes()[:-record])
    with running(root) as journal:
        assert [found.kind for found in journal.recovered] == ["lost"]


def test_a_bad_sidecar_is_removed_by_a_repair_and_made_again(root: Path) -> None:
    spoil_sidecar(root)
    assert repair_day(root, DAY) == []
    assert verify_day(root, DAY) == []
    with running(root) as journal:
        assert journal.append(events(range(12))).duplicates == 12
    assert segments(root)[1].with_suffix(".ids").exists()


def test_a_torn_tail_is_left_for_the_next_start(root: Path) -> None:
    tear(root)
    assert repair_day(root, DAY) == []
    with running(root) as journal:
        assert [found.kind for found in journal.recovered] == ["torn"]
    assert verify_day(root, DAY) == []
