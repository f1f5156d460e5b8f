"""Durable events per second through the whole service, beside the bare ceiling of the same run.

The ceiling is the same messages only received, opened and decompressed in a bare loop, from a
publisher process on the same cores. The service is `dayfold run` with everything on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zmq

from benchmarks.publisher import SEED
from consumer.clock import SystemClock
from consumer.health.status import read_status
from consumer.wire.envelope import Envelope
from consumer.wire.keys import KeyRing, key_from_hex, key_from_seed

CONFIG = """\
[data]
dir = "data"
min_free_mb = 64
[registry]
kind = "static"
[day]
clock = "event"
grace_s = 1e9
[subscriber]
handover_mb = 128
[api]
port = 0
[log]
format = "json"
[[detector.endpoints]]
name = "bench"
address = "{endpoint}"
[[detector.keys]]
id = "bench"
scheme = "{scheme}"
hex = "{key}"
"""


class Publisher:
    """The publisher process, told when to begin."""

    def __init__(self, scheme: str, rate: float, seconds: float, size: int, first: int) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.publisher", "--scheme", scheme,
                "--rate", str(rate), "--seconds", str(seconds), "--size", str(size),
                "--first", str(first),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.endpoint = str(self._line()["endpoint"])

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line

    def go(self) -> None:
        """Begin to publish."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """Wait for the end."""
        line = self._line()
        self._process.wait()
        return line


def ceiling(scheme: str, seconds: float, size: int) -> float:
    """Messages per second of a loop that only receives, opens and decompresses."""
    publisher = Publisher(scheme, 0, seconds, size, 0)
    key = (
        key_from_seed("bench", SEED)
        if scheme == "chacha20poly1305-v1"
        else key_from_hex("bench", SEED.hex())
    )
    envelope = Envelope(KeyRing(SystemClock(), [key]))
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RCVTIMEO, 2000)
    socket.connect(publisher.endpoint)
    time.sleep(0.3)
    publisher.go()
    count = 0
    began = last = 0.0
    while True:
        try:
            message = socket.recv()
        except zmq.Again:
            break
        envelope.open("bench", message)
        last = time.monotonic()
        began = began or last
        count += 1
    publisher.report()
    socket.close()
    context.term()
    return count / max(last - began, 1e-9)


def measure(scheme: str, rate: float, seconds: float, size: int) -> dict[str, Any]:
    """Run the service against the publisher and report."""
    bare = ceiling(scheme, min(seconds, 8.0), size)
    with tempfile.TemporaryDirectory(prefix="dayfold-bench-") as name:
        folder = Path(name)
        publisher = Publisher(scheme, rate, seconds, size, 0)
        config = folder / "dayfold.toml"
        config.write_text(
            CONFIG.format(
                endpoint=publisher.endpoint,
                scheme=scheme,
                key=SEED.hex(),
            )
        )
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", "--config", str(config)],
                stdout=log, stderr=log,
            )  # fmt: skip
        data = folder / "data"
        _wait(data, lambda picture: any(link["connected"] for link in picture["detectors"]))
        publisher.go()
        began = time.monotonic()
        peak = 0.0
        while time.monotonic() - began < seconds:
            peak = max(peak, _rss_mb(service.pid))
            time.sleep(0.2)
        report = publisher.report()
        picture = _settled(data)
        ended = time.monotonic()
        durable = picture["journal"]["durable"]
        service.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        service.wait()
        took = max(ended - began - 1.5, report["seconds"])
    received = picture["intake"]["received"]
    return {
        "scheme": scheme,
        "events_per_second": round(durable / took),
        "published": report["published"],
        "published_per_second": round(report["published"] / report["seconds"]),
        "received": received,
        "journaled": picture["intake"]["journaled"],
        "durable": durable,
        "lost": report["published"] - received,
        "ceiling_events_per_second": round(bare),
        "ratio": round(durable / took / bare, 3),
        "rss_peak_mb": round(peak, 1),
        "drain_and_stop_seconds": round(time.monotonic() - stopped, 2),
        "cores": os.cpu_count(),
        "children_rss_peak_mb": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1
        ),
    }


def _wait(data: Path, reached: Any) -> None:
    for _ in range(300):
        picture = read_status(data)
        if picture is not None and reached(picture):
            return
        time.sleep(0.1)
    raise SystemExit("the service did not connect within 30 seconds")


def _settled(data: Path) -> dict[str, Any]:
    """The picture once nothing moves any more: all that was received is durable."""
    before = -1
    while True:
        time.sleep(1.5)
        picture = read_status(data)
        assert picture is not None
        now = picture["intake"]["received"]
        if now == before and picture["journal"]["durable"] == picture["intake"]["journaled"]:
            return picture
        before = now


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Command line: `python -m benchmarks.ingest --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", default="chacha20poly1305-v1")
    parser.add_argument("--rate", type=float, default=0, help="events per second; 0: all it can")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.scheme, asked.rate, asked.seconds, asked.size)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>28}  {value}")


if __name__ == "__main__":
    main()
