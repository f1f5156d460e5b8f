"""Where a closed day's work runs: behind a small interface, in a child process today.

A fold embeds one sealed chunk and commits it to the indices it is asked for. It runs at low
priority with a memory limit, so that reception never starves and a model that grows or dies takes
nothing with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

import structlog

from consumer.errors import FoldError
from consumer.folding.give_way import GiveWay
from embed.sensors import PLAIN, Sensors

log = structlog.get_logger("fold")


@dataclass(frozen=True, slots=True)
class FoldJob:
    """One sealed chunk, the indices that want it, and the means it may use."""

    data_dir: Path
    day: date
    revision: int
    indices: tuple[str, ...]
    timezone: str
    models_cache: Path | None
    memory_mb: int
    nice: int
    threads: int
    batch_events: int
    sensors: Sensors = PLAIN
    idle: bool = False

    def to_json(self) -> str:
        """One line for the child's standard input."""
        plain = asdict(self)
        plain["day"] = self.day.isoformat()
        plain["data_dir"] = str(self.data_dir)
        plain["models_cache"] = None if self.models_cache is None else str(self.models_cache)
        plain["sensors"] = self.sensors.to_json()
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> FoldJob:
        """The inverse of `to_json`."""
        plain = json.loads(text)
        cache = plain["models_cache"]
        return cls(
            **{
                **plain,
                "data_dir": Path(plain["data_dir"]),
                "day": date.fromisoformat(plain["day"]),
                "indices": tuple(plain["indices"]),
                "models_cache": None if cache is None else Path(cache),
                "sensors": Sensors.from_json(plain["sensors"]),
            }
        )


@dataclass(frozen=True, slots=True)
class IndexOutcome:
    """What became of one index: rows committed, or the error."""

    rows: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What a fold did. An index that is missing in `outcomes` was never reached."""

    outcomes: dict[str, IndexOutcome]
    seconds: float
    rss_peak_mb: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    failure: str | None = None

    def to_json(self) -> str:
        """One line for the parent."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FoldReport:
        """The inverse of `to_json`."""
        plain = json.loads(text)
        outcomes = {name: IndexOutcome(**facts) for name, facts in plain.pop("outcomes").items()}
        return cls(outcomes=outcomes, **plain)


class FoldExecutor(ABC):
    """The seam. An implementation runs a job to its end, or until `stop` is set.

    Promise: whatever happens to the work (an error, a kill, the memory limit), `run` returns a
    report and the caller's process is unharmed. Each index is committed whole or not at all.
    """

    @abstractmethod
    def run(self, job: FoldJob, stop: Event) -> FoldReport:
        """Run the job and report per index.

        Raises:
            FoldError: the work could not even be started.
        """


class ChildProcess(FoldExecutor):
    """Runs `python -m consumer.folding.fold` per job and reaps it.

    Args:
        timeout_s: the child is ended after this time, without the time for which it gave way.
        pressed: whether reception needs the machine now; the child gives way (`give_way`).
        environment: variables for the child on top of ours; tests arm faults with it.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        pressed: Callable[[], bool] = lambda: False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._pressed = pressed
        self._environment = environment or {}

    def run(self, job: FoldJob, stop: Event) -> FoldReport:
        """See `FoldExecutor.run`; a child that dies yields a report that says how."""
        started = time.monotonic()
        with tempfile.TemporaryFile("w+") as order, tempfile.TemporaryFile("w+") as output:
            order.write(job.to_json() + "\n")
            order.seek(0)
            try:
                child = subprocess.Popen(
                    [sys.executable, "-m", "consumer.folding.fold", str(os.getpid())],
                    stdin=order,
                    stdout=output,
                    env={**os.environ, **_few_threads(job.threads), **self._environment},
                )
            except OSError as error:
                raise FoldError(f"the embedding process cannot be started: {error}") from error
            failure = self._wait(child, stop, started)
            output.seek(0)
            lines = output.read().splitlines()
        seconds = time.monotonic() - started
        if failure is None and child.returncode == 0 and lines:
            return FoldReport.from_json(lines[-1])
        return FoldReport({}, seconds, failure=failure or _how_it_ended(child.returncode, job))

    def _wait(self, child: subprocess.Popen[bytes], stop: Event, started: float) -> str | None:
        way = GiveWay(child, self._pressed)
        while True:
            way.look()
            try:
                child.wait(0.1)
            except subprocess.TimeoutExpired:
                if stop.is_set():
                    _end(child)
                    return "stopped with the service; goes on at the next start"
                if time.monotonic() - started - way.seconds > self._timeout_s:
                    _end(child)
                    return f"ended after fold.timeout_s = {self._timeout_s:g}"
            else:
                if way.seconds:
                    log.info("the fold gave way to reception", seconds=round(way.seconds, 1))
                return None


def _end(child: subprocess.Popen[bytes]) -> None:
    # A fold keeps nothing that a kill could spoil: each commit is atomic.
    child.kill()
    child.wait()


def _few_threads(threads: int) -> dict[str, str]:
    """Keeps libraries from taking a thread, and its memory, per core.

    OpenBLAS has one: between NumPy's small products a second one waits in a loop, which cost a quarter
    of the processor time of a pass and gained nothing. FAISS, which uses OpenMP, has work for more.
    """
    return {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(threads)}


def out_of_memory(memory_mb: int) -> str:
    """What to do when the memory limit may be too small."""
    return f"if it ran out of memory, raise fold.memory_mb, which is {memory_mb}"


def _how_it_ended(code: int, job: FoldJob) -> str:
    if code == -signal.SIGKILL:
        return "the embedding process was killed (by hand, or by the kernel for lack of memory)"
    remedy = out_of_memory(job.memory_mb)
    if code < 0:
        return f"the embedding process died of {signal.Signals(-code).name} ({remedy})"
    return f"the embedding process ended with code {code} ({remedy})"
