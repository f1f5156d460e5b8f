"""Importing while a service runs: it alone writes, and every event still counts once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.backfill.sinks import SpoolSink
from consumer.backfill.spool import FOLDER, Outcome, Spool, read_batch, write_batch
from consumer.backfill.writer import open_sink
from consumer.clock import SystemClock
from consumer.errors import JournalError, JournalLockedError, UnreachableError
from consumer.journal import DataLock
from consumer.reception.sources import Arrival
from consumer.settings import DataSettings, Settings
from tests.backfill_kit import ServiceAtWork, Site
from tests.detector_layout import DetectorLayout
from tests.embed_samples import sample

EVENTS = [event for _, event in sample()[::60]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def service(site: Site) -> Iterator[ServiceAtWork]:
    with ServiceAtWork(site) as at_work:
        yield at_work


def give_up() -> None:
    raise UnreachableError("gone")


def arrivals(*numbers: int) -> list[Arrival]:
    return [
        Arrival("import", time.time_ns(), EVENTS[number].SerializeToString(), sealed=False)
        for number in numbers
    ]


def test_a_running_service_takes_what_is_imported(tmp_path: Path, service: ServiceAtWork) -> None:
    made = DetectorLayout(tmp_path / "detector", kinds=("pb",))
    made.write(EVENTS)
    live = Site(tmp_path / "live")
    live.receive(EVENTS)
    answer = service.site.run("import", made.root)
    assert (answer["added"], answer["duplicates"]) == (len(EVENTS), len(EVENTS))
    assert service.journal.durable_events == len(EVENTS)
    assert service.site.identities() == live.identities()
    again = service.site.run("import", made.root, "--again")
    assert (again["added"], again["duplicates"]) == (0, 2 * len(EVENTS))
    assert list((service.site.data / FOLDER).iterdir()) == []


def test_a_sink_counts_what_the_service_says_of_many_batches(service: ServiceAtWork) -> None:
    sink = SpoolSink(service.site.data, clock=SystemClock(), wait=lambda: None)
    for _ in range(60):
        sink.put(arrivals(*range(100)))
    sink.put([Arrival("import", time.time_ns(), b"\xff" * 20, sealed=False)])
    sink.flush()
    assert sum(sink.outcome.added.values()) == 100
    assert sink.outcome.duplicates == 5900
    assert sink.outcome.refused == {"schema": 1}


def test_a_spool_takes_no_more_than_its_limit(service: ServiceAtWork) -> None:
    service.working.clear()
    sink = SpoolSink(service.site.data, clock=SystemClock(), wait=give_up)
    with pytest.raises(UnreachableError):
        sink.put(arrivals(*range(100)) * 1000)
    assert len(list((service.site.data / FOLDER).iterdir())) == 4


def test_what_was_handed_to_a_service_that_stopped_is_taken_by_the_next_writer(
    tmp_path: Path, site: Site
) -> None:
    with ServiceAtWork(site) as service:
        service.working.clear()
        sink = SpoolSink(site.data, clock=SystemClock(), wait=give_up)
        sink.put(arrivals(1, 2, 3))
        with pytest.raises(UnreachableError):
            sink.flush()
    settings = Settings(data=DataSettings(dir=site.data))
    with open_sink(settings, clock=SystemClock(), wait=give_up):
        pass
    assert sum(site.counts().values()) == 3


def test_a_batch_that_is_begun_again_counts_once(tmp_path: Path, site: Site) -> None:
    """The service dies after half of a batch."""
    folder = site.data / FOLDER
    write_batch(folder, "one", arrivals(*range(20)))
    dying = Spool(folder)
    half = dying.take(10)
    assert not dying.done(Outcome())
    site.receive(EVENTS[:10])
    with ServiceAtWork(site):
        sink = SpoolSink(site.data, clock=SystemClock(), wait=lambda: None)
        sink.put(arrivals(20))
        sink.flush()
    assert len(half) == 10
    assert sum(site.counts().values()) == 21
    assert set(site.identities().values()) == {1}


def test_a_batch_that_could_not_be_removed_is_removed_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    write_batch(folder, "one", arrivals(1))
    write_batch(folder, "two", arrivals(2))
    spool = Spool(folder)
    for number in (1, 2):
        taken = spool.take(10)
        assert [one.message for one in taken] == [one.message for one in arrivals(number)]
        assert spool.done(Outcome(duplicates=1))
    assert spool.take(10) == []
    assert {path.name for path in folder.iterdir()} == {"one.done", "two.done"}


def test_a_damaged_batch_is_put_aside_and_told(site: Site) -> None:
    folder = site.data / FOLDER
    with ServiceAtWork(site) as service:
        service.working.clear()
        sink = SpoolSink(site.data, clock=SystemClock(), wait=lambda: None)
        sink.put(arrivals(1))

        def damage() -> None:
            (path,) = folder.glob("*.batch")
            path.write_bytes(path.read_bytes()[:-1])
            sink._wait = lambda: None
            service.working.set()

        sink._wait = damage
        with pytest.raises(JournalError, match="could not read"):
            sink.flush()
    assert [path.suffix for path in folder.iterdir()] == [".bad"]


def test_a_batch_says_where_it_is_damaged(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "spool", "one", arrivals(1, 2))
    assert [one.message for one in read_batch(path)] == [one.message for one in arrivals(1, 2)]
    whole = path.read_bytes()
    for broken in (whole[:8], whole[:-1], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"one\.batch"):
            list(read_batch(path))


def test_two_imports_at_once_are_refused(tmp_path: Path, service: ServiceAtWork) -> None:
    made = DetectorLayout(tmp_path / "detector")
    made.write(EVENTS[:1])
    with DataLock(service.site.data / "import"), pytest.raises(JournalLockedError):
        service.site.run("import", made.root)


def test_a_folder_that_another_command_writes_is_refused(tmp_path: Path, site: Site) -> None:
    made = DetectorLayout(tmp_path / "detector")
    made.write(EVENTS[:1])
    with DataLock(site.data), pytest.raises(JournalLockedError, match="in use by process"):
        site.run("import", made.root)
