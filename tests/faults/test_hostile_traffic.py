"""Floods, bombs, replays and a million ids: nothing ends by them, nothing grows without limit."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lz4.block
import pytest

from consumer.clock import SystemClock
from consumer.replay.publisher import Publisher
from consumer.replay.seal import Sealer
from consumer.wire.keys import key_from_seed
from tests.faults.hostile import SEED, facing, rss_peak_mb, run_python
from tests.faults.test_bent_clock import site
from tests.integration.publishing import PublisherProcess

MIB = 1024 * 1024
GOOD = 1500
NOON = datetime(2017, 7, 4, 12, tzinfo=UTC)


def of(picture: dict[str, Any], detector: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        link for link in picture["detectors"] if link["detector"] == detector
    )
    return found


def test_good_events_all_arrive_beside_a_flood_that_no_key_opens(tmp_path: Path) -> None:
    with (
        PublisherProcess(hwm=50_000) as flood,
        facing(tmp_path, {"flood": flood.address}, QUARANTINE__MAX_MB="1") as deployment,
    ):
        deployment.start_service()
        service = deployment.service
        assert service is not None
        before = rss_peak_mb(service.pid)
        flood.do("wait 1")
        flood.tell("send 20000 1000")
        replay = deployment.start_replay(rate=500, limit=GOOD)
        deployment.wait_for("the stream's end", lambda _: replay.poll() is not None, timeout_s=120)
        picture = deployment.wait_for(
            "both to be through",
            lambda picture: (
                picture["journal"]["durable"] == GOOD
                and of(picture, "flood")["received"] == 20_000
                and picture["intake"]["quarantined"] == 20_000
            ),
            timeout_s=60,
        )
        assert of(picture, "detector-01")["losses"]["lost"] == 0
        assert of(picture, "detector-01")["dropped"] == 0
        kept = sum(picture["quarantine"]["reasons"].values())
        assert kept + sum(picture["quarantine"]["dropped"].values()) == 20_000
        held = sum(
            path.stat().st_size for path in (tmp_path / "data/quarantine").rglob("*.messages")
        )
        assert 0 < held <= MIB
        assert rss_peak_mb(service.pid) < before + 100
        assert deployment.stop_service() == 0


def test_bombs_cost_no_more_than_the_limit_and_hold_up_nothing(tmp_path: Path) -> None:
    """Blocks that swell 250-fold to just the limit, and headers that claim four gigabytes."""
    sealer = Sealer(key_from_seed("test", SEED))
    publisher = Publisher(SystemClock(), "tcp://127.0.0.1:*", lossy=False)
    address = publisher.start()
    swollen = lz4.block.compress(bytes(16 * MIB), store_size=False)
    bombs = [
        (16 * MIB).to_bytes(4, "little") + swollen,
        (16 * MIB + 1).to_bytes(4, "little") + swollen,
        b"\xff\xff\xff\xff" + swollen,
        (1000).to_bytes(4, "little") + swollen,
    ]
    try:
        with facing(tmp_path, {"bomber": address}) as deployment:
            deployment.start_service()
            service = deployment.service
            assert service is not None
            publisher.wait_for_subscribers(1, 30)
            before = rss_peak_mb(service.pid)
            for _ in range(25):
                for bomb in bombs:
                    publisher.publish(sealer.encrypt(bomb))
            replay = deployment.start_replay(rate=500, limit=300)
            picture = deployment.wait_for(
                "good events and bombs",
                lambda p: p["journal"]["durable"] == 300 and p["intake"]["quarantined"] == 100,
                timeout_s=60,
            )
            assert picture["intake"]["refused"] == {"decompression": 75, "schema": 25}
            # One payload at its limit, and the messages that wait for their turn.
            assert rss_peak_mb(service.pid) < before + 4 * 16
            assert replay.wait(30) == 0
            assert deployment.stop_service() == 0
    finally:
        publisher.stop(1.0)


def test_replayed_ciphertext_counts_as_repeats_and_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(tmp_path, NOON) as here:
        sent: list[bytes] = []
        publish = here.detector._publisher.publish

        def overheard(message: bytes) -> bool:
            sent.append(message)
            return publish(message)

        monkeypatch.setattr(here.detector._publisher, "publish", overheard)
        here.send(*(NOON - timedelta(seconds=number) for number in range(50)))
        here.wait_journaled(50)
        for _ in range(3):
            for message in sent[:50]:
                publish(message)
        picture = here.wait_for("the repeats", lambda p: p["intake"]["duplicates"] == 150)
        (link,) = picture["detectors"]
        assert picture["journal"]["appended"] == 50
        assert picture["intake"]["quarantined"] == 0
        assert link["losses"]["lost"] == 0


def test_events_from_the_future_move_no_clock_and_close_no_day(tmp_path: Path) -> None:
    with site(tmp_path, NOON) as here:
        ahead = [timedelta(minutes=6), timedelta(days=1), timedelta(days=365 * 80)]
        here.send(NOON, *(NOON + step for step in ahead * 20))
        picture = here.wait_for(
            "quarantine", lambda p: p["quarantine"]["reasons"] == {"future": 60}
        )
        time.sleep(0.6)  # two rounds of the coordinator
        picture = here.wait_for("a picture", bool)
        assert picture["journal"]["watermark_ns"] == round(NOON.timestamp()) * 10**9
        assert [(day["day"], day["revision"]) for day in picture["days"]] == [("2017-07-04", 0)]


MANY_IDS = """
import resource, tempfile
from pathlib import Path
from zoneinfo import ZoneInfo
import numpy as np
from consumer.clock import SystemClock
from consumer.days import day_of
from consumer.journal import Journal
from consumer.wire.admitted import Admitted

UTC, NOON = ZoneInfo("UTC"), 1_499_169_600_000_000_000
day = day_of(NOON, UTC)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
with tempfile.TemporaryDirectory() as folder:
    journal = Journal(Path(folder), zone=UTC, clock=SystemClock(), on_fatal=print)
    journal.start()
    draw = np.random.default_rng(1)
    before = peak()
    for _ in range(1000):
        ids = draw.bytes(16 * 1000)
        batch = [
            Admitted(day, NOON, True, ids[at : at + 16], NOON, b"x", 1, False)
            for at in range(0, 16_000, 16)
        ]
        assert journal.append(batch).added == 1000
    assert journal.append(batch).duplicates == 1000
    print(peak() - before)
    journal.stop()
"""


@pytest.mark.slow
def test_a_million_distinct_ids_of_a_day_cost_less_than_forty_megabytes() -> None:
    assert int(run_python(MANY_IDS)) < 40
