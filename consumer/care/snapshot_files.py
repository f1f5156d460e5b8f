"""What of a data folder goes into a snapshot, and what must not change while it is gathered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from consumer.errors import JournalError
from consumer.journal.counts import COUNTS_NAME
from consumer.journal.folders import day_folders
from consumer.journal.retired import is_retired
from consumer.journal.seal import read_seal, sealed_revisions
from consumer.journal.segment import IDS_SUFFIX, SEGMENT_SUFFIX
from index.catalogue import Catalogue
from index.manifest import CURRENT

CATALOGUE = "catalogue.sqlite"
LOSSES = "run/losses.json"
HANDED_OVER = "run/import"

#: Of a running process, or made anew by it; the catalogue is copied in its own way.
_LEFT_OUT_FOLDERS = {"run", "scratch", "cache"}
_LEFT_OUT_NAMES = {"dayfold.lock", "writer.lock"}
_LEFT_OUT_ENDINGS = (".tmp", ".new")


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a snapshot: its name below the data folder, with slashes.

    Attributes:
        unchanging: nothing is ever written to this file again; another may take its name.
        growing: records are appended to it, and the last one may not be whole yet.
    """

    name: str
    unchanging: bool = False
    growing: bool = False


def sources(data_dir: Path) -> Iterator[Source]:
    """Every file to take, in an order in which nothing refers to what was taken before it.

    The counts of a day come before its segments, because they say how long those are at least.
    """
    for part in sorted(data_dir.iterdir()):
        if part.name == "journal" and part.is_dir():
            yield from _journal(data_dir, part)
        elif part.name == "index" and part.is_dir():
            yield from (Source(name, unchanging=True) for name in _below(data_dir, part))
        elif part.name == "quarantine" and part.is_dir():
            yield from (Source(name, growing=True) for name in _below(data_dir, part))
        elif part.is_dir() and part.name not in _LEFT_OUT_FOLDERS:
            yield from (Source(name) for name in _below(data_dir, part))
        elif part.is_file() and not part.name.startswith(CATALOGUE) and _is_kept(part):
            yield Source(part.name)
    if (data_dir / LOSSES).is_file():
        yield Source(LOSSES, unchanging=True)
    for batch in sorted((data_dir / HANDED_OVER).glob("*.batch")):
        yield Source(batch.relative_to(data_dir).as_posix(), unchanging=True)


def _below(data_dir: Path, folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _is_kept(path):
            yield path.relative_to(data_dir).as_posix()


def _is_kept(path: Path) -> bool:
    return path.name not in _LEFT_OUT_NAMES and not path.name.endswith(_LEFT_OUT_ENDINGS)


def _journal(data_dir: Path, root: Path) -> Iterator[Source]:
    for path in sorted(root.iterdir()):
        if path.is_file() and _is_kept(path):
            yield Source(path.relative_to(data_dir).as_posix(), unchanging=True)
    for day, folder in day_folders(root):
        sealed = _sealed_segments(folder, day)
        here = folder.relative_to(data_dir).as_posix()
        names = {path.name for path in folder.iterdir() if _is_kept(path)}
        if COUNTS_NAME in names:
            yield Source(f"{here}/{COUNTS_NAME}", unchanging=True)
        for name in sorted(names - {COUNTS_NAME}):
            path = Path(name)
            if path.suffix == SEGMENT_SUFFIX:
                is_sealed = name in sealed
                yield Source(f"{here}/{name}", unchanging=is_sealed, growing=not is_sealed)
            elif path.suffix != IDS_SUFFIX or path.with_suffix(SEGMENT_SUFFIX).name in sealed:
                # The sidecar of a segment that may still grow is left out: the start makes it.
                yield Source(f"{here}/{name}", unchanging=True)


def _sealed_segments(folder: Path, day: date) -> set[str]:
    for revision in reversed(sealed_revisions(folder)):
        try:
            return {entry.name for entry in read_seal(folder, day, revision).segments}
        except JournalError:
            continue
    return set()


@dataclass(frozen=True, slots=True)
class Standing:
    """How far every day is. Two that are equal had no seal, commit or removal between them.

    Attributes:
        days: per day of the journal the names of its seals, and whether its events were let go.
        chunks: per day of the catalogue its revision, and state, revision and rows by index.
        indices: per edition of an index the content of `CURRENT`.
    """

    days: Mapping[date, tuple[tuple[int, ...], bool]]
    chunks: Mapping[date, tuple[int, tuple[tuple[str, str, int | None, int], ...]]]
    indices: Mapping[str, bytes]

    @property
    def settled(self) -> bool:
        """Whether the catalogue knows of every day's last seal, and of no later one."""
        return all(
            self.chunks.get(day, (0, ()))[0] == seals[-1]
            for day, (seals, retired) in self.days.items()
            if seals and not retired
        )


def read_standing(data_dir: Path) -> Standing:
    """Look at every day. Raises OSError, and StoreError if the catalogue cannot be read."""
    root = data_dir / "journal"
    days = {}
    for day, folder in list(day_folders(root)) if root.is_dir() else []:
        try:
            days[day] = (tuple(sealed_revisions(folder)), is_retired(folder))
        except FileNotFoundError:  # forgotten in this moment
            continue
    chunks = {}
    if (data_dir / CATALOGUE).exists():
        with Catalogue.open(data_dir / CATALOGUE, read_only=True) as catalogue:
            chunks = {
                chunk.day: (
                    chunk.revision,
                    tuple(
                        (name, state.state, state.revision, state.rows)
                        for name, state in chunk.indices.items()
                    ),
                )
                for chunk in catalogue.chunks()
            }
    indices = {}
    for current in sorted((data_dir / "index").glob(f"*/{CURRENT}")):
        with suppress(FileNotFoundError):  # an old edition that goes in this moment
            indices[current.parent.name] = current.read_bytes()
    return Standing(days, chunks, indices)
