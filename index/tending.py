"""Making and keeping the approximate layer of an index, after commits and beside answers.

Nobody waits for it: days are committed before, readers take what is there and encode by themselves
what is not, and an index without it is searched exactly. Training takes a sample of bounded size;
a day that comes later is encoded by what was trained, until there are twice as many rows.

Recall is measured on the index itself: stored rows, turned aside by noise so that none of them is
its own answer, are looked up in the lists and by comparing with every row. Lists are added until
the recall is `WANTED`; a row counts as found if its score is that of the tenth nearest or better, so
that equals do not count as misses.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index import lazy_faiss as faiss
from index.approximate import ApproximateRows, Trained, encode, row_sums
from index.code_files import (
    FOLDER,
    LIST,
    CodeFile,
    CodeList,
    read_codes,
    read_list,
    read_trained,
    write_codes,
    write_list,
    write_trained,
)
from index.durable_file import TEMPORARY
from index.errors import StoreCorruptError
from index.exact_rows import Selection
from index.faiss_store import APPROXIMATE_FROM
from index.manifest import Manifest, read_manifest
from index.row_reader import RowReader
from index.shards import ids_of, read_shard
from index.store import Shard, Vectors
from index.store_folder import take_lock

WANTED = 0.985
SAMPLE = 100
NEAREST = 10
# Cosine between a stored row and the query made of it, about.
NEARNESS = 0.9
TRAINED_BY = 40
ROUNDS = 8
MEASURED_AGAIN_AT = 1.1
TRAINED_AGAIN_AT = 2.0


@dataclass(frozen=True, slots=True)
class Tended:
    """What was done: whether it was trained anew, shards encoded, and the recall in force."""

    trained: bool
    encoded: int
    recall_at_10: float


def tend(root: Path, name: str, *, approximate_from: int = APPROXIMATE_FROM) -> Tended | None:
    """Bring the approximate layer of the index `name` below `root` to what the index holds.

    Every file of it is checked, and made anew if it fails. Gives None, and removes it, while there
    are fewer rows than `approximate_from`.

    Raises:
        StoreLockedError: the index is open for writing.
        StoreCorruptError: the manifest is damaged. A damaged shard is passed over.
        StoreWriteError: a write failed; call it again.
    """
    folder = root / name
    lock = take_lock(folder)
    # Nobody waits for this, and answers may be wanted beside it.
    faiss.omp_set_num_threads(1)
    try:
        manifest = read_manifest(folder, name)
        if manifest.rows < approximate_from:
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
            return None
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        return _tend(folder, manifest)
    finally:
        os.close(lock)


def _tend(folder: Path, manifest: Manifest) -> Tended:
    listed = read_list(folder)
    trained = read_trained(folder, listed) if listed else None
    anew = trained is None or manifest.rows >= TRAINED_AGAIN_AT * trained.rows
    if trained is None or anew:
        file, sha256 = write_trained(folder, _train(folder, manifest))
        listed = CodeList(file, sha256, manifest.rows, 1, 0.0, 0, SAMPLE)
        trained = read_trained(folder, listed)
    assert listed is not None  # noqa: S101 - read or just made
    assert trained is not None  # noqa: S101 - as above
    codes: dict[str, CodeFile] = {}
    encoded = 0
    width = int(trained.index.sa_code_size())
    for shard in manifest.shards.values():
        if read_codes(folder, listed, shard, width) is not None:
            codes[shard.file] = listed.codes[shard.file]
            continue
        try:
            codes[shard.file] = _encode(folder, manifest, shard, trained)
            encoded += 1
        except StoreCorruptError:
            continue  # it is named where the index is searched, and healed elsewhere
    listed = _with(listed, codes)
    if anew or manifest.rows >= MEASURED_AGAIN_AT * listed.measured_rows:
        listed = _measured(folder, manifest, listed, trained)
    if listed != read_list(folder):
        write_list(folder, listed)
    _remove_leftovers(folder, listed)
    return Tended(anew, encoded, listed.recall_at_10)


def _train(folder: Path, manifest: Manifest) -> Any:  # an IndexIVFScalarQuantizer
    lists = 1 << max(4, round(np.log2(2 * np.sqrt(manifest.rows))))
    wanted = TRAINED_BY * lists
    share = min(1.0, wanted / manifest.rows)
    draw = np.random.default_rng(manifest.rows)
    sample = [
        block[draw.random(len(block)) < share]
        for shard in manifest.shards.values()
        for block in _blocks(folder, manifest, shard)
    ]
    rows = np.ascontiguousarray(np.concatenate(sample)[: 2 * wanted])
    centres = faiss.IndexFlatIP(manifest.dimension)
    index = faiss.IndexIVFScalarQuantizer(
        centres,
        manifest.dimension,
        min(lists, max(1, len(rows) // 2)),
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
        True,
    )
    index.cp.niter = ROUNDS
    index.cp.spherical = True
    index.cp.min_points_per_centroid = 1
    index.train(rows)
    return index


def _blocks(folder: Path, manifest: Manifest, shard: Shard) -> Iterator[Vectors]:
    """The vectors of a shard; nothing more of it once it turns out to be damaged."""
    try:
        yield from read_shard(folder, shard, index=manifest.index, dimension=manifest.dimension)
    except StoreCorruptError:
        return


def _encode(folder: Path, manifest: Manifest, shard: Shard, trained: Trained) -> CodeFile:
    blocks = read_shard(folder, shard, index=manifest.index, dimension=manifest.dimension)
    codes, sums = [], []
    for block in blocks:
        codes.append(encode(trained.index, block))
        sums.append(row_sums(block))
    return write_codes(folder, shard, trained.sha256, np.concatenate(codes), np.concatenate(sums))


def _with(
    listed: CodeList,
    codes: dict[str, CodeFile],
    measured: tuple[int, float, int, int] | None = None,
) -> CodeList:
    lists, recall, rows, sample = measured or (
        listed.lists_searched,
        listed.recall_at_10,
        listed.measured_rows,
        listed.sample,
    )
    return CodeList(
        listed.trained_file, listed.trained_sha256, listed.rows, lists, recall, rows, sample, codes
    )


def _measured(folder: Path, manifest: Manifest, listed: CodeList, trained: Trained) -> CodeList:
    """The list with the fewest lists to search that give the recall wanted, and the recall."""
    reader = RowReader(folder, manifest)
    rows = ApproximateRows(trained, reader)
    for shard in manifest.shards.values():
        found = read_codes(folder, listed, shard, rows.width)
        if found is not None:
            rows.add_codes(ids_of(shard), *found)
    queries, edge = _true_edge(folder, manifest)
    everything = Selection(0, 1 << 62)
    lists, recall = 1, 0.0
    while recall < WANTED and lists < trained.index.nlist:
        lists = min(lists * 2, trained.index.nlist)
        rows.lists_searched = lists
        hits = rows.search(queries, NEAREST, everything)
        right = sum(
            int((scores >= least - 1e-6).sum())
            for (scores, _), least in zip(hits, edge, strict=True)
        )
        recall = right / (NEAREST * len(queries))
    reader.close()
    return _with(listed, dict(listed.codes), (lists, round(recall, 4), manifest.rows, len(queries)))


def _true_edge(folder: Path, manifest: Manifest) -> tuple[Vectors, Vectors]:
    """Queries, and the score of the tenth nearest row of each by comparing with every row."""
    draw = np.random.default_rng(manifest.rows + 1)
    share = min(1.0, 4 * SAMPLE / manifest.rows)
    drawn = np.concatenate(
        [
            block[draw.random(len(block)) < share]
            for shard in manifest.shards.values()
            for block in _blocks(folder, manifest, shard)
        ]
    )
    drawn = drawn[draw.permutation(len(drawn))[:SAMPLE]]
    noise = draw.standard_normal(drawn.shape) / np.sqrt(drawn.shape[1])
    queries = drawn + noise * np.sqrt(1 / NEARNESS**2 - 1)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    queries = np.ascontiguousarray(queries, np.float32)
    best = np.full((len(queries), NEAREST), -2.0, np.float32)
    for shard in manifest.shards.values():
        for block in _blocks(folder, manifest, shard):
            scores = np.concatenate([best, queries @ block.T], axis=1)
            best = np.partition(scores, -NEAREST, axis=1)[:, -NEAREST:]
    return queries, best.min(axis=1)


def _remove_leftovers(folder: Path, listed: CodeList) -> None:
    kept = {LIST, listed.trained_file, *(code.file for code in listed.codes.values())}
    for path in (folder / FOLDER).iterdir():
        if path.name not in kept or path.name.endswith(TEMPORARY):
            path.unlink(missing_ok=True)
