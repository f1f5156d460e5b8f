"""Closing days: from the sealed journal to three committed indices, by the real service.

`dayfold run` finds sealed days in its data folder and closes them in its child process. Each day is
the same size; the second finds most of its sentences in the cache that the first one left.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.day import sealed_day
from benchmarks.processes import children_of, rss_mb
from index.catalogue import Catalogue
from index.chunks import Chunk

FIRST_DAY = date(2017, 7, 4)
INDICES = ("timeseries", "semantic", "attack")
SAMPLE_S = 0.2
CONFIG = """\
[data]
dir = "data"
min_free_mb = 64
[registry]
kind = "static"
[day]
clock = "event"
grace_s = 1e9
[fold]
memory_mb = {memory_mb}
threads = {threads}
nice = 0
[api]
enabled = false
[log]
format = "json"
"""


def measure(
    count: int,
    size: int,
    *,
    days: int = 1,
    memory_mb: int = 1024,
    threads: int = 2,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Make days, have the service close them, report."""
    place = Path(tempfile.mkdtemp(prefix="dayfold-close-", dir=folder))
    try:
        data = place / "data"
        data.mkdir(mode=0o700)
        dates = [FIRST_DAY + timedelta(number) for number in range(days)]
        began = time.perf_counter()
        journal_bytes = [sealed_day(data, day, count, size) for day in dates]
        made_s = time.perf_counter() - began
        config = place / "dayfold.toml"
        config.write_text(CONFIG.format(memory_mb=memory_mb, threads=threads))
        log = place / "log"
        with log.open("wb") as output:
            service = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", "--config", str(config)],
                stdout=output,
                stderr=output,
            )
        try:
            peaks = _watch(service, data, dates)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()
        folded = [json.loads(line) for line in log.read_text().splitlines() if "day folded" in line]
        closed = [_day(data, day, folded, count) for day in dates]
        return {
            "events": count,
            "event_bytes": size,
            "journal_mb": round(journal_bytes[0] / 1e6, 1),
            **closed[0],
            "later_days": closed[1:],
            **peaks,
            "days_made_seconds": round(made_s, 1),
            "threads": threads,
            "cores": os.cpu_count(),
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _day(data: Path, day: date, folded: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """What became of a day."""
    chunk = _chunk(data, day)
    report = next(line for line in folded if line["day"] == str(day))
    stages = report["stages"]
    return {
        "seconds": report["seconds"],
        "events_per_second": round(count / report["seconds"]),
        "by_embedder": {name: stages.get(name, 0.0) for name in INDICES},
        "stages": stages,
        "rows": {name: state.rows for name, state in chunk.indices.items()},
        "state": chunk.state,
        "errors": {name: state.error for name, state in chunk.indices.items() if state.error},
    }


def _chunk(data: Path, day: date) -> Chunk:
    with Catalogue.open(data / "catalogue.sqlite", read_only=True) as catalogue:
        chunk = catalogue.chunk(day)
    assert chunk is not None
    return chunk


def _watch(service: subprocess.Popen[bytes], data: Path, days: list[date]) -> dict[str, float]:
    """Wait until every day is closed, well or not, and the child has said what it took.

    Gives the most memory that was seen.
    The processor time is that of the children, which other work on the machine hardly changes.
    """
    together = child = 0.0
    used: dict[int, float] = {}
    looked = time.monotonic()
    while service.poll() is None:
        pids = children_of(service.pid)
        children = [rss_mb(pid) for pid in pids]
        child = max([child, *children])
        used.update({pid: seconds for pid in pids if (seconds := _cpu_s(pid))})
        together = max(together, rss_mb(service.pid) + sum(children))
        if time.monotonic() - looked > 1:
            states = {_chunk(data, day).state for day in days}
            if states <= {"committed", "degraded"} and not pids:
                break
            looked = time.monotonic()
        time.sleep(SAMPLE_S)
    return {
        "rss_peak_mb": round(together, 1),
        "rss_peak_child_mb": round(child, 1),
        "cpu_seconds": round(sum(used.values()), 1),
    }


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Command line: `python -m benchmarks.close --events N --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="events of a day")
    parser.add_argument("--size", type=int, default=2048, help="bytes of an event")
    parser.add_argument("--days", type=int, default=1, help="days, closed one after the other")
    parser.add_argument("--memory-mb", type=int, default=1024, help="limit of the child")
    parser.add_argument("--threads", type=int, default=2, help="threads of an encoder")
    parser.add_argument("--dir", type=Path, default=None, help="where to make the data folder")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(
        asked.events,
        asked.size,
        days=asked.days,
        memory_mb=asked.memory_mb,
        threads=asked.threads,
        folder=asked.dir,
    )
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>20}  {value}")


if __name__ == "__main__":
    main()
