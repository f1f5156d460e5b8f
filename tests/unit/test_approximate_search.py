"""A large index is searched by codes and lists; what it gives is exact, whole and never stale."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from index import tending
from index.code_files import FOLDER, LIST, read_list
from index.errors import StoreWriteError
from index.faiss_store import FaissStore
from index.forget import forget_day
from index.repair import salvage
from index.store import Hit, Vectors, row_id
from index.tending import WANTED, tend
from index.verify_files import verify_files
from tests.index_samples import DIMENSION, MODEL, open_store, unit_rows

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(6)]
ROWS = 400
FROM = 1_000


def rows_of(number: int, rows: int = ROWS) -> Vectors:
    return unit_rows(rows, 100 + number)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six days, tended."""
    with open_store(tmp_path) as store:
        for number, day in enumerate(DAYS):
            store.commit(day, 1, [rows_of(number)])
    tended = tend(tmp_path, "semantic", approximate_from=FROM)
    assert tended is not None
    assert tended.encoded == len(DAYS)
    return tmp_path


def reader(root: Path) -> FaissStore:
    return FaissStore.open(root, "semantic", approximate_from=FROM)


@pytest.fixture
def store(root: Path) -> Iterator[FaissStore]:
    with reader(root) as opened:
        assert opened.search_facts()["search"] == "approximate"
        yield opened


def files(root: Path) -> list[Path]:
    return sorted((root / "semantic" / FOLDER).iterdir())


def exactly(root: Path, queries: Vectors, k: int) -> list[list[Hit]]:
    with FaissStore.open(root, "semantic") as store:
        assert store.search_facts() == {
            "rows": len(DAYS) * ROWS,
            "search": "exact",
            "recall_at_10": 1.0,
        }
        return store.search(queries, k)


def test_it_finds_what_an_exact_search_finds_with_the_true_scores(
    root: Path, store: FaissStore
) -> None:
    queries = unit_rows(40, 7)
    found = store.search(queries, 10)
    right = 0
    for query, hits, true in zip(queries, found, exactly(root, queries, 10), strict=True):
        right += len({hit[:3] for hit in map(_key, hits)} & {hit[:3] for hit in map(_key, true)})
        for hit in hits:
            row = rows_of(DAYS.index(hit.day))[hit.row]
            assert hit.score == pytest.approx(float(row @ query), abs=1e-6)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert right / 400 >= 0.97


def _key(hit: Hit) -> tuple[date, int, int]:
    return hit.day, hit.revision, hit.row


def test_it_says_the_recall_that_was_measured_on_it(root: Path, store: FaissStore) -> None:
    facts = store.search_facts()
    listed = read_list(root / "semantic")
    assert listed is not None
    assert facts["recall_at_10"] == listed.recall_at_10 >= WANTED
    assert facts["measured_at_rows"] == len(DAYS) * ROWS


def test_days_rows_and_members_limit_what_is_found(store: FaissStore) -> None:
    query = unit_rows(1, 8)
    for days in (DAYS[1:3], DAYS[4:5]):
        hits = store.search(query, 30, first=days[0], last=days[-1])[0]
        assert len(hits) == 30
        assert {hit.day for hit in hits} <= set(days)
    heads = np.array([row_id(day, 1, 0) for day in DAYS])
    assert {hit.row for hit in store.search(query, 99, only=heads)[0]} == {0}
    only = np.array([row_id(DAYS[2], 1, row) for row in range(ROWS)] + [row_id(DAYS[3], 9, 1)])
    hits = store.search(query, ROWS + 5, only=only, members_only=True)[0]
    assert {_key(hit) for hit in hits} == {(DAYS[2], 1, row) for row in range(1, ROWS)}
    assert store.search(query, 5, only=np.empty(0, np.int64)) == [[]]


def test_vectors_are_the_exact_ones(store: FaissStore) -> None:
    assert np.array_equal(store.vectors(DAYS[3], [7, 0, 8, 9]), rows_of(3)[[7, 0, 8, 9]])
    days, vectors = store.day_rows()
    assert days == DAYS
    assert np.array_equal(vectors, np.stack([rows_of(n)[0] for n in range(len(DAYS))]))


def test_a_day_is_found_as_soon_as_it_is_committed_and_gone_when_it_is_replaced(
    root: Path, store: FaissStore
) -> None:
    later = DAYS[-1] + timedelta(days=1)
    with open_store(root) as writer:
        writer.commit(later, 1, [rows_of(50)])
        writer.commit(DAYS[0], 2, [rows_of(51)])
    assert store.refresh()
    assert store.search_facts()["search"] == "approximate"
    assert _key(store.search(rows_of(50)[9:10], 1)[0][0]) == (later, 1, 9)
    assert _key(store.search(rows_of(51)[9:10], 1)[0][0]) == (DAYS[0], 2, 9)
    gone = store.search(rows_of(0)[9:10], 5)[0]
    assert all((hit.day, hit.revision) != (DAYS[0], 1) for hit in gone)
    tended = tend(root, "semantic", approximate_from=FROM)
    assert tended is not None
    assert (tended.trained, tended.encoded) == (False, 2)
    held = {path.name[:16] for path in files(root) if path.suffix == ".codes"}
    assert f"{DAYS[0]}-r0002" in held
    assert f"{DAYS[0]}-r0001" not in held


def test_it_is_trained_anew_when_there_are_twice_as_many_rows(root: Path) -> None:
    before = read_list(root / "semantic")
    with open_store(root) as writer:
        writer.commit(DAYS[-1] + timedelta(days=1), 1, [rows_of(60, len(DAYS) * ROWS)])
    tended = tend(root, "semantic", approximate_from=FROM)
    after = read_list(root / "semantic")
    assert tended is not None
    assert before is not None
    assert after is not None
    assert (tended.trained, tended.encoded) == (True, len(DAYS) + 1)
    assert after.trained_sha256 != before.trained_sha256
    assert after.measured_rows == 2 * len(DAYS) * ROWS


def test_whatever_of_it_is_damaged_is_left_aside_told_and_made_again(root: Path) -> None:
    queries = unit_rows(5, 9)
    with reader(root) as sound:
        expected = [[_key(hit) for hit in hits] for hits in sound.search(queries, 10)]
    for path in files(root):
        content = path.read_bytes()
        for damage in (_flipped(content), content[:-1], b""):
            path.write_bytes(damage)
            faults = verify_files(root / "semantic", "semantic", deep=False).faults
            assert [fault.what for fault in faults] == ["approximate"]
            assert path.name in faults[0].where
            with reader(root) as store:
                hits = store.search(queries, 10)
                # By the exact vectors, or by codes made on the spot.
                found = [[_key(hit) for hit in of_query] for of_query in hits]
                assert sum(a != b for a, b in zip(found, expected, strict=True)) <= 1
                assert store.damaged() == {}
            tend(root, "semantic", approximate_from=FROM)
            assert verify_files(root / "semantic", "semantic", deep=False).faults == []


def _flipped(content: bytes) -> bytes:
    altered = bytearray(content)
    altered[len(altered) // 2] ^= 8
    return bytes(altered)


def test_a_repair_takes_damaged_codes_away_and_keeps_every_day(root: Path) -> None:
    codes = next(path for path in files(root) if path.suffix == ".codes")
    codes.write_bytes(_flipped(codes.read_bytes()))
    kept = salvage(root, "semantic", dimension=DIMENSION, model=MODEL)
    assert (kept.kept, kept.lost) == (DAYS, [])
    assert verify_files(root / "semantic", "semantic", deep=True).faults == []


def test_a_row_that_rotted_on_the_disk_is_never_an_answer_and_its_day_is_named(
    root: Path,
) -> None:
    shard = root / "semantic/shards" / f"{DAYS[2]}-r0001.faiss"
    query = rows_of(2)[5:6]
    content = bytearray(shard.read_bytes())
    at = bytes(content).index(query.tobytes())
    content[at + 20] ^= 1
    shard.write_bytes(content)
    with reader(root) as store:
        hits = store.search(query, 10)[0]
        assert len(hits) == 10
        assert DAYS[2] not in {hit.day for hit in hits}
        assert list(store.damaged()) == [DAYS[2]]
        assert store.day_rows()[0] == [day for day in DAYS if day != DAYS[2]]


def test_a_shard_that_is_cut_short_or_gone_is_named_before_anybody_asks(root: Path) -> None:
    shard = root / "semantic/shards" / f"{DAYS[2]}-r0001.faiss"
    shard.write_bytes(shard.read_bytes()[:-1])
    (root / "semantic/shards" / f"{DAYS[4]}-r0001.faiss").unlink()
    with reader(root) as store:
        assert list(store.damaged()) == [DAYS[2], DAYS[4]]
        assert {hit.day for hit in store.search(unit_rows(1, 3), 500)[0]}.isdisjoint(
            {DAYS[2], DAYS[4]}
        )


def test_what_was_cut_short_in_the_making_is_finished_the_next_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = DAYS[-1] + timedelta(days=1)
    with open_store(root) as writer:
        writer.commit(later, 1, [rows_of(50)])

    def full(*_: object) -> None:
        raise StoreWriteError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(tending, "write_list", full)
        with pytest.raises(StoreWriteError):
            tend(root, "semantic", approximate_from=FROM)
    with reader(root) as store:
        assert _key(store.search(rows_of(50)[9:10], 1)[0][0]) == (later, 1, 9)
    assert verify_files(root / "semantic", "semantic", deep=False).faults == []
    tend(root, "semantic", approximate_from=FROM)
    listed = read_list(root / "semantic")
    assert listed is not None
    assert len(listed.codes) == len(DAYS) + 1


def test_tending_twice_changes_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in files(root)}
    tended = tend(root, "semantic", approximate_from=FROM)
    assert tended is not None
    assert (tended.trained, tended.encoded) == (False, 0)
    assert {path: path.stat().st_mtime_ns for path in files(root)} == before


def test_a_small_index_has_none_of_it(root: Path) -> None:
    assert tend(root, "semantic", approximate_from=len(DAYS) * ROWS + 1) is None
    assert not (root / "semantic" / FOLDER).exists()
    assert exactly(root, unit_rows(1, 0), 3)


def test_a_forgotten_day_leaves_no_codes(root: Path) -> None:
    forget_day(root, "semantic", DAYS[1])
    assert not [path for path in files(root) if path.name.startswith(str(DAYS[1]))]
    assert verify_files(root / "semantic", "semantic", deep=False).faults == []
    with reader(root) as store:
        assert DAYS[1] not in store.day_rows()[0]
    assert (root / "semantic" / FOLDER / LIST).exists()
