"""What a crash leaves is cut and kept; what the disk lost is never cut, and always told."""

from pathlib import Path

import pytest

from consumer.errors import JournalCorruptError
from consumer.journal import repair_day, scan_segment, verify_day
from consumer.journal.counts import COUNTS_NAME
from consumer.journal.segment import HEADER_BYTES
from tests.journal_kit import (
    DAY,
    assert_once,
    event,
    events,
    kill,
    make_journal,
    running,
    sealed_numbers,
    segments,
)

RECORD = 45 + 40  # frame and head, and the payload of an event of the kit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def leave_open(root: Path, synced: range, unsynced: range = range(0)) -> Path:
    """A segment as a killed journal leaves it; the marks say up to where it was synced."""
    journal = make_journal(root, commit_interval_s=3600)
    journal.start()
    journal.append(events(synced))
    journal.sync()
    journal.append(events(unsynced))
    kill(journal)
    return segments(root)[0]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def test_the_records_of_these_tests_are_as_long_as_they_say(root: Path) -> None:
    path = leave_open(root, range(3))
    assert path.stat().st_size == HEADER_BYTES + 3 * RECORD


@pytest.mark.parametrize("cut", [1, 7, 8, 30, 44, 45, RECORD - 1])
def test_a_torn_tail_is_cut_kept_and_reported(root: Path, cut: int) -> None:
    path = leave_open(root, range(3), range(3, 4))
    whole = path.read_bytes()
    path.write_bytes(whole[: HEADER_BYTES + 3 * RECORD + cut])
    with running(root) as journal:
        [found] = journal.recovered
        assert (found.kind, found.name, found.bytes) == ("torn", "000001.seg", cut)
        assert (found.offset, found.synced_bytes) == (HEADER_BYTES + 3 * RECORD, 0)
        assert journal.append(events(range(5))).added == 2
        journal.seal(DAY)
    assert found.kept == "000001.torn"
    assert (path.parent / found.kept).read_bytes() == whole[-RECORD:][:cut]
    assert sealed_numbers(root) == [0, 1, 2, 3, 4]


def test_zeros_behind_the_last_record_are_a_torn_tail(root: Path) -> None:
    path = leave_open(root, range(3))
    with path.open("ab") as file:
        file.write(bytes(10_000))
    with running(root) as journal:
        assert [(found.kind, found.bytes) for found in journal.recovered] == [("torn", 10_000)]
        journal.seal(DAY)
    assert sealed_numbers(root) == [0, 1, 2]


def test_two_torn_tails_are_both_kept(root: Path) -> None:
    for content in (b"first", b"second"):
        path = leave_open(root, range(3))
        with path.open("ab") as file:
            file.write(content)
    with running(root):
        kept = sorted(path.name for path in path.parent.glob("*.torn"))
    assert kept == ["000001-2.torn", "000001.torn"]
    assert (path.parent / "000001-2.torn").read_bytes() == b"second"


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_segment_that_was_only_being_created_is_no_loss(root: Path, size: int) -> None:
    path = leave_open(root, range(3))
    newer = path.with_name("000002.seg")
    newer.write_bytes(path.read_bytes()[:size])
    with running(root) as journal:
        assert journal.append(events(range(5))).added == 2
        journal.seal(DAY)
        assert journal.counts(DAY).events == 5
    assert_once(sealed_numbers(root), range(5))
    assert not newer.exists() or newer.stat().st_size > HEADER_BYTES


def test_rot_in_the_middle_is_never_cut(root: Path) -> None:
    path = leave_open(root, range(6))
    before = path.stat().st_size
    flip(path, HEADER_BYTES + 2 * RECORD + 60)
    damaged = path.read_bytes()
    with running(root) as journal:
        [found] = journal.recovered
        assert (found.kind, found.offset) == ("rot", HEADER_BYTES + 2 * RECORD)
        assert (found.bytes, found.synced_bytes) == (RECORD, RECORD)
        assert journal.append(events(range(8))).added == 3  # the lost one came again
        with pytest.raises(JournalCorruptError, match=r"2017-07-04.*000001\.seg at offset 194"):
            journal.seal(DAY)
        assert journal.unsealed(DAY)
    assert path.read_bytes() == damaged
    assert path.stat().st_size == before
    assert len(segments(root)) == 2


def test_rot_is_reported_at_every_start_until_it_is_repaired(root: Path) -> None:
    flip(leave_open(root, range(6)), HEADER_BYTES + 60)
    for _ in range(2):
        with running(root) as journal:
            assert [found.kind for found in journal.recovered] == ["rot"]
    repair_day(root, DAY)
    with running(root) as journal:
        assert journal.recovered == []


def test_a_rotten_length_hides_no_record_behind_it(root: Path) -> None:
    path = leave_open(root, range(6))
    flip(path, HEADER_BYTES + RECORD + 3)  # the highest byte of a length
    scan = scan_segment(path, DAY, 1)
    assert scan.extent.records == 5
    assert [(gap.start, gap.end) for gap in scan.gaps] == [
        (HEADER_BYTES + RECORD, HEADER_BYTES + 2 * RECORD)
    ]


def test_a_rotten_header_hides_no_record(root: Path) -> None:
    path = leave_open(root, range(6))
    flip(path, 3)
    with running(root) as journal:
        [found] = journal.recovered
        assert (found.kind, found.offset, found.bytes) == ("rot", 0, HEADER_BYTES)
        assert journal.append(events(range(6))).duplicates == 6


def test_a_hole_in_what_was_perhaps_not_synced_counts_as_rot(root: Path) -> None:
    path = leave_open(root, range(3), range(3, 9))
    hole = HEADER_BYTES + 4 * RECORD
    data = bytearray(path.read_bytes())
    data[hole : hole + RECORD] = bytes(RECORD)
    path.write_bytes(data)
    with running(root) as journal:
        [found] = journal.recovered
        assert (found.kind, found.offset, found.bytes) == ("rot", hole, RECORD)
        assert found.synced_bytes == 0
    assert path.read_bytes() == data


def test_synced_bytes_that_are_gone_are_reported_as_lost(root: Path) -> None:
    path = leave_open(root, range(6))
    path.write_bytes(path.read_bytes()[: HEADER_BYTES + 4 * RECORD])
    with running(root) as journal:
        [found] = journal.recovered
        assert (found.kind, found.bytes, found.synced_bytes) == ("lost", 2 * RECORD, 2 * RECORD)
        journal.seal(DAY)
    assert sealed_numbers(root) == [0, 1, 2, 3]


def test_a_damaged_counts_file_costs_only_the_counts_and_is_begun_anew(root: Path) -> None:
    path = leave_open(root, range(6))
    (path.parent / COUNTS_NAME).write_text("{")
    with running(root) as journal:
        [found] = journal.recovered
        assert (found.kind, found.name, found.bytes) == ("counts", COUNTS_NAME, 1)
        assert verify_day(root, DAY, live=True) == []
        assert journal.counts(DAY).duplicates == 0
        assert journal.append(events(range(7))).added == 1


@pytest.mark.parametrize("damage", ["missing", "flipped", "empty"])
def test_a_bad_sidecar_is_made_again_from_its_segment(root: Path, damage: str) -> None:
    with running(root) as journal:
        journal.append(events(range(6)))
        journal.seal(DAY)
    sidecar = segments(root)[0].with_suffix(".ids")
    if damage == "missing":
        sidecar.unlink()
    elif damage == "flipped":
        flip(sidecar, sidecar.stat().st_size - 5)
    else:
        sidecar.write_bytes(b"")
    with running(root) as journal:
        assert journal.append(events(range(7))).added == 1
    assert verify_day(root, DAY) == []


def test_a_sealed_segment_is_not_cut_whatever_its_tail(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(6)))
        journal.seal(DAY)
    path = segments(root)[0]
    flip(path, path.stat().st_size - 3)
    path.with_suffix(".ids").unlink()
    damaged = path.read_bytes()
    with running(root) as journal:
        assert journal.append([event(9)]).late == 1
        assert [found.kind for found in journal.recovered] == ["rot"]
        with pytest.raises(JournalCorruptError, match="cannot be sealed"):
            journal.seal(DAY)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("change", ["shorter", "missing"])
def test_a_sealed_segment_that_shrank_is_not_sealed_again_unseen(root: Path, change: str) -> None:
    with running(root) as journal:
        journal.append(events(range(6)))
        journal.seal(DAY)
    path = segments(root)[0]
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-RECORD])
    with running(root) as journal:
        assert [found.kind for found in journal.recovered] == ["lost"]
        journal.append([event(9)])
        with pytest.raises(JournalCorruptError, match="cannot be sealed"):
            journal.seal(DAY)


def test_a_damaged_seal_is_followed_by_a_new_revision(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(6)))
        journal.seal(DAY)
    flip(root / DAY.isoformat() / "seal-000001.json", 40)
    with running(root) as journal:
        assert [found.kind for found in journal.recovered] == ["seal"]
        assert journal.latest_seal(DAY) is None
        assert journal.unsealed(DAY)
        assert journal.seal(DAY).revision == 2
    assert sealed_numbers(root) == list(range(6))


def test_what_was_being_written_when_it_ended_is_removed(root: Path) -> None:
    path = leave_open(root, range(3))
    leftover = path.with_name("000001.ids.tmp")
    leftover.write_bytes(b"half")
    with running(root):
        assert not leftover.exists()
