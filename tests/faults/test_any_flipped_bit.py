"""One flipped bit in any file of a data folder: verify finds it, repair leaves nothing broken."""

from __future__ import annotations

import random
import shutil
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from consumer.care.repair import repair_data
from consumer.care.snapshot_files import CATALOGUE
from consumer.care.verify import verify_data
from consumer.clock import ManualClock
from consumer.settings import Settings
from tests.data_folder_kit import (
    NOW,
    EventRows,
    add_days,
    chunk_of,
    event,
    given_model,
    ids_in_journal,
    open_days,
    quarantine_of,
    settings_of,
)

RETIRED, FOURTH, FIFTH, OPEN_DAY = (date(2017, 7, day) for day in (1, 4, 5, 6))
BITS = 4
# Locks have no content that counts.
NOT_CHECKED = {"dayfold.lock", "writer.lock"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two closed days, one of them twice, an open one, a retired one, and quarantined messages."""
    folder = tmp_path_factory.mktemp("original")
    settings = settings_of(folder)
    add_days(settings, [RETIRED, FOURTH, FIFTH])
    with open_days(settings) as offline:
        offline.journal.append([event(FIFTH, number) for number in range(50, 55)])
        offline.close(FIFTH)
        offline.journal.append([event(OPEN_DAY, number) for number in range(10)])
        offline.coordinator.tick()
        offline.journal.retire(RETIRED)
    kept = quarantine_of(settings)
    for _ in range(3):
        kept.put("schema", b"x" * 60, detector="d", arrival_ns=NOW, detail="", sealed=True)
    kept.close()
    return folder


def files(folder: Path) -> list[Path]:
    found = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    return [path for path in found if path.name not in NOT_CHECKED and path.stat().st_size]


def faults(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = verify_data(settings, deep=True)["faults"]
    return [fault for fault in found if not fault["what"].startswith("model")]


def damaged(original: Path, tmp_path: Path, path: Path, offset: int, bit: int) -> Settings:
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    shutil.copytree(original / "data", tmp_path / "data")
    target = tmp_path / path.relative_to(original)
    content = bytearray(target.read_bytes())
    content[offset] ^= 1 << bit
    target.write_bytes(content)
    return settings_of(tmp_path)


def holds_the_same(original: Path, settings: Settings, path: Path) -> bool:
    """Whether a bit of the catalogue lies where SQLite keeps nothing: all that it holds is as it was."""
    if path.name != CATALOGUE:
        return False
    dumps = []
    for data_dir in (original / "data", settings.data.dir):
        connection = sqlite3.connect(data_dir / CATALOGUE)
        dumps.append(list(connection.iterdump()))
        connection.close()
    return dumps[0] == dumps[1]


def test_every_bit_is_looked_at(original: Path, tmp_path: Path) -> None:
    random_bits = random.Random(5)
    missed = []
    for path in files(original):
        for _ in range(BITS):
            offset, bit = random_bits.randrange(path.stat().st_size), random_bits.randrange(8)
            settings = damaged(original, tmp_path, path, offset, bit)
            if not faults(settings) and not holds_the_same(original, settings, path):
                missed.append(f"{path.relative_to(original)}@{offset}.{bit}")
    assert missed == []


def test_after_a_repair_nothing_is_broken_and_all_that_is_missing_was_named(
    original: Path, tmp_path: Path
) -> None:
    random_bits = random.Random(6)
    for path in files(original):
        offset, bit = random_bits.randrange(path.stat().st_size), random_bits.randrange(8)
        where = f"{path.relative_to(original)}@{offset}.{bit}"
        settings = damaged(original, tmp_path, path, offset, bit)
        answer = repair_data(
            settings, clock=ManualClock(NOW), executor=EventRows(), models=given_model
        )
        assert faults(settings) == [], where
        lost = {entry.get("day"): entry["events"] for entry in _events(answer)}
        for day, events in ((FOURTH, 20), (FIFTH, 25)):
            chunk = chunk_of(settings, day)
            assert chunk is not None, where
            assert chunk.state == "committed", where
            assert chunk.events == events - lost.get(str(day), 0), where
            assert len(set(ids_in_journal(settings, day))) == chunk.events, where
            assert chunk.indices["attack"].rows == chunk.events + 1, where


def _events(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in answer["unrecoverable"] if entry["what"] == "events"]
