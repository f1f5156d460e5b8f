"""Another process reads, anew and by refreshing, while one commit follows the other."""

import subprocess
import sys
from pathlib import Path

from index.faiss_store import FaissStore
from tests.index_samples import MONDAY, TUESDAY, open_store, unit_rows

TOP = Path(__file__).resolve().parents[2]
COMMITS = 60
# Prints how often it looked, and which revisions it saw; fails on the first that is not whole.
PROGRAM = """
import sys, select
from pathlib import Path
import numpy as np
from index.faiss_store import FaissStore
from tests.index_samples import MONDAY, TUESDAY, unit_rows

root, seen, looks = Path(sys.argv[1]), set(), 0
lasting = FaissStore.open(root, "semantic")
print("ready", flush=True)
while True:
    ending = bool(select.select([sys.stdin], [], [], 0)[0])
    lasting.refresh()
    for store in (lasting, FaissStore.open(root, "semantic")):
        (hits,) = store.search(unit_rows(1, 0), 99)
        revisions = {hit.revision for hit in hits if hit.day == TUESDAY}
        (revision,) = revisions
        assert sorted(hit.row for hit in hits if hit.day == TUESDAY) == list(range(revision % 7 + 1))
        assert np.array_equal(store.vectors(TUESDAY), unit_rows(revision % 7 + 1, revision))
        assert sum(hit.day == MONDAY for hit in hits) == 5
        seen.add(revision)
        looks += 1
    if ending:
        break
print(looks, *sorted(seen))
"""


def test_a_reader_in_another_process_always_sees_one_whole_generation(tmp_path: Path) -> None:
    def commit(store: FaissStore, revision: int) -> None:
        store.commit(TUESDAY, revision, [unit_rows(revision % 7 + 1, revision)])

    with open_store(tmp_path) as store:
        store.commit(MONDAY, 1, [unit_rows(5, 0)])
        commit(store, 1)
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=TOP,
        ) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            for revision in range(2, COMMITS + 1):
                commit(store, revision)
            out, problem = reader.communicate("end\n", timeout=60)
    assert reader.returncode == 0, problem
    looks, *seen = map(int, out.split())
    assert looks >= 2
    assert seen[-1] == COMMITS
    assert store.verify(deep=True) == []
