from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from index.catalogue import Catalogue
from index.chunks import RowKey
from index.commit import commit_chunk
from index.errors import (
    CatalogueError,
    ModelMismatchError,
    RowsReplacedError,
    VectorError,
)
from index.faiss_store import FaissStore
from index.lookup import find_rows
from index.store import Hit, Vectors, VectorStore
from tests.index_samples import (
    COVERAGE,
    MODEL,
    MONDAY,
    OTHER_MODEL,
    TUESDAY,
    DayCounts,
    Facts,
    chunk_blocks,
    commit_sample,
    open_store,
    unit_rows,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaissStore]:
    with open_store(tmp_path / "index") as opened:
        yield opened


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.open(tmp_path / "catalogue.sqlite") as opened:
        for day in (MONDAY, TUESDAY):
            opened.seal_chunk(day, 1, DayCounts())
        yield opened


def test_a_committed_chunk_has_its_vectors_its_facts_and_its_proof(
    store: FaissStore, catalogue: Catalogue
) -> None:
    assert commit_sample(store, catalogue, TUESDAY, rows=10, seed=1) == 10
    assert np.array_equal(store.vectors(TUESDAY), unit_rows(10, 1))
    assert [row.row for row in catalogue.facts_of("semantic", TUESDAY)] == list(range(10))
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    state = chunk.indices["semantic"]
    assert (state.state, state.revision, state.rows) == ("committed", 1, 10)
    assert (state.model, state.coverage) == (MODEL.sha256, COVERAGE)


def test_committing_again_touches_no_block(store: FaissStore, catalogue: Catalogue) -> None:
    asked: list[int] = []

    def blocks() -> Iterator[tuple[Vectors, Sequence[Facts]]]:
        asked.append(1)
        yield from chunk_blocks(10, 2)

    commit_sample(store, catalogue, TUESDAY, rows=10)
    rows = commit_chunk(
        store,
        catalogue,
        day=TUESDAY,
        revision=1,
        blocks=blocks(),
        coverage={},
        model=MODEL,
    )
    assert (rows, asked) == (10, [])


def test_a_later_revision_replaces_rows_and_facts(store: FaissStore, catalogue: Catalogue) -> None:
    commit_sample(store, catalogue, TUESDAY, rows=10, seed=1)
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    commit_sample(store, catalogue, TUESDAY, 2, rows=4, seed=2)
    assert store.shards()[TUESDAY].revision == 2
    assert catalogue.count_facts() == {("semantic", TUESDAY, 2): 4}


def test_the_proof_is_taken_after_the_last_block_and_its_refusal_leaves_the_old_revision(
    store: FaissStore, catalogue: Catalogue
) -> None:
    taken: list[int] = []

    def blocks() -> Iterator[tuple[Vectors, Sequence[Facts]]]:
        for block in chunk_blocks(10, 2):
            taken.append(len(block[1]))
            yield block

    def proof() -> Mapping[str, int]:
        raise ArithmeticError(f"{sum(taken)} of 11 events")

    commit_sample(store, catalogue, TUESDAY, rows=10, seed=1)
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    with pytest.raises(ArithmeticError, match="10 of 11 events"):
        commit_chunk(
            store,
            catalogue,
            day=TUESDAY,
            revision=2,
            blocks=blocks(),
            coverage=proof,
            model=MODEL,
        )
    assert store.shards()[TUESDAY].revision == 1
    assert len(catalogue.facts_of("semantic", TUESDAY)) == 10
    assert commit_sample(store, catalogue, TUESDAY, 2, rows=4) == 4


def test_rows_of_another_model_are_refused(store: FaissStore, catalogue: Catalogue) -> None:
    with pytest.raises(ModelMismatchError, match="rebuild the index"):
        commit_chunk(
            store,
            catalogue,
            day=TUESDAY,
            revision=1,
            blocks=chunk_blocks(3, 1),
            coverage={},
            model=OTHER_MODEL,
        )
    assert dict(store.shards()) == {}


def test_only_the_sealed_revision_of_a_known_day_is_committed(
    store: FaissStore, catalogue: Catalogue
) -> None:
    with pytest.raises(CatalogueError, match="sealed at revision 1"):
        commit_sample(store, catalogue, TUESDAY, 2)
    with pytest.raises(CatalogueError, match="not in the catalogue"):
        commit_sample(store, catalogue, TUESDAY.replace(year=2018))
    assert dict(store.shards()) == {}


def test_a_block_with_more_vectors_than_facts_is_refused(
    store: FaissStore, catalogue: Catalogue
) -> None:
    (vectors, facts), *_ = chunk_blocks(4, 1)
    with pytest.raises(VectorError, match="4 vectors and 3 facts"):
        commit_chunk(
            store,
            catalogue,
            day=TUESDAY,
            revision=1,
            blocks=[(vectors, facts[:3])],
            coverage={},
            model=MODEL,
        )


def test_found_rows_come_with_their_facts(store: FaissStore, catalogue: Catalogue) -> None:
    commit_sample(store, catalogue, MONDAY, rows=10, seed=1)
    commit_sample(store, catalogue, TUESDAY, rows=10, seed=2)
    (found,) = find_rows(store, catalogue, unit_rows(10, 2)[4:5], 3)
    assert found[0].hit.day == TUESDAY
    assert found[0].facts.label == "s2-0000004"
    (found,) = find_rows(
        store, catalogue, unit_rows(1, 9), 99, where=[("source_ip", "10.0.0.4")], last=MONDAY
    )
    assert [(entry.hit.day, entry.hit.row) for entry in found] == [(MONDAY, 4)]
    (found,) = find_rows(store, catalogue, unit_rows(1, 9), 99, members_only=True)
    assert {entry.facts.kind for entry in found} == {"event"}
    wheres = [("source_ip", "10.0.0.4"), ("source_ip", "10.0.0.5")]
    assert find_rows(store, catalogue, unit_rows(1, 9), 99, where=wheres) == [[]]


class CommitsInBetween(FaissStore):
    """A reader during whose search a commit happens, as another process would make it."""

    def search(self, queries: Vectors, k: int, **limits: object) -> list[list[Hit]]:
        found = super().search(queries, k)
        while pending_commits:
            store, catalogue, revision = pending_commits.pop()
            catalogue.seal_chunk(TUESDAY, revision, DayCounts())
            commit_sample(store, catalogue, TUESDAY, revision, rows=6, seed=revision)
        return found


pending_commits: list[tuple[VectorStore, Catalogue, int]] = []


def test_a_commit_between_vectors_and_facts_is_searched_again(
    store: FaissStore, catalogue: Catalogue, tmp_path: Path
) -> None:
    commit_sample(store, catalogue, TUESDAY, rows=10, seed=1)
    with CommitsInBetween.open(tmp_path / "index", "semantic") as reader:
        pending_commits.append((store, catalogue, 2))
        (found,) = find_rows(reader, catalogue, unit_rows(1, 9), 99)
    assert {(entry.hit.revision, entry.facts.revision) for entry in found} == {(2, 2)}
    assert len(found) == 6


def test_rows_without_facts_are_an_error_and_never_shown(
    store: FaissStore, catalogue: Catalogue
) -> None:
    store.commit(TUESDAY, 1, [unit_rows(3, 1)])
    with pytest.raises(RowsReplacedError):
        find_rows(store, catalogue, unit_rows(1, 9), 3)


def test_between_the_switch_and_the_flip_new_rows_have_their_facts(
    store: FaissStore, catalogue: Catalogue
) -> None:
    """What a reader sees when a commit was cut between its last two steps."""
    commit_sample(store, catalogue, TUESDAY, rows=10, seed=1)
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    for vectors, facts in chunk_blocks(4, 2):
        catalogue.stage_rows("semantic", TUESDAY, 2, 0, facts)
        store.commit(TUESDAY, 2, [vectors])
    (found,) = find_rows(store, catalogue, unit_rows(4, 2)[2:3], 1)
    assert (found[0].hit.revision, found[0].facts.label) == (2, "s2-0000002")
    assert catalogue.rows("semantic", [RowKey(TUESDAY, 1, 9)])
    assert commit_sample(store, catalogue, TUESDAY, 2, rows=4, seed=2) == 4
    assert catalogue.count_facts() == {("semantic", TUESDAY, 2): 4}


def test_a_damaged_day_is_left_out_of_the_lookup_and_named(
    store: FaissStore, catalogue: Catalogue, tmp_path: Path
) -> None:
    commit_sample(store, catalogue, MONDAY, rows=4)
    commit_sample(store, catalogue, TUESDAY, rows=10)
    shard = tmp_path / "index/semantic/shards" / store.shards()[TUESDAY].file
    shard.write_bytes(b"")
    (found,) = find_rows(store, catalogue, unit_rows(1, 9), 99)
    assert [one.facts.day for one in found] == [MONDAY] * 4
    assert list(store.damaged()) == [TUESDAY]
