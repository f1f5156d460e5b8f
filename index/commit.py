"""Committing a chunk to one index: the vectors and their meaning become visible together.

The order makes every crash harmless:

1. The facts of each block are staged in the catalogue, under their revision, where no search
   looks, while the vectors go into a new shard that no manifest names.
2. The coverage proof is taken.
3. The store switches to the new shard in one rename.
4. The catalogue flips the index to the revision and forgets older facts, in one transaction.

Before 3 everything is as it was. Between 3 and 4 the index shows the new rows, whose facts are
staged and found by their key, while the catalogue still says pending; doing it all again gives
the same bytes and ends in the same place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date

from index.catalogue import Catalogue
from index.chunks import FactsLike
from index.errors import CatalogueError, ModelMismatchError, VectorError
from index.store import ModelLike, Vectors, VectorStore

Blocks = Iterable[tuple[Vectors, Sequence[FactsLike]]]
Coverage = Mapping[str, int] | Callable[[], Mapping[str, int]]


def commit_chunk(
    store: VectorStore,
    catalogue: Catalogue,
    *,
    day: date,
    revision: int,
    blocks: Blocks,
    coverage: Coverage,
    model: ModelLike,
) -> int:
    """Commit one sealed revision of a day to one index. Gives its number of rows.

    Doing it again is harmless: at a revision that is held already `blocks` is not touched.

    Args:
        store: the index, open for writing. Its name is the name in the catalogue.
        catalogue: open for writing; the day must be sealed at `revision`.
        day: the day.
        revision: the sealed revision that `blocks` was made from.
        blocks: vectors (n, dimension) and the facts of the same n rows, taken one at a time.
        coverage: the proof, or a function that gives it once the last block was taken; an error
            it raises leaves everything as it was.
        model: the model that made the vectors.

    Raises:
        ModelMismatchError: the index is of another model.
        VectorError: rows that the store refuses, or a block with more or fewer facts than rows.
        CatalogueError: the day is not sealed at that revision.
        StoreError: reading or writing failed; the old revision is still served.
    """
    if model.sha256 != store.model.sha256:
        raise ModelMismatchError(
            f"rows of {day} were made by {model.name} ({model.sha256[:12]}), index {store.name} "
            f"holds rows of {store.model.name} ({store.model.sha256[:12]}); rebuild the index."
        )
    chunk = catalogue.chunk(day)
    if chunk is None or chunk.revision != revision:
        sealed = f"sealed at revision {chunk.revision}" if chunk else "not in the catalogue"
        raise CatalogueError(
            f"{day} is {sealed}, so revision {revision} cannot be committed to index "
            f"{store.name}; close the day again."
        )
    state = catalogue.state(day, store.name)
    held = store.shards().get(day)
    if (
        held is not None
        and state is not None
        and (state.state, state.revision, state.rows) == ("committed", revision, held.rows)
        and (held.revision, state.model) == (revision, model.sha256)
    ):
        return held.rows
    proof: list[Mapping[str, int]] = []
    staged = _staged(store.name, catalogue, day, revision, blocks, coverage, proof)
    rows = store.commit(day, revision, staged)
    catalogue.commit_index(
        day, store.name, revision=revision, rows=rows, model=model.sha256, coverage=proof[0]
    )
    return rows


def _staged(
    index: str,
    catalogue: Catalogue,
    day: date,
    revision: int,
    blocks: Blocks,
    coverage: Coverage,
    proof: list[Mapping[str, int]],
) -> Iterator[Vectors]:
    """Hand on the vectors of each block once its facts are durable; end with the proof."""
    row = 0
    for vectors, facts in blocks:
        if len(vectors) != len(facts):
            raise VectorError(
                f"index {index} of {day}, after row {row}: {len(vectors)} vectors and "
                f"{len(facts)} facts; each row has both."
            )
        catalogue.stage_rows(index, day, revision, row, facts)
        row += len(facts)
        yield vectors
    proof.append(dict(coverage() if callable(coverage) else coverage))
