"""One flipped bit in any file of a data folder, or any file cut: it is found, and mended."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from consumer.care.repair import repair_data
from consumer.clock import ManualClock
from consumer.settings import Settings
from tests.data_folder_kit import (
    NOW,
    EventRows,
    chunk_of,
    event,
    given_model,
    ids_in_journal,
    open_days,
)
from tests.faults.rotten_folder import (
    EVENTS,
    FIFTH,
    FOURTH,
    OPEN_DAY,
    Damage,
    cuts,
    damaged,
    faults,
    files,
    flips,
    is_found,
    make,
)

BITS, CUTS = 4, 4


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    return make(folder)


def repaired(settings: Settings) -> dict[str, Any]:
    return repair_data(settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model)


def test_every_flipped_bit_is_found_and_says_which_day(original: Path) -> None:
    tried = list(flips(original, random.Random(5), BITS))
    assert len(tried) == BITS * len(files(original)) > 100
    assert [str(damage) for damage in tried if not is_found(original, damage)] == []


def test_a_flipped_line_end_of_the_time_zone_is_found(original: Path) -> None:
    path = Path("data/journal/timezone")
    end = (original / path).stat().st_size - 1
    assert [bit for bit in range(8) if not is_found(original, Damage(path, end, bit))] == []


def test_every_cut_file_is_found_and_says_which_day(original: Path) -> None:
    tried = list(cuts(original, random.Random(7), CUTS))
    assert len(tried) > 100
    assert [str(damage) for damage in tried if not is_found(original, damage)] == []


def test_a_start_tells_of_every_cut_segment_and_says_which_day(
    original: Path, tmp_path: Path
) -> None:
    tried = [d for d in cuts(original, random.Random(8), 6) if d.path.suffix == ".seg"]
    assert {damage.day for damage in tried} == {str(day) for day in EVENTS}
    for damage in tried:
        with open_days(damaged(original, tmp_path, damage)) as offline:
            assert damage.day in {str(found.day) for found in offline.journal.recovered}, damage


def test_after_a_repair_nothing_is_broken_and_every_event_that_is_gone_was_named(
    original: Path, tmp_path: Path
) -> None:
    drawn = random.Random(6)
    tried = [*flips(original, drawn, 1), *list(cuts(original, drawn, 2))[::8]]
    for damage in tried:
        settings = damaged(original, tmp_path, damage)
        answer = repaired(settings)
        assert faults(settings) == [], damage
        lost = {entry["day"]: entry for entry in answer["unrecoverable"] if "named" in entry}
        for day in (FOURTH, FIFTH):
            entry = lost.get(str(day), {"events": 0, "named": []})
            chunk = chunk_of(settings, day)
            assert chunk is not None, damage
            assert chunk.state == "committed", damage
            # A day of which no event is left is not sealed again: its rows stay.
            left = EVENTS[day] - entry["events"]
            assert chunk.events == (left or EVENTS[day]), damage
            assert chunk.indices["attack"].rows == chunk.events + 1, damage
            kept = set(ids_in_journal(settings, day)) if left else set()
            assert len(kept) == left, damage
            gone = {
                event(day, number).digest.hex()
                for number in (*range(20), *range(50, 55))
                if number < EVENTS[day] or day == FIFTH
                if f"{day}-{number:05d}" not in kept
            }
            assert {one["digest"] for one in entry["named"]} == gone, damage


def test_a_day_that_lost_all_of_one_segment_is_sealed_again_with_the_others(
    original: Path, tmp_path: Path
) -> None:
    path = Path("data/journal") / str(FIFTH) / "000001.seg"
    settings = damaged(original, tmp_path, Damage(path, 0, None))
    [lost] = repaired(settings)["unrecoverable"]
    assert (lost["day"], lost["events"], len(lost["named"])) == (str(FIFTH), 20, 20)
    chunk = chunk_of(settings, FIFTH)
    assert chunk is not None
    assert (chunk.state, chunk.revision, chunk.events) == ("committed", 3, 5)
    again = repaired(settings)
    assert (again["repaired"], again["unrecoverable"], faults(settings)) == ([], [], [])


def test_the_events_of_an_open_day_that_a_cut_took_are_told_as_a_number(
    original: Path, tmp_path: Path
) -> None:
    path = Path("data/journal") / str(OPEN_DAY) / "000001.seg"
    size = (original / path).stat().st_size
    settings = damaged(original, tmp_path, Damage(path, size // 2, None))
    with open_days(settings) as offline:
        [found] = [f for f in offline.journal.recovered if f.kind == "lost"]
        assert found.synced_bytes == size - size // 2
