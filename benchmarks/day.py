"""A sealed day of any size, made fast: a few thousand varied flows that come again and again.

Real flows of the sample are each changed a little (times, volumes, services, verdicts) into a stock of
events. An event of the day is one of them with its own id, time and addresses behind it: protobuf
takes the last value of a field and merges messages, so bytes are put together and nothing is built.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.clock import SystemClock
from consumer.demo.deployment import SAMPLE
from consumer.errors import JournalError
from consumer.journal import Journal
from consumer.replay.flows import FlowRecording
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from index.catalogue import Catalogue
from proto.network_security_pb2 import NetworkSecurityEvent

ZONE = ZoneInfo("UTC")
DAY_S = 86_400
STOCK = 2_500
FLAGGED_SHARE = 0.03
SERVICES = (22, 25, 53, 80, 110, 123, 143, 389, 443, 445, 993, 1433, 3306, 3389, 5060, 8080)
OWN_BYTES = 64
APPENDED_TOGETHER = 1024


def stock_of_flows(size: int, draw: random.Random) -> tuple[list[bytes], list[bytes]]:
    """Unflagged and flagged events, serialised, so that with an id behind they have `size` bytes."""
    flows = [event for _, event in FlowRecording(SAMPLE, node="bench")]
    benign = [event for event in flows if event.final_classification == "BENIGN"]
    flagged = [event for event in flows if event.final_classification != "BENIGN"]
    filler = "".join(f"{draw.randrange(1000):03d};" for _ in range(1024))
    few = int(STOCK * 0.1)
    return (
        [_varied(draw.choice(benign), size, draw, filler) for _ in range(STOCK - few)],
        [_varied(draw.choice(flagged), size, draw, filler) for _ in range(few)],
    )


def _varied(flow: NetworkSecurityEvent, size: int, draw: random.Random, filler: str) -> bytes:
    event = NetworkSecurityEvent()
    event.CopyFrom(flow)
    event.ClearField("event_id")
    event.ClearField("event_timestamp")
    network = event.network_features
    if draw.random() < 0.3:
        network.destination_port = draw.choice(SERVICES)
    factor = 10 ** draw.uniform(-1.5, 1.5)
    network.flow_duration_microseconds = int(network.flow_duration_microseconds * factor)
    network.total_forward_bytes = int(network.total_forward_bytes * factor)
    network.total_backward_bytes = int(network.total_backward_bytes / factor)
    missing = size - OWN_BYTES - event.ByteSize() - 16
    if missing > 0:
        start = draw.randrange(1024)
        event.custom_metadata["notes"] = (filler[start:] + filler)[:missing]
    return event.SerializeToString()


def events_of(day: date, count: int, size: int, seed: int = 7) -> Iterator[bytes]:
    """`count` serialised events of one day, in the order of their times."""
    draw = random.Random(seed)
    unflagged, flagged = stock_of_flows(size, draw)
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    sources = [f"192.168.{draw.randrange(4)}.{draw.randrange(1, 250)}" for _ in range(800)]
    others = [f"203.0.113.{host}" for host in range(1, 250)]
    own = NetworkSecurityEvent()
    network = own.network_features
    choice, chance = draw.choice, draw.random
    for number in range(count):
        own.event_id = f"{day.isoformat()}-{number:012d}"
        at_ns = number * (DAY_S - 1) * 1_000_000_000 // count
        own.event_timestamp.seconds = midnight + at_ns // 1_000_000_000
        own.event_timestamp.nanos = at_ns % 1_000_000_000
        network.source_ip = choice(sources)
        if chance() < 0.3:
            network.destination_ip = choice(others)
        else:
            network.ClearField("destination_ip")
        yield choice(flagged if chance() < FLAGGED_SHARE else unflagged) + own.SerializeToString()


def sealed_day(folder: Path, day: date, count: int, size: int) -> int:
    """Write and seal a day in the data folder, ready to be closed; gives its bytes in the journal."""
    admission = Admission(ZONE, event_clock=True)
    journal = Journal(folder / "journal", zone=ZONE, clock=SystemClock(), on_fatal=_give_up)
    journal.start()
    payloads = events_of(day, count, size)
    while part := list(islice(payloads, APPENDED_TOGETHER)):
        admitted = [admission.admit(payload, None, 0) for payload in part]
        journal.append([event for event in admitted if isinstance(event, Admitted)])
    seal = journal.seal(day)
    if seal.events != count:
        raise SystemExit(f"{seal.events:,} of {count:,} events are in the journal")
    with Catalogue.open(folder / "catalogue.sqlite") as catalogue:
        catalogue.seal_chunk(day, seal.revision, journal.counts(day))
    journal.stop()
    return seal.bytes


def _give_up(error: JournalError) -> None:
    raise SystemExit(str(error))
