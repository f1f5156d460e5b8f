"""The registry goes away while events stream: ingestion never pauses, and we come back."""

from __future__ import annotations

import time
from pathlib import Path

from consumer.demo.deployment import Deployment

HEARTBEAT_S = 1.0


def test_nothing_is_lost_while_etcd_is_down_and_we_are_back_within_a_heartbeat(
    tmp_path: Path,
) -> None:
    with Deployment(tmp_path, lease_ttl_s=5, heartbeat_s=HEARTBEAT_S) as deployment:
        deployment.start_service()
        replay = deployment.start_replay(rate=300, limit=4000)
        deployment.wait_for(
            "the stream to flow", lambda picture: picture["journal"]["durable"] > 300, timeout_s=60
        )
        deployment.etcd.kill()
        down = deployment.wait_for(
            "the outage to be noticed",
            lambda picture: not picture["registry"]["connected"],
            timeout_s=30,
        )
        later = deployment.wait_for(
            "events during the outage",
            lambda picture: picture["journal"]["durable"] > down["journal"]["durable"] + 900,
            timeout_s=30,
        )
        assert not later["registry"]["connected"]
        deployment.etcd.start()
        back_at = time.monotonic()
        deployment.wait_for(
            "the registration", lambda picture: picture["registry"]["connected"], timeout_s=30
        )
        # One heartbeat, and the second in which the picture is written.
        assert time.monotonic() - back_at < HEARTBEAT_S + 2.5
        deployment.wait_for("the stream", lambda _: replay.poll() is not None, timeout_s=60)
        published = int(deployment.replay_report()["published"])
        ended = deployment.wait_for(
            "the journal", lambda picture: picture["journal"]["durable"] == published, timeout_s=20
        )
        assert published == 4000
        assert ended["intake"]["received"] == ended["intake"]["journaled"] == published
        assert [link["losses"]["lost"] for link in ended["detectors"]] == [0]
