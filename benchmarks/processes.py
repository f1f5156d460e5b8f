"""The two processes of the ingest benchmark, as a parent sees them: publisher and service."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consumer.health.status import read_status
from consumer.wire.keys import Scheme

READY_S = 60.0


@dataclass(frozen=True)
class Load:
    """What a publisher is asked for. `rate` in messages per second; 0 is what the wire takes."""

    scheme: Scheme
    rate: float
    seconds: float
    size: int
    first: int = 0


class Publisher:
    """A publisher process, told when to begin."""

    def __init__(self, load: Load, *, ahead: int) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.publisher", "--scheme", load.scheme,
                "--rate", str(load.rate), "--seconds", str(load.seconds),
                "--size", str(load.size), "--first", str(load.first), "--ahead", str(ahead),
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

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def report(self) -> dict[str, Any]:
        """Wait for the end."""
        line = self._line()
        self._process.wait()
        return line

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


@dataclass(slots=True)
class Moment:
    """What the service said of itself at one time. `at_ns` is its own clock, UTC ns."""

    at_ns: int
    durable: int


@dataclass
class Service:
    """`dayfold run` on a folder.

    Args:
        before: a command that the service is started with, such as `taskset -c 0`.
        config: its settings; None for the defaults.
        environment: more of them, as variables, which go before the file.

    Attributes:
        ready_s: from the start of the process to its word that it receives.
        moments: what it said of itself, each picture once.
    """

    folder: Path
    before: Sequence[str] = ()
    config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = 0.0
    rss_peak_mb: float = 0.0
    tree_peak_mb: float = 0.0
    moments: list[Moment] = field(default_factory=list)

    def start(self) -> None:
        """Start it and wait until it says that it receives."""
        notify = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(notify))
            listener.settimeout(READY_S)
            began = time.monotonic()
            with (self.folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [
                        *self.before, sys.executable, "-m", "consumer", "run",
                        *([] if self.config is None else ["--config", str(self.config)]),
                    ],
                    stdout=log, stderr=log,
                    env={**os.environ, **self.environment, "NOTIFY_SOCKET": str(notify)},
                )  # fmt: skip
            while b"READY=1" not in listener.recv(1024):
                pass
            self.ready_s = time.monotonic() - began

    def picture(self) -> dict[str, Any]:
        """The latest picture, which is noted."""
        picture = read_status(self.folder / "data")
        assert picture is not None, (self.folder / "log").read_text()
        moment = Moment(picture["written_ns"], picture["journal"]["durable"])
        if not self.moments or self.moments[-1].at_ns != moment.at_ns:
            self.moments.append(moment)
        self._weigh()
        return picture

    def _weigh(self) -> None:
        own = rss_mb(self._process.pid)
        children = sum(rss_mb(pid) for pid in children_of(self._process.pid))
        self.rss_peak_mb = max(self.rss_peak_mb, own)
        self.tree_peak_mb = max(self.tree_peak_mb, own + children)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far: of ZeroMQ's threads, of the busiest other thread, and of the rest."""
        ours: list[float] = []
        zeromq = 0.0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            # Behind the name, which may hold anything: fields 3 and up, so 14 and 15 are user, system.
            name, _, rest = (task / "stat").read_text().rpartition(")")
            fields = rest.split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            if "ZMQ" in name:
                zeromq += seconds
            else:
                ours.append(seconds)
        busiest = max(ours)
        return {"zeromq": zeromq, "intake": busiest, "rest": sum(ours) - busiest}

    def connected(self, detectors: int) -> None:
        """Wait until so many detectors are connected."""
        end = time.monotonic() + READY_S
        while sum(link["connected"] for link in self.picture()["detectors"]) < detectors:
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.1)

    def settled(self) -> dict[str, Any]:
        """The picture once nothing moves any more: all that was received is durable."""
        before = -1
        while True:
            time.sleep(1.5)
            picture = self.picture()
            now = picture["intake"]["received"]
            if now == before and picture["journal"]["durable"] == picture["intake"]["journaled"]:
                return picture
            before = now

    def stop(self) -> float:
        """SIGTERM; the seconds until it is gone."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        return time.monotonic() - began

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and not reaped; none if it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MiB, mapped files included; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    return int(kilobytes[0]) / 1024 if kilobytes else 0.0
