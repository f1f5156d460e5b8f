"""An index is made anew by another model, day by day, while the old rows answer."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import pytest

from consumer.care.offline import OfflineDays
from consumer.folding.installed import Models
from consumer.questions.encoders import encoder_files
from consumer.questions.recall import Recall
from consumer.retention.retention import Retention
from consumer.settings import RetentionSettings, Settings
from index.editions import open_edition
from index.errors import ModelMismatchError
from index.faiss_store import FaissStore
from models import store as model_store
from models.manifest import find_entry
from tests.another_model import (
    FIFTH,
    FOURTH,
    NEW,
    NEWER,
    SIXTH,
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
    event,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return three_days(tmp_path)


def test_the_old_rows_answer_until_the_last_day_is_embedded_and_then_the_new_ones(
    settings: Settings,
) -> None:
    with upgraded(settings) as offline:
        for done in range(9):
            assert served(settings, "attack")[0] == MODEL
            assert faults(settings) == set()
            assert len(similar_days(settings)) == 2
            moved = [
                state.state
                for day in (FOURTH, FIFTH, SIXTH)
                for state in the_chunk(settings, day).upcoming.values()
            ]
            assert "committed" in moved or done == 0
            assert {the_chunk(settings, day).state for day in (FOURTH, FIFTH, SIXTH)} == {
                "committed"
            }
            offline.coordinator.tick()
            if not offline.catalogue.editions():
                continue
            if all(served(settings, name)[0] == NEW for name in INDICES):
                break
        else:
            pytest.fail("the switch never came")
    for name in INDICES:
        assert served(settings, name) == (NEW, [FOURTH, FIFTH, SIXTH])
        state = the_chunk(settings, FIFTH).indices[name]
        assert (state.state, state.rows, state.model) == ("committed", 21, NEW.sha256)
    assert the_chunk(settings, FIFTH).upcoming == {}
    assert folders(settings) == 3
    assert faults(settings) == set()
    assert len(similar_days(settings)) == 2


def test_nothing_happens_while_the_model_is_the_same(settings: Settings) -> None:
    with upgraded(settings, MODEL) as offline:
        offline.reconcile()
        assert offline.catalogue.editions() == []
    assert served(settings)[0] == MODEL


def test_a_model_that_is_not_on_this_machine_changes_nothing(settings: Settings) -> None:
    models = Models(lambda _: (DIMENSION, NEW), lambda _: False)
    with OfflineDays(settings, executor=EventRows(NEW), models=models) as offline:
        offline.reconcile()
    assert served(settings) == (MODEL, [FOURTH, FIFTH, SIXTH])


def test_other_rows_of_the_same_weights_are_another_edition(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.reconcile()
    with upgraded(settings, NEWER) as offline:
        offline.reconcile()
    assert served(settings) == (NEWER, [FOURTH, FIFTH, SIXTH])
    assert (folders(settings), faults(settings)) == (3, set())


def test_a_day_that_closes_meanwhile_waits_for_the_switch_and_says_so(settings: Settings) -> None:
    seventh = date(2017, 7, 7)
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        offline.journal.append([event(seventh, n) for n in range(5)])
        offline.coordinator.close(seventh)
        offline.coordinator.tick()
        chunk = the_chunk(settings, seventh)
        assert chunk.state == "closing"
        assert {state.state for state in chunk.indices.values()} == {"pending"}
        assert set(chunk.upcoming) == set(INDICES)
        shown = chunk.to_json()["indices"]["semantic"]
        assert (shown["rows"], shown["next"]["state"]) == (0, "pending")
        assert served(settings) == (MODEL, [FOURTH, FIFTH, SIXTH])
        offline.reconcile()
    assert served(settings) == (NEW, [FOURTH, FIFTH, SIXTH, seventh])
    assert the_chunk(settings, seventh).state == "committed"


def test_late_events_of_a_moved_day_are_embedded_before_the_switch(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        offline.journal.append([event(FOURTH, 77)])
        offline.coordinator.close(FOURTH)
        offline.reconcile()
    chunk = the_chunk(settings, FOURTH)
    assert (chunk.state, chunk.revision, chunk.indices["semantic"].rows) == ("committed", 2, 22)
    assert (served(settings)[0], faults(settings)) == (NEW, set())


def test_a_third_model_in_the_middle_begins_anew(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
    with upgraded(settings, NEWER) as offline:
        offline.reconcile()
    assert served(settings) == (NEWER, [FOURTH, FIFTH, SIXTH])
    assert (folders(settings), faults(settings)) == (3, set())


def test_going_back_in_the_middle_leaves_everything_as_it_was(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
    with upgraded(settings, MODEL) as offline:
        offline.reconcile()
        assert offline.catalogue.editions() == []
    assert served(settings) == (MODEL, [FOURTH, FIFTH, SIXTH])
    assert (folders(settings), faults(settings)) == (3, set())


def test_a_day_without_its_journal_stays_with_the_old_model_and_every_answer_says_so(
    settings: Settings,
) -> None:
    with upgraded(settings) as offline:
        offline.journal.retire(FOURTH)
        offline.journal.retire(FIFTH)
        offline.reconcile()
    assert served(settings) == (NEW, [SIXTH])
    for day in (FOURTH, FIFTH):
        chunk = the_chunk(settings, day)
        assert chunk.state == "committed"
        assert {state.model for state in chunk.indices.values()} == {MODEL.sha256}
    assert (folders(settings), faults(settings)) == (6, set())
    with Recall.open(settings) as recall:
        old = recall.similar(FOURTH)
        assert [result["day"] for result in old["results"]] == [str(FIFTH)]
        assert {(gone["index"], gone["day"]) for gone in old["missing"]} == {
            (name, str(SIXTH)) for name in INDICES
        }
        new = recall.similar(SIXTH)
        assert new["results"] == []
        assert {gone["day"] for gone in new["missing"]} == {str(FOURTH), str(FIFTH)}
        assert all("another model" in gone["detail"] for gone in new["missing"])
        found = recall.neighbours(f"{FOURTH}-00003")
        assert {result["day"] for result in found["results"]} == {str(FOURTH), str(FIFTH)}
        novelty = recall.novelty()
        assert [entry["day"] for entry in novelty["days"]] == [str(SIXTH)]
        assert {gone["day"] for gone in novelty["missing"]} == {str(FOURTH), str(FIFTH)}


def test_going_back_takes_up_the_days_that_were_kept(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.reconcile()
    with upgraded(settings, NEWER) as offline:
        offline.journal.retire(FOURTH)
        offline.reconcile()
    assert served(settings) == (NEWER, [FIFTH, SIXTH])
    with upgraded(settings, NEW) as offline:
        offline.reconcile()
    for name in INDICES:
        assert served(settings, name) == (NEW, [FOURTH, FIFTH, SIXTH])
    assert (folders(settings), faults(settings)) == (3, set())


def test_a_journal_stays_while_another_model_needs_it(settings: Settings) -> None:
    rule = RetentionSettings(journal_days=1, keep_days=1)
    with upgraded(settings) as offline:
        retention = Retention(
            rule,
            offline.journal,
            offline.catalogue,
            data_dir=settings.data.dir,
            zone=settings.day.zone,
        )
        offline.coordinator.tick()
        assert retention.apply(NOW) == []
        offline.reconcile()
        assert retention.apply(NOW) == [FOURTH, FIFTH, SIXTH]
    assert served(settings) == (NEW, [FOURTH, FIFTH, SIXTH])


def test_rows_of_a_model_that_is_not_next_are_refused(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        with pytest.raises(ModelMismatchError, match="made anew"):
            open_edition(
                settings.data.dir / "index",
                offline.catalogue,
                "semantic",
                dimension=DIMENSION,
                model=NEWER,
            )


def test_a_query_is_refused_where_its_rows_encoder_is_gone(settings: Settings) -> None:
    with upgraded(settings) as offline:
        offline.coordinator.tick()
        root = settings.data.dir / "index"
        with (
            FaissStore.open(root, "semantic") as store,
            pytest.raises(ModelMismatchError, match="of 3 days are embedded again"),
        ):
            encoder_files(store, "semantic", offline.catalogue, settings.models.cache_dir)


def test_the_encoder_of_the_old_rows_is_used_while_it_is_in_the_cache(tmp_path: Path) -> None:
    entry = find_entry("semantic")
    contents = {"old.onnx": b"graph", "tokenizer.json": b"words"}
    sums = sorted(f"{name}:{hashlib.sha256(data).hexdigest()}" for name, data in contents.items())
    digest = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    folder = tmp_path / f"{entry.name}-{digest[:12]}"
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = model_store.earlier("semantic", digest, tmp_path)
    assert files is not None
    assert (files.graph, set(files.extra)) == (folder / "old.onnx", {"tokenizer.json"})
    assert model_store.earlier("semantic", "9" * 64, tmp_path) is None
    (folder / "tokenizer.json").write_bytes(b"other")
    assert model_store.earlier("semantic", digest, tmp_path) is None
