"""SIGKILL in the middle of the stream, and what is there afterwards."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from consumer.demo.deployment import SAMPLE, Deployment
from consumer.journal import open_chunk
from consumer.journal.folders import day_folders
from proto.admission_pb2 import AdmissionEvent


def sample_days() -> Counter[date]:
    times = pq.read_table(SAMPLE, columns=["timestamp"]).column("timestamp").to_pylist()
    return Counter(time.date() for time in times)


def test_a_kill_in_the_stream_ends_in_the_same_days_with_every_event_once(tmp_path: Path) -> None:
    expected = sample_days()
    with Deployment(tmp_path) as deployment:
        deployment.start_service()
        first = deployment.start_replay(rate=2000, name="first")
        before = deployment.wait_for(
            "part of the stream",
            lambda picture: picture["journal"]["durable"] > 2500,
            timeout_s=60,
        )
        deployment.kill_service()
        acknowledged = before["journal"]["durable"]
        deployment.start_service()
        deployment.wait_for("the stream", lambda _: first.poll() is not None, timeout_s=120)

        # The wire lost what was published while nobody listened: a second run brings it, and what
        # was journaled before counts once.
        second = deployment.start_replay(rate=4000, name="second")
        deployment.wait_for("the second run", lambda _: second.poll() is not None, timeout_s=120)
        published = int(deployment.replay_report("second")["published"])
        after = deployment.wait_for(
            "the journal",
            lambda picture: sum(day["events"] for day in picture["days"]) == published,
            timeout_s=30,
        )
        assert after["intake"]["duplicates"] >= acknowledged
        deployment.close(date(2017, 7, 7))
        ended = deployment.wait_for(
            "five committed days",
            lambda picture: (
                not picture["journal"]["open_days"]
                and [day["state"] for day in picture["days"]] == ["committed"] * 5
            ),
            timeout_s=240,
        )
        assert deployment.stop_service() == 0

    assert {date.fromisoformat(day["day"]): day["events"] for day in ended["days"]} == expected
    root = tmp_path / "data" / "journal"
    for day, _ in day_folders(root):
        chunk = open_chunk(root, day, zone=ZoneInfo("UTC"))
        ids = Counter(
            AdmissionEvent.FromString(record.payload).event_id
            for batch in chunk.batches(1000)
            for record in batch
        )
        assert len(ids) == expected[day]
        assert set(ids.values()) == {1}
