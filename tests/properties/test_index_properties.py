"""The index against a plain model of it, over drawn histories."""

import json
import sqlite3
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from index.faiss_store import FaissStore
from index.fusion import fuse_days, reciprocal_rank
from index.store import ModelIdentity, Vectors, row_id, split_row_id
from index.terms import TermMatch

MODEL = ModelIdentity("m", "a1" * 32)
DAYS = [date(2017, 7, 3) + timedelta(days=step) for step in range(4)]
# Rows along the axes have scores of exactly -1, 0 and 1, so ties are everywhere.
AXES: Vectors = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)

rows_drawn = st.lists(st.integers(0, 5), min_size=1, max_size=8)
steps_drawn = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(DAYS), rows_drawn),
        st.tuples(st.just("drop"), st.sampled_from(DAYS), st.just([])),
        st.tuples(st.just("reopen"), st.just(DAYS[0]), st.just([])),
        st.tuples(st.just("search"), st.just(DAYS[0]), rows_drawn),
    ),
    max_size=12,
)


def expected(
    model: dict[date, tuple[int, list[int]]], query: int, k: int, first: date, last: date
) -> list[tuple[date, int, int, float]]:
    scored = [
        (day, revision, row, float(AXES[query] @ AXES[axis]))
        for day, (revision, axes) in model.items()
        if first <= day <= last
        for row, axis in enumerate(axes)
    ]
    return sorted(scored, key=lambda entry: (-entry[3], entry[0], entry[2]))[:k]


@settings(max_examples=25)
@given(steps=steps_drawn, k=st.integers(1, 40), window=st.tuples(*[st.sampled_from(DAYS)] * 2))
def test_any_history_of_commits_leaves_what_a_plain_model_says(
    steps: list[tuple[str, date, list[int]]], k: int, window: tuple[date, date]
) -> None:
    model: dict[date, tuple[int, list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        with FaissStore.open(Path(folder), "x") as reader:
            for revision, (step, day, axes) in enumerate(steps, 1):
                match step:
                    case "commit":
                        store.commit(day, revision, [AXES[axes]])
                        model[day] = (revision, axes)
                    case "drop":
                        store.drop(day)
                        model.pop(day, None)
                    case "reopen":
                        store.close()
                        store = open_store(Path(folder))
                    case _:
                        agree(store, model, k, window)
                        reader.refresh()
                        agree(reader, model, k, window)
            agree(store, model, k, window)
            reader.refresh()
            agree(reader, model, k, window)
            assert store.verify(deep=True) == []
            store.close()


def open_store(folder: Path) -> FaissStore:
    return FaissStore.open(folder, "x", dimension=3, model=MODEL, writable=True)


def agree(
    store: FaissStore,
    model: dict[date, tuple[int, list[int]]],
    k: int,
    window: tuple[date, date],
) -> None:
    assert list(store.shards()) == sorted(model)
    found = store.search(AXES, k, first=window[0], last=window[1])
    for query, hits in enumerate(found):
        told = [(hit.day, hit.revision, hit.row, hit.score) for hit in hits]
        assert told == expected(model, query, k, *window)
    days, matrix = store.day_rows()
    assert days == sorted(model)
    assert np.array_equal(matrix, AXES[[model[day][1][0] for day in days]].reshape(-1, 3))


@given(
    first=st.tuples(st.dates(), st.integers(1, 4095), st.integers(0, (1 << 28) - 1)),
    second=st.tuples(st.dates(), st.integers(1, 4095), st.integers(0, (1 << 28) - 1)),
)
def test_identifiers_are_unique_and_sort_by_day_revision_and_row(
    first: tuple[date, int, int], second: tuple[date, int, int]
) -> None:
    assert split_row_id(row_id(*first)) == first
    assert (row_id(*first) < row_id(*second)) == (first < second)


scalars = st.one_of(
    st.text(max_size=6),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.sampled_from(["10.0.0.7", "443", "DDoS", "ddos", "50%", "a_b", "\\", '"', "1e3", "é"]),
)
held_values = st.one_of(
    scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=5), st.integers())
)


@given(value=st.one_of(st.text(max_size=6), st.integers(), st.booleans()), held=held_values)
@example(value="NONE", held=None)
@example(value="none", held=[None])
def test_every_match_fits_the_pattern_that_sqlite_is_given(value: Any, held: Any) -> None:
    detail = json.loads(json.dumps({"field": held}))
    _check_pattern(TermMatch("field", value), detail)


@given(held=held_values, data=st.data())
def test_what_a_detail_holds_is_found_by_its_text(held: Any, data: st.DataObject) -> None:
    detail = json.loads(json.dumps({"fields": held}))
    inside = list(detail["fields"]) if isinstance(detail["fields"], dict | list) else [held]
    if inside:
        value = data.draw(st.sampled_from(inside))
        if isinstance(value, str | int | float):
            term = TermMatch("field", value)
            assert term.matches(detail)
            _check_pattern(term, detail)


def _check_pattern(term: TermMatch, detail: dict[str, Any]) -> None:
    with sqlite3.connect(":memory:") as connection:
        fits = connection.execute(
            r"SELECT ? LIKE ? ESCAPE '\'", (json.dumps(detail), term.pattern)
        ).fetchone()[0]
    connection.close()
    assert fits or not term.matches(detail)


rankings_drawn = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(st.integers(0, 9), unique=True)
)


@given(rankings=rankings_drawn)
def test_joined_rankings_hold_each_item_once_and_honour_agreement(
    rankings: dict[str, list[int]],
) -> None:
    fused = reciprocal_rank(rankings)
    items = [entry.item for entry in fused]
    assert sorted(items) == sorted({item for ranking in rankings.values() for item in ranking})
    scores = [entry.score for entry in fused]
    assert scores == sorted(scores, reverse=True)
    for one in items:
        for other in items:
            # Ahead in every ranking means ahead in the joined one.
            if one != other and all(
                one in ranking
                and (other not in ranking or ranking.index(one) < ranking.index(other))
                for ranking in rankings.values()
            ):
                assert items.index(one) < items.index(other)


@given(
    by_index=st.dictionaries(
        st.sampled_from(["timeseries", "semantic", "attack"]),
        st.none() | st.dictionaries(st.sampled_from(DAYS), st.floats(-1, 1)),
    ),
    weights=st.dictionaries(
        st.sampled_from(["timeseries", "semantic", "attack"]), st.floats(0.125, 8)
    ),
)
def test_a_fused_day_lies_between_its_similarities(
    by_index: dict[str, dict[date, float] | None], weights: dict[str, float]
) -> None:
    for entry in fuse_days(by_index, weights=weights):
        known = entry.by_index.values()
        assert min(known) - 1e-9 <= entry.score <= max(known) + 1e-9
        assert set(entry.by_index) | set(entry.missing) == set(by_index)
        assert not set(entry.by_index) & set(entry.missing)
