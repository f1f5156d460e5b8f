"""What any place where folds run has to keep. Another implementation joins with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.clock import ManualClock
from consumer.demo.deployment import SAMPLE
from consumer.folding.executor import ChildProcess, FoldExecutor, FoldJob
from consumer.journal import Journal
from consumer.replay.flows import FlowRecording
from consumer.wire.admission import Admission
from index.catalogue import Catalogue
from index.faiss_store import FaissStore

UTC = ZoneInfo("UTC")
DAY = date(2017, 7, 4)
INDICES = ("timeseries", "semantic", "attack")

EXECUTORS: dict[str, Callable[[], FoldExecutor]] = {
    "child process": lambda: ChildProcess(timeout_s=120),
}


@pytest.fixture(params=list(EXECUTORS.values()), ids=list(EXECUTORS))
def executor(request: pytest.FixtureRequest) -> FoldExecutor:
    made: FoldExecutor = request.param()
    return made


@pytest.fixture
def job(tmp_path: Path) -> FoldJob:
    """A sealed day of 300 real flows."""
    admission = Admission(UTC, event_clock=True)
    journal = Journal(
        tmp_path / "journal", zone=UTC, clock=ManualClock(1), on_fatal=lambda error: None
    )
    journal.start()
    batch = []
    for number, (_, event) in enumerate(FlowRecording(SAMPLE, node="n", days=frozenset({DAY}))):
        if number == 300:
            break
        admitted = admission.admit(event.SerializeToString(), None, 1)
        batch.append(admitted)
    journal.append(batch)  # type: ignore[arg-type]  # the sample is never refused
    seal = journal.seal(DAY)
    with Catalogue.open(tmp_path / "catalogue.sqlite") as catalogue:
        catalogue.seal_chunk(DAY, seal.revision, journal.counts(DAY))
    journal.stop()
    return FoldJob(tmp_path, DAY, seal.revision, INDICES, "UTC", None, 3072, 0, 1, 128)


def rows(job: FoldJob) -> dict[str, int | None]:
    with Catalogue.open(job.data_dir / "catalogue.sqlite", read_only=True) as catalogue:
        chunk = catalogue.chunk(DAY)
        assert chunk is not None
        return {
            name: state.rows if state.state == "committed" else None
            for name, state in chunk.indices.items()
        }


def test_all_three_indices_are_committed_and_reported(executor: FoldExecutor, job: FoldJob) -> None:
    report = executor.run(job, threading.Event())
    assert report.failure is None
    assert {name: outcome.error for name, outcome in report.outcomes.items()} == dict.fromkeys(
        INDICES
    )
    assert rows(job) == {name: outcome.rows for name, outcome in report.outcomes.items()}
    assert rows(job)["timeseries"] == 9


def test_only_the_indices_that_are_asked_for_are_touched(
    executor: FoldExecutor, job: FoldJob
) -> None:
    one = FoldJob(**{**{f: getattr(job, f) for f in job.__slots__}, "indices": ("attack",)})
    executor.run(one, threading.Event())
    assert [name for name, count in rows(job).items() if count] == ["attack"]


def test_running_again_changes_nothing(executor: FoldExecutor, job: FoldJob) -> None:
    executor.run(job, threading.Event())
    before = {name: _digest(job, name) for name in INDICES}
    executor.run(job, threading.Event())
    assert {name: _digest(job, name) for name in INDICES} == before


def _digest(job: FoldJob, name: str) -> str:
    with FaissStore.open(job.data_dir / "index", name) as store:
        return store.shards()[DAY].sha256


def test_an_index_that_fails_holds_up_no_other(executor: FoldExecutor, job: FoldJob) -> None:
    blocked = job.data_dir / "index" / "semantic"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the folder should be")
    report = executor.run(job, threading.Event())
    assert report.outcomes["semantic"].error
    assert {name for name, count in rows(job).items() if count} == {"timeseries", "attack"}
    blocked.unlink()
    executor.run(job, threading.Event())
    assert all(rows(job).values())


def test_a_damaged_journal_commits_nothing(executor: FoldExecutor, job: FoldJob) -> None:
    segment = next((job.data_dir / "journal" / str(DAY)).glob("*.seg"))
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    report = executor.run(job, threading.Event())
    assert report.failure or all(outcome.error for outcome in report.outcomes.values())
    assert not any(rows(job).values())


def test_it_ends_soon_when_told_to_stop(executor: FoldExecutor, job: FoldJob) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    report = executor.run(job, stop)
    # Either it was done by then, or it says that it was stopped; it never runs on.
    assert time.monotonic() - began < 30
    assert report.failure or len(report.outcomes) == 3


def test_a_killed_child_is_reported_and_leaves_nothing_half_done(job: FoldJob) -> None:
    killed = threading.Event()

    def kill_the_child() -> None:
        while not killed.is_set():
            found = subprocess.run(
                ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
                capture_output=True,
                text=True,
                check=False,
                timeout=10,
            ).stdout
            for line in found.splitlines():
                if "consumer.folding.fold" in line:
                    time.sleep(0.5)
                    os.kill(int(line.split()[0]), signal.SIGKILL)
                    killed.set()

    threading.Thread(target=kill_the_child, daemon=True).start()
    report = ChildProcess(timeout_s=120).run(job, threading.Event())
    killed.set()
    assert report.failure is not None
    assert "killed" in report.failure
    again = ChildProcess(timeout_s=120).run(job, threading.Event())
    assert again.failure is None
    assert all(rows(job).values())


def test_an_idle_child_gets_only_what_no_other_process_wants(job: FoldJob) -> None:
    seen: set[int] = set()
    stop = threading.Event()
    thread = threading.Thread(
        target=ChildProcess(timeout_s=120).run, args=(replace(job, idle=True), stop)
    )
    thread.start()
    while thread.is_alive():
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    seen.add(os.sched_getscheduler(int(child)))
        if os.SCHED_IDLE in seen:
            stop.set()
        thread.join(0.02)
    assert os.SCHED_IDLE in seen


def test_a_fold_that_gave_way_to_reception_ends_as_any_other(job: FoldJob) -> None:
    looks = iter(range(1_000_000))
    pressed = ChildProcess(timeout_s=120, pressed=lambda: next(looks) % 10 < 5)
    report = pressed.run(job, threading.Event())
    assert next(looks) > 20
    assert report.failure is None
    assert all(rows(job).values())
