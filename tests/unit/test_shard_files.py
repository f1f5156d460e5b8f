"""The shard format is FAISS's own, in both directions."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from index.durable_file import DurableFile
from index.errors import StoreCorruptError
from index.shards import SHARD_FOLDER, ids_of, read_shard, shard_name, shard_size, write_shard
from index.store import Shard, Vectors, row_id
from tests.index_samples import TUESDAY, unit_rows

SIZES = [(1, 1), (3, 16), (1_000, 384), (257, 256), (5, 512)]


def write(folder: Path, rows: Vectors, revision: int = 2) -> Shard:
    (folder / SHARD_FOLDER).mkdir(exist_ok=True)
    name = shard_name(TUESDAY, revision)
    dimension = rows.shape[1]
    with DurableFile(folder / SHARD_FOLDER / name, patched=True) as file:
        count = write_shard(
            file, [rows[:2], rows[2:]], day=TUESDAY, revision=revision, dimension=dimension
        )
        digest = file.sha256()
    size = shard_size(dimension, count)
    return Shard(TUESDAY, revision, count, name, size, digest)


def by_faiss(rows: Vectors, revision: int = 2) -> faiss.IndexIDMap2:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(rows.shape[1]))
    index.add_with_ids(rows, row_id(TUESDAY, revision, 0) + np.arange(len(rows), dtype=np.int64))
    return index


@pytest.mark.parametrize(("count", "dimension"), SIZES)
def test_a_shard_is_byte_for_byte_what_faiss_would_write(
    tmp_path: Path, count: int, dimension: int
) -> None:
    rows = unit_rows(count, 1, dimension)
    shard = write(tmp_path, rows)
    content = (tmp_path / SHARD_FOLDER / shard.file).read_bytes()
    assert content == faiss.serialize_index(by_faiss(rows)).tobytes()
    assert len(content) == shard.size


@pytest.mark.parametrize(("count", "dimension"), SIZES)
def test_faiss_loads_a_shard_and_finds_its_rows(tmp_path: Path, count: int, dimension: int) -> None:
    rows = unit_rows(count, 2, dimension)
    shard = write(tmp_path, rows)
    loaded = faiss.read_index(str(tmp_path / SHARD_FOLDER / shard.file))
    assert isinstance(loaded, faiss.IndexIDMap2)
    assert (loaded.ntotal, loaded.d, loaded.metric_type) == (
        count,
        dimension,
        faiss.METRIC_INNER_PRODUCT,
    )
    assert np.array_equal(loaded.reconstruct_batch(ids_of(shard)), rows)


@pytest.mark.parametrize(("count", "dimension"), SIZES)
def test_a_shard_reads_back_bit_for_bit(tmp_path: Path, count: int, dimension: int) -> None:
    rows = unit_rows(count, 3, dimension)
    shard = write(tmp_path, rows)
    blocks = list(read_shard(tmp_path, shard, index="x", dimension=dimension))
    assert np.array_equal(np.concatenate(blocks), rows)


def test_a_large_shard_is_written_and_read_in_blocks(tmp_path: Path) -> None:
    rows = unit_rows(5_000, 4, 512)
    shard = write(tmp_path, rows)
    blocks = list(read_shard(tmp_path, shard, index="x", dimension=512))
    assert len(blocks) > 2
    assert np.array_equal(np.concatenate(blocks), rows)


def test_a_damaged_shard_names_its_day_and_the_remedy(tmp_path: Path) -> None:
    shard = write(tmp_path, unit_rows(50, 5))
    path = tmp_path / SHARD_FOLDER / shard.file
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"2017-07-04.*dayfold repair") as caught:
        list(read_shard(tmp_path, shard, index="semantic", dimension=16))
    assert (caught.value.index, caught.value.day) == ("semantic", TUESDAY)


def test_a_shard_that_cannot_be_read_is_corrupt_and_not_empty(tmp_path: Path) -> None:
    shard = write(tmp_path, unit_rows(50, 6))
    path = tmp_path / SHARD_FOLDER / shard.file
    path.unlink()
    with pytest.raises(StoreCorruptError, match="is missing"):
        list(read_shard(tmp_path, shard, index="x", dimension=16))
    path.mkdir()
    with pytest.raises(StoreCorruptError, match="cannot be read"):
        list(read_shard(tmp_path, shard, index="x", dimension=16))
