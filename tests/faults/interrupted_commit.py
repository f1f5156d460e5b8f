"""Runs one commit again and again, each time killed one step later.

``python -m tests.faults.interrupted_commit BASE OUT kill|power|torn`` copies the data folder BASE to
OUT/0, OUT/1, ... and commits revision 2 of a day in each, in a forked child that kills itself
before its n-th step. A step is a write, fsync, rename, removal or SQL statement. It ends with
the first child that reaches its end.

With ``power`` the child first takes back what a power cut may take: half of every file that was
written and not synced, and every rename whose folder was not synced. With ``torn`` the newest
such rename survives the others, as a file system is free to order it. Both take it from the
child that reaches its end as well: what was reported as committed must last.
"""

import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from index.catalogue import Catalogue
from index.catalogue_file import CatalogueFile
from index.faiss_store import FaissStore
from tests.index_samples import (
    DIMENSION,
    MODEL,
    MONDAY,
    TUESDAY,
    DayCounts,
    commit_sample,
)

OLD_SEED, NEW_SEED, OTHER_SEED = 1, 2, 3
OLD_ROWS, NEW_ROWS = 10, 7
NAME = "semantic"


def prepare(folder: Path) -> None:
    """Two committed days, one of them sealed again and to be committed."""
    with Catalogue.open(folder / "catalogue.sqlite") as catalogue, open_index(folder) as store:
        for day, seed in ((MONDAY, OTHER_SEED), (TUESDAY, OLD_SEED)):
            catalogue.seal_chunk(day, 1, DayCounts())
            commit_sample(store, catalogue, day, rows=OLD_ROWS, seed=seed)
        catalogue.seal_chunk(TUESDAY, 2, DayCounts(events=9))


def open_index(folder: Path) -> FaissStore:
    return FaissStore.open(folder / "index", NAME, dimension=DIMENSION, model=MODEL, writable=True)


def commit(folder: Path) -> int:
    with Catalogue.open(folder / "catalogue.sqlite") as catalogue, open_index(folder) as store:
        return commit_sample(store, catalogue, TUESDAY, 2, rows=NEW_ROWS, seed=NEW_SEED)


class Steps:
    """Counts the steps of this process and ends it before one of them."""

    def __init__(self, fatal: int, mode: str) -> None:
        self._left = fatal
        self._mode = mode
        self._unsynced: dict[int, Path] = {}
        self._renames: list[tuple[Path, Path, bytes | None]] = []
        self._real: dict[str, Callable[..., Any]] = {
            name: getattr(os, name) for name in ("pwrite", "fsync", "replace", "unlink")
        }

    def watch(self) -> None:
        for name in self._real:
            setattr(os, name, getattr(self, f"_{name}"))
        original = CatalogueFile.__init__

        def traced(file: CatalogueFile, path: Path, **options: Any) -> None:
            original(file, path, **options)
            file._connection.set_trace_callback(lambda _: self.step())

        name = "__init__"
        setattr(CatalogueFile, name, traced)

    def step(self) -> None:
        if self._left == 0:
            self.cut()
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def _pwrite(self, handle: int, data: Any, offset: int) -> int:
        half = memoryview(data)[: len(data) // 2]
        self._note(handle)
        if self._left == 0:
            self._real["pwrite"](handle, half, offset)
        self.step()
        written: int = self._real["pwrite"](handle, data, offset)
        return written

    def _fsync(self, handle: int) -> None:
        self.step()
        self._real["fsync"](handle)
        facts = os.fstat(handle)
        if stat.S_ISDIR(facts.st_mode):
            folder = Path(f"/proc/self/fd/{handle}").readlink()
            self._renames = [entry for entry in self._renames if entry[1].parent != folder]
        else:
            self._unsynced.pop(facts.st_ino, None)

    def _replace(self, source: Path, target: Path) -> None:
        self.step()
        before = Path(target).read_bytes() if Path(target).exists() else None
        inode = Path(source).stat().st_ino
        self._real["replace"](source, target)
        self._renames.append((Path(source), Path(target).resolve(), before))
        if inode in self._unsynced:
            self._unsynced[inode] = Path(target)

    def _unlink(self, path: Path) -> None:
        self.step()
        self._real["unlink"](path)

    def _note(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        self._unsynced[os.fstat(handle).st_ino] = path

    def cut(self) -> None:
        if self._mode == "kill":
            return
        lost = self._renames[:-1] if self._mode == "torn" else self._renames
        for path in self._unsynced.values():
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)
        for source, target, before in reversed(lost):
            self._real["replace"](target, source)
            if before is not None:
                target.write_bytes(before)


def main(base: Path, out: Path, mode: str) -> int:
    for fatal in range(1_000):
        folder = out / str(fatal)
        shutil.copytree(base, folder)
        child = os.fork()
        if child == 0:
            steps = Steps(fatal, mode)
            steps.watch()
            commit(folder)
            steps.cut()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
