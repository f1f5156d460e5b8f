"""The memory limit of the embedding child: large days fit, and one that is too small says so."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from consumer.clock import ManualClock
from consumer.demo.deployment import SAMPLE
from consumer.folding.executor import ChildProcess, FoldJob
from consumer.folding.fold import EXIT_WITHOUT_MEMORY
from consumer.folding.requests import Requests
from consumer.journal import Journal
from consumer.replay.flows import FlowRecording
from consumer.settings import INDEX_NAMES, FoldSettings, Settings
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from consumer.wire.keys import key_from_seed
from index.catalogue import Catalogue
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.journal_kit import ignore
from tests.running_service import (
    DAY,
    NOON,
    NOON_NS,
    BentClock,
    Running,
    S,
    detecting,
    key_entry,
    write_config,
)

UTC = ZoneInfo("UTC")
SEED = bytes(range(32))  # a test key
#: The demo's days have 1,603 events on average.
TENFOLD = 16_000
#: The least that can be set.
LEAST_MB = 512
#: Enough for the encoder of series alone, and too little for that of texts.
TOO_LITTLE_MB = 230


def flows(count: int, kinds: int) -> Iterator[NetworkSecurityEvent]:
    """Events of the day, a few real flows that come again and again all through it."""
    recording = FlowRecording(SAMPLE, node="n", days=frozenset({DAY}))
    few = [event for _, event in islice(recording, 0, None, 1600 // kinds)]
    for number, flow in enumerate(islice(cycle(few), count)):
        event = NetworkSecurityEvent()
        event.CopyFrom(flow)
        event.event_id = f"e{number}"
        event.event_timestamp.FromNanoseconds(NOON_NS - (number + 1) * 43_000 * S // count)
        yield event


def journal_of(folder: Path, events: Iterator[NetworkSecurityEvent]) -> int:
    """Write events to a sealed day; its revision."""
    admission = Admission(UTC, event_clock=True)
    journal = Journal(folder / "journal", zone=UTC, clock=ManualClock(1), on_fatal=ignore)
    journal.start()
    batch = [admission.admit(event.SerializeToString(), None, 1) for event in events]
    journal.append([admitted for admitted in batch if isinstance(admitted, Admitted)])
    seal = journal.seal(DAY)
    assert seal.events == len(batch)
    with Catalogue.open(folder / "catalogue.sqlite") as catalogue:
        catalogue.seal_chunk(DAY, seal.revision, journal.counts(DAY))
    journal.stop()
    return seal.revision


@pytest.mark.slow
def test_ten_usual_days_in_one_close_inside_the_least_limit_that_can_be_set(
    tmp_path: Path,
) -> None:
    usual = FoldSettings(memory_mb=LEAST_MB)
    with pytest.raises(ValueError, match="greater than or equal to 512"):
        FoldSettings(memory_mb=LEAST_MB - 1)
    job = FoldJob(
        data_dir=tmp_path,
        day=DAY,
        revision=journal_of(tmp_path, flows(TENFOLD, kinds=40)),
        indices=INDEX_NAMES,
        timezone="UTC",
        models_cache=None,
        memory_mb=usual.memory_mb,
        nice=0,
        threads=usual.threads,
        batch_events=usual.batch_events,
    )
    report = ChildProcess(timeout_s=600).run(job, threading.Event())
    assert report.failure is None
    assert {name: told.error for name, told in report.outcomes.items()} == dict.fromkeys(
        INDEX_NAMES
    )


def test_a_child_whose_new_thread_has_no_memory_to_begin_with_ends_and_does_not_wait() -> None:
    program = """if True:
        import _thread, time
        from consumer.folding import fold
        def begin():
            raise MemoryError
        fold.end_without_memory()
        _thread.start_new_thread(begin, ())
        time.sleep(60)
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=50, check=False)
    assert done.returncode == EXIT_WITHOUT_MEMORY


def with_memory(memory_mb: int) -> Any:
    """Settings with a limit that a file may not set."""

    def change(settings: Settings) -> Settings:
        fold = settings.fold.model_copy(update={"memory_mb": memory_mb})
        return settings.model_copy(update={"fold": fold})

    return change


def states_of(picture: dict[str, Any]) -> dict[str, str]:
    """The state of each index for the one day, and of the day itself."""
    return {
        name: facts["state"]
        for day in picture["days"]
        for name, facts in {**day["indices"], "day": day}.items()
    }


def test_a_limit_that_is_too_small_degrades_the_day_and_names_the_remedy(tmp_path: Path) -> None:
    pauses = "[fold]\nretry_base_s = 0.05\nretry_cap_s = 0.5\n"
    with detecting(key_from_seed("k", SEED)) as detector:
        config = write_config(
            tmp_path, {"d": detector.address}, pauses + key_entry("k", SEED.hex())
        )
        service = Running(config, BentClock(NOON), change=with_memory(TOO_LITTLE_MB))
        try:
            detector.send(*flows(30, kinds=10))
            service.wait_for("the journal", lambda p: p["journal"]["durable"] == 30)
            Requests(service.data_dir).ask_close(DAY)
            service.wait_for("the series", lambda p: states_of(p).get("timeseries") == "committed")
            picture = service.wait_for(
                "the texts", lambda p: states_of(p).get("semantic") == "failed"
            )
            (day,) = picture["days"]
            assert day["state"] == "degraded"
            remedy = f"raise fold.memory_mb, which is {TOO_LITTLE_MB}"
            assert remedy in day["indices"]["semantic"]["error"]
            assert picture["service"]["ended_threads"] == []
            detector.send(*islice(flows(60, kinds=10), 30, None))
            service.wait_for("reception", lambda p: p["journal"]["durable"] == 60)
        finally:
            service.stop()
        again = Running(config, BentClock(NOON))
        try:
            Requests(again.data_dir).ask_close(DAY)
            picture = again.wait_for("the day", lambda p: states_of(p).get("day") == "committed")
            assert picture["days"][0]["events"] == 60
        finally:
            again.stop()
