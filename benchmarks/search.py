"""Searching one index: latency, recall, cold start and memory at a number of rows.

Rows are committed day by day, 1,000 each (`--per-day`), as a fold does it, and the index is tended
afterwards as a fold does it, too. Then a fresh process opens it, is timed to its first answer, and
asks one query after the other. Recall is measured here against NumPy's exact inner products, and
apart from that the index says what it measured of itself. How the rows were made: `vectors.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vectors import Vectors, draw_rows
from index.durable_file import DurableFile
from index.faiss_store import FaissStore
from index.manifest import Manifest, write_manifest
from index.shards import SHARD_FOLDER, shard_name, shard_size, write_shard
from index.store import ModelIdentity, Shard
from index.tending import tend

MODEL = ModelIdentity("bench", "0" * 64)
FIRST_DAY = date(2024, 1, 1)
K = 10


def day_of(number: int) -> date:
    """The day of a number, in order."""
    return FIRST_DAY + timedelta(days=number)


def build(root: Path, rows: int, per_day: int, dimension: int) -> dict[str, float]:
    """An index of `rows` rows below `root`; gives the seconds of its last commit and of tending.

    All days but the last are put in place with one manifest: a thousand commits of a day each would
    time the disk.
    """
    folder = root / "semantic"
    days = max(1, rows // per_day)
    with FaissStore.open(root, "semantic", dimension=dimension, model=MODEL, writable=True):
        pass
    shards = {}
    for number in range(days - 1):
        day, name = day_of(number), shard_name(day_of(number), 1)
        with DurableFile(folder / SHARD_FOLDER / name, patched=True) as file:
            made = write_shard(
                file,
                [draw_rows(number, per_day, dimension)],
                day=day,
                revision=1,
                dimension=dimension,
            )
            digest = file.sha256()
        shards[day] = Shard(day, 1, made, name, shard_size(dimension, made), digest)
    write_manifest(folder, Manifest("semantic", 2, dimension, MODEL, shards))
    with FaissStore.open(
        root, "semantic", dimension=dimension, model=MODEL, writable=True
    ) as store:
        began = time.perf_counter()
        store.commit(day_of(days - 1), 1, [draw_rows(days - 1, per_day, dimension)])
        commit = time.perf_counter() - began
    began = time.perf_counter()
    tend(root, "semantic")
    return {"commit": commit, "tend": time.perf_counter() - began}


def blocks(rows: int, per_day: int, dimension: int) -> Iterator[tuple[date, Vectors]]:
    """The days of `build`."""
    for number in range(max(1, rows // per_day)):
        yield day_of(number), draw_rows(number, per_day, dimension)


def ask(root: Path, dimension: int, queries: int) -> dict[str, Any]:
    """Open the index cold, ask, and report; runs in a process of its own."""
    asked = draw_rows(10**6, queries, dimension)
    before = _resident_mb()
    began = time.perf_counter()
    store = FaissStore.open(root, "semantic")
    store.search(asked[:1], K)
    cold = time.perf_counter() - began
    times, busy = [], []
    found = []
    for query in asked:
        began, worked = time.perf_counter(), time.process_time()
        hits = store.search(query[None, :], K)[0]
        times.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
        found.append([hit.score for hit in hits])
    memory = _resident_mb()
    facts = store.search_facts()
    store.close()
    return {
        "p50_ms": round(float(np.percentile(times, 50)) * 1e3, 2),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 2),
        "cpu_p50_ms": round(float(np.percentile(busy, 50)) * 1e3, 2),
        "cold_start_seconds": round(cold, 3),
        "index_mb": round(memory - before, 1),
        "search": facts["search"],
        "recall_by_itself": facts["recall_at_10"],
        "scores": found,
    }


def _resident_mb() -> float:
    """What this process holds in memory now, files that are only mapped left out."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(held.split()[1]) / 1024


def measure(rows: int, dimension: int, queries: int, *, per_day: int = 1000) -> dict[str, Any]:
    """Build, open cold in another process, search, report."""
    folder = Path(tempfile.mkdtemp(prefix="dayfold-search-"))
    try:
        seconds = build(folder, rows, per_day, dimension)
        command = [sys.executable, "-m", "benchmarks.search", "--ask", str(folder)]
        command += ["--dimension", str(dimension), "--queries", str(queries)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        recall = _recall(told.pop("scores"), rows, per_day, dimension)
        return {
            "rows": rows,
            "p50_ms": told.pop("p50_ms"),
            "p99_ms": told.pop("p99_ms"),
            "recall_at_10": round(recall, 4),
            "dimension": dimension,
            "queries": queries,
            **told,
            "last_commit_seconds": round(seconds["commit"], 3),
            "tend_seconds": round(seconds["tend"], 2),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _recall(found: list[list[float]], rows: int, per_day: int, dimension: int) -> float:
    """Share of the results that are among the truly nearest; an equal score is as good."""
    asked = draw_rows(10**6, len(found), dimension)
    best = np.full((len(asked), K), -2.0, np.float32)
    for _, block in blocks(rows, per_day, dimension):
        scores = np.concatenate([best, asked @ block.T], axis=1)
        best = np.partition(scores, -K, axis=1)[:, -K:]
    edge = best.min(axis=1)
    right = sum(
        sum(score >= least - 1e-5 for score in scores)
        for scores, least in zip(found, edge.tolist(), strict=True)
    )
    return right / (K * len(asked))


def main() -> None:
    """Command line: `python -m benchmarks.search --rows N --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--per-day", type=int, default=1000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.ask is not None:
        print(json.dumps(ask(asked.ask, asked.dimension, asked.queries)))
        return
    result = measure(asked.rows, asked.dimension, asked.queries, per_day=asked.per_day)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>20}  {value}")


if __name__ == "__main__":
    main()
