"""Durable events per second through the whole service, beside the bare ceiling of the same run.

The ceiling is the same messages only received, opened and decompressed in a bare loop, from a
publisher process on the same cores. The service is `dayfold run` with everything on. It is offered
a rate, by a publisher that drops what is not fetched: without `--rate` a share of the ceiling.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import lz4.block
import zmq
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_secretbox_open

from benchmarks.day import sealed_day
from benchmarks.processes import Load, Moment, Publisher, Service
from benchmarks.publisher import AHEAD, SEED, bench_key
from consumer.wire.keys import Scheme

#: A day that the service finds sealed and closes while events arrive.
CLOSED_DAY = date(2017, 7, 4)
CEILING_S = 6.0
LATER_S = 15.0
#: How long after the stream the day that was closed meanwhile is waited for.
CLOSED_S = 300.0
#: The ceiling's own queue: it is held up by nothing, and a longer one only costs memory.
RECEIVE_QUEUE = 10_000


def bare_opener(scheme: Scheme) -> Callable[[bytes], bytes]:
    """Opens and decompresses one message with the libraries alone: no check, no count."""
    secret = bench_key(scheme).secret
    decompress = lz4.block.decompress
    if scheme == "chacha20poly1305-v1":
        decrypt = ChaCha20Poly1305(secret).decrypt

        def opened(message: bytes) -> bytes:
            plaintext = decrypt(message[:12], message[12:], None)
            found: bytes = decompress(plaintext[4:], int.from_bytes(plaintext[:4], "little"))
            return found
    else:

        def opened(message: bytes) -> bytes:
            plaintext = crypto_secretbox_open(message[24:], message[:24], secret)
            found: bytes = decompress(plaintext[4:], int.from_bytes(plaintext[:4], "big"))
            return found

    return opened


def ceiling(scheme: Scheme, size: int) -> float:
    """Messages per second of a loop that only receives, opens and decompresses."""
    publisher = Publisher(Load(scheme, 0, CEILING_S, size), ahead=AHEAD)
    opened = bare_opener(scheme)
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RCVTIMEO, 2000)
    socket.connect(publisher.endpoint)
    time.sleep(0.3)
    publisher.go()
    count = 0
    began = last = 0.0
    while True:
        try:
            message = socket.recv()
        except zmq.Again:
            break
        opened(message)
        last = time.monotonic()
        began = began or last
        count += 1
    publisher.report()
    socket.close()
    context.term()
    return count / max(last - began, 1e-9)


def measure(
    load: Load,
    *,
    share: float = 0.65,
    with_ceiling: bool = True,
    close_events: int = 0,
    before: str = "",
    config: Path | None = None,
    ahead: int = AHEAD,
) -> dict[str, Any]:
    """Run the service against the publisher and report.

    Args:
        load: what is published; a rate of 0 is all that the wire takes.
        share: of the ceiling; takes the place of the load's rate, unless it is 0.
        close_events: size of a day that is closed meanwhile.
        before: what the service is started with.
        config: settings of the service, beside what the benchmark needs.
        ahead: messages sealed before the run.
    """
    bare = ceiling(load.scheme, load.size) if with_ceiling else 0.0
    if share:
        load = replace(load, rate=round(bare * share, -3))
    with tempfile.TemporaryDirectory(prefix="dayfold-bench-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if close_events:
            sealed_day(data, CLOSED_DAY, close_events, load.size)
        first = Publisher(load, ahead=ahead)
        later_load = Load(load.scheme, load.rate, LATER_S, load.size, first=10**11)
        later = Publisher(later_load, ahead=0)
        environment = {
            "DAYFOLD_DATA__DIR": str(data),
            "DAYFOLD_DATA__MIN_FREE_MB": "64",
            "DAYFOLD_REGISTRY__KIND": "static",
            "DAYFOLD_DAY__CLOCK": "event",
            "DAYFOLD_DAY__GRACE_S": "1e9",
            "DAYFOLD_API__PORT": "0",
            "DAYFOLD_DETECTOR__ENDPOINTS": json.dumps(
                [
                    {"name": name, "address": publisher.endpoint}
                    for name, publisher in (("bench", first), ("later", later))
                ]
            ),
            "DAYFOLD_DETECTOR__KEYS": json.dumps(
                [{"id": "bench", "scheme": load.scheme, "hex": SEED.hex()}]
            ),
        }
        service = Service(folder, shlex.split(before), config, environment)
        try:
            service.start()
            service.connected(2)
            began_ns = time.time_ns()
            used = service.cpu_seconds()
            first.go()
            while not first.done:
                service.picture()
                time.sleep(0.2)
            ended_ns = time.time_ns()
            report = first.report()
            picture = service.settled()
            cpu = {name: now - used[name] for name, now in service.cpu_seconds().items()}
            closed = _closed(service) if close_events else {}
            later.go()
            time.sleep(3.0)
            stopped_s = service.stop()
        finally:
            service.end()
            first.end()
            later.end()
    received, durable = picture["intake"]["received"], picture["journal"]["durable"]
    rate = _steady(service.moments, began_ns, ended_ns)
    return {
        "scheme": load.scheme,
        "events_per_second": round(rate),
        "offered_per_second": round(load.rate),
        "published": report["published"],
        "published_per_second": round(report["published"] / report["seconds"]),
        "received": received,
        "journaled": picture["intake"]["journaled"],
        "durable": durable,
        "dropped": sum(link["dropped"] for link in picture["detectors"]),
        "lost": report["published"] - durable,
        "dropped_by_publisher": report["dropped"],
        "publisher_drops": report["drops"],
        "ceiling_events_per_second": round(bare),
        "ratio": round(rate / bare, 3) if bare else None,
        "cpu_us_per_event": {n: round(1e6 * s / max(durable, 1), 1) for n, s in cpu.items()},
        "rss_peak_mb": round(service.rss_peak_mb, 1),
        "rss_with_children_peak_mb": round(service.tree_peak_mb, 1),
        "ready_seconds": round(service.ready_s, 2),
        "drain_and_stop_seconds": round(stopped_s, 2),
        "closed": closed,
        "cores": os.cpu_count(),
    }


def _steady(moments: list[Moment], began_ns: int, ended_ns: int) -> float:
    """Durable events per second, from a second after the beginning to the end of publishing."""
    inside = [m for m in moments if began_ns + 1_000_000_000 <= m.at_ns <= ended_ns]
    if len(inside) < 2:
        raise SystemExit("publish for longer: the service says only once a second what is durable")
    return (inside[-1].durable - inside[0].durable) / (inside[-1].at_ns - inside[0].at_ns) * 1e9


def _closed(service: Service) -> dict[str, Any]:
    """What became of the day that was closed meanwhile; it may take a while yet."""
    end = time.monotonic() + CLOSED_S
    while time.monotonic() < end:
        picture = service.picture()
        for day in picture["days"]:
            if day["day"] == CLOSED_DAY.isoformat() and day["state"] in ("committed", "degraded"):
                fold = picture["fold"]
                return {
                    "state": day["state"],
                    "events": day["events"],
                    "errors": [i["error"] for i in day["indices"].values() if i["error"]],
                    "fold_seconds": round(fold["last_seconds"], 1),
                    "fold_rss_peak_mb": round(fold["last_rss_peak_mb"], 1),
                }
        time.sleep(0.5)
    return {"state": "closing"}


def main() -> None:
    """Command line: `python -m benchmarks.ingest --json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", default="chacha20poly1305-v1", choices=get_args(Scheme))
    parser.add_argument("--rate", type=float, default=0, help="events per second; 0: see --share")
    parser.add_argument("--share", type=float, default=0.65, help="of the ceiling, as the rate")
    parser.add_argument("--flood", action="store_true", help="publish all that the wire takes")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--ahead", type=int, default=AHEAD, help="messages sealed before the run")
    parser.add_argument(
        "--close-events", type=int, default=0, help="close a day of so many events meanwhile"
    )
    parser.add_argument("--before", default="", help="start the service with this, such as taskset")
    parser.add_argument("--config", type=Path, help="settings of the service")
    parser.add_argument("--no-ceiling", action="store_true", help="leave the ceiling out")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    by_share = asked.rate == 0 and not asked.flood
    if by_share and asked.no_ceiling:
        sys.exit("without a ceiling give --rate or --flood")
    result = measure(
        Load(asked.scheme, asked.rate, asked.seconds, asked.size),
        share=asked.share if by_share else 0.0,
        with_ceiling=not asked.no_ceiling,
        close_events=asked.close_events,
        before=asked.before,
        config=asked.config,
        ahead=asked.ahead,
    )
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:>28}  {value}")


if __name__ == "__main__":
    main()
