"""A damaged shard costs an answer its day and no more, the answer says so, and the service mends it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from consumer.commands import rendering
from consumer.questions.recall import Recall
from consumer.settings import Settings
from index.mending import mark_damaged
from tests.data_folder_kit import add_days, chunk_of, flip, open_days, settings_of

FOURTH, FIFTH, SIXTH = (date(2017, 7, day) for day in (4, 5, 6))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path)
    add_days(settings, [FOURTH, FIFTH, SIXTH])
    return settings


def shard(settings: Settings, day: date = FIFTH) -> Path:
    return settings.data.dir / "index/semantic/shards" / f"{day}-r0001.faiss"


def similar(settings: Settings) -> dict[str, Any]:
    with Recall.open(settings) as recall:
        return recall.similar(FOURTH)


def test_an_answer_from_sound_indices_misses_nothing(settings: Settings) -> None:
    answer = similar(settings)
    assert answer["missing"] == []
    assert all(result["by_index"]["semantic"] is not None for result in answer["results"])


def test_the_other_days_are_answered_with_and_the_damaged_one_is_named(settings: Settings) -> None:
    flip(shard(settings), 300)
    answer = similar(settings)
    has = {result["day"]: result["by_index"]["semantic"] for result in answer["results"]}
    assert set(has) == {str(FIFTH), str(SIXTH)}
    assert has[str(FIFTH)] is None
    assert has[str(SIXTH)] is not None
    [gone] = answer["missing"]
    assert (gone["index"], gone["day"]) == ("semantic", str(FIFTH))
    assert "checksum" in gone["detail"]
    assert "dayfold repair" in gone["repair"]


def test_novelty_of_the_other_days_is_told_and_the_damaged_one_is_named(settings: Settings) -> None:
    shard(settings).unlink()
    with Recall.open(settings) as recall:
        answer = recall.novelty()
        assert recall.novelty(SIXTH)["missing"] == []
    assert [(gone["index"], gone["day"]) for gone in answer["missing"]] == [
        ("semantic", str(FIFTH))
    ]
    by_day = {entry["day"]: entry["by_index"] for entry in answer["days"]}
    assert by_day[str(FIFTH)]["semantic"] is None
    assert by_day[str(SIXTH)]["semantic"] is not None


def test_a_person_reads_what_is_missing_before_the_answer(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(shard(settings), 300)
    rendering.similar(Console(width=200), similar(settings))
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"not in this answer: {FIFTH}, index semantic")
    assert "dayfold repair" in first


def test_the_damaged_day_is_marked_and_embedded_again(settings: Settings) -> None:
    sound = shard(settings).read_bytes()
    flip(shard(settings), 300)
    with open_days(settings) as offline, Recall.open(settings) as recall:
        assert recall.similar(FOURTH)["missing"]
        root = settings.data.dir / "index"
        assert mark_damaged(root, "semantic", offline.catalogue) == [FIFTH]
        assert mark_damaged(root, "attack", offline.catalogue) == []
        chunk = offline.catalogue.chunk(FIFTH)
        assert chunk is not None
        assert (chunk.state, chunk.indices["semantic"].state) == ("closing", "pending")
        offline.coordinator.tick()
        assert shard(settings).read_bytes() == sound
        recall.refresh()
        assert recall.similar(FOURTH)["missing"] == []
    chunk = chunk_of(settings, FIFTH)
    assert chunk is not None
    assert chunk.state == "committed"


def test_a_damaged_day_whose_journal_was_let_go_is_told_and_not_tried(settings: Settings) -> None:
    with open_days(settings) as offline:
        offline.journal.retire(FIFTH)
        flip(shard(settings), 300)
        assert mark_damaged(settings.data.dir / "index", "semantic", offline.catalogue) == [FIFTH]
        offline.coordinator.tick()
    chunk = chunk_of(settings, FIFTH)
    assert chunk is not None
    state = chunk.indices["semantic"]
    assert (chunk.state, state.state, state.next_retry_ns) == ("degraded", "failed", None)
    assert "restore a snapshot" in str(state.error)
