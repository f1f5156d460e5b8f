"""The registry out of reach, or without a leader, or we frozen, while events stream.

Ingestion never pauses, and we are back within one heartbeat.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumer.demo.deployment import Deployment
from tests.faults.bad_disk import registered
from tests.faults.registries import Cluster, NamespacedEtcd, ProxiedEtcd, wait_ready

HEARTBEAT_S = 1.0
TTL_S = 3
#: One heartbeat, the second in which the picture is written, and what a busy machine adds.
BACK_S = HEARTBEAT_S + 6.0


def deployed(folder: Path, registry: Any, endpoints: list[str] | None = None) -> Deployment:
    """A deployment on another registry than its own."""
    deployment = Deployment(
        folder,
        lease_ttl_s=TTL_S,
        heartbeat_s=HEARTBEAT_S,
        settings={
            "DAYFOLD_REGISTRY__ETCD__ENDPOINTS": json.dumps(endpoints or [registry.endpoint]),
            "DAYFOLD_REGISTRY__ETCD__TIMEOUT_S": "1",
        },
    )
    deployment.etcd = registry
    return deployment


def stream(deployment: Deployment, limit: int) -> subprocess.Popen[bytes]:
    deployment.start_service()
    replay = deployment.start_replay(rate=200, limit=limit)
    deployment.wait_for(
        "the stream to flow", lambda picture: picture["journal"]["durable"] > 100, timeout_s=60
    )
    return replay


def connected(picture: dict[str, Any]) -> bool:
    return bool(picture["registry"]["connected"])


def assert_flowing(deployment: Deployment, since: dict[str, Any]) -> dict[str, Any]:
    """Events go on into the journal, three seconds' worth of them."""
    return deployment.wait_for(
        "events meanwhile",
        lambda picture: picture["journal"]["durable"] > since["journal"]["durable"] + 600,
        timeout_s=30,
    )


def assert_whole(deployment: Deployment, replay: subprocess.Popen[bytes], published: int) -> None:
    deployment.wait_for("the stream's end", lambda _: replay.poll() is not None, timeout_s=60)
    picture = deployment.wait_for(
        "every event", lambda picture: picture["journal"]["durable"] == published, timeout_s=20
    )
    assert [link["losses"]["lost"] for link in picture["detectors"]] == [0]
    assert [link["gaps_total"] for link in picture["detectors"]] == [0]


@pytest.mark.parametrize("kind", [ProxiedEtcd, NamespacedEtcd], ids=["proxy", "namespace"])
def test_a_partition_past_the_lease_pauses_nothing_and_ends_in_a_new_lease(
    tmp_path: Path, kind: Callable[[Path], ProxiedEtcd | NamespacedEtcd]
) -> None:
    registry = kind(tmp_path / "etcd")
    with deployed(tmp_path, registry) as deployment:
        replay = stream(deployment, limit=2500)
        registry.cut()
        cut = deployment.wait_for(
            "the cut to be noticed", lambda picture: not connected(picture), timeout_s=20
        )
        later = assert_flowing(deployment, cut)  # by then the lease is gone, too
        assert not connected(later)
        registry.heal()
        back = deployment.wait_for("us to be back", connected, timeout_s=BACK_S)
        assert back["registry"]["reregistrations"] == 1
        assert len(registered(deployment)) == 1
        assert_whole(deployment, replay, 2500)


def test_a_cluster_that_loses_its_leader_pauses_nothing_and_keeps_us(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "etcd")
    with deployed(tmp_path, cluster, cluster.endpoints) as deployment:
        replay = stream(deployment, limit=2500)
        before = deployment.picture()
        assert before is not None
        leader = cluster.leader()
        cluster.kill_member(leader)
        killed = assert_flowing(deployment, before)
        deployment.wait_for(
            "a heartbeat under the new leader",
            lambda picture: (
                connected(picture)
                and picture["registry"]["renewals"] > killed["registry"]["renewals"]
            ),
            timeout_s=BACK_S,
        )
        assert cluster.leader() != leader
        cluster.start_member(leader)
        wait_ready(cluster.endpoints[leader], tmp_path / "etcd" / "etcd.log")
        # Now the member in use dies, and the next one takes us.
        picture = deployment.wait_for("a member", connected, timeout_s=BACK_S)
        used = picture["registry"]["endpoint"]
        cluster.kill_member(cluster.endpoints.index(used))
        deployment.wait_for(
            "another member",
            lambda picture: connected(picture) and picture["registry"]["endpoint"] != used,
            timeout_s=BACK_S,
        )
        assert_whole(deployment, replay, 2500)


def test_a_service_frozen_past_its_lease_is_back_and_can_say_what_it_missed(
    tmp_path: Path,
) -> None:
    with Deployment(tmp_path, lease_ttl_s=TTL_S, heartbeat_s=HEARTBEAT_S) as deployment:
        replay = stream(deployment, limit=1500)
        deployment.signal_service(signal.SIGSTOP)
        end = time.monotonic() + 30
        while registered(deployment):
            assert time.monotonic() < end, "the lease outlives us"
            time.sleep(0.1)
        deployment.signal_service(signal.SIGCONT)
        back = deployment.wait_for(
            "us to be back",
            lambda picture: picture["registry"]["reregistrations"] == 1,
            timeout_s=BACK_S,
        )
        assert connected(back)
        assert len(registered(deployment)) == 1
        deployment.wait_for("the stream's end", lambda _: replay.poll() is not None, timeout_s=60)
        published = int(deployment.replay_report()["published"])
        deployment.wait_for(
            "every event or its loss",
            lambda picture: (
                picture["journal"]["durable"]
                + sum(link["losses"]["lost"] for link in picture["detectors"])
                == published
            ),
            timeout_s=20,
        )
