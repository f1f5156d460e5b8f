from dataclasses import replace
from datetime import date
from pathlib import Path
from types import MappingProxyType

import pytest

from index.errors import StoreCorruptError, StoreMissingError
from index.manifest import (
    CURRENT,
    Manifest,
    manifest_name,
    read_current,
    read_generation,
    read_manifest,
    write_manifest,
)
from index.store import Shard
from tests.index_samples import MODEL, MONDAY, TUESDAY


def shard(day: date, revision: int = 1) -> Shard:
    return Shard(day, revision, 10, f"{day}-r{revision:04d}.faiss", 1_000, "c3" * 32)


def manifest(generation: int = 1) -> Manifest:
    shards = MappingProxyType({MONDAY: shard(MONDAY), TUESDAY: shard(TUESDAY, 2)})
    return Manifest("semantic", generation, 16, MODEL, shards)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(12))
    assert read_manifest(tmp_path, "semantic") == manifest(12)
    assert (tmp_path / "manifest-00000012.json").exists()
    assert read_current(tmp_path, "semantic")[0] == 12


def test_the_following_generation_lists_days_oldest_first() -> None:
    following = manifest(3).following({TUESDAY: shard(TUESDAY), MONDAY: shard(MONDAY)})
    assert following.generation == 4
    assert list(following.shards) == [MONDAY, TUESDAY]


def test_the_generation_in_force_is_the_one_named_and_not_the_highest(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(4))
    (tmp_path / manifest_name(5)).write_bytes(b"cut short")
    assert read_manifest(tmp_path, "semantic").generation == 4


def test_a_lost_newest_manifest_is_not_taken_for_an_older_index(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(4))
    write_manifest(tmp_path, manifest(5))
    (tmp_path / manifest_name(5)).unlink()
    with pytest.raises(StoreCorruptError, match=r"manifest-00000005\.json is missing"):
        read_manifest(tmp_path, "semantic")


def test_a_lost_pointer_is_not_taken_for_a_new_index(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(4))
    (tmp_path / CURRENT).unlink()
    with pytest.raises(StoreCorruptError, match="CURRENT is missing"):
        read_manifest(tmp_path, "semantic")


def test_a_lost_pointer_beside_shards_is_not_taken_for_a_new_index(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / shard(MONDAY).file).write_bytes(b"rows")
    with pytest.raises(StoreCorruptError, match="CURRENT is missing"):
        read_manifest(tmp_path, "semantic")


def test_an_empty_folder_is_no_index_yet(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreMissingError, match="no index semantic"):
            read_manifest(folder, "semantic")


def test_a_pointer_to_another_generation_is_found(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(4))
    write_manifest(tmp_path, manifest(5))
    pointer = (tmp_path / CURRENT).read_text()
    (tmp_path / CURRENT).write_text(pointer.replace('"generation": 5', '"generation": 4'))
    with pytest.raises(StoreCorruptError, match=r"manifest-00000004\.json fails"):
        read_manifest(tmp_path, "semantic")


def test_a_manifest_of_another_index_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(manifest(4), index="attack"))
    with pytest.raises(StoreCorruptError, match="belongs to attack"):
        read_manifest(tmp_path, "semantic")


def test_a_manifest_stands_by_its_own_checksum_where_no_pointer_vouches_for_it(
    tmp_path: Path,
) -> None:
    write_manifest(tmp_path, manifest(4))
    assert read_generation(tmp_path, "semantic", 4) == manifest(4)
    path = tmp_path / manifest_name(4)
    path.write_text(path.read_text().replace('"rows": 10', '"rows": 11'))
    with pytest.raises(StoreCorruptError, match="fails its own checksum"):
        read_generation(tmp_path, "semantic", 4)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"generation": "x"}']
)
def test_a_pointer_or_manifest_that_is_no_such_thing_is_corrupt(
    tmp_path: Path, content: bytes
) -> None:
    write_manifest(tmp_path, manifest(4))
    (tmp_path / manifest_name(4)).write_bytes(content)
    with pytest.raises(StoreCorruptError, match="manifest-00000004"):
        read_generation(tmp_path, "semantic", 4)
    (tmp_path / CURRENT).write_bytes(content)
    with pytest.raises(StoreCorruptError, match="CURRENT is damaged"):
        read_manifest(tmp_path, "semantic")
