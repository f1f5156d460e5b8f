"""A disk that fills, limps or fails under a running service, and what is lost by it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from consumer.demo.deployment import Deployment
from tests.faults.bad_disk import (
    bad_syncs,
    fill,
    limit_files,
    readyz,
    registered,
    small_disk,
)

EVENTS = 1500


def stream(deployment: Deployment, *, rate: float = 400) -> subprocess.Popen[bytes]:
    """A service with part of its stream journaled, and the stand-in that goes on."""
    deployment.start_service()
    replay = deployment.start_replay(rate=rate, limit=EVENTS)
    deployment.wait_for(
        "the stream to flow", lambda picture: picture["journal"]["durable"] > 200, timeout_s=60
    )
    return replay


def assert_stopped_cleanly(deployment: Deployment, picture: dict[str, Any], why: str) -> None:
    """It says so in `/readyz` and on the registry, and takes nothing more."""
    status, body = readyz(picture)
    assert status == 503
    assert any(why in reason for reason in body["reasons"]), body
    end = time.monotonic() + 10
    while [value.get("disk_room") for value in registered(deployment)] != [False]:
        assert time.monotonic() < end, "the registry was not told"
        time.sleep(0.1)
    time.sleep(1.2)  # by then every picture was made after the stop
    before = deployment.picture()
    time.sleep(1.2)
    after = deployment.picture()
    assert before is not None
    assert after is not None
    assert before["journal"]["appended"] == after["journal"]["appended"] < EVENTS
    assert after["service"]["state"] == "running"
    assert after["service"]["ended_threads"] == []


def assert_nothing_lost(deployment: Deployment, replay: subprocess.Popen[bytes]) -> None:
    deployment.wait_for("the stream's end", lambda _: replay.poll() is not None, timeout_s=60)
    picture = deployment.wait_for(
        "every event", lambda picture: picture["journal"]["durable"] == EVENTS, timeout_s=30
    )
    assert readyz(picture)[0] == 200
    assert picture["intake"]["received"] == picture["intake"]["journaled"] == EVENTS
    assert [link["losses"]["lost"] for link in picture["detectors"]] == [0]
    assert deployment.stop_service() == 0


def no_room(picture: dict[str, Any]) -> bool:
    return not picture["disk"]["room"]


def test_reception_stops_before_the_disk_is_full_and_resumes_by_itself(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "data", 64),
        Deployment(tmp_path, settings={"DAYFOLD_DATA__MIN_FREE_MB": "24"}) as deployment,
    ):
        replay = stream(deployment)
        ballast = fill(tmp_path / "data", leave_mb=16)
        picture = deployment.wait_for("reception to stop", no_room, timeout_s=10)
        assert_stopped_cleanly(deployment, picture, "data.min_free_mb = 24")
        ballast.unlink()
        assert_nothing_lost(deployment, replay)


def test_a_disk_that_others_fill_to_the_last_byte_costs_nothing_but_time(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "data", 64),
        Deployment(tmp_path, settings={"DAYFOLD_DATA__MIN_FREE_MB": "0"}) as deployment,
    ):
        replay = stream(deployment)
        service = deployment.service
        assert service is not None
        ballast = fill(tmp_path / "data", leave_mb=0)
        deployment.wait_for(
            "the rest of the stream", lambda _: replay.poll() is not None, timeout_s=60
        )
        time.sleep(2)
        assert service.poll() is None
        assert [value.get("disk_room") for value in registered(deployment)] == [False]
        ballast.unlink()
        assert_nothing_lost(deployment, replay)


def test_a_quota_stops_reception_and_lifting_it_resumes_it(tmp_path: Path) -> None:
    """A quota shows only in the write that it refuses; a limit on file size refuses the same way."""
    with Deployment(tmp_path) as deployment:
        replay = stream(deployment)
        service = deployment.service
        assert service is not None
        largest = max(path.stat().st_size for path in (tmp_path / "data/journal").rglob("*.seg"))
        limit_files(service.pid, largest + 10_000)
        picture = deployment.wait_for("reception to stop", no_room, timeout_s=20)
        assert_stopped_cleanly(deployment, picture, "File too large")
        limit_files(service.pid, -1)
        assert_nothing_lost(deployment, replay)


def test_a_failed_sync_ends_the_service_with_a_message_and_costs_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    switch = tmp_path / "switch"
    with Deployment(tmp_path, settings=bad_syncs(tmp_path, switch)) as deployment:
        stream(deployment)
        before = deployment.picture()
        assert before is not None
        switch.write_text("eio")
        service = deployment.service
        assert service is not None
        assert service.wait(30) == 1
        last_words = (tmp_path / "service.log").read_text().splitlines()[-1]
        assert last_words.startswith("dayfold: the journal at ")
        assert "a sync failed: [Errno 5] Input/output error" in last_words
        assert "Check the disk, then start again" in last_words
        assert registered(deployment) == []
        switch.unlink()
        deployment.start_service()
        after = deployment.wait_for("the day", lambda picture: picture["days"] != [], timeout_s=10)
        assert sum(day["events"] for day in after["days"]) >= before["journal"]["durable"]
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "verify", "--config", str(tmp_path / "dayfold.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_slow_disk_delays_and_loses_nothing(tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    with Deployment(tmp_path, settings=bad_syncs(tmp_path, switch)) as deployment:
        deployment.start_service()
        switch.write_text("400")
        replay = deployment.start_replay(rate=1000, limit=EVENTS)
        deployment.wait_for("the stream's end", lambda _: replay.poll() is not None, timeout_s=60)
        picture = deployment.wait_for(
            "every event", lambda picture: picture["journal"]["durable"] == EVENTS, timeout_s=30
        )
        assert [link["losses"]["lost"] for link in picture["detectors"]] == [0]
        switch.unlink()
        assert deployment.stop_service() == 0


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    """Standard error often is a file on the disk that is full."""
    program = (
        "import structlog; from consumer.health import logs; from consumer.settings import "
        "LogSettings; logs.configure(LogSettings()); log = structlog.get_logger();"
        "[log.warning('reception stops') for _ in range(100)]; print('goes on')"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.stdout == b"goes on\n"
