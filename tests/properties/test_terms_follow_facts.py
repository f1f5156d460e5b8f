"""Whatever happens to the days of a catalogue, a condition finds the rows that meet it and no others."""

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from index.catalogue import Catalogue
from index.store import ModelIdentity, row_id
from index.terms import TermMatch
from tests.index_samples import MONDAY, TUESDAY, DayCounts, Facts

MODELS = [ModelIdentity(name, name * 64) for name in "ab"]
VALUES = ["10.0.0.1", "10.0.0.2", "DDoS", 7, 7.0, True, None]
FIELDS = ["source_ip", "source_ips", "threat_category", "categories", "event_id"]
values = st.sampled_from(VALUES)
details = st.dictionaries(
    st.sampled_from(FIELDS),
    values
    | st.lists(values, max_size=3)
    | st.dictionaries(st.sampled_from(["10.0.0.1", "7", "ddos"]), st.just(1)),
    max_size=3,
)
days = st.sampled_from([MONDAY, TUESDAY])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("seal"), days, st.just([])),
        st.tuples(st.just("stage"), days, st.lists(details, min_size=1, max_size=4)),
        st.tuples(st.just("commit"), days, st.lists(details, min_size=1, max_size=4)),
        st.tuples(st.sampled_from(["forget", "terms", "model", "switch"]), days, st.just([])),
    ),
    max_size=14,
)


def edition_of(catalogue: Catalogue) -> str:
    upcoming = catalogue.upcoming("semantic")
    return catalogue.serving("semantic") if upcoming is None else upcoming.name


def take(catalogue: Catalogue, step: str, day: date, rows: list[dict[str, Any]]) -> None:
    chunk = catalogue.chunk(day)
    revision = chunk.revision if chunk else 0
    facts = [Facts("event", str(number), detail=detail) for number, detail in enumerate(rows)]
    edition = edition_of(catalogue)
    match step:
        case "seal":
            catalogue.seal_chunk(day, revision + 1, DayCounts())
        case "stage" | "commit" if revision:
            catalogue.stage_rows(edition, day, revision, 0, facts)
            held = catalogue.held_revisions(edition).get(day)
            if step == "commit" or held == revision:
                # What is staged over rows that are shown is committed next, in the same process.
                catalogue.commit_index(
                    day, edition, revision=revision, rows=len(facts), model="m", coverage={}
                )
        case "forget":
            catalogue.erase_day(day)
        case "terms":
            catalogue.make_terms(edition)
        case "model":
            served = catalogue.serving("semantic")
            catalogue.begin_edition("semantic", MODELS[served.endswith(MODELS[0].sha256[:12])])
        case "switch":
            old = catalogue.serving("semantic")
            if catalogue.switch_edition("semantic"):
                catalogue.forget_facts(old, set(catalogue.held_revisions(old)))
        case _:
            pass


def matching(catalogue: Catalogue, edition: str, field: str, value: str | float) -> list[int]:
    term = TermMatch(field, value)
    return [
        row_id(row.day, row.revision, row.row)
        for day in catalogue.held_revisions(edition)
        for row in catalogue.facts_of("semantic", day)
        if row.index == edition and term.matches(_plain(row.detail))
    ]


def _plain(detail: Mapping[str, Any]) -> dict[str, Any]:
    return dict(detail)


@settings(max_examples=25)
@given(taken=steps, field=st.sampled_from(FIELDS), value=st.sampled_from(VALUES[:-1]))
def test_any_history_leaves_conditions_that_find_what_the_facts_say(
    taken: list[tuple[str, date, list[dict[str, Any]]]], field: str, value: str | float
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Catalogue.open(Path(folder) / "catalogue.sqlite") as catalogue,
    ):
        for step, day, rows in taken:
            take(catalogue, step, day, rows)
            for edition in {"semantic", catalogue.serving("semantic")}:
                found = catalogue.rows_where(edition, field, value).tolist()
                assert found == matching(catalogue, edition, field, value)
        assert catalogue.check(deep=True) == []
        for edition in {catalogue.serving("semantic"), edition_of(catalogue)}:
            catalogue.make_terms(edition)
            assert catalogue.check(deep=True) == []
            found = catalogue.rows_where(edition, field, value).tolist()
            assert found == matching(catalogue, edition, field, value)
