"""An index is made anew by another model, and something comes between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.care.repair import repair_data
from consumer.care.snapshot import take_snapshot
from consumer.clock import ManualClock
from consumer.folding import moving
from consumer.retention.forget import ask_to_forget
from consumer.settings import Settings
from index import editions
from index.catalogue import Catalogue
from tests.another_model import (
    FIFTH,
    FOURTH,
    NEW,
    SIXTH,
    Failing,
    faults,
    folders,
    served,
    similar_days,
    the_chunk,
    three_days,
    upgraded,
)
from tests.data_folder_kit import (
    DIMENSION,
    INDICES,
    MODEL,
    NOW,
    EventRows,
    flip,
    settings_of,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return three_days(tmp_path)


class CutError(Exception):
    """Stands for the death of the process."""


def _cut_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object, **__: object) -> None:
        raise CutError

    monkeypatch.setattr(Catalogue, "commit_index", cut)


def _cut_tidy(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(root: Path, catalogue: Catalogue, index: str) -> None:
        if any(edition.role == "serving" for edition in catalogue.editions()):
            raise CutError
        editions.tidy(root, catalogue, index)

    monkeypatch.setattr(moving, "tidy", cut)


@pytest.mark.parametrize("cut", [_cut_fold, _cut_tidy])
def test_what_was_cut_short_goes_on_at_the_next_start(
    settings: Settings, cut: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut(patch)
        with upgraded(settings) as offline, pytest.raises(CutError):
            offline.reconcile()
    assert len(similar_days(settings)) == 2
    with upgraded(settings) as offline:
        offline.reconcile()
    assert served(settings) == (NEW, [FOURTH, FIFTH, SIXTH])
    assert (folders(settings), faults(settings)) == (3, set())


def test_a_day_that_fails_keeps_the_old_rows_in_service_and_is_tried_again(
    settings: Settings,
) -> None:
    executor = Failing({FIFTH})
    with upgraded(settings, executor=executor) as offline:
        offline.reconcile()
        state = the_chunk(settings, FIFTH).upcoming["semantic"]
        assert (state.state, state.error) == ("failed", "the embedding process was killed")
        assert state.next_retry_ns is not None
        assert served(settings) == (MODEL, [FOURTH, FIFTH, SIXTH])
        executor.days.clear()
        offline.reconcile()
    assert served(settings) == (NEW, [FOURTH, FIFTH, SIXTH])


def test_a_day_that_is_forgotten_meanwhile_goes_from_both(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        ask_to_forget(settings.data.dir, FOURTH, NOW)
        for tombstone in offline.forgetting.unfinished():
            offline.forgetting.finish(tombstone)
        assert not [
            path for path in (settings.data.dir / "index").rglob("*.faiss") if "07-04" in path.name
        ]
        offline.reconcile()
    assert served(settings) == (NEW, [FIFTH, SIXTH])
    assert faults(settings) == set()


def test_damage_in_the_making_is_found_and_repair_makes_it_anew(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        upcoming = offline.catalogue.upcoming("semantic")
        assert upcoming is not None
    shard = next((settings.data.dir / "index" / upcoming.name / "shards").iterdir())
    flip(shard, 300)
    assert "shard" in faults(settings)
    answer = repair_data(
        settings_of(settings.data.dir.parent, models={}),
        clock=ManualClock(NOW),
        executor=EventRows(NEW),
        models=lambda _: (DIMENSION, NEW),
    )
    assert answer["unrecoverable"] == []
    assert served(settings) == (NEW, [FOURTH, FIFTH, SIXTH])
    assert faults(settings) == set()


def test_a_catalogue_made_anew_finds_the_edition_that_is_there(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.reconcile()
        offline.journal.retire(FOURTH)
    path = settings.data.dir / "catalogue.sqlite"
    content = bytearray(path.read_bytes())
    content[content.index(b"2017-07-05")] ^= 1  # the key of a record; facts can still be read
    path.write_bytes(content)
    answer = repair_data(
        settings_of(settings.data.dir.parent, models={}),
        clock=ManualClock(NOW),
        executor=EventRows(NEW),
        models=lambda _: (DIMENSION, NEW),
    )
    assert answer["unrecoverable"] == []
    for name in INDICES:
        assert served(settings, name) == (NEW, [FOURTH, FIFTH, SIXTH])
    assert (folders(settings), faults(settings)) == (3, set())


def test_a_snapshot_from_the_middle_goes_on_where_it_was(
    settings: Settings, tmp_path: Path
) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        take_snapshot(settings, tmp_path / "snapshot", clock=ManualClock(NOW), wait=lambda _: None)
    shutil.rmtree(settings.data.dir)
    (tmp_path / "snapshot").rename(settings.data.dir)
    assert faults(settings) == set()
    with upgraded(settings) as offline:
        offline.reconcile()
    assert served(settings) == (NEW, [FOURTH, FIFTH, SIXTH])
