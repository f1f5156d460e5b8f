import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.chunks import RowKey
from index.errors import CatalogueCorruptError, CatalogueError, RowsReplacedError
from index.store import row_id
from tests.index_samples import MONDAY, NOON_NS, TUESDAY, DayCounts, Facts, facts_of


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.open(tmp_path / "catalogue.sqlite") as opened:
        for day in (MONDAY, TUESDAY):
            opened.seal_chunk(day, 1, DayCounts())
        yield opened


def commit(
    catalogue: Catalogue,
    facts: list[Facts],
    *,
    day: object = TUESDAY,
    revision: int = 1,
    index: str = "attack",
) -> None:
    day_held = MONDAY if day == MONDAY else TUESDAY
    catalogue.stage_rows(index, day_held, revision, 0, facts)
    catalogue.commit_index(
        day_held, index, revision=revision, rows=len(facts), model="a1", coverage={}
    )


def test_facts_come_back_as_they_went_in_and_in_the_order_asked(catalogue: Catalogue) -> None:
    detail = {"name": "é \u2028 'quoted' \"x\"", "ports": {"443": 2}, "deep": [1, None, 2.5]}
    commit(
        catalogue, [Facts("day", "day"), Facts("series", "näme", 3, NOON_NS, NOON_NS + 9, detail)]
    )
    second, first = catalogue.rows("attack", [RowKey(TUESDAY, 1, 1), RowKey(TUESDAY, 1, 0)])
    assert (second.kind, second.label, second.weight) == ("series", "näme", 3)
    assert (second.first_ns, second.last_ns) == (NOON_NS, NOON_NS + 9)
    assert dict(second.detail) == detail
    assert (first.index, first.day, first.revision, first.row) == ("attack", TUESDAY, 1, 0)
    assert catalogue.rows("attack", []) == []


def test_a_row_prints_its_times_and_its_detail(catalogue: Catalogue) -> None:
    commit(catalogue, [Facts("day", "day", 4, detail={"total": 4})])
    (row,) = catalogue.rows("attack", [RowKey(TUESDAY, 1, 0)])
    assert row.to_json() == {
        "day": "2017-07-04",
        "revision": 1,
        "row": 0,
        "kind": "day",
        "label": "day",
        "weight": 4,
        "first": "2017-07-04T12:00:00Z",
        "last": "2017-07-04T12:00:00.000000001Z",
        "detail": {"total": 4},
    }


def test_a_new_revision_forgets_the_facts_of_the_old_one(catalogue: Catalogue) -> None:
    commit(catalogue, facts_of(5))
    commit(catalogue, facts_of(5), day=MONDAY)
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    commit(catalogue, facts_of(3, "new"), revision=2)
    assert catalogue.count_facts() == {("attack", MONDAY, 1): 5, ("attack", TUESDAY, 2): 3}
    with pytest.raises(RowsReplacedError, match="refresh it and search again"):
        catalogue.rows("attack", [RowKey(TUESDAY, 1, 0)])


def test_staged_facts_are_found_by_their_key_and_by_nothing_else(catalogue: Catalogue) -> None:
    catalogue.stage_rows("attack", TUESDAY, 1, 0, facts_of(3, "staged"))
    assert catalogue.rows("attack", [RowKey(TUESDAY, 1, 2)])[0].label == "staged-0000002"
    assert catalogue.find_event("staged-0000002") == []
    assert catalogue.rows_where("attack", "source_ip", "10.0.0.2").tolist() == []
    assert catalogue.facts_of("attack", TUESDAY) == []


def test_staging_again_replaces_and_settling_forgets_what_is_too_many(
    catalogue: Catalogue,
) -> None:
    catalogue.stage_rows("attack", TUESDAY, 1, 0, facts_of(9, "old"))
    commit(catalogue, facts_of(4, "new"))
    labels = [row.label for row in catalogue.facts_of("attack", TUESDAY)]
    assert labels == ["day", "new-0000001", "new-0000002", "new-0000003"]


def test_an_event_is_found_in_every_index_and_day_that_has_it(catalogue: Catalogue) -> None:
    commit(catalogue, facts_of(3, "same"))
    commit(catalogue, facts_of(3, "same"), day=MONDAY)
    found = catalogue.find_event("same-0000001")
    assert [(row.day, row.row) for row in found] == [(MONDAY, 1), (TUESDAY, 1)]
    assert catalogue.find_event("day") == []


def test_rows_are_found_by_what_their_detail_holds(catalogue: Catalogue) -> None:
    commit(
        catalogue,
        [
            Facts("day", "day", detail={"source_ip": "10.0.0.1"}),
            Facts("event", "a", detail={"source_ip": "10.0.0.1", "destination_port": 443}),
            Facts("event", "b", detail={"source_ip": "10.0.0.10", "note": "10.0.0.1"}),
            Facts("description", "c", detail={"source_ips": {"10.0.0.1": 9}}),
        ],
    )
    commit(catalogue, [Facts("event", "d", detail={"source_ip": "10.0.0.1"})], day=MONDAY)
    expected = [row_id(MONDAY, 1, 0), *(row_id(TUESDAY, 1, row) for row in (0, 1, 3))]
    assert catalogue.rows_where("attack", "source_ip", "10.0.0.1").tolist() == expected
    assert catalogue.rows_where("attack", "destination_port", 443).tolist() == expected[2:3]
    assert catalogue.rows_where("semantic", "source_ip", "10.0.0.1").tolist() == []


def test_numbers_that_json_lacks_are_stored_as_nothing(catalogue: Catalogue) -> None:
    detail = {"score": math.nan, "list": [math.inf, 1.0], "map": {"x": -math.inf}}
    commit(catalogue, [Facts("event", "a", detail=detail)])
    (row,) = catalogue.rows("attack", [RowKey(TUESDAY, 1, 0)])
    assert dict(row.detail) == {"score": None, "list": [None, 1.0], "map": {"x": None}}


@pytest.mark.parametrize("detail", [{"x": b"bytes"}, {"x": {1, 2}}, {"x": object()}])
def test_detail_that_json_cannot_hold_is_refused_by_name(
    catalogue: Catalogue, detail: dict[str, object]
) -> None:
    with pytest.raises(CatalogueError, match="index attack of 2017-07-04, row 0"):
        catalogue.stage_rows("attack", TUESDAY, 1, 0, [Facts("event", "a", detail=detail)])


def test_a_label_that_is_no_text_is_refused_by_name(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="row 0: kind or label"):
        catalogue.stage_rows("attack", TUESDAY, 1, 0, [Facts("event", "\ud800")])


@pytest.mark.parametrize("label", ["", "a\0b", "%", "'; DROP TABLE chunks; --", "\u202e"])
def test_a_label_of_any_text_comes_back_as_it_was(catalogue: Catalogue, label: str) -> None:
    commit(catalogue, [Facts("event", label)])
    assert [row.label for row in catalogue.find_event(label)] == [label]


def test_facts_that_were_altered_are_not_believed(catalogue: Catalogue) -> None:
    commit(catalogue, facts_of(5))
    with sqlite3.connect(catalogue.path) as connection:
        connection.execute("UPDATE row_facts SET weight = 2 WHERE row = 3")
    connection.close()
    assert len(catalogue.rows("attack", [RowKey(TUESDAY, 1, 2)])) == 1
    with pytest.raises(CatalogueCorruptError, match="row 3 of 2017-07-04"):
        catalogue.rows("attack", [RowKey(TUESDAY, 1, 3)])
    with pytest.raises(CatalogueCorruptError, match="row 3 of 2017-07-04"):
        catalogue.facts_of("attack", TUESDAY)
    with pytest.raises(CatalogueCorruptError, match="row 3 of 2017-07-04"):
        catalogue.find_event("event-0000003")
    assert catalogue.check(deep=False) == []
    assert [where for where, _ in catalogue.check(deep=True)] == ["attack 2017-07-04 row 3"]
