from dataclasses import replace
from typing import get_args

import pytest

from index.chunks import INDEX_NAMES, Chunk, ChunkState, IndexState, rfc3339
from tests.index_samples import NOON_NS, TUESDAY

COMMITTED = IndexState(state="committed", revision=2, rows=5, attempts=1, coverage={"events": 7})


def chunk(**indices: IndexState) -> Chunk:
    states = {name: indices.get(name, COMMITTED) for name in INDEX_NAMES}
    return Chunk(TUESDAY, 2, False, 7, 2, 1, NOON_NS, NOON_NS + 1_500_000_000, 4096, states)


def test_a_chunk_is_committed_when_every_index_holds_its_revision() -> None:
    assert chunk().state == "committed"


def test_a_chunk_is_closing_while_an_index_is_pending_or_behind() -> None:
    assert chunk(attack=IndexState()).state == "closing"
    assert chunk(attack=replace(COMMITTED, revision=1)).state == "closing"


def test_a_chunk_is_degraded_when_an_index_failed_even_if_another_is_pending() -> None:
    assert chunk(attack=replace(COMMITTED, state="failed")).state == "degraded"
    assert chunk(attack=IndexState(state="failed"), semantic=IndexState()).state == "degraded"


def test_a_chunk_with_unsealed_events_is_open_whatever_its_indices_hold() -> None:
    assert replace(chunk(), unsealed=True).state == "open"


def test_a_day_prints_exactly_the_documented_shape() -> None:
    failed = IndexState(
        state="failed", attempts=3, next_retry_ns=NOON_NS + 60_000_000_000, error="out of memory"
    )
    assert chunk(attack=failed).to_json() == {
        "day": "2017-07-04",
        "revision": 2,
        "state": "degraded",
        "events": 7,
        "duplicates": 2,
        "late": 1,
        "first_event": "2017-07-04T12:00:00Z",
        "last_event": "2017-07-04T12:00:01.500Z",
        "bytes": 4096,
        "indices": {
            "timeseries": committed_json(),
            "semantic": committed_json(),
            "attack": {
                "state": "failed",
                "revision": None,
                "rows": 0,
                "attempts": 3,
                "next_retry": "2017-07-04T12:01:00Z",
                "error": "out of memory",
                "model": None,
                "next": None,
            },
        },
        "coverage": {"timeseries": {"events": 7}, "semantic": {"events": 7}, "attack": {}},
    }


def committed_json() -> dict[str, object]:
    return {
        "state": "committed",
        "revision": 2,
        "rows": 5,
        "attempts": 1,
        "next_retry": None,
        "error": None,
        "model": COMMITTED.model,
        "next": None,
    }


def test_the_states_are_those_of_the_interface() -> None:
    assert set(get_args(ChunkState)) == {"open", "closing", "committed", "degraded"}


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00Z"),
        (NOON_NS, "2017-07-04T12:00:00Z"),
        (NOON_NS + 1, "2017-07-04T12:00:00.000000001Z"),
        (NOON_NS + 1_000, "2017-07-04T12:00:00.000001Z"),
        (NOON_NS + 120_000_000, "2017-07-04T12:00:00.120Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1 << 70, None),
    ],
)
def test_times_are_utc_with_no_more_digits_than_they_need(ns: int | None, text: str | None) -> None:
    assert rfc3339(ns) == text
