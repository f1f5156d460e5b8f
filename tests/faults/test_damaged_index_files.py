"""Every altered bit, cut, emptied or lost file is found, and nothing of it is ever served."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.errors import StoreCorruptError, StoreError
from index.faiss_store import FaissStore
from index.verify import verify_catalogue, verify_index
from index.verify_files import verify_files
from tests.index_samples import (
    MONDAY,
    TUESDAY,
    DayCounts,
    commit_sample,
    facts_of,
    open_store,
    unit_rows,
)

BITS = 200
IN_FORCE = [
    "CURRENT",
    "manifest-00000004.json",
    "shards/2017-07-03-r0001.faiss",
    "shards/2017-07-04-r0002.faiss",
]
BEFORE = ["manifest-00000003.json", "shards/2017-07-04-r0001.faiss"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two generations, and its catalogue."""
    folder = tmp_path_factory.mktemp("data")
    with Catalogue.open(folder / "catalogue.sqlite") as catalogue, open_store(folder) as store:
        for day, revision in ((MONDAY, 1), (TUESDAY, 1), (TUESDAY, 2)):
            catalogue.seal_chunk(day, revision, DayCounts())
            commit_sample(store, catalogue, day, revision, rows=12, seed=revision)
    return folder


def found(data: Path) -> bool:
    return bool(verify_files(data / "semantic", "semantic", deep=False).faults)


def refused(data: Path) -> bool:
    """Whether what is damaged is neither served nor taken for empty.

    The index is an error, or the day is named, none of its rows is found, and the other day's are.
    """
    try:
        with FaissStore.open(data, "semantic") as store:
            days = {hit.day for hit in store.search(unit_rows(1, 0), 99)[0]}
            named = set(store.damaged())
    except StoreCorruptError:
        return True
    return len(named) == 1 and days == {MONDAY, TUESDAY} - named


def undetected(
    data: Path, name: str, changes: list[bytes], check: Callable[[Path], bool]
) -> list[int]:
    path = data / "semantic" / name
    sound = path.read_bytes()
    missed = []
    try:
        for number, change in enumerate(changes):
            path.write_bytes(change)
            if not check(data):
                missed.append(number)
    finally:
        path.write_bytes(sound)
    return missed


def flips(content: bytes, seed: int) -> list[bytes]:
    bits = len(content) * 8
    changes = []
    for bit in random.Random(seed).sample(range(bits), min(BITS, bits)):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        changes.append(bytes(altered))
    return changes


def cuts(content: bytes, seed: int) -> list[bytes]:
    ends = {0, 1, len(content) - 1, *random.Random(seed).sample(range(len(content)), 40)}
    return [content[:end] for end in sorted(ends)] + [content + b"\0", content + b"\n"]


def test_the_sound_index_is_sound(data: Path) -> None:
    files = [*IN_FORCE, *BEFORE]
    assert all((data / "semantic" / name).is_file() for name in files)
    assert not found(data)
    assert not refused(data)


@pytest.mark.parametrize("name", [*IN_FORCE, *BEFORE])
def test_every_flipped_bit_is_found(data: Path, name: str) -> None:
    changes = flips((data / "semantic" / name).read_bytes(), 1)
    assert len(changes) == BITS
    assert undetected(data, name, changes, found) == []


@pytest.mark.parametrize("name", [*IN_FORCE, *BEFORE])
def test_every_cut_emptied_or_grown_file_is_found(data: Path, name: str) -> None:
    changes = cuts((data / "semantic" / name).read_bytes(), 2)
    assert undetected(data, name, changes, found) == []


@pytest.mark.parametrize("name", IN_FORCE)
def test_a_damaged_index_is_never_served_and_never_empty(data: Path, name: str) -> None:
    content = (data / "semantic" / name).read_bytes()
    changes = flips(content, 3)[:60] + cuts(content, 4)
    assert undetected(data, name, changes, refused) == []


@pytest.mark.parametrize("name", [*IN_FORCE, BEFORE[1]])
def test_a_lost_file_is_found_and_never_taken_for_an_empty_index(data: Path, name: str) -> None:
    path = data / "semantic" / name
    sound = path.read_bytes()
    path.unlink()
    try:
        assert found(data)
        assert refused(data) or name in BEFORE
    finally:
        path.write_bytes(sound)


def answers(path: Path) -> object:
    """Everything the catalogue says, or None where it is found to be damaged."""
    try:
        with Catalogue.open(path, read_only=True) as catalogue:
            if verify_catalogue(catalogue, deep=True).faults:
                return None
            if verify_index(path.parent, "semantic", catalogue, deep=False).faults:
                return None
            return (
                [chunk.to_json() for chunk in catalogue.chunks()],
                [catalogue.facts_of("semantic", day) for day in (MONDAY, TUESDAY)],
                catalogue.find_event("s2-0000003"),
                catalogue.rows_where("semantic", "source_ip", "10.0.0.3").tolist(),
            )
    except StoreError:
        return None


def test_a_flipped_bit_in_the_catalogue_is_found_or_changes_no_answer(
    data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data / "semantic", tmp_path / "semantic")
    path = tmp_path / "catalogue.sqlite"
    shutil.copy(data / "catalogue.sqlite", path)
    sound, expected = path.read_bytes(), answers(path)
    assert expected is not None
    told = 0
    for change in flips(sound, 5) + [sound[:end] for end in range(0, len(sound), 4096)]:
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        path.write_bytes(change)
        given = answers(path)
        assert given in (None, expected)
        told += given is None
    assert told > 20


def test_a_flipped_bit_in_the_text_of_a_fact_is_always_found(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data" / "catalogue.sqlite"
    sound = path.read_bytes()
    places = [
        at
        for label in (facts.label for facts in facts_of(12, "s2")[1:])
        if (at := sound.find(label.encode())) >= 0
    ]
    assert len(places) > 5
    for place in places:
        altered = bytearray(sound)
        altered[place] ^= 2
        path.write_bytes(altered)
        with Catalogue.open(path, read_only=True) as catalogue:
            assert verify_catalogue(catalogue, deep=True).faults
