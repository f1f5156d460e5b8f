"""Conditions are answered from terms; terms are never believed over the facts they are made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.store import row_id
from tests.index_samples import MONDAY, TUESDAY, DayCounts, Facts

ROWS = [
    Facts("day", "day", detail={"total": 3}),
    Facts("event", "a", detail={"source_ip": "10.0.0.1", "event_id": "a", "tags": ["X", "x"]}),
    Facts("event", "b", detail={"source_ip": "10.0.0.2", "event_id": "b", "note": "é" * 200}),
    Facts("event", "c", detail={"source_ips": {"10.0.0.1": 2}, "half": "\ud800", "a\nb": 1}),
]
FIRST = [row_id(MONDAY, 1, 1), row_id(MONDAY, 1, 3)]
BOTH = [*FIRST, row_id(TUESDAY, 1, 1), row_id(TUESDAY, 1, 3)]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """Two days, both with their terms."""
    with Catalogue.open(tmp_path / "catalogue.sqlite") as opened:
        for day in (MONDAY, TUESDAY):
            opened.seal_chunk(day, 1, DayCounts())
            opened.stage_rows("semantic", day, 1, 0, ROWS)
            opened.commit_index(
                day, "semantic", revision=1, rows=len(ROWS), model="a1", coverage={}
            )
        assert opened.make_terms("semantic") == 2
        yield opened


def change(catalogue: Catalogue, statement: str, *values: object) -> None:
    with sqlite3.connect(catalogue.path) as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def source(catalogue: Catalogue, value: str = "10.0.0.1") -> list[int]:
    found: list[int] = catalogue.rows_where("semantic", "source_ip", value).tolist()
    return found


def test_no_facts_are_read_for_a_day_that_has_its_terms(catalogue: Catalogue) -> None:
    change(catalogue, "UPDATE row_facts SET detail = '{}'")
    assert source(catalogue) == BOTH
    assert source(catalogue, "10.0.0.9") == []


@pytest.mark.parametrize(
    ("field", "value", "rows"),
    [
        ("tag", "x", [1]),
        ("total", "3.0", [0]),
        ("event_id", "b", [2]),
        ("note", "É" * 200, []),
        ("note", "é" * 200, [2]),
        ("half", "\ud800", [3]),
        ("a\nb", 1, [3]),
    ],
)
def test_what_is_not_listed_is_found_in_the_facts(
    catalogue: Catalogue, field: str, value: str | float, rows: list[int]
) -> None:
    expected = [row_id(day, 1, row) for day in (MONDAY, TUESDAY) for row in rows]
    assert catalogue.rows_where("semantic", field, value).tolist() == expected


def test_making_them_again_makes_nothing(catalogue: Catalogue) -> None:
    assert catalogue.make_terms("semantic") == 0


def test_staging_a_revision_anew_drops_its_terms(catalogue: Catalogue) -> None:
    catalogue.stage_rows("semantic", MONDAY, 1, 1, [Facts("event", "a", detail={})])
    assert source(catalogue) == BOTH[1:]
    assert catalogue.check(deep=True) == []
    assert catalogue.make_terms("semantic") == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE row_terms SET rows = x'02000000'",
        "UPDATE row_terms SET crc = crc + 1",
        "UPDATE termed_revisions SET terms = terms + 1",
    ],
)
def test_damaged_ones_are_left_aside_told_and_made_again(catalogue: Catalogue, damage: str) -> None:
    change(catalogue, f"{damage} WHERE day = ?", str(MONDAY))
    assert source(catalogue) == BOTH
    assert [where for where, _ in catalogue.check(deep=True)] == [f"semantic {MONDAY}"]
    assert catalogue.drop_wrong_terms() == [f"semantic {MONDAY}"]
    assert catalogue.check(deep=True) == []
    assert catalogue.make_terms("semantic") == 1
    assert source(catalogue) == BOTH


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE row_terms SET term = '10.0.0.3' WHERE term = '10.0.0.2'",
        "DELETE FROM row_terms WHERE term = '10.0.0.2'",
        "DELETE FROM termed_revisions",
    ],
)
def test_one_under_another_name_or_gone_is_told(catalogue: Catalogue, damage: str) -> None:
    change(catalogue, damage)
    told = [where for where, _ in catalogue.check(deep=True)]
    assert told == [f"semantic {MONDAY}", f"semantic {TUESDAY}"]


def test_a_deleted_day_leaves_no_terms(catalogue: Catalogue) -> None:
    catalogue.erase_day(MONDAY)
    with sqlite3.connect(catalogue.path) as connection:
        left = connection.execute(
            "SELECT day FROM row_terms UNION SELECT day FROM termed_revisions"
        ).fetchall()
    connection.close()
    assert left == [(str(TUESDAY),)]
