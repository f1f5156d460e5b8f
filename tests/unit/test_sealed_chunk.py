from dataclasses import replace
from pathlib import Path

import lz4.block
import pytest

from consumer.errors import JournalCorruptError, JournalError
from consumer.journal import Record, open_chunk
from consumer.journal.seal import read_seal, write_seal
from consumer.journal.segment import HEADER_BYTES
from tests.journal_kit import DAY, UTC, event, events, running, sealed_numbers, segments


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def seal(root: Path, numbers: range, **options: int) -> None:
    with running(root, **options) as journal:
        for number in numbers:
            journal.append([event(number)])
        journal.seal(DAY)


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_batches_have_the_size_that_was_asked_for(root: Path, size: int) -> None:
    seal(root, range(10), segment_bytes=400)
    lengths = [len(batch) for batch in open_chunk(root, DAY, zone=UTC).batches(size)]
    assert sum(lengths) == 10
    assert set(lengths[:-1]) <= {size}
    assert 0 < lengths[-1] <= size


def test_a_batch_of_nothing_is_refused(root: Path) -> None:
    seal(root, range(1))
    with pytest.raises(ValueError, match="at least one"):
        next(open_chunk(root, DAY, zone=UTC).batches(0))


def test_a_record_is_what_was_admitted_decompressed(root: Path) -> None:
    raw = b"the same words, the same words, the same words, the same words"
    block = lz4.block.compress(raw, store_size=False)
    squeezed = event(1)._replace(payload=block, raw_size=len(raw), compressed=True, own_time=False)
    with running(root) as journal:
        journal.append([squeezed, event(2)])
        journal.seal(DAY)
    [batch] = open_chunk(root, DAY, zone=UTC).batches(10)
    assert batch[0] == Record(squeezed.time_ns, squeezed.arrival_ns, raw, own_time=False)
    assert batch[1] == Record(event(2).time_ns, event(2).arrival_ns, event(2).payload, True)


def test_records_larger_than_a_block_are_read_whole(root: Path) -> None:
    large = [event(1, size=3_000_000), event(2), event(3, size=700_000)]
    with running(root) as journal:
        journal.append(large)
        journal.seal(DAY)
    [batch] = open_chunk(root, DAY, zone=UTC).batches(10)
    assert [len(record.payload) for record in batch] == [3_000_000, 40, 700_000]


def test_the_latest_revision_is_the_default(root: Path) -> None:
    with running(root) as journal:
        journal.append(events(range(3)))
        journal.seal(DAY)
        journal.append([event(9)])
        journal.seal(DAY)
    assert open_chunk(root, DAY, zone=UTC).revision == 2
    assert open_chunk(root, DAY, 1, zone=UTC).events == 3


def test_a_day_that_was_never_sealed_has_no_chunk(root: Path) -> None:
    with running(root) as journal:
        journal.append([event(1)])
    with pytest.raises(JournalError, match="never sealed"):
        open_chunk(root, DAY, zone=UTC)


def test_a_revision_that_does_not_exist_is_named(root: Path) -> None:
    seal(root, range(2))
    with pytest.raises(JournalError, match="no revision 7"):
        open_chunk(root, DAY, 7, zone=UTC)


def test_a_flipped_bit_in_a_record_names_day_segment_and_offset(root: Path) -> None:
    seal(root, range(5))
    path = segments(root)[0]
    data = bytearray(path.read_bytes())
    second = HEADER_BYTES + (len(data) - HEADER_BYTES) // 5
    data[second + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalCorruptError, match=rf"2017-07-04.*000001\.seg.*offset {second}:"):
        sealed_numbers(root)


def test_a_flipped_bit_in_the_header_is_noticed(root: Path) -> None:
    seal(root, range(5))
    path = segments(root)[0]
    data = bytearray(path.read_bytes())
    data[9] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalCorruptError, match="offset 0: not the header"):
        sealed_numbers(root)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_segment_of_another_size_is_noticed(root: Path, change: int) -> None:
    seal(root, range(5))
    path = segments(root)[0]
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(JournalCorruptError, match=f"sealed with {len(data)}"):
        sealed_numbers(root)


def test_a_missing_segment_is_noticed(root: Path) -> None:
    seal(root, range(5))
    segments(root)[0].unlink()
    with pytest.raises(JournalCorruptError, match=r"000001\.seg.*cannot be read"):
        sealed_numbers(root)


def test_a_segment_of_another_day_is_noticed(root: Path) -> None:
    seal(root, range(5))
    other = root.parent / "other"
    with running(other) as journal:
        journal.append([event(number, DAY.replace(day=5)) for number in range(5)])
        journal.seal(DAY.replace(day=5))
    segments(root)[0].write_bytes(segments(other, DAY.replace(day=5))[0].read_bytes())
    with pytest.raises(JournalCorruptError, match="not the header of this segment"):
        sealed_numbers(root)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "dayfold-seal-1"}', ""])
def test_a_damaged_seal_is_not_taken_for_no_seal(root: Path, text: str) -> None:
    seal(root, range(5))
    (root / DAY.isoformat() / "seal-000001.json").write_text(text)
    with pytest.raises(JournalCorruptError, match=r"seal-000001\.json is damaged"):
        open_chunk(root, DAY, zone=UTC)


def test_one_changed_digit_in_a_seal_is_noticed(root: Path) -> None:
    seal(root, range(5))
    path = root / DAY.isoformat() / "seal-000001.json"
    path.write_text(path.read_text().replace('"records": 5', '"records": 4'))
    with pytest.raises(JournalCorruptError, match="checksum"):
        open_chunk(root, DAY, zone=UTC)


@pytest.mark.parametrize("records", [4, 6])
def test_another_number_of_records_than_sealed_is_noticed(root: Path, records: int) -> None:
    seal(root, range(5))
    folder = root / DAY.isoformat()
    sealed = read_seal(folder, DAY, 1)
    [segment] = sealed.segments
    write_seal(folder, replace(sealed, segments=(replace(segment, records=records),)))
    with pytest.raises(JournalCorruptError, match=f"5 records, sealed with {records}"):
        sealed_numbers(root)
