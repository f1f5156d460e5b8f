"""Searching one index: latency, recall and cold start at a number of rows.

Rows are random unit vectors around as many centres as there are days, which is about how
descriptions lie; recall is measured against exact inner products by NumPy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.faiss_store import FaissStore
from index.store import ModelIdentity

MODEL = ModelIdentity("bench", "0" * 64)
FIRST_DAY = date(2024, 1, 1)


def rows_of_day(number: int, rows: int, dimension: int) -> NDArray[np.float32]:
    """Unit vectors around the day's centre."""
    draw = np.random.default_rng(number)
    centre = draw.standard_normal(dimension)
    made = centre + draw.standard_normal((rows, dimension))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32)


def measure(rows: int, dimension: int, queries: int, k: int = 10) -> dict[str, Any]:
    """Build, open cold, search, report."""
    folder = Path(tempfile.mkdtemp(prefix="dayfold-search-"))
    per_day = 1000
    try:
        with FaissStore.open(
            folder, "semantic", dimension=dimension, model=MODEL, writable=True
        ) as store:
            for number in range(rows // per_day):
                day = FIRST_DAY + timedelta(days=number)
                store.commit(day, 1, [rows_of_day(number, per_day, dimension)])
        asked = rows_of_day(10**6, queries, dimension)
        began = time.perf_counter()
        store = FaissStore.open(folder, "semantic")
        first = store.search(asked[:1], k)
        cold = time.perf_counter() - began
        times = []
        found = []
        for query in asked:
            began = time.perf_counter()
            found.append(store.search(query[None, :], k)[0])
            times.append(time.perf_counter() - began)
        recall = _recall(found, asked, rows // per_day, per_day, dimension, k)
        store.close()
        return {
            "rows": rows,
            "dimension": dimension,
            "p50_ms": round(float(np.percentile(times, 50)) * 1e3, 2),
            "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 2),
            "recall_at_10": round(recall, 4),
            "cold_start_seconds": round(cold, 3),
            "first_hits": len(first[0]),
            "cores": os.cpu_count(),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _recall(
    found: list[Any], asked: NDArray[np.float32], days: int, per_day: int, dimension: int, k: int
) -> float:
    best = [[] for _ in asked]  # type: list[list[tuple[float, date, int]]]
    for number in range(days):
        day = FIRST_DAY + timedelta(days=number)
        scores = asked @ rows_of_day(number, per_day, dimension).T
        for place, row in enumerate(scores):
            top = np.argpartition(-row, k)[:k]
            best[place] = sorted(
                best[place] + [(float(row[r]), day, int(r)) for r in top], reverse=True
            )[:k]
    right = sum(
        len({(hit.day, hit.row) for hit in hits} & {(day, row) for _, day, row in true})
        for hits, true in zip(found, best, strict=True)
    )
    return right / (k * len(asked))


def main() -> None:
    """Command line: `python -m benchmarks.search --rows N --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.rows, asked.dimension, asked.queries)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>20}  {value}")


if __name__ == "__main__":
    main()
