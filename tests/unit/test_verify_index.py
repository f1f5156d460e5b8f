"""Verification and repair of one index and the catalogue."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from index.catalogue import Catalogue
from index.errors import StoreLockedError
from index.manifest import read_manifest, write_manifest
from index.repair import repair_index, salvage, set_aside
from index.shards import SHARD_FOLDER
from index.store import Fault
from index.verify import Verified, verify_catalogue, verify_index
from tests.index_samples import (
    DIMENSION,
    MODEL,
    MONDAY,
    OTHER_MODEL,
    TUESDAY,
    WEDNESDAY,
    DayCounts,
    commit_sample,
    facts_of,
    open_store,
    unit_rows,
)

DAYS = (MONDAY, TUESDAY, WEDNESDAY)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def catalogue(tmp_path: Path, root: Path) -> Iterator[Catalogue]:
    """A catalogue and an index of three days, each of ten rows."""
    with Catalogue.open(tmp_path / "catalogue.sqlite") as opened:
        with open_store(root) as store:
            for seed, day in enumerate(DAYS):
                opened.seal_chunk(day, 1, DayCounts())
                commit_sample(store, opened, day, seed=seed)
        yield opened


def verify(root: Path, catalogue: Catalogue, *, deep: bool = True) -> Verified:
    return verify_index(root, "semantic", catalogue, deep=deep)


def whats(verified: Verified) -> list[tuple[str, date | None]]:
    return [(fault.what, fault.day) for fault in verified.faults]


def repair(root: Path, catalogue: Catalogue) -> list[date]:
    return repair_index(root, "semantic", catalogue, dimension=DIMENSION, model=MODEL)


def commit_again(root: Path, catalogue: Catalogue, days: list[date]) -> None:
    with open_store(root) as store:
        for day in days:
            commit_sample(store, catalogue, day, seed=DAYS.index(day))


def shard_path(root: Path, day: date) -> Path:
    return root / "semantic" / SHARD_FOLDER / f"{day}-r0001.faiss"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def test_a_sound_index_has_no_faults_and_says_what_was_read(
    root: Path, catalogue: Catalogue
) -> None:
    for deep in (True, False):
        verified = verify(root, catalogue, deep=deep)
        assert verified.ok
        assert verified.checked == {"files": 6, "rows": 30}
    assert verify_catalogue(catalogue, deep=True).checked == {"chunks": 3, "facts": 30}
    assert verify_catalogue(catalogue, deep=True).ok


def test_an_index_that_is_behind_is_no_fault(root: Path, catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    catalogue.seal_chunk(WEDNESDAY.replace(day=6), 1, DayCounts())
    catalogue.mark_failed(TUESDAY, "semantic", error="x", attempts=1, next_retry_ns=0)
    assert verify(root, catalogue).ok


def test_a_commit_that_was_cut_before_the_flip_is_no_fault(
    root: Path, catalogue: Catalogue
) -> None:
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    catalogue.stage_rows("semantic", TUESDAY, 2, 0, facts_of(4))
    with open_store(root) as store:
        store.commit(TUESDAY, 2, [unit_rows(4, 9)])
    assert verify(root, catalogue).ok
    assert repair(root, catalogue) == []


def test_a_damaged_shard_is_found_and_repair_asks_for_its_day_alone(
    root: Path, catalogue: Catalogue
) -> None:
    damage(shard_path(root, TUESDAY))
    for deep in (True, False):
        assert whats(verify(root, catalogue, deep=deep)) == [("shard", TUESDAY)]
    assert repair(root, catalogue) == [TUESDAY]
    assert verify(root, catalogue).ok
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.indices["semantic"].state == "pending"
    commit_again(root, catalogue, [TUESDAY])
    assert verify(root, catalogue).ok
    with open_store(root) as store:
        for seed, day in enumerate(DAYS):
            assert np.array_equal(store.vectors(day), unit_rows(10, seed))


@pytest.mark.parametrize("name", ["CURRENT", "manifest-00000004.json"])
@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
def test_a_damaged_manifest_or_pointer_costs_at_most_the_days_only_it_named(
    root: Path, catalogue: Catalogue, name: str, how: str
) -> None:
    path = root / "semantic" / name
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case _:
            damage(path)
    assert whats(verify(root, catalogue)) == [("manifest", None)]
    lost = [] if name == "CURRENT" else [WEDNESDAY]
    assert repair(root, catalogue) == lost
    commit_again(root, catalogue, lost)
    assert verify(root, catalogue).ok


def test_a_damaged_previous_manifest_is_found_and_goes(root: Path, catalogue: Catalogue) -> None:
    damage(root / "semantic/manifest-00000003.json")
    assert whats(verify(root, catalogue)) == [("manifest", None)]
    assert repair(root, catalogue) == []
    assert verify(root, catalogue).ok


def test_a_damaged_shard_of_the_previous_generation_is_found_and_goes(
    root: Path, catalogue: Catalogue
) -> None:
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    with open_store(root) as store:
        commit_sample(store, catalogue, TUESDAY, 2)
    damage(shard_path(root, TUESDAY))
    assert whats(verify(root, catalogue)) == [("shard", TUESDAY)]
    assert repair(root, catalogue) == []
    assert verify(root, catalogue).ok


def test_with_everything_gone_every_day_is_asked_for(root: Path, catalogue: Catalogue) -> None:
    for path in (root / "semantic").glob("*.*"):
        path.unlink()
    assert whats(verify(root, catalogue)) == [("manifest", None)]
    assert repair(root, catalogue) == list(DAYS)
    commit_again(root, catalogue, list(DAYS))
    assert verify(root, catalogue).ok


def test_repair_of_a_sound_index_changes_nothing(root: Path, catalogue: Catalogue) -> None:
    before = read_manifest(root / "semantic", "semantic")
    assert repair(root, catalogue) == []
    assert not salvage(root, "semantic", dimension=DIMENSION, model=MODEL).changed
    assert read_manifest(root / "semantic", "semantic") == before


def test_repair_needs_the_index_to_itself(root: Path, catalogue: Catalogue) -> None:
    with open_store(root), pytest.raises(StoreLockedError):
        repair(root, catalogue)


def test_repair_for_another_model_keeps_nothing(root: Path, catalogue: Catalogue) -> None:
    lost = repair_index(root, "semantic", catalogue, dimension=DIMENSION, model=OTHER_MODEL)
    assert lost == list(DAYS)
    with open_store(root, model=OTHER_MODEL) as store:
        assert dict(store.shards()) == {}


def test_a_day_that_the_index_lost_is_found(root: Path, catalogue: Catalogue) -> None:
    with open_store(root) as store:
        store.drop(TUESDAY)
    assert whats(verify(root, catalogue)) == [("day missing", TUESDAY)]
    assert repair(root, catalogue) == [TUESDAY]


def test_a_day_that_the_catalogue_does_not_know_is_found(root: Path, catalogue: Catalogue) -> None:
    catalogue.delete_day(TUESDAY)
    assert whats(verify(root, catalogue)) == [("unknown day", TUESDAY)]
    assert repair(root, catalogue) == []
    assert verify(root, catalogue).ok
    with open_store(root) as store:
        assert TUESDAY not in store.shards()


def test_a_disagreement_on_the_revision_is_found(root: Path, catalogue: Catalogue) -> None:
    with open_store(root) as store:
        store.commit(TUESDAY, 2, [unit_rows(10, 1)])
    assert whats(verify(root, catalogue)) == [("revision", TUESDAY)]
    assert repair(root, catalogue) == [TUESDAY]
    commit_again(root, catalogue, [TUESDAY])
    assert verify(root, catalogue).ok


def test_a_disagreement_on_the_rows_is_found(root: Path, catalogue: Catalogue) -> None:
    with open_store(root) as store:
        store.commit(TUESDAY, 1, [unit_rows(9, 1)])
    assert whats(verify(root, catalogue)) == [("rows", TUESDAY)]
    assert repair(root, catalogue) == [TUESDAY]
    commit_again(root, catalogue, [TUESDAY])
    assert verify(root, catalogue).ok


def test_facts_that_are_missing_or_altered_are_found_and_embedded_again(
    root: Path, catalogue: Catalogue
) -> None:
    with sqlite3.connect(catalogue.path) as connection:
        connection.execute("DELETE FROM row_facts WHERE day = '2017-07-04' AND row = 4")
        connection.execute("UPDATE row_facts SET label = 'x' WHERE day = '2017-07-05' AND row = 4")
    connection.close()
    assert whats(verify(root, catalogue)) == [("facts", TUESDAY)]
    assert len(verify_catalogue(catalogue, deep=True).faults) == 1
    assert repair(root, catalogue) == [TUESDAY, WEDNESDAY]
    commit_again(root, catalogue, [TUESDAY, WEDNESDAY])
    assert verify(root, catalogue).ok
    assert verify_catalogue(catalogue, deep=True).ok


def test_facts_of_a_day_nobody_knows_are_found_and_go(root: Path, catalogue: Catalogue) -> None:
    day = date(2020, 2, 29)
    catalogue.stage_rows("semantic", day, 1, 0, facts_of(3))
    assert whats(verify(root, catalogue)) == [("unknown facts", day)]
    assert repair(root, catalogue) == []
    assert verify(root, catalogue).ok


def test_a_deep_look_finds_rows_that_a_checksum_cannot_accuse(
    root: Path, catalogue: Catalogue
) -> None:
    """Bytes that are exactly what was written, and were wrong when they were."""
    folder = root / "semantic"
    manifest = read_manifest(folder, "semantic")
    shard = manifest.shards[TUESDAY]
    write_manifest(
        folder, manifest.following({**manifest.shards, TUESDAY: replace(shard, revision=2)})
    )
    assert "shard" not in {what for what, _ in whats(verify(root, catalogue, deep=False))}
    assert ("shard", TUESDAY) in whats(verify(root, catalogue, deep=True))


def test_a_fault_prints_what_where_detail_and_repair(root: Path, catalogue: Catalogue) -> None:
    shard_path(root, TUESDAY).unlink()
    (fault,) = verify(root, catalogue).faults
    assert fault.to_json() == {
        "what": "shard",
        "where": str(shard_path(root, TUESDAY)),
        "detail": "is missing",
        "repair": "dayfold repair",
        "index": "semantic",
        "day": "2017-07-04",
    }
    assert Fault("journal", "x", "y", "z").to_json()["day"] is None


def test_an_index_that_is_not_there_is_a_fault(root: Path, catalogue: Catalogue) -> None:
    verified = verify_index(root, "attack", catalogue, deep=False)
    assert whats(verified) == [("index missing", None)]


def test_a_damaged_catalogue_is_set_aside_and_made_anew(
    root: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    path = catalogue.path
    catalogue.close()
    damage(path)
    kept = path.read_bytes()
    assert set_aside(path, 17) == tmp_path / "catalogue.sqlite.damaged-17"
    assert (tmp_path / "catalogue.sqlite.damaged-17").read_bytes() == kept
    with Catalogue.open(path) as anew:
        for day in DAYS:
            anew.seal_chunk(day, 1, DayCounts())
        assert repair(root, anew) == []
        before = read_manifest(root / "semantic", "semantic")
        commit_again(root, anew, list(DAYS))
        assert read_manifest(root / "semantic", "semantic") == before
        assert verify(root, anew).ok
