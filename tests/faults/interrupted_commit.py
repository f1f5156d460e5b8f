"""Runs one commit again and again, each time killed one step later.

``python -m tests.faults.interrupted_commit BASE OUT kill|power|torn`` copies the data folder BASE to
OUT/0, OUT/1, ... and commits revision 2 of a day in each, in a forked child that dies before its
n-th step (see `steps`). It ends with the first child that reaches its end; a power cut takes what
is not synced from that one, too: what was reported as committed must last.
"""

import os
import shutil
import sys
from pathlib import Path

from index.catalogue import Catalogue
from index.faiss_store import FaissStore
from tests.faults.steps import Mode, Orders, Steps
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


class Countdown:
    """Lets so many steps pass."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __call__(self, _name: str) -> bool:
        self._left -= 1
        return self._left < 0


def main(base: Path, out: Path, mode: Mode) -> int:
    for fatal in range(1_000):
        folder = out / str(fatal)
        shutil.copytree(base, folder)
        child = os.fork()
        if child == 0:
            steps = Steps(Orders(str(folder.resolve()), Countdown(fatal), mode))
            steps.watch()
            commit(folder)
            steps.cut()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))  # type: ignore[arg-type]
