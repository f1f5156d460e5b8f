"""What every vector store promises. Another implementation joins with one line in `KINDS`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import DayMissingError, RevisionError, StoreWriteError, VectorError
from index.faiss_store import FaissStore
from index.store import Vectors, VectorStore, row_id, split_row_id
from tests.index_samples import DIMENSION, MODEL, MONDAY, TUESDAY, WEDNESDAY, unit_rows


@dataclass(frozen=True)
class Kind:
    """How to open one kind of store, for writing and for reading."""

    writable: Callable[[Path], VectorStore]
    reader: Callable[[Path], VectorStore]


KINDS = {
    "faiss": Kind(
        lambda root: FaissStore.open(root, "x", dimension=DIMENSION, model=MODEL, writable=True),
        lambda root: FaissStore.open(root, "x", dimension=DIMENSION, model=MODEL),
    ),
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def store(kind: Kind, tmp_path: Path) -> Iterator[VectorStore]:
    with kind.writable(tmp_path) as opened:
        yield opened


def test_a_new_store_is_empty_and_says_so(store: VectorStore) -> None:
    assert dict(store.shards()) == {}
    assert store.search(unit_rows(2, 0), 5) == [[], []]
    days, vectors = store.day_rows()
    assert (days, vectors.shape) == ([], (0, DIMENSION))


def test_a_commit_returns_its_rows_and_they_come_back_bit_for_bit(store: VectorStore) -> None:
    rows = unit_rows(11, 1)
    assert store.commit(TUESDAY, 1, [rows[:4], rows[4:4], rows[4:]]) == 11
    assert np.array_equal(store.vectors(TUESDAY), rows)
    assert np.array_equal(store.vectors(TUESDAY, [10, 0]), rows[[10, 0]])
    assert store.shards()[TUESDAY].rows == 11


def test_search_finds_the_nearest_row_first(store: VectorStore) -> None:
    rows = unit_rows(30, 2)
    store.commit(TUESDAY, 3, [rows])
    (hits,) = store.search(rows[17:18], 5)
    assert (hits[0].day, hits[0].revision, hits[0].row) == (TUESDAY, 3, 17)
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_search_agrees_with_comparing_everything(store: VectorStore) -> None:
    first, second = unit_rows(40, 3), unit_rows(50, 4)
    store.commit(MONDAY, 1, [first])
    store.commit(TUESDAY, 2, [second])
    queries = unit_rows(25, 5)
    expected = np.argsort(-(queries @ np.concatenate([first, second]).T), axis=1)[:, :7]
    found = [
        [hit.row + (0 if hit.day == MONDAY else 40) for hit in hits]
        for hits in store.search(queries, 7)
    ]
    assert found == expected.tolist()


def test_a_score_does_not_depend_on_the_other_queries(store: VectorStore) -> None:
    store.commit(TUESDAY, 1, [unit_rows(500, 6)])
    queries = unit_rows(30, 7)
    assert [store.search(query[np.newaxis], 5)[0] for query in queries] == store.search(queries, 5)


def test_equal_rows_come_by_day_and_row_whatever_the_order_of_commits(store: VectorStore) -> None:
    row = unit_rows(1, 8)
    same = np.repeat(row, 5, axis=0)
    for day in (WEDNESDAY, MONDAY, TUESDAY):
        store.commit(day, 1, [same])
    for k in (1, 4, 7, 15, 99):
        (hits,) = store.search(row, k)
        expected = [(day, at) for day in (MONDAY, TUESDAY, WEDNESDAY) for at in range(5)]
        assert [(hit.day, hit.row) for hit in hits] == expected[:k]


def test_asking_for_more_than_there_is_gives_all_there_is(store: VectorStore) -> None:
    store.commit(TUESDAY, 1, [unit_rows(3, 9)])
    assert [len(hits) for hits in store.search(unit_rows(2, 10), 1_000)] == [3, 3]


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (None, None, {MONDAY, TUESDAY, WEDNESDAY}),
        (TUESDAY, None, {TUESDAY, WEDNESDAY}),
        (None, TUESDAY, {MONDAY, TUESDAY}),
        (TUESDAY, TUESDAY, {TUESDAY}),
        (WEDNESDAY, MONDAY, set()),
        (date(2020, 1, 1), None, set()),
        (date.min, date.max, {MONDAY, TUESDAY, WEDNESDAY}),
    ],
)
def test_a_search_can_be_kept_to_a_range_of_days(
    store: VectorStore, first: date | None, last: date | None, found: set[date]
) -> None:
    for seed, day in enumerate((MONDAY, TUESDAY, WEDNESDAY)):
        store.commit(day, 1, [unit_rows(4, seed)])
    (hits,) = store.search(unit_rows(1, 11), 50, first=first, last=last)
    assert {hit.day for hit in hits} == found
    assert len(hits) == 4 * len(found)


def test_a_search_can_be_kept_to_given_rows(store: VectorStore) -> None:
    store.commit(MONDAY, 1, [unit_rows(9, 12)])
    store.commit(TUESDAY, 1, [unit_rows(9, 13)])
    only = np.array([row_id(TUESDAY, 1, 5), row_id(MONDAY, 1, 2), row_id(WEDNESDAY, 1, 0)])
    (hits,) = store.search(unit_rows(1, 14), 9, only=only)
    assert {(hit.day, hit.row) for hit in hits} == {(TUESDAY, 5), (MONDAY, 2)}
    (hits,) = store.search(unit_rows(1, 14), 9, only=only, first=TUESDAY)
    assert [(hit.day, hit.row) for hit in hits] == [(TUESDAY, 5)]
    assert store.search(unit_rows(1, 14), 9, only=np.array([], dtype=np.int64)) == [[]]


def test_a_search_can_leave_out_the_rows_of_whole_days(store: VectorStore) -> None:
    rows = unit_rows(6, 15)
    store.commit(MONDAY, 1, [rows])
    store.commit(TUESDAY, 1, [rows])
    (hits,) = store.search(rows[:1], 99, members_only=True)
    assert {hit.row for hit in hits} == {1, 2, 3, 4, 5}
    only = np.array([row_id(MONDAY, 1, 0), row_id(MONDAY, 1, 3)])
    (hits,) = store.search(rows[:1], 99, only=only, members_only=True)
    assert [hit.row for hit in hits] == [3]


def test_a_new_revision_replaces_the_old_one_whole(store: VectorStore) -> None:
    old, new = unit_rows(20, 16), unit_rows(3, 17)
    store.commit(TUESDAY, 1, [old])
    store.search(old[:1], 1)
    store.commit(TUESDAY, 2, [new])
    (hits,) = store.search(old[:1], 99)
    assert {(hit.revision, hit.row) for hit in hits} == {(2, 0), (2, 1), (2, 2)}
    assert np.array_equal(store.vectors(TUESDAY), new)


def test_committing_the_same_again_changes_nothing(store: VectorStore) -> None:
    rows = unit_rows(8, 18)
    store.commit(TUESDAY, 1, [rows])
    before = (store.generation, dict(store.shards()))
    assert store.commit(TUESDAY, 1, [rows[:5], rows[5:]]) == 8
    assert (store.generation, dict(store.shards())) == before


def test_other_rows_at_the_same_revision_replace_the_old_ones(store: VectorStore) -> None:
    store.commit(TUESDAY, 1, [unit_rows(8, 19)])
    store.search(unit_rows(1, 0), 1)
    for seed in (20, 21, 22):
        rows = unit_rows(8, seed)
        store.commit(TUESDAY, 1, [rows])
        assert np.array_equal(store.vectors(TUESDAY), rows)
    assert store.verify(deep=True) == []


def test_an_older_revision_is_refused(store: VectorStore) -> None:
    store.commit(TUESDAY, 2, [unit_rows(2, 20)])
    with pytest.raises(RevisionError, match="holds revision 2"):
        store.commit(TUESDAY, 1, [unit_rows(2, 21)])
    assert store.shards()[TUESDAY].revision == 2


@pytest.mark.parametrize("revision", [0, -1, 4096])
def test_a_revision_that_no_identifier_can_carry_is_refused(
    store: VectorStore, revision: int
) -> None:
    with pytest.raises(RevisionError, match=str(revision)):
        store.commit(TUESDAY, revision, [unit_rows(2, 22)])


def test_a_dropped_day_is_gone_and_dropping_it_again_is_no_error(store: VectorStore) -> None:
    store.commit(MONDAY, 1, [unit_rows(4, 23)])
    store.commit(TUESDAY, 1, [unit_rows(4, 24)])
    store.drop(MONDAY)
    store.drop(MONDAY)
    assert list(store.shards()) == [TUESDAY]
    (hits,) = store.search(unit_rows(1, 25), 99)
    assert {hit.day for hit in hits} == {TUESDAY}


def test_the_row_of_every_day_comes_oldest_first(store: VectorStore) -> None:
    rows = {day: unit_rows(3, seed) for seed, day in enumerate((WEDNESDAY, MONDAY, TUESDAY))}
    for day, vectors in rows.items():
        store.commit(day, 1, [vectors])
    days, matrix = store.day_rows()
    assert days == [MONDAY, TUESDAY, WEDNESDAY]
    assert np.array_equal(matrix, np.stack([rows[day][0] for day in days]))


def bad_rows(change: str) -> Any:
    rows = unit_rows(6, 26)
    match change:
        case "NaN":
            rows[3, 2] = np.nan
        case "infinity":
            rows[3, 2] = np.inf
        case "zero":
            rows[3] = 0
        case "long":
            rows[3] *= 1.01
        case "huge":
            rows[3] = 3e38
        case "wide":
            return unit_rows(6, 26, DIMENSION + 1)
        case "flat":
            return rows[0]
        case "double":
            return rows.astype(np.float64)
    return rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("NaN", "row 3 is not finite"),
        ("infinity", "row 3 is not finite"),
        ("huge", "row 3 is not finite"),
        ("zero", "row 3 has length 0.0"),
        ("long", "row 3 has length 1.01"),
        ("wide", r"shape \(6, 17\)"),
        ("flat", r"shape \(16,\)"),
        ("double", "float64"),
    ],
)
def test_rows_and_queries_that_cannot_be_compared_are_refused(
    store: VectorStore, change: str, words: str
) -> None:
    store.commit(TUESDAY, 1, [unit_rows(5, 27)])
    before = store.generation
    with pytest.raises(VectorError, match=words):
        store.commit(TUESDAY, 2, [unit_rows(5, 28), bad_rows(change)])
    with pytest.raises(VectorError, match=words):
        store.search(bad_rows(change), 3)
    assert store.generation == before
    assert store.shards()[TUESDAY].revision == 1


def test_a_chunk_without_rows_is_refused(store: VectorStore) -> None:
    for blocks in ([], [unit_rows(5, 0)[:0]]):
        with pytest.raises(VectorError, match="no rows"):
            store.commit(TUESDAY, 1, blocks)


def test_an_error_in_the_blocks_leaves_what_was_there(store: VectorStore) -> None:
    def broken() -> Iterator[Vectors]:
        yield unit_rows(5, 29)
        raise OSError("the encoder died")

    store.commit(TUESDAY, 1, [unit_rows(5, 30)])
    with pytest.raises(OSError, match="the encoder died"):
        store.commit(TUESDAY, 2, broken())
    assert store.shards()[TUESDAY].revision == 1
    assert store.commit(TUESDAY, 2, [unit_rows(5, 31)]) == 5


def test_less_than_one_hit_cannot_be_asked_for(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="k is 0"):
        store.search(unit_rows(1, 0), 0)


def test_rows_that_are_not_held_are_an_error_and_not_an_empty_answer(store: VectorStore) -> None:
    store.commit(TUESDAY, 1, [unit_rows(5, 32)])
    with pytest.raises(DayMissingError, match="2017-07-03"):
        store.vectors(MONDAY)
    for row in (5, -1):
        with pytest.raises(DayMissingError, match=f"not row {row}"):
            store.vectors(TUESDAY, [0, row])


def test_a_reader_sees_a_commit_after_a_refresh(kind: Kind, tmp_path: Path) -> None:
    with kind.writable(tmp_path) as writer:
        writer.commit(MONDAY, 1, [unit_rows(5, 33)])
        with kind.reader(tmp_path) as reader:
            assert len(reader.search(unit_rows(1, 0), 99)[0]) == 5
            assert reader.refresh() is False
            writer.commit(TUESDAY, 1, [unit_rows(6, 34)])
            assert len(reader.search(unit_rows(1, 0), 99)[0]) == 5
            assert reader.refresh() is True
            assert len(reader.search(unit_rows(1, 0), 99)[0]) == 11


def test_what_was_committed_is_there_after_opening_again(kind: Kind, tmp_path: Path) -> None:
    rows = unit_rows(12, 35)
    with kind.writable(tmp_path) as writer:
        writer.commit(TUESDAY, 4, [rows])
        generation = writer.generation
    with kind.writable(tmp_path) as again:
        assert again.generation == generation
        assert again.shards()[TUESDAY].revision == 4
        assert np.array_equal(again.vectors(TUESDAY), rows)


def test_a_reader_cannot_write(kind: Kind, tmp_path: Path) -> None:
    with kind.writable(tmp_path) as writer:
        writer.commit(MONDAY, 1, [unit_rows(5, 36)])
    with kind.reader(tmp_path) as reader:
        with pytest.raises(StoreWriteError, match="reading only"):
            reader.commit(TUESDAY, 1, [unit_rows(5, 37)])
        with pytest.raises(StoreWriteError, match="reading only"):
            reader.drop(MONDAY)


@pytest.mark.parametrize("day", [date.min, TUESDAY, date.max])
def test_an_identifier_gives_back_what_it_was_made_of(day: date) -> None:
    for revision in (1, 4095):
        for row in (0, (1 << 28) - 1):
            identifier = row_id(day, revision, row)
            assert split_row_id(identifier) == (day, revision, row)
            assert identifier < 1 << 63
    with pytest.raises(RevisionError, match="row"):
        row_id(day, 1, 1 << 28)
