"""`dayfold snapshot`: a copy of the data folder that is whole in itself, taken while it is in use.

What never changes once it has its name is linked where the file system allows it, and copied
elsewhere; what grows is copied as far as it has got; the catalogue is copied as SQLite sees it at
one moment. That moment is what everything else must fit: if a day was sealed, an index was
committed, or a day was let go while files were gathered, the gathering is done once more, which by
then is little, and the service is asked to begin nothing new for so long. So the restored folder
never has a catalogue that is ahead of an index, nor an index that is ahead of a journal.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import consumer
from consumer.care.snapshot_files import CATALOGUE, Source, read_standing, sources
from consumer.clock import Clock
from consumer.errors import SnapshotError
from consumer.folding.requests import Requests
from consumer.journal.durable import checked_json, file_sha256, fsync_folder, replace_file
from consumer.journal.frames import Gap, walk_frames
from consumer.journal.segment import SEGMENT_SUFFIX, scan_segment, segment_number
from consumer.quarantine.shelf import HEADER as SHELF_HEADER
from consumer.quarantine.shelf import RULES as SHELF_RULES
from consumer.settings import Settings
from index.catalogue import Catalogue

MANIFEST = "snapshot.json"
FORMAT = "dayfold-snapshot-1"
PARTIAL_SUFFIX = ".partial"

ROUNDS = 100
ROUND_S = 0.1

#: Errors that say that a link cannot be made here, but a copy can.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(slots=True)
class Gathered:
    """What has been put into a snapshot so far, by name.

    Attributes:
        stamps: inode, size and time of change of the file that each was made from.
        linked: those that are the very file.
        growing: copies whose last record may not be whole.
    """

    stamps: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)
    growing: set[str] = field(default_factory=set)

    def drop(self, name: str) -> None:
        """Forget a file."""
        self.stamps.pop(name, None)
        self.linked.discard(name)
        self.growing.discard(name)


def take_snapshot(
    settings: Settings,
    target: Path,
    *,
    clock: Clock,
    links: bool = True,
    wait: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Put a snapshot of the data folder into the new folder `target`.

    Args:
        links: link what never changes, if that is possible; without, everything is copied.
        wait: sleeps between two rounds, seconds.

    Raises:
        SnapshotError: `target` is in use or inside the data folder, days change all the time, or
            the disk does not let it.
        StoreError: the catalogue cannot be read.
    """
    data_dir = settings.data.dir.resolve()
    target = target.resolve()
    _refuse(data_dir, target)
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
    except FileExistsError:
        raise SnapshotError(
            f"{partial} is there already, from a snapshot that was cut short or is being taken: "
            "remove it and try again"
        ) from None
    except OSError as error:
        raise SnapshotError(f"{partial} cannot be made: {error}") from error
    try:
        made_ns = clock.now_ns()
        gathered = Gathered()
        settled = _gather_whole(data_dir, partial, gathered, links=links, wait=wait)
        _cut_tails(partial, gathered)
        files = _listed(partial, gathered)
        document = {
            "format": FORMAT,
            "version": consumer.__version__,
            "made_ns": made_ns,
            "settled": settled,
            "files": files,
        }
        replace_file(partial / MANIFEST, checked_json(document))
        if target.exists():
            target.rmdir()
        partial.rename(target)
        fsync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise SnapshotError(f"no snapshot in {target}: {error}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return {
        "snapshot": str(target),
        "made_ns": made_ns,
        "files": len(files),
        "bytes": sum(entry["size"] for entry in files),
        "linked": len(gathered.linked),
        "settled": settled,
    }


def _refuse(data_dir: Path, target: Path) -> None:
    if not data_dir.is_dir():
        raise SnapshotError(f"data.dir = {data_dir}: there is no such folder")
    if target == data_dir or data_dir in target.parents:
        raise SnapshotError(f"{target} is inside data.dir = {data_dir}: choose a folder elsewhere")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SnapshotError(f"{target} is not empty: every snapshot has a new folder")


def _gather_whole(
    data_dir: Path,
    partial: Path,
    gathered: Gathered,
    *,
    links: bool,
    wait: Callable[[float], None],
) -> bool:
    """Gather until nothing was committed meanwhile. False if catalogue and journals disagree.

    Raises:
        SnapshotError: something was committed in every round.
    """
    requests = Requests(data_dir)
    still = False
    try:
        for attempt in range(ROUNDS):
            if attempt:
                requests.ask_to_hold()
                wait(ROUND_S)
            before = read_standing(data_dir)
            _copy_catalogue(data_dir, partial, gathered)
            _gather(data_dir, partial, gathered, links=links)
            still = read_standing(data_dir) == before
            if still and before.settled:
                return True
    finally:
        requests.release()
    if not still:
        raise SnapshotError(
            f"{data_dir}: days were committed all the time while files were gathered; try again "
            "when less is going on"
        )
    return False


def _copy_catalogue(data_dir: Path, partial: Path, gathered: Gathered) -> None:
    if (data_dir / CATALOGUE).exists():
        with Catalogue.open(data_dir / CATALOGUE, read_only=True) as catalogue:
            catalogue.copy_to(partial / CATALOGUE)
        gathered.stamps[CATALOGUE] = (0, 0, 0)


def _gather(data_dir: Path, partial: Path, gathered: Gathered, *, links: bool) -> None:
    """Bring `partial` to what the data folder has now; what is the same already costs nothing."""
    seen = {CATALOGUE}
    for source in sources(data_dir):
        with suppress(FileNotFoundError):  # it went meanwhile, and the standing tells if it matters
            _take(data_dir, partial, source, gathered, links=links)
            seen.add(source.name)
    for name in set(gathered.stamps) - seen:
        (partial / name).unlink(missing_ok=True)
        gathered.drop(name)


def _take(
    data_dir: Path, partial: Path, source: Source, gathered: Gathered, *, links: bool
) -> None:
    path, target = data_dir / source.name, partial / source.name
    facts = path.stat()
    stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    if gathered.stamps.get(source.name) == stamp:
        return
    for folder in reversed(target.relative_to(partial).parents):
        (partial / folder).mkdir(mode=0o700, exist_ok=True)
    target.unlink(missing_ok=True)
    gathered.drop(source.name)
    if source.growing:
        gathered.growing.add(source.name)
    if links and source.unchanging and _link(path, target):
        gathered.linked.add(source.name)
    else:
        _copy(path, target)
    gathered.stamps[source.name] = stamp


def _link(path: Path, target: Path) -> bool:
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def _copy(path: Path, target: Path) -> None:
    with (
        path.open("rb") as source,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy,
    ):
        shutil.copyfileobj(source, copy, 1 << 20)


def _cut_tails(partial: Path, gathered: Gathered) -> None:
    """Cut off what was being written in the moment of the copy: it was not acknowledged yet.

    What a disk lost at the end of a file looks the same and goes, too; the journal still tells at
    the next start if it had been synced.
    """
    for name in sorted(gathered.growing):
        path = partial / name
        end = _end_of_segment(path) if path.suffix == SEGMENT_SUFFIX else _end_of_shelf(path)
        if end == 0:
            path.unlink()
            del gathered.stamps[name]
        elif end < path.stat().st_size:
            os.truncate(path, end)


def _end_of_segment(path: Path) -> int:
    scan = scan_segment(path, date.fromisoformat(path.parent.name), segment_number(path.name) or 0)
    return scan.extent.bytes if scan.torn_at is None else scan.torn_at


def _end_of_shelf(path: Path) -> int:
    gaps: list[Gap] = []
    size = path.stat().st_size
    if size < len(SHELF_HEADER):
        return 0
    with path.open("rb", buffering=0) as file:
        for _ in walk_frames(file, len(SHELF_HEADER), size, SHELF_RULES, gaps):
            pass
    return gaps[-1].start if gaps and gaps[-1].end >= size else size


def _fsync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _listed(partial: Path, gathered: Gathered) -> list[dict[str, Any]]:
    """Make all of the snapshot durable, and list its files with their sizes and checksums."""
    files = []
    for name in sorted(gathered.stamps):
        path = partial / name
        size = path.stat().st_size
        if name not in gathered.linked:
            _fsync_file(path)
        files.append({"name": name, "size": size, "sha256": file_sha256(path, size)})
    for folder, _, _ in os.walk(partial, topdown=False):
        fsync_folder(Path(folder))
    return files
