"""What is particular to the FAISS store: its files, its lock, its model, its generations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from index.errors import (
    ModelMismatchError,
    StoreCorruptError,
    StoreLockedError,
    StoreMissingError,
    StoreWriteError,
)
from index.faiss_store import FaissStore
from index.manifest import read_manifest
from tests.index_samples import (
    DIMENSION,
    MODEL,
    MONDAY,
    OTHER_MODEL,
    TUESDAY,
    WEDNESDAY,
    open_store,
    unit_rows,
)
from tests.unit.test_durable_file import files_of_at_most


def names(root: Path) -> list[str]:
    folder = root / "semantic"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_files_are_named_by_day_revision_and_generation(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 0)])
    assert names(tmp_path) == [
        "CURRENT",
        "manifest-00000001.json",
        "manifest-00000002.json",
        "shards/2017-07-04-r0001.faiss",
        "writer.lock",
    ]


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with open_store(tmp_path / "index") as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 0)])
    for path in (tmp_path / "index", *(tmp_path / "index").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_the_generation_before_is_kept_with_its_shards_and_no_more(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for revision in (1, 2, 3, 4):
            store.commit(TUESDAY, revision, [unit_rows(3, revision)])
    assert names(tmp_path) == [
        "CURRENT",
        "manifest-00000004.json",
        "manifest-00000005.json",
        "shards/2017-07-04-r0003.faiss",
        "shards/2017-07-04-r0004.faiss",
        "writer.lock",
    ]


def test_a_writable_open_removes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(MONDAY, 1, [unit_rows(3, 1)])
        store.commit(TUESDAY, 1, [unit_rows(3, 2)])
    before = names(tmp_path)
    folder = tmp_path / "semantic"
    for leftover in (
        "CURRENT.tmp",
        "manifest-00000004.json",
        "manifest-00000005.json.tmp",
        "shards/2017-07-05-r0001.faiss",
        "shards/2017-07-06-r0001.faiss.tmp",
    ):
        (folder / leftover).write_bytes(b"cut short")
    with FaissStore.open(tmp_path, "semantic") as reader:
        assert len(reader.shards()) == 2
    assert len(names(tmp_path)) == len(before) + 5
    with open_store(tmp_path) as store:
        assert store.verify(deep=True) == []
        assert len(store.shards()) == 2
    assert names(tmp_path) == before


def test_only_one_may_write(tmp_path: Path) -> None:
    with open_store(tmp_path):
        with pytest.raises(StoreLockedError, match="semantic"):
            open_store(tmp_path)
        with open_store(tmp_path, "attack"):
            pass
    with open_store(tmp_path) as again:
        assert again.generation == 1


def test_reading_where_no_index_is_yet_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="semantic"):
        FaissStore.open(tmp_path, "semantic")
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_model_are_never_mixed_in(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 0)])
    with pytest.raises(ModelMismatchError, match=r"small-encoder.*not with other-encoder"):
        open_store(tmp_path, model=OTHER_MODEL)
    with pytest.raises(ModelMismatchError, match="Rebuild"):
        FaissStore.open(tmp_path, "semantic", model=OTHER_MODEL)
    with pytest.raises(ModelMismatchError, match="vectors of 16, not 17"):
        FaissStore.open(tmp_path, "semantic", dimension=17)
    with open_store(tmp_path) as store:
        assert store.model == MODEL
        assert list(store.shards()) == [TUESDAY]


def test_a_rebuild_begins_empty_with_the_new_model(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 0)])
    with FaissStore.open(tmp_path, "semantic", model=MODEL) as reader:
        with open_store(tmp_path, model=OTHER_MODEL, rebuild=True) as store:
            assert dict(store.shards()) == {}
            store.commit(TUESDAY, 1, [unit_rows(4, 1)])
            assert store.verify(deep=True) == []
        with pytest.raises(ModelMismatchError):
            reader.refresh()
    with open_store(tmp_path, model=OTHER_MODEL, rebuild=True) as store:
        assert store.shards()[TUESDAY].rows == 4


def test_a_rebuild_may_change_the_dimension(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 0)])
    with FaissStore.open(
        tmp_path, "semantic", dimension=8, model=OTHER_MODEL, writable=True, rebuild=True
    ) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 0, 8)])
        assert store.vectors(TUESDAY).shape == (3, 8)
        assert store.verify(deep=True) == []


def test_a_reader_whose_files_have_gone_reads_the_newer_generation(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 1)])
        with FaissStore.open(tmp_path, "semantic") as reader:
            for revision in (2, 3, 4):
                store.commit(TUESDAY, revision, [unit_rows(3, revision)])
            (hits,) = reader.search(unit_rows(1, 0), 9)
    assert {hit.revision for hit in hits} == {4}
    assert reader.shards()[TUESDAY].revision == 4


def test_a_reader_keeps_serving_its_generation_until_it_refreshes(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 1)])
        with FaissStore.open(tmp_path, "semantic") as reader:
            reader.load()
            for revision in (2, 3, 4):
                store.commit(TUESDAY, revision, [unit_rows(3, revision)])
            assert {hit.revision for hit in reader.search(unit_rows(1, 0), 9)[0]} == {1}
            assert reader.refresh()
            assert {hit.revision for hit in reader.search(unit_rows(1, 0), 9)[0]} == {4}


def test_a_reader_in_another_process_sees_what_was_committed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from index.faiss_store import FaissStore\n"
        "store = FaissStore.open(Path(sys.argv[1]), 'semantic')\n"
        "for line in sys.stdin:\n"
        "    store.refresh(); print(store.generation, len(store.vectors(list(store.shards())[-1])),"
        " flush=True)\n"
    )
    with open_store(tmp_path) as store:
        store.commit(MONDAY, 1, [unit_rows(3, 1)])
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for day, rows in ((TUESDAY, 5), (WEDNESDAY, 7)):
                store.commit(day, 1, [unit_rows(rows, rows)])
                child.stdin.write("\n")
                child.stdin.flush()
                assert child.stdout.readline().split() == [str(store.generation), str(rows)]
            child.stdin.close()


def test_a_damaged_shard_is_left_out_and_named_and_the_others_are_searched(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(MONDAY, 1, [unit_rows(3, 1)])
        store.commit(TUESDAY, 1, [unit_rows(3, 2)])
    path = tmp_path / "semantic/shards/2017-07-04-r0001.faiss"
    sound = path.read_bytes()
    content = bytearray(sound)
    content[100] ^= 4
    path.write_bytes(content)
    with FaissStore.open(tmp_path, "semantic") as reader:
        for _ in range(2):
            assert [hit.day for hit in reader.search(unit_rows(1, 0), 9)[0]] == [MONDAY] * 3
            assert reader.day_rows()[0] == [MONDAY]
            assert len(reader.vectors(MONDAY)) == 3
            with pytest.raises(StoreCorruptError, match="2017-07-04") as caught:
                reader.vectors(TUESDAY)
            assert reader.damaged() == {TUESDAY: caught.value}
            reader.refresh()
        # As a repair does: the same bytes under the same name, and no new generation.
        path.unlink()
        path.write_bytes(sound)
        reader.refresh()
        assert reader.damaged() == {}
        assert len(reader.search(unit_rows(1, 0), 9)[0]) == 6


def test_what_a_newer_generation_damaged_is_named_and_the_rest_of_it_served(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, FaissStore.open(tmp_path, "semantic") as reader:
        store.commit(MONDAY, 1, [unit_rows(3, 1)])
        reader.refresh()
        reader.load()
        store.commit(TUESDAY, 1, [unit_rows(3, 2)])
        path = tmp_path / "semantic/shards/2017-07-04-r0001.faiss"
        path.write_bytes(path.read_bytes()[:-1])
        for _ in range(2):
            reader.refresh()
            assert len(reader.search(unit_rows(1, 0), 9)[0]) == 3
            assert list(reader.damaged()) == [TUESDAY]


def test_committing_again_heals_a_damaged_shard(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 2)])
        path = tmp_path / "semantic/shards/2017-07-04-r0001.faiss"
        sound = path.read_bytes()
        path.write_bytes(b"")
        assert store.verify(deep=False)
        assert store.commit(TUESDAY, 1, [unit_rows(3, 2)]) == 3
        assert path.read_bytes() == sound
        assert store.verify(deep=True) == []


def test_a_full_disk_leaves_the_old_revision_and_the_store_usable(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 1, [unit_rows(3, 2)])
        before = names(tmp_path)
        with files_of_at_most(10_000), pytest.raises(StoreWriteError, match="2017-07-04-r0002"):
            store.commit(TUESDAY, 2, [unit_rows(1_000, 2)])
        with files_of_at_most(300), pytest.raises(StoreWriteError, match="manifest"):
            store.commit(TUESDAY, 2, [unit_rows(1, 2)])
        assert {name for name in names(tmp_path) if "r0002" not in name} == set(before)
        assert store.verify(deep=True) == []
        assert store.commit(TUESDAY, 2, [unit_rows(1_000, 2)]) == 1_000


def test_a_commit_needs_memory_for_a_block_and_not_for_the_day(tmp_path: Path) -> None:
    """The blocks of 200 MB pass through; what the child holds grows by a tenth of that."""
    program = (
        "import resource, sys; from pathlib import Path; from tests.index_samples import *\n"
        "import numpy as np\n"
        "block = unit_rows(10_000, 1, 512)\n"
        "store = FaissStore.open(Path(sys.argv[1]), 'x', dimension=512, model=MODEL, writable=True)\n"
        "store.commit(MONDAY, 1, [block])\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = store.commit(TUESDAY, 1, (block for _ in range(10)))\n"
        "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    rows, grown_kb = map(int, done.stdout.split())
    assert rows == 100_000
    assert grown_kb < 20_000
    assert (tmp_path / "x/shards/2017-07-04-r0001.faiss").stat().st_size > 200_000_000


def test_a_manifest_says_what_the_store_holds(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit(TUESDAY, 3, [unit_rows(3, 2)])
        manifest = read_manifest(tmp_path / "semantic", "semantic")
    assert manifest.generation == 2
    assert (manifest.dimension, manifest.model, manifest.rows) == (DIMENSION, MODEL, 3)
    assert manifest.shards[TUESDAY].revision == 3


def test_a_closed_store_cannot_be_written_and_closing_twice_is_no_error(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreWriteError, match="closed"):
        store.commit(TUESDAY, 1, [unit_rows(3, 2)])


def test_vectors_handed_out_are_copies(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        rows = unit_rows(3, 2)
        store.commit(TUESDAY, 1, [rows])
        store.vectors(TUESDAY)[:] = 0
        assert np.array_equal(store.vectors(TUESDAY), rows)
