import numpy as np

from index.exact_rows import ExactRows, Selection
from tests.index_samples import unit_rows

EVERYTHING = Selection(0, 1 << 62)


def test_equal_rows_fill_the_last_place_by_identifier_whatever_their_order() -> None:
    row = unit_rows(1, 1)
    better = unit_rows(3, 2)
    ids = np.random.default_rng(3).permutation(1_000).astype(np.int64)
    rows = ExactRows(16)
    rows.add(ids, np.repeat(row, 1_000, axis=0))
    rows.add(np.array([5_000, 5_001, 5_002]), better)
    ((_, found),) = rows.search(row, 6, EVERYTHING)
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    ((_, found),) = rows.search(better[1:2], 3, EVERYTHING)
    assert found[0] == 5_001


def test_making_room_changes_no_row() -> None:
    kept = unit_rows(20, 4)
    rows = ExactRows(16)
    rows.add(np.arange(20), kept)
    rows.reserve(10_000)
    assert rows.rows == 20
    rows.add(np.arange(20, 40), unit_rows(20, 5))
    rows.reserve(1)
    assert rows.rows == 40
    assert np.array_equal(rows.vectors(np.arange(20)), kept)


def test_removing_a_range_leaves_the_others_under_their_identifiers() -> None:
    kept = unit_rows(30, 6)
    rows = ExactRows(16)
    rows.add(np.arange(30), kept)
    rows.remove(10, 20)
    assert rows.rows == 20
    left = np.r_[0:10, 20:30]
    assert np.array_equal(rows.vectors(left), kept[left])
    ((_, found),) = rows.search(kept[15:16], 99, EVERYTHING)
    assert sorted(found.tolist()) == left.tolist()


def test_a_selection_joins_range_rows_and_exceptions() -> None:
    rows = ExactRows(16)
    rows.add(np.arange(30), unit_rows(30, 7))
    only, excluded = np.array([3, 5, 7, 25, 7]), np.array([5, 6])
    ((_, found),) = rows.search(unit_rows(1, 8), 99, Selection(4, 20, only, excluded))
    assert found.tolist() == [7]
