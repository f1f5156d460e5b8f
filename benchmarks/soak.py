"""Soak: compressed days for minutes or hours, and what of the service grows meanwhile.

A detector publishes real flows whose own times run through a day every few seconds; the event clock
closes the days and each is folded in a child process. One message in a hundred is sealed with a key
that nobody knows, and one in a hundred is a repeat. Metrics and status are read as a monitoring
system would. Memory, file descriptors and threads are sampled; the slope is a line fitted to the
samples after the warm-up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import zmq

from consumer.demo.deployment import SAMPLE
from consumer.health.status import read_status
from consumer.replay.flows import FlowRecording
from consumer.replay.seal import Sealer
from consumer.wire.keys import key_from_seed
from index.catalogue import Catalogue

SEED, UNKNOWN = bytes(range(32)), bytes(range(32, 64))  # test keys
FIRST_DAY_S = 1_500_000_000 // 86_400 * 86_400
SAMPLE_EVERY_S = 5.0
SLICE_S = 0.02
#: Days whose digests are kept in memory; before they are reached memory grows as it should.
LOADED_DAYS = 16

CONFIG = """\
[data]
dir = "data"
min_free_mb = 64
[registry]
kind = "static"
[day]
clock = "event"
settle_s = 2.0
[quarantine]
max_mb = 4
[api]
port = 0
[log]
format = "json"
[[detector.endpoints]]
name = "soak"
address = "{endpoint}"
[[detector.keys]]
id = "soak"
scheme = "chacha20poly1305-v1"
hex = "{key}"
"""


class Detector:
    """Publishes from a thread: `rate` messages a second, a day of event time every `day_s`."""

    def __init__(self, rate: float, day_s: float) -> None:
        self.published = self.unknown = self.repeats = 0
        self._rate = rate
        self._day_s = day_s
        self._stopping = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, 1000)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._run, name="detector")

    @property
    def day(self) -> float:
        """Days of event time that have been published."""
        return (self.published - self.repeats) / self._rate / self._day_s

    def start(self) -> None:
        """Begin once somebody listens."""
        self._socket.recv()
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()
        self._socket.close(linger=1000)
        self._context.term()

    def _run(self) -> None:
        messages = self._messages()
        began = time.monotonic()
        while not self._stopping.wait(SLICE_S):
            due = int((time.monotonic() - began) * self._rate) - self.published
            for message in itertools.islice(messages, due):
                self._socket.send(message)
                self.published += 1

    def _messages(self) -> Iterator[bytes]:
        sealer, stranger = Sealer(key_from_seed("soak", SEED)), Sealer(key_from_seed("x", UNKNOWN))
        flows = [event for _, event in FlowRecording(SAMPLE, node="soak")][::80]
        payload = b""
        for number in itertools.count():
            if number % 100 == 50:
                self.unknown += 1
                yield stranger.seal(payload)
            elif number % 100 == 99:
                self.repeats += 1
                yield sealer.seal(payload)
            else:
                event = flows[number % len(flows)]
                event.event_id = f"soak-{number:012d}"
                event_s = FIRST_DAY_S + number / self._rate / self._day_s * 86_400
                event.event_timestamp.FromNanoseconds(int(event_s * 1e9))
                payload = event.SerializeToString()
                yield sealer.seal(payload)


@dataclass
class Samples:
    """What one process was seen to take. MiB, counts."""

    days: list[float] = field(default_factory=list)
    hours: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    anonymous: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self, pid: int, day: float, hour: float) -> None:
        """Look at a process."""
        facts = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        self.days.append(day)
        self.hours.append(hour)
        self.rss.append(int(facts["VmRSS"].split()[0]) / 1024)
        self.anonymous.append(int(facts["RssAnon"].split()[0]) / 1024)
        self.threads.append(int(facts["Threads"]))
        self.descriptors.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))

    def report(self, warm: int) -> dict[str, Any]:
        """Peaks, and slopes of what came after the first `warm` samples (with two sigma)."""
        shown: dict[str, Any] = {
            "rss_first_mb": round(self.rss[0], 1),
            "rss_after_warm_up_mb": round(self.rss[warm], 1),
            "rss_last_mb": round(self.rss[-1], 1),
            "rss_peak_mb": round(max(self.rss), 1),
        }
        for name, values in (("rss", self.rss), ("anonymous", self.anonymous)):
            for unit, at in (("day", self.days), ("hour", self.hours)):
                slope, sigma = fitted(at[warm:], values[warm:]) or (None, None)
                shown[f"{name}_slope_mb_per_{unit}"] = slope and round(slope, 4)
                shown[f"{name}_slope_mb_per_{unit}_two_sigma"] = sigma and round(2 * sigma, 4)
        for name, counts in (("descriptors", self.descriptors), ("threads", self.threads)):
            shown[name] = {
                "after_warm_up": counts[warm],
                "last": counts[-1],
                "most": max(counts),
            }
        return shown


def fitted(x: list[float], y: list[float]) -> tuple[float, float] | None:
    """Slope of the least-squares line and its standard error; None for fewer than three points."""
    if len(x) < 3:
        return None
    at, values = np.array(x) - np.mean(x), np.array(y) - np.mean(y)
    slope = float(at @ values / (at @ at))
    rest = values - slope * at
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (at @ at)))


def measure(minutes: float, rate: float, day_s: float) -> dict[str, Any]:
    """Run and report."""
    with tempfile.TemporaryDirectory(prefix="dayfold-soak-") as name:
        folder, detector = Path(name), Detector(rate, day_s)
        config = folder / "dayfold.toml"
        config.write_text(CONFIG.format(endpoint=detector.endpoint, key=SEED.hex()))
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", "--config", str(config)],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            return _watch(service, detector, folder / "data", minutes)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()


def _watch(
    service: subprocess.Popen[bytes], detector: Detector, data: Path, minutes: float
) -> dict[str, Any]:
    detector.start()
    samples, api = Samples(), Samples()
    began = time.monotonic()
    warm = 0
    fold_peak = 0.0
    longest_backlog = 0
    while (spent := time.monotonic() - began) < minutes * 60:
        time.sleep(SAMPLE_EVERY_S)
        picture = read_status(data)
        assert picture is not None
        assert service.poll() is None, (data.parent / "log").read_text()[-3000:]
        _look(picture["service"]["api"])
        samples.take(service.pid, detector.day, spent / 3600)
        for pid in _children(service.pid, "consumer.web.api"):
            api.take(pid, detector.day, spent / 3600)
        if detector.day < LOADED_DAYS + 4 or spent < minutes * 60 / 4:
            warm = len(samples.rss)
        fold_peak = max(fold_peak, picture["fold"]["last_rss_peak_mb"])
        behind = sum(day["state"] not in {"committed", "open"} for day in picture["days"])
        longest_backlog = max(longest_backlog, behind)
    detector.stop()
    picture = _settled(data)
    seconds = time.monotonic() - began
    warm = min(warm, len(samples.rss) - 1)
    return {
        "minutes": round(seconds / 60, 1),
        "days": round(detector.day, 1),
        "published": detector.published,
        "published_per_second": round(detector.published / (minutes * 60), 1),
        "journaled": picture["intake"]["journaled"],
        "durable": picture["journal"]["durable"],
        "duplicates": picture["intake"]["duplicates"],
        "quarantined": picture["intake"]["quarantined"],
        "quarantine_kept": sum(picture["quarantine"]["reasons"].values()),
        "lost": detector.published - picture["intake"]["received"],
        "unaccounted": picture["intake"]["received"]
        - sum(picture["intake"][name] for name in ("journaled", "duplicates", "quarantined")),
        "days_committed": _committed(data),
        "folds": picture["fold"]["folds"],
        "fold_failures": picture["fold"]["failures"],
        "fold_rss_peak_mb": round(fold_peak, 1),
        "days_behind_at_most": longest_backlog,
        "service": samples.report(warm),
        "http_process": api.report(min(warm, len(api.rss) - 1)) if api.rss else None,
        "cores": os.cpu_count(),
    }


def _look(address: str) -> None:
    """Read what a monitoring system reads. A machine that is busy elsewhere may answer 503."""
    for path in ("/metrics", "/readyz", "/v1/status"):
        url = address + path  # of the service that was started here
        with suppress(HTTPError), urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
            answer.read()


def _children(pid: int, named: str) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in found
        if named in Path(f"/proc/{child}/cmdline").read_text(errors="replace")
    ]


def _settled(data: Path) -> dict[str, Any]:
    """The picture once all that was received is durable and nothing comes any more."""
    before = -1
    while True:
        time.sleep(2.0)
        picture = read_status(data)
        assert picture is not None
        now = picture["intake"]["received"]
        if now == before and picture["journal"]["durable"] == picture["intake"]["journaled"]:
            return picture
        before = now


def _committed(data: Path) -> int:
    with Catalogue.open(data / "catalogue.sqlite", read_only=True) as catalogue:
        return sum(chunk.state == "committed" for chunk in catalogue.chunks())


def main() -> None:
    """Command line: `python -m benchmarks.soak --minutes 20 --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=200, help="messages per second")
    parser.add_argument("--day-seconds", type=float, default=15, help="length of a day")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.minutes, asked.rate, asked.day_seconds)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>24}  {value}")


if __name__ == "__main__":
    main()
