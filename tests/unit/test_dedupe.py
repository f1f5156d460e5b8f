import hashlib
from pathlib import Path

import numpy as np
import pytest

from consumer.journal import dedupe as dedupe_module
from consumer.journal.bloom import FIRST_STAGE_DIGESTS, Bloom
from consumer.journal.dedupe import DayDedupe
from consumer.journal.idtable import IdTable, ids_of
from consumer.journal.segment import Extent, segment_name
from consumer.journal.sidecar import (
    SegmentFacts,
    read_facts,
    read_table,
    sidecar_path,
    write_sidecar,
)


def digest(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def digests(numbers: range) -> list[bytes]:
    return [digest(number) for number in numbers]


def table(numbers: range) -> IdTable:
    return IdTable.of(ids_of(b"".join(digests(numbers))))


def test_a_table_holds_what_went_in_and_nothing_else() -> None:
    asked = ids_of(b"".join(digests(range(50, 150))))
    assert table(range(100)).contains(asked).tolist() == [True] * 50 + [False] * 50


def test_an_empty_table_holds_nothing() -> None:
    assert not IdTable.merged([]).contains(ids_of(digest(1))).any()


def test_digests_that_share_their_first_half_are_told_apart() -> None:
    half = b"\xff" * 8
    held = [half + bytes([number]) * 8 for number in (5, 1, 9, 3)]
    asked = [half + bytes([number]) * 8 for number in range(10)]
    found = IdTable.of(ids_of(b"".join(held))).contains(ids_of(b"".join(asked)))
    assert np.flatnonzero(found).tolist() == [1, 3, 5, 9]


def test_digests_that_end_in_zeros_are_told_apart() -> None:
    short, long = b"\x01" + bytes(15), b"\x01\x00\x01" + bytes(13)
    held = IdTable.of(ids_of(short))
    assert held.contains(ids_of(short + long)).tolist() == [True, False]


def test_the_filter_never_forgets() -> None:
    bloom = Bloom()
    ids = np.random.default_rng(1).integers(
        0, 2**64, size=(FIRST_STAGE_DIGESTS + 5000, 2), dtype=np.uint64
    )
    for part in np.array_split(ids, 7):
        bloom.add(part[:, 0], part[:, 1])
    assert bloom.perhaps(ids[:, 0], ids[:, 1]).all()


def test_the_filter_lets_few_new_ones_through() -> None:
    bloom = Bloom()
    ids = np.random.default_rng(2).integers(
        0, 2**64, size=(FIRST_STAGE_DIGESTS, 2), dtype=np.uint64
    )
    bloom.add(ids[:, 0], ids[:, 1])
    new = np.random.default_rng(3).integers(0, 2**64, size=(100_000, 2), dtype=np.uint64)
    assert bloom.perhaps(new[:, 0], new[:, 1]).mean() < 0.0001
    assert bloom.nbytes == FIRST_STAGE_DIGESTS * 4


def test_asking_does_not_remember() -> None:
    dedupe = DayDedupe()
    assert dedupe.new(digests(range(3))) == [0, 1, 2]
    assert dedupe.new(digests(range(3))) == [0, 1, 2]


def test_what_was_added_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe_module, "RECENT", 100)
    dedupe = DayDedupe()
    for begin in range(0, 1000, 30):
        dedupe.add(1, digests(range(begin, begin + 30)))
    assert dedupe.new(digests(range(1020))) == []
    assert dedupe.new([digest(5), digest(5000), digest(5000), digest(6)]) == [1]


def test_loaded_tables_are_asked_before_and_after_they_are_filtered() -> None:
    dedupe = DayDedupe()
    for number in range(5):
        dedupe.load(number, table(range(100 * number, 100 * number + 100)))
    for _ in range(8):  # each large batch puts one table behind the filter
        assert dedupe.new(digests(range(400, 600))) == list(range(100, 200))


def test_replacing_a_table_keeps_what_is_known() -> None:
    dedupe = DayDedupe()
    dedupe.load(1, table(range(100)))
    dedupe.replace(1, table(range(100)))
    dedupe.add(2, digests(range(100, 200)))
    dedupe.settle(2)
    dedupe.replace(2, table(range(100, 200)))
    assert dedupe.new(digests(range(201))) == [200]


def write(folder: Path, numbers: range) -> SegmentFacts:
    segment = folder / segment_name(1)
    segment.write_bytes(b"x" * 500)
    facts = SegmentFacts(1, Extent(500, len(numbers), 10, 20, 30), "ab" * 32)
    write_sidecar(segment, facts, table(numbers))
    return facts


def test_a_sidecar_gives_back_facts_and_digests(tmp_path: Path) -> None:
    facts = write(tmp_path, range(1000))
    segment = tmp_path / segment_name(1)
    assert read_facts(segment, 1) == facts
    mapped = read_table(segment, facts)
    assert mapped is not None
    assert mapped.same_as(table(range(1000)))
    assert mapped.first.flags.aligned
    assert mapped.second.flags.aligned


def resident(path: Path) -> int:
    """KiB of a mapped file that are in the memory of this process."""
    _, _, after = Path("/proc/self/smaps").read_text().partition(f"{path}\n")
    (line,) = (line for line in after.splitlines()[:20] if line.startswith("Rss:"))
    return int(line.split()[1])


def test_mapped_digests_take_memory_only_while_they_are_looked_at(tmp_path: Path) -> None:
    facts = write(tmp_path, range(20_000))
    segment = tmp_path / segment_name(1)
    mapped = read_table(segment, facts)
    assert mapped is not None
    assert resident(sidecar_path(segment)) == 0
    dedupe = DayDedupe()
    dedupe.load(1, mapped)
    dedupe.new(digests(range(30_000, 30_100)))  # puts the table behind the filter
    assert dedupe.new([digest(7), digest(40_000)]) == [1]
    assert resident(sidecar_path(segment)) == 0
    assert dedupe.new(digests(range(19_990, 20_010))) == list(range(10, 20))
    assert resident(sidecar_path(segment)) > 0
    dedupe.replace(2, table(range(30_000, 30_100)))
    assert resident(sidecar_path(segment)) == 0
    assert dedupe.new(digests(range(19_990, 20_010))) == list(range(10, 20))


def test_any_flipped_byte_of_a_sidecar_is_noticed(tmp_path: Path) -> None:
    facts = write(tmp_path, range(4))
    segment = tmp_path / segment_name(1)
    whole = sidecar_path(segment).read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        sidecar_path(segment).write_bytes(changed)
        assert read_facts(segment, 1) is None or read_table(segment, facts) is None, position


def test_a_sidecar_of_another_size_of_segment_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    segment = tmp_path / segment_name(1)
    segment.write_bytes(b"x" * 501)
    assert read_facts(segment, 1) is None


@pytest.mark.parametrize("kept", [0, 50, -1])
def test_a_sidecar_that_is_cut_short_is_not_used(tmp_path: Path, kept: int) -> None:
    facts = write(tmp_path, range(40))
    segment = tmp_path / segment_name(1)
    sidecar_path(segment).write_bytes(sidecar_path(segment).read_bytes()[:kept])
    assert read_table(segment, facts) is None
