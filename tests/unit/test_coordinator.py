"""The coordinator's decisions, on a real journal and catalogue; only the place of work is given."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from consumer.clock import ManualClock
from consumer.folding.closing import CloseRule
from consumer.folding.coordinator import Coordinator
from consumer.folding.executor import FoldExecutor, FoldJob, FoldReport, IndexOutcome
from consumer.folding.requests import Requests
from consumer.journal import Journal
from consumer.settings import FoldSettings
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from embed.rows import RowFacts
from index.catalogue import Catalogue
from index.commit import commit_chunk
from index.faiss_store import FaissStore
from index.store import ModelIdentity
from proto.network_security_pb2 import NetworkSecurityEvent

UTC = ZoneInfo("UTC")
DAY = date(2017, 7, 4)
NOON = 1_499_169_600_000_000_000
MIDNIGHT = 1_499_212_800_000_000_000
S = 1_000_000_000
MODEL = ModelIdentity("given", "0" * 64)


@dataclass
class OneRowEach(FoldExecutor):
    """Commits one row to each index for real, except to those that are told to fail."""

    failing: dict[str, str] = field(default_factory=dict)
    dies: bool = False
    jobs: list[FoldJob] = field(default_factory=list)

    def run(self, job: FoldJob, stop: Event) -> FoldReport:
        self.jobs.append(job)
        if self.dies:
            return FoldReport({}, 0.0, failure="the embedding process was killed")
        outcomes = {}
        with Catalogue.open(job.data_dir / "catalogue.sqlite") as catalogue:
            for name in job.indices:
                if name in self.failing:
                    outcomes[name] = IndexOutcome(error=self.failing[name])
                    continue
                vector = np.eye(1, 4, dtype=np.float32)
                facts = RowFacts("day", str(job.day), 1, 0, 1, {})
                with FaissStore.open(
                    job.data_dir / "index", name, dimension=4, model=MODEL, writable=True
                ) as store:
                    rows = commit_chunk(
                        store,
                        catalogue,
                        day=job.day,
                        revision=job.revision,
                        blocks=[(vector, [facts])],
                        coverage={"events": 1},
                        model=MODEL,
                    )
                outcomes[name] = IndexOutcome(rows=rows)
        return FoldReport(outcomes, 0.0)


@dataclass
class Bench:
    folder: Path
    clock: ManualClock
    journal: Journal
    catalogue: Catalogue
    executor: OneRowEach
    requests: Requests
    coordinator: Coordinator

    def event(self, number: int, at_ns: int = NOON) -> None:
        event = NetworkSecurityEvent(event_id=f"e{number}", originating_node_id="n")
        event.event_timestamp.FromNanoseconds(at_ns)
        admitted = Admission(UTC).admit(event.SerializeToString(), None, self.clock.now_ns())
        assert isinstance(admitted, Admitted)
        self.journal.append([admitted])

    def at(self, ns: int) -> None:
        self.clock.set_ns(ns)
        self.coordinator.tick()

    def state(self) -> str:
        chunk = self.catalogue.chunk(DAY)
        assert chunk is not None
        return f"{chunk.state} {chunk.revision}"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = ManualClock(NOON)
    journal = Journal(tmp_path / "journal", zone=UTC, clock=clock, on_fatal=lambda _: None)
    journal.start()
    executor = OneRowEach()
    requests = Requests(tmp_path)
    with Catalogue.open(tmp_path / "catalogue.sqlite") as catalogue:
        coordinator = Coordinator(
            journal,
            catalogue,
            executor,
            requests,
            data_dir=tmp_path,
            zone=UTC,
            clock=clock,
            day_clock=clock.now_ns,
            rule=CloseRule(grace_s=600, settle_s=120),
            fold=FoldSettings(retry_base_s=10, retry_cap_s=1000),
            models_cache=None,
            random=random.Random(1),
        )
        yield Bench(tmp_path, clock, journal, catalogue, executor, requests, coordinator)
    journal.stop()


def test_a_day_is_open_until_its_end_plus_grace_and_then_committed(bench: Bench) -> None:
    bench.event(1)
    bench.at(MIDNIGHT + 599 * S)
    assert bench.state() == "open 0"
    bench.at(MIDNIGHT + 600 * S)
    assert bench.state() == "committed 1"
    assert [job.indices for job in bench.executor.jobs] == [("timeseries", "semantic", "attack")]


def test_nothing_more_is_done_for_a_committed_day(bench: Bench) -> None:
    bench.event(1)
    for minutes in range(11, 60):
        bench.at(MIDNIGHT + minutes * 60 * S)
    assert len(bench.executor.jobs) == 1


def test_late_events_make_a_second_revision_once_they_have_settled(bench: Bench) -> None:
    bench.event(1)
    bench.at(MIDNIGHT + 600 * S)
    bench.event(2)
    bench.at(MIDNIGHT + 700 * S)
    assert bench.state() == "open 1"
    bench.at(MIDNIGHT + 720 * S)
    assert bench.state() == "committed 2"


def test_an_operator_may_close_a_day_at_once(bench: Bench) -> None:
    bench.event(1)
    bench.requests.ask_close(DAY)
    bench.at(NOON + S)
    assert bench.state() == "committed 1"


def test_an_index_that_fails_is_tried_again_later_and_alone(bench: Bench) -> None:
    bench.event(1)
    bench.executor.failing["semantic"] = "model altered"
    bench.at(MIDNIGHT + 600 * S)
    chunk = bench.catalogue.chunk(DAY)
    assert chunk is not None
    assert bench.state() == "degraded 1"
    assert {name: state.state for name, state in chunk.indices.items()} == {
        "timeseries": "committed",
        "semantic": "failed",
        "attack": "committed",
    }
    assert chunk.indices["semantic"].error == "model altered"
    retry_ns = chunk.indices["semantic"].next_retry_ns
    assert retry_ns is not None
    bench.executor.failing.clear()
    bench.at(retry_ns - 1)
    assert bench.state() == "degraded 1"
    bench.at(retry_ns)
    assert bench.state() == "committed 1"
    assert bench.executor.jobs[-1].indices == ("semantic",)


def test_the_pause_between_tries_grows_to_its_cap(bench: Bench) -> None:
    bench.event(1)
    bench.executor.failing["attack"] = "disk"
    bench.at(MIDNIGHT + 600 * S)
    bounds = []
    for _ in range(10):
        chunk = bench.catalogue.chunk(DAY)
        assert chunk is not None
        retry_ns = chunk.indices["attack"].next_retry_ns
        assert retry_ns is not None
        bounds.append((retry_ns - bench.clock.now_ns()) / S)
        bench.at(max(retry_ns, bench.clock.now_ns() + 1))
    ended = bench.catalogue.chunk(DAY)
    assert ended is not None
    assert ended.indices["attack"].attempts == 11
    assert all(pause <= min(1000, 10 * 2**n) + 1e-6 for n, pause in enumerate(bounds))
    assert max(bounds[5:]) > max(bounds[:2])


def test_after_a_child_died_each_index_goes_alone(bench: Bench) -> None:
    bench.event(1)
    bench.executor.dies = True
    bench.at(MIDNIGHT + 600 * S)
    bench.executor.dies = False
    bench.at(MIDNIGHT + 7200 * S)
    assert [job.indices for job in bench.executor.jobs[1:]] == [
        ("timeseries",),
        ("semantic",),
        ("attack",),
    ]
    assert bench.state() == "committed 1"


def test_reconcile_does_not_wait_for_the_next_try(bench: Bench) -> None:
    bench.event(1)
    bench.executor.failing["attack"] = "disk"
    bench.at(MIDNIGHT + 600 * S)
    bench.executor.failing.clear()
    bench.requests.ask_reconcile()
    bench.at(MIDNIGHT + 600 * S + 1)
    assert bench.state() == "committed 1"


def test_a_seal_that_the_catalogue_missed_is_caught_up_with(bench: Bench) -> None:
    bench.event(1)
    bench.coordinator.tick()
    bench.journal.seal(DAY)  # and the process dies before the catalogue hears of it
    bench.coordinator.catch_up()
    bench.at(NOON + S)
    assert bench.state() == "committed 1"
