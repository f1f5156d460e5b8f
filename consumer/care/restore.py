"""`dayfold restore`: puts a snapshot into an empty data folder, after every byte of it is checked."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from consumer.care.snapshot import FORMAT, MANIFEST
from consumer.care.snapshot_files import CATALOGUE
from consumer.errors import SnapshotError
from consumer.journal import DataLock
from consumer.journal.durable import FOLDER_MODE, fsync_folder, open_private, parse_checked_json
from consumer.journal.lock import LOCK_NAME, RESTORING_NAME
from consumer.settings import Settings

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One file of a snapshot: its name with slashes, its size in bytes, its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """What a snapshot says of itself. `made_ns` is UTC ns since 1970."""

    version: str
    made_ns: int
    settled: bool
    files: tuple[SnapshotFile, ...]


def read_snapshot(folder: Path) -> SnapshotFacts:
    """Read the list of a snapshot's files.

    Raises:
        SnapshotError: there is none, it is damaged, or it names files outside the snapshot.
    """
    path = folder / MANIFEST
    try:
        document = parse_checked_json(path.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError(f"the format is {document['format']!r}, not {FORMAT}")
        files = tuple(SnapshotFile(**entry) for entry in document["files"])
        for file in files:
            parts = PurePosixPath(file.name).parts
            if not parts or ".." in parts or parts[0] == "/":
                raise ValueError(f"{file.name!r} is no name inside a snapshot")
        return SnapshotFacts(document["version"], document["made_ns"], document["settled"], files)
    except FileNotFoundError:
        raise SnapshotError(f"{folder} is no whole snapshot: it has no {MANIFEST}") from None
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise SnapshotError(f"{path} is damaged ({error}): use another snapshot") from error


def restore_snapshot(settings: Settings, folder: Path) -> dict[str, Any]:
    """Put a snapshot into the data folder, which must be empty or not be there.

    Everything is copied beside first and compared with its checksum; only then does it take its
    place. Nothing that the restored service writes later reaches the snapshot.

    Raises:
        SnapshotError: the snapshot is not what it was, the data folder is not empty, or the disk
            does not let it. The data folder is then as it was.
        JournalLockedError: a service runs on the data folder.
    """
    facts = read_snapshot(folder)
    data_dir = settings.data.dir
    _refuse_unless_empty(data_dir)
    with DataLock(data_dir):
        # Once more: now nobody else can put anything there.
        _refuse_unless_empty(data_dir)
        stage = data_dir / RESTORING_NAME
        try:
            stage.mkdir(mode=FOLDER_MODE)
            bad = [problem for file in facts.files if (problem := _bring(folder, stage, file))]
            if bad:
                raise SnapshotError(_refusal(folder, bad))
            for below, _, _ in os.walk(stage, topdown=False):
                fsync_folder(Path(below))
        except OSError as error:
            shutil.rmtree(stage, ignore_errors=True)
            raise SnapshotError(f"{folder} cannot be restored to {data_dir}: {error}") from error
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        _put_in_place(data_dir, stage)
    return {
        "restored": str(data_dir),
        "snapshot": str(folder),
        "made_ns": facts.made_ns,
        "version": facts.version,
        "files": len(facts.files),
        "bytes": sum(file.size for file in facts.files),
    }


def _refuse_unless_empty(data_dir: Path) -> None:
    there = sorted(path.name for path in data_dir.iterdir()) if data_dir.exists() else []
    other = [name for name in there if name != LOCK_NAME]
    if other:
        named = ", ".join(other[:5])
        raise SnapshotError(
            f"data.dir = {data_dir} is not empty ({named}): move its content away, or set another "
            "data.dir"
        )


def _bring(folder: Path, stage: Path, file: SnapshotFile) -> str | None:
    """Copy one file, durably. Gives what is wrong with it, None if nothing is. Raises OSError."""
    source, target = folder / file.name, stage / file.name
    for below in reversed(PurePosixPath(file.name).parents):
        (stage / below).mkdir(mode=FOLDER_MODE, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    try:
        opened = source.open("rb", buffering=0)
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    with opened, os.fdopen(open_private(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as out:
        while True:
            try:
                block = opened.read(1 << 20)
            except OSError as error:
                return f"{file.name}@{size}: {error.strerror}"
            if not block:
                break
            digest.update(block)
            size += len(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if size != file.size:
        return f"{file.name}: {size} bytes, {file.size} when it was made"
    if digest.hexdigest() != file.sha256:
        return f"{file.name}: SHA-256 is {digest.hexdigest()}, {file.sha256} when it was made"
    return None


def _refusal(folder: Path, bad: list[str]) -> str:
    more = [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    return "\n".join(
        [f"{folder} is damaged and was not restored:", *bad[:_SHOWN], *more, "use another snapshot"]
    )


def _put_in_place(data_dir: Path, stage: Path) -> None:
    # The catalogue comes last, and until the stage is gone no service starts here.
    parts = sorted(stage.iterdir(), key=lambda path: (path.name == CATALOGUE, path.name))
    try:
        for part in parts:
            part.rename(data_dir / part.name)
        fsync_folder(data_dir)
        stage.rmdir()
        fsync_folder(data_dir)
    except OSError as error:
        raise SnapshotError(
            f"{data_dir} is half restored ({error}): empty it and restore again"
        ) from error
