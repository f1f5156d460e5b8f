"""Detectors of different schemes, clocks, byte orders and pace on one service, on real sockets."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from consumer.commands.rendering import status
from consumer.folding.requests import Requests
from consumer.journal import open_chunk
from consumer.questions.recall import Recall
from consumer.settings import Settings
from consumer.wire.keys import key_from_hex, key_from_seed
from embed.chunk import EventBatch
from embed.flows import assembled
from index.catalogue import Catalogue
from index.chunks import Chunk
from tests.packet_samples import packet
from tests.running_service import (
    DAY,
    NOON,
    NOON_NS,
    BentClock,
    Detector,
    S,
    key_entry,
    running,
    write_config,
)

ROOT = Path(__file__).resolve().parents[2]
CORE = key_from_seed("core", bytes(range(32)))  # test keys
EDGE = key_from_hex("edge", "CD" * 32)

KEYS = key_entry("core", bytes(range(32)).hex()) + key_entry("edge", "CD" * 32, "secretbox-v0")
SMALL_HANDOVER = "[subscriber]\nhandover_mb = 1\n"
EDGE_PROFILE = """\
[[detector.profiles]]
name = "edge"
nodes = ["sniffer-e"]
scheme = "secretbox-v0"
clock = "boot"
ip_byte_order = "reversed"
"""


def of(picture: dict[str, Any], detector: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        link for link in picture["detectors"] if link["detector"] == detector
    )
    return found


def connection(node: str, client: str, server: str, times_ns: list[int]) -> list[Any]:
    """A connection as packets, client and server in turn, on the sensor's own clock."""
    ends = ((client, 50_000), (server, 443))
    return [
        packet(
            at_ns,
            ends[place % 2],
            ends[1 - place % 2],
            100,
            event_id=f"{node}-{place}",
            node=node,
        )[1]
        for place, at_ns in enumerate(times_ns)
    ]


@pytest.fixture(scope="module")
def closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Settings, dict[str, Any], Chunk]]:
    """Two detectors published, their day was closed: settings, picture and chunk."""
    core, edge = Detector(CORE), Detector(EDGE)
    endpoints = {"core": core.address, "edge": edge.address}
    folder = tmp_path_factory.mktemp("differ")
    try:
        config = write_config(folder, endpoints, SMALL_HANDOVER + KEYS + EDGE_PROFILE)
        with running(config, BentClock(NOON)) as service:
            own = [NOON_NS - 20 * S + place * S for place in range(20)]
            core.send(*connection("sniffer-c", "192.168.56.10", "8.8.8.8", own))
            # Three times of a sensor that has just been restarted, among good ones.
            boot = [5 * S, 6 * S, 7 * S]
            core.send(*connection("sniffer-x", "192.168.56.11", "8.8.4.4", boot))
            uptime = [90_000 * S + place * S // 2 for place in range(40)]
            edge.send(*connection("sniffer-e", "10.56.168.192", "9.9.9.9", uptime))
            service.wait_for("63 durable events", lambda p: p["journal"]["durable"] == 63)
            Requests(service.settings.data.dir).ask_close(DAY)
            picture = service.wait_for(
                "the day", lambda p: [day["state"] for day in p["days"]] == ["committed"]
            )
            catalogue_path = service.settings.data.dir / "catalogue.sqlite"
            with Catalogue.open(catalogue_path, read_only=True) as catalogue:
                chunk = catalogue.chunk(DAY)
            assert chunk is not None
            yield service.settings, picture, chunk
    finally:
        core.stop()
        edge.stop()


def test_status_says_what_was_found_of_each_detector(
    closed: tuple[Settings, dict[str, Any], Chunk],
) -> None:
    _, picture, _ = closed
    core, edge = of(picture, "core")["found"], of(picture, "edge")["found"]
    assert core["schemes"] == {"chacha20poly1305-v1": 23, "secretbox-v0": 0}
    assert core["clocks"] == {"epoch": 20, "boot": 3, "too old": 0, "none": 0}
    assert edge["schemes"] == {"chacha20poly1305-v1": 0, "secretbox-v0": 40}
    assert edge["clocks"] == {"epoch": 0, "boot": 40, "too old": 0, "none": 0}
    assert of(picture, "core")["losses"]["lost"] == 0


def test_a_person_reads_it_in_one_line_for_each(
    closed: tuple[Settings, dict[str, Any], Chunk],
) -> None:
    console = Console(width=200, file=io.StringIO())
    status(console, closed[1], [])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "core: scheme auto (chacha20poly1305-v1 23), clock auto (epoch 20, boot 3)" in text
    assert "edge: scheme secretbox-v0 (secretbox-v0 40), clock boot (boot 40), addresses" in text


def test_packets_of_both_became_flows_and_none_is_missing(
    closed: tuple[Settings, dict[str, Any], Chunk],
) -> None:
    _, _, chunk = closed
    assert chunk.events == 63
    for index in chunk.indices.values():
        assert index.coverage["events"] == 63
        assert index.coverage["packet_events"] == index.coverage["packet_events_in_flows"] == 63
        assert index.coverage["packet_flows"] == 3
        assert index.coverage["packet_flows_cut"] == 0


def test_rows_name_the_right_addresses_and_every_event(
    closed: tuple[Settings, dict[str, Any], Chunk],
) -> None:
    settings, _, _ = closed
    with Recall.open(settings) as recall:
        rows = recall.search("web traffic of an internal host", k=10)["results"]
    assert {ip for row in rows for ip in row["source_ips"]} == {"192.168.56.10", "192.168.56.11"}
    assert sum(row["events"] for row in rows) == 63
    assert sum(row["packet_flows"] for row in rows) == 3


def test_packets_that_arrived_at_once_are_timed_by_the_clock_of_their_sensor(
    closed: tuple[Settings, dict[str, Any], Chunk],
) -> None:
    settings, _, _ = closed
    sensors = settings.detector.all_profiles.sensors()
    journal = open_chunk(settings.data.dir / "journal", DAY, zone=settings.day.zone)
    (records,) = journal.batches(100)
    payloads = [record.payload for record in records]
    times = [record.time_ns for record in records]
    flows = {
        flow.originating_node_id: flow.network_features.flow_duration_microseconds
        for batch in assembled(EventBatch.parse(times, payloads, sensors=sensors), payloads)
        for flow in batch.events
    }
    assert flows == {"sniffer-c": 19_000_000, "sniffer-x": 2_000_000, "sniffer-e": 19_500_000}
    edge = [record for record, one in zip(records, payloads, strict=True) if b"sniffer-e" in one]
    assert len(edge) == 40
    assert not any(record.own_time for record in edge)


def test_a_detector_that_floods_cannot_starve_another(tmp_path: Path) -> None:
    quiet = Detector(CORE)
    flood = subprocess.Popen(
        [
            sys.executable, "-m", "benchmarks.publisher", "--scheme", "chacha20poly1305-v1",
            "--rate", "0", "--seconds", "60", "--size", "600",
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert flood.stdin is not None
    assert flood.stdout is not None
    try:
        endpoints = {
            "quiet": quiet.address,
            "flood": json.loads(flood.stdout.readline())["endpoint"],
        }
        config = write_config(tmp_path, endpoints, SMALL_HANDOVER + KEYS)
        with running(config, BentClock(NOON)) as service:
            service.wait_for(
                "both detectors",
                lambda p: [link["connected"] for link in p["detectors"]] == [True, True],
            )
            flood.stdin.write("\n")
            flood.stdin.flush()
            service.wait_for("the flood", lambda p: of(p, "flood")["received"] > 1000)
            for number in range(200):
                _, one = packet(
                    NOON_NS - S, ("10.0.0.1", number), ("10.0.0.2", 80), 60, event_id=f"q{number}"
                )
                quiet.send(one)
                time.sleep(0.005)
            assert flood.poll() is None, "the flood ended before the quiet detector was done"
            picture = service.wait_for(
                "the quiet detector", lambda p: of(p, "quiet")["losses"]["received"] == 200
            )
            assert of(picture, "quiet")["dropped"] == of(picture, "quiet")["losses"]["lost"] == 0
            assert of(picture, "quiet")["found"]["clocks"]["epoch"] == 200
            assert of(picture, "flood")["received"] > 5 * 200
    finally:
        flood.kill()
        flood.wait()
        flood.stdin.close()
        flood.stdout.close()
        quiet.stop()
