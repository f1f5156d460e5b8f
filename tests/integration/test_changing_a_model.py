"""An index is made anew by another model, day by day, while the old rows answer."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

import pytest

from consumer.care.offline import OfflineDays
from consumer.care.repair import repair_data
from consumer.care.snapshot import take_snapshot
from consumer.care.verify import verify_data
from consumer.clock import ManualClock
from consumer.folding import moving
from consumer.folding.executor import FoldExecutor, FoldJob, FoldReport
from consumer.folding.installed import Models
from consumer.questions.encoders import encoder_files
from consumer.questions.recall import Recall
from consumer.retention.forget import ask_to_forget
from consumer.retention.retention import Retention
from consumer.settings import RetentionSettings, Settings
from index import editions
from index.catalogue import Catalogue
from index.chunks import Chunk
from index.editions import open_edition
from index.errors import ModelMismatchError
from index.faiss_store import FaissStore
from index.store import ModelIdentity
from models import store as model_store
from models.manifest import find_entry
from tests.data_folder_kit import (
    DIMENSION,
    INDICES,
    MODEL,
    NOW,
    EventRows,
    add_days,
    chunk_of,
    event,
    flip,
    settings_of,
)

FOURTH, FIFTH, SIXTH = (date(2017, 7, day) for day in (4, 5, 6))
NEW = ModelIdentity("other/1", "1" * 64)
NEWER = ModelIdentity("other/2", "1" * 64)


class CutError(Exception):
    """Stands for the death of the process."""


@dataclass
class Failing(FoldExecutor):
    """Folds with the new model, except for the days that are told to fail."""

    days: set[date]
    inner: EventRows = field(default_factory=lambda: EventRows(NEW))

    def run(self, job: FoldJob, stop: Event) -> FoldReport:
        if job.day in self.days:
            return FoldReport({}, 0.0, failure="the embedding process was killed")
        return self.inner.run(job, stop)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three committed days of the old model."""
    settings = settings_of(tmp_path)
    add_days(settings, [FOURTH, FIFTH, SIXTH])
    return settings


@contextmanager
def upgraded(
    settings: Settings, model: ModelIdentity = NEW, executor: FoldExecutor | None = None
) -> Iterator[OfflineDays]:
    """The data folder in the hands of a version with another model."""
    models = Models(lambda _: (DIMENSION, model), lambda _: True)
    with OfflineDays(settings, executor=executor or EventRows(model), models=models) as offline:
        yield offline


def served(settings: Settings, name: str = "semantic") -> tuple[ModelIdentity, list[date]]:
    """Model and days of the rows that answer now."""
    with Catalogue.open(settings.data.dir / "catalogue.sqlite", read_only=True) as catalogue:
        edition = catalogue.serving(name)
    with FaissStore.open(settings.data.dir / "index", edition) as store:
        return store.model, list(store.shards())


def the_chunk(settings: Settings, day: date) -> Chunk:
    chunk = chunk_of(settings, day)
    assert chunk is not None
    return chunk


def folders(settings: Settings) -> int:
    return len(list((settings.data.dir / "index").iterdir()))


def faults(settings: Settings) -> set[str]:
    # What this version has installed is not what the test pretends.
    found = {fault["what"] for fault in verify_data(settings, deep=True)["faults"]}
    return found - {"model", "model of index"}


def similar_days(settings: Settings) -> list[str]:
    with Recall.open(settings) as recall:
        return [result["day"] for result in recall.similar(FOURTH)["results"]]


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
