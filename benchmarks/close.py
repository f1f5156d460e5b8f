"""Closing a day: from the sealed journal to three committed indices, in the real child process.

The day is made of real flows, each changed a little (times, volumes, ports, verdicts), so that it
has thousands of distinct descriptions, and filled up to the wanted size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from consumer.clock import SystemClock
from consumer.demo.deployment import SAMPLE
from consumer.errors import JournalError
from consumer.folding.executor import ChildProcess, FoldJob
from consumer.journal import Journal
from consumer.replay.flows import FlowRecording
from consumer.wire.admission import Admission, Admitted
from index.catalogue import Catalogue
from proto.network_security_pb2 import NetworkSecurityEvent

UTC = ZoneInfo("UTC")
DAY = date(2017, 7, 4)
DAY_START_NS = 1_499_126_400_000_000_000
FLAGGED_SHARE = 0.03
INDICES = ("timeseries", "semantic", "attack")
SERVICES = (22, 25, 53, 80, 110, 123, 143, 389, 443, 445, 993, 1433, 3306, 3389, 5060, 8080)


def day_of_events(count: int, size: int, seed: int = 7) -> Iterator[bytes]:
    """`count` serialised events of one day, in the order of their times."""
    draw = random.Random(seed)
    flows = [event for _, event in FlowRecording(SAMPLE, node="bench")]
    benign = [event for event in flows if event.final_classification == "BENIGN"]
    flagged = [event for event in flows if event.final_classification != "BENIGN"]
    filler = "".join(f"{draw.randrange(1000):03d};" for _ in range(1024))
    for number in range(count):
        event = NetworkSecurityEvent()
        event.CopyFrom(draw.choice(flagged if draw.random() < FLAGGED_SHARE else benign))
        event.event_id = f"bench-{number:012d}"
        at_ns = DAY_START_NS + number * 86_399_000_000_000 // count
        event.event_timestamp.FromNanoseconds(at_ns)
        network = event.network_features
        if draw.random() < 0.3:
            network.destination_port = draw.choice(SERVICES)
        factor = 10 ** draw.uniform(-1.5, 1.5)
        network.flow_duration_microseconds = int(network.flow_duration_microseconds * factor)
        network.total_forward_bytes = int(network.total_forward_bytes * factor)
        network.total_backward_bytes = int(network.total_backward_bytes / factor)
        network.source_ip = f"192.168.{draw.randrange(4)}.{draw.randrange(1, 250)}"
        if draw.random() < 0.3:
            network.destination_ip = f"203.0.113.{draw.randrange(1, 250)}"
        missing = size - event.ByteSize() - 24
        if missing > 0:
            start = draw.randrange(1024)
            event.custom_metadata["notes"] = (filler[start:] + filler)[:missing]
        yield event.SerializeToString()


def _give_up(error: JournalError) -> None:
    raise SystemExit(str(error))


def sealed_day(folder: Path, count: int, size: int) -> int:
    """Write and seal the day; gives its bytes in the journal."""
    admission = Admission(UTC, event_clock=True)
    journal = Journal(folder / "journal", zone=UTC, clock=SystemClock(), on_fatal=_give_up)
    journal.start()
    batch: list[Admitted] = []
    for payload in day_of_events(count, size):
        event = admission.admit(payload, None, DAY_START_NS)
        assert isinstance(event, Admitted)
        batch.append(event)
        if len(batch) == 512:
            journal.append(batch)
            batch = []
    if batch:
        journal.append(batch)
    seal = journal.seal(DAY)
    with Catalogue.open(folder / "catalogue.sqlite") as catalogue:
        catalogue.seal_chunk(DAY, seal.revision, journal.counts(DAY))
    journal.stop()
    return seal.bytes


def measure(count: int, size: int, *, memory_mb: int = 3072, threads: int = 2) -> dict[str, Any]:
    """Make a day, fold it, report."""
    folder = Path(tempfile.mkdtemp(prefix="dayfold-close-"))
    try:
        journal_bytes = sealed_day(folder, count, size)
        job = FoldJob(
            data_dir=folder,
            day=DAY,
            revision=1,
            indices=INDICES,
            timezone="UTC",
            models_cache=None,
            memory_mb=memory_mb,
            nice=0,
            threads=threads,
            batch_events=2048,
        )
        began = time.perf_counter()
        report = ChildProcess(timeout_s=7200).run(job, threading.Event())
        seconds = time.perf_counter() - began
        with Catalogue.open(folder / "catalogue.sqlite", read_only=True) as catalogue:
            chunk = catalogue.chunk(DAY)
        assert chunk is not None
        return {
            "events": count,
            "event_bytes": size,
            "journal_mb": round(journal_bytes / 1e6, 1),
            "seconds": round(seconds, 2),
            "events_per_second": round(count / seconds),
            "by_embedder": {name: round(report.stages.get(name, 0.0), 2) for name in INDICES},
            "stages": {name: round(value, 2) for name, value in report.stages.items()},
            "rows": {name: state.rows for name, state in chunk.indices.items()},
            "state": chunk.state,
            "failure": report.failure,
            "errors": {n: o.error for n, o in report.outcomes.items() if o.error},
            "rss_peak_mb": round(report.rss_peak_mb, 1),
            "cores": os.cpu_count(),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Command line: `python -m benchmarks.close --events N --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--memory-mb", type=int, default=3072)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.events, asked.size, memory_mb=asked.memory_mb, threads=asked.threads)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>20}  {value}")


if __name__ == "__main__":
    main()
