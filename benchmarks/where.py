"""`--where`: how long a condition takes to find its rows, before and after terms are made.

Rows are stored as a fold stores those of the semantic index, 1,000 a day (`--per-day`), each with ten
sources, ten destinations, ten ports and twenty identifiers. Three conditions are asked: one that
every row meets, one that one row in a hundred meets, and one that none does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from consumer.journal import DayCounts
from embed.rows import JSON, RowFacts
from index.catalogue import Catalogue

FIRST_DAY = date(2024, 1, 1)
ASKED = 9
CONDITIONS = {"all": ("flagged", "true"), "few": ("tag", "rare"), "none": ("source_ip", "10.9.9.9")}


def facts_of(day: int, rows: int) -> list[RowFacts]:
    """The facts of so many descriptions of a day."""
    drawn = np.random.default_rng(day)
    hosts = drawn.integers(0, 2000, (rows, 20)).tolist()
    ports = drawn.integers(1, 65536, (rows, 10)).tolist()
    volumes = drawn.integers(1, 10**9, rows).tolist()
    made = []
    for row in range(rows):
        names = [f"10.0.{host // 256}.{host % 256}" for host in hosts[row]]
        detail: dict[str, JSON] = {
            "event_ids": [f"node-01-{day:06d}-{row:06d}-{number:02d}" for number in range(20)],
            "source_ips": dict.fromkeys(names[:10], 3),
            "destination_ips": dict.fromkeys(names[10:], 3),
            "destination_ports": {str(port): 2 for port in ports[row]},
            "categories": {"benign": 3},
            "tags": {"rare": 1} if row % 100 == 1 else {},
            "flagged": True,
            "bytes": volumes[row],
            "packets": volumes[row] % 5000,
            "tokens": 40 + row % 20,
            "windows": 1,
        }
        made.append(RowFacts("description", f"text {row} of {day}", 30, 0, 1, detail))
    return made


def measure(rows: int, per_day: int) -> dict[str, Any]:
    """Store, ask, make the terms, ask again."""
    with tempfile.TemporaryDirectory(prefix="dayfold-where-") as folder:
        path = Path(folder) / "catalogue.sqlite"
        counts = DayCounts(per_day, 0, 0, 0, 1, 1)
        with Catalogue.open(path) as catalogue:
            for number in range(max(1, rows // per_day)):
                day = FIRST_DAY + timedelta(days=number)
                catalogue.seal_chunk(day, 1, counts)
                catalogue.stage_rows("semantic", day, 1, 0, facts_of(number, per_day))
                catalogue.commit_index(
                    day, "semantic", revision=1, rows=per_day, model="bench", coverage={}
                )
            by_facts = ask(catalogue, 1)
            size = path.stat().st_size
            began = time.process_time()
            catalogue.make_terms("semantic")
            made = time.process_time() - began
        # As a reader that has only just come.
        with Catalogue.open(path, read_only=True) as catalogue:
            by_terms = ask(catalogue, ASKED)
        grown = path.stat().st_size - size
    return {
        "rows": rows,
        "ms": by_terms,
        "ms_without_terms": by_facts,
        "making_us_per_row": round(made / rows * 1e6, 1),
        "bytes_per_row": round(grown / rows),
        "facts_bytes_per_row": round(size / rows),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def ask(catalogue: Catalogue, times: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each condition, half of the times and at the first, and how many rows meet it."""
    found = {}
    for name, condition in CONDITIONS.items():
        took = []
        for _ in range(times):
            began = time.perf_counter()
            rows = catalogue.rows_where("semantic", *condition)
            took.append((time.perf_counter() - began) * 1e3)
        median = float(np.median(took))
        found[name] = {"rows": len(rows), "p50": round(median, 2), "first": round(took[0], 2)}
    return found


def main() -> None:
    """Command line: `python -m benchmarks.where --rows N --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--per-day", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.rows, asked.per_day)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>20}  {value}")


if __name__ == "__main__":
    main()
