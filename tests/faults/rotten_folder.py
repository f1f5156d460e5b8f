"""A data folder, and every way in which one of its files may be damaged.

`python -m tests.faults.rotten_folder --bits N --cuts N --seed S` flips N bits of each file and cuts
each file at N places, and says how many of these were found; `make torture` runs it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

from consumer.care.snapshot_files import CATALOGUE
from consumer.care.verify import verify_data
from consumer.settings import Settings
from index.tending import tend
from tests.data_folder_kit import NOW, add_days, event, open_days, quarantine_of, settings_of

RETIRED, FOURTH, FIFTH, OPEN_DAY = (date(2017, 7, day) for day in (1, 4, 5, 6))
#: Events of each day that has a journal, as `make` leaves it.
EVENTS = {FOURTH: 20, FIFTH: 25, OPEN_DAY: 10}
# Locks have no content that counts, and what SQLite keeps beside a catalogue that nobody has open has none.
NOT_CHECKED = {"dayfold.lock", "writer.lock", f"{CATALOGUE}-shm", f"{CATALOGUE}-wal"}


@dataclass(frozen=True, slots=True)
class Damage:
    """One flipped bit, or with `bit` None everything from the offset on cut off."""

    path: Path
    offset: int
    bit: int | None

    def __str__(self) -> str:
        return f"{self.path}@{self.offset}" + ("" if self.bit is None else f".{self.bit}")

    @property
    def day(self) -> str | None:
        """The day that the damaged file belongs to alone, if there is one."""
        for part in reversed(self.path.parts):
            if part[:10].count("-") == 2:
                return part[:10]
        return None


def make(folder: Path) -> Path:
    """Fill `folder/data`; give `folder`.

    Two closed days, one of them twice, an open one, a retired one, and quarantined messages. One of
    the indices is searched by codes, as large ones are.
    """
    settings = settings_of(folder)
    add_days(settings, [RETIRED, FOURTH, FIFTH])
    with open_days(settings) as offline:
        offline.journal.append([event(FIFTH, number) for number in range(50, 55)])
        offline.close(FIFTH)
        offline.journal.append([event(OPEN_DAY, number) for number in range(10)])
        offline.coordinator.tick()
        offline.journal.retire(RETIRED)
    tend(settings.data.dir / "index", "semantic", approximate_from=1)
    kept = quarantine_of(settings)
    for _ in range(3):
        kept.put("schema", b"x" * 60, detector="d", arrival_ns=NOW, detail="", sealed=True)
    kept.close()
    return folder


def files(folder: Path) -> list[Path]:
    """Every file with content that counts, relative to the folder."""
    found = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    return [
        path.relative_to(folder)
        for path in found
        if path.name not in NOT_CHECKED and path.stat().st_size
    ]


def flips(folder: Path, drawn: random.Random, each: int) -> Iterator[Damage]:
    """So many bits of every file."""
    for path in files(folder):
        size = (folder / path).stat().st_size
        for _ in range(each):
            yield Damage(path, drawn.randrange(size), drawn.randrange(8))


def cuts(folder: Path, drawn: random.Random, each: int) -> Iterator[Damage]:
    """Every file cut at its start, by its last byte, and at so many places between.

    But for the quarantine: nothing counts its messages, so that one cut off between two of them
    leaves a sound file.
    """
    for path in files(folder):
        if "quarantine" not in path.parts:
            size = (folder / path).stat().st_size
            inner = drawn.sample(range(1, size - 1), min(each, max(0, size - 2)))
            for offset in sorted({0, size - 1, *inner}):
                yield Damage(path, offset, None)


def damaged(original: Path, target: Path, damage: Damage) -> Settings:
    """A copy of the folder with one damage; gives its settings."""
    shutil.rmtree(target / "data", ignore_errors=True)
    shutil.copytree(original / "data", target / "data")
    path = target / damage.path
    path.write_bytes(_spoilt(path.read_bytes(), damage))
    return settings_of(target)


@contextmanager
def struck(folder: Path, damage: Damage) -> Iterator[Settings]:
    """The folder itself with one damage, for what only reads; whole again at the end."""
    path = folder / damage.path
    sound = path.read_bytes()
    try:
        path.write_bytes(_spoilt(sound, damage))
        yield settings_of(folder)
    finally:
        path.write_bytes(sound)


def _spoilt(content: bytes, damage: Damage) -> bytes:
    if damage.bit is None:
        return content[: damage.offset]
    spoilt = bytearray(content)
    spoilt[damage.offset] ^= 1 << damage.bit
    return bytes(spoilt)


def faults(settings: Settings) -> list[dict[str, Any]]:
    """What `verify --deep` finds. The encoders, which these rows are not made by, are left out."""
    with mock.patch("consumer.care.verify.installed_models", return_value=()):
        found: list[dict[str, Any]] = verify_data(settings, deep=True)["faults"]
    return [fault for fault in found if not fault["what"].startswith("model")]


def is_found(folder: Path, damage: Damage) -> bool:
    """Whether `verify` tells of the damage, and of the day if the file is one day's.

    Two damages are none: a bit of the catalogue where SQLite keeps nothing, so that all that it
    holds is as it was, and a cut that takes the line end behind the last line of a text.
    """
    if damage.bit is None and (folder / damage.path).read_bytes()[damage.offset :] == b"\n":
        return True
    held = _dump(folder) if damage.path.name == CATALOGUE else None
    with struck(folder, damage) as settings:
        found = faults(settings)
        if not found:
            return held is not None and held == _dump(folder)
    named = " ".join(f"{fault['where']} {fault['detail']}" for fault in found)
    return damage.day is None or damage.day in named


def _dump(folder: Path) -> list[str]:
    connection = sqlite3.connect(folder / "data" / CATALOGUE)
    try:
        return list(connection.iterdump())
    except sqlite3.Error as error:
        return [str(error)]
    finally:
        connection.close()


def main() -> int:
    """Try many damages; print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, default=100)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    drawn = random.Random(given.seed)
    counted = {"files": 0, "bits": 0, "cuts": 0, "found": 0}
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        original = make(Path(folder))
        counted["files"] = len(files(original))
        for kind, damages in (
            ("bits", flips(original, drawn, given.bits)),
            ("cuts", cuts(original, drawn, given.cuts)),
        ):
            for damage in damages:
                counted[kind] += 1
                if is_found(original, damage):
                    counted["found"] += 1
                else:
                    missed.append(str(damage))
    print(json.dumps({"seed": given.seed, **counted, "missed": missed}))  # noqa: T201 - its answer
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
