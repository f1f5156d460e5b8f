"""A commit that is killed, or loses power, at any step leaves the old revision or the new one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from index.catalogue import Catalogue
from index.faiss_store import FaissStore
from index.lookup import find_rows
from index.verify import verify_catalogue, verify_index
from tests.faults.interrupted_commit import (
    NAME,
    NEW_ROWS,
    NEW_SEED,
    OLD_ROWS,
    OLD_SEED,
    OTHER_SEED,
    commit,
    open_index,
    prepare,
)
from tests.index_samples import MONDAY, TUESDAY, unit_rows

TOP = Path(__file__).resolve().parents[2]
REVISIONS = {1: (OLD_ROWS, OLD_SEED), 2: (NEW_ROWS, NEW_SEED)}


@pytest.fixture(scope="module", params=["kill", "power", "torn"])
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("interrupted")
    base, out = folder / "base", folder / "out"
    base.mkdir()
    out.mkdir()
    prepare(base)
    subprocess.run(
        [sys.executable, "-m", "tests.faults.interrupted_commit", base, out, str(request.param)],
        check=True,
        cwd=TOP,
        timeout=120,
    )
    return sorted(out.iterdir(), key=lambda path: int(path.name))


def revision_shown(folder: Path) -> int:
    """Check that a reader sees one whole revision with its facts; give it."""
    with (
        Catalogue.open(folder / "catalogue.sqlite", read_only=True) as catalogue,
        FaissStore.open(folder / "index", NAME) as store,
    ):
        assert verify_index(folder / "index", NAME, catalogue, deep=True).faults == []
        assert verify_catalogue(catalogue, deep=True).faults == []
        revision = store.shards()[TUESDAY].revision
        rows, seed = REVISIONS[revision]
        assert np.array_equal(store.vectors(TUESDAY), unit_rows(rows, seed))
        assert np.array_equal(store.vectors(MONDAY), unit_rows(OLD_ROWS, OTHER_SEED))
        (found,) = find_rows(store, catalogue, unit_rows(1, 99), 99)
        assert len(found) == OLD_ROWS + rows
        of_day = {entry.hit.row: entry for entry in found if entry.hit.day == TUESDAY}
        assert {entry.hit.revision for entry in of_day.values()} == {revision}
        labels = {of_day[row].facts.label for row in range(1, rows)}
        assert labels == {f"s{seed}-{row:07d}" for row in range(1, rows)}
        return revision


def test_every_step_was_tried_and_both_outcomes_were_seen(cases: list[Path]) -> None:
    assert len(cases) > 30
    shown = [revision_shown(case) for case in cases]
    assert shown == sorted(shown), "once the new revision shows, no later step takes it back"
    assert (shown[0], shown[-1]) == (1, 2), "what was reported as committed is there"


def test_doing_it_again_ends_where_an_uninterrupted_commit_ends(cases: list[Path]) -> None:
    with FaissStore.open(cases[-1] / "index", NAME) as store:
        whole = store.shards()[TUESDAY]
    for case in cases[::4]:
        assert commit(case) == NEW_ROWS
        assert revision_shown(case) == 2
        with Catalogue.open(case / "catalogue.sqlite", read_only=True) as catalogue:
            assert catalogue.count_facts() == {
                (NAME, MONDAY, 1): OLD_ROWS,
                (NAME, TUESDAY, 2): NEW_ROWS,
            }
            chunk = catalogue.chunk(TUESDAY)
            assert chunk is not None
            assert chunk.indices[NAME].state == "committed"
        with open_index(case) as store:
            assert store.shards()[TUESDAY] == whole
        files = {path.name for path in (case / "index" / NAME).rglob("*") if path.is_file()}
        assert not {name for name in files if name.endswith(".tmp")}
        assert sum(name.endswith(".faiss") for name in files) == 3
