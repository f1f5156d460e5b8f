"""The behaviour of an event in coarse, comparable terms: what its description is made of.

Two events with equal behaviours get the same sentence. Numbers become steps, addresses become
kinds of hosts, and what the event kept company with becomes a pattern.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embed.addresses import HostKind, host_kind
from embed.chunk import ChunkSpan, EventBatch
from embed.company import ALONE, Company, CompanyBook
from embed.features import COLUMN
from embed.services import NO_PORT, SERVICES, UNNAMED, Service, service_of
from embed.signs import Signs, signs_of
from embed.wording import DURATION, PACE, PACKETS, SCORE, VOLUME, plain, times_of_day

# How a connection went.
UNTOLD, UNANSWERED, REFUSED, RESET, OPEN, ODD = range(6)
# What it is part of.
SINGLE, SCAN, SWEEP, GUESSING, FLOOD, SLOW, CROWD, REPEATED = range(8)
REQUESTS, UPLOAD, DOWNLOAD, LEAK, BEACON = range(8, 13)

_PAUSE_US = 5e6
_LASTING_US = 10e6
_SLOW_BYTES = 1000.0
_BULK_BYTES = 100_000.0
_LARGE_BYTES = 1_000_000.0
_CHATTY_PUSHES = 40
# What a flow's own numbers suggest: bulk out, bulk in, many small pushes, hardly an answer over a
# long time, long pauses.
_ONE_WAY, _LARGE, _CHATTY, _SLOW, _PATIENT = range(1, 6)


class Behaviour(NamedTuple):
    """See the module. Steps are those of `embed.wording`; -1 is a missing value.

    Attributes:
        source: kind of the source host.
        destination: kind of the destination host.
        protocol: protocol number, -1 if unknown.
        service: words of the service.
        reply: the known service is on the source's side.
        sent: step of the bytes from the source.
        received: step of the bytes from the destination.
        packets: step of the packets of both directions.
        duration: step of the duration.
        pace: step of the packets per second.
        pauses: long pauses between the packets.
        outcome: how the connection went.
        pattern: what it is part of.
        extent: step of how often, for a pattern.
        verdict: the detector's classification, in plain words.
        score: step of the overall score.
        hour: quarter of the day.
        signs: everything that is rarely said.
    """

    source: str
    destination: str
    protocol: int
    service: str
    reply: bool
    sent: int
    received: int
    packets: int
    duration: int
    pace: int
    pauses: bool
    outcome: int
    pattern: int
    extent: int
    verdict: str
    score: int
    hour: int
    signs: Signs


def behaviours(batch: EventBatch, span: ChunkSpan, book: CompanyBook) -> list[Behaviour]:
    """The behaviour of each event of a batch, in order.

    Args:
        batch: the events.
        span: their day, for the local time of day.
        book: the company of the day so far; it counts these events.
    """
    columns = batch.columns
    rows = zip(
        batch.events,
        batch.times.tolist(),
        _numeric_steps(batch.features),
        columns.present,
        columns.sources,
        columns.destinations,
        columns.source_ports,
        columns.ports,
        columns.protocols,
        columns.classifications,
        times_of_day(batch.times - span.start_ns, span.end_ns - span.start_ns).tolist(),
        strict=True,
    )
    found = []
    for event, time_ns, numbers, present, source_ip, destination_ip, *rest in rows:
        source_port, port, protocol, classification, hour = rest
        service, reply = _service(port, source_port) if present else (NO_PORT, False)
        sent, received, packets, duration, pace, pauses, outcome, score, kind = numbers
        source, destination = host_kind(source_ip), host_kind(destination_ip)
        pattern, extent = SINGLE, 0
        if present and not reply:
            if kind:
                pattern = _alone(kind, service, source, destination)
            if source_ip:
                company = book.note(time_ns, source_ip, destination_ip, port)
                if company is not ALONE:
                    pattern, extent = _together(company, service, sent, received, kind, pattern)
        if pattern == SCAN:
            # A probe is what it is; which port it hit is in the facts.
            service = NO_PORT
        found.append(
            Behaviour(
                source,
                destination,
                protocol if present else -1,
                service.text,
                reply,
                sent,
                received,
                packets,
                duration,
                pace,
                pauses,
                outcome,
                pattern,
                extent,
                plain(classification),
                score,
                hour,
                signs_of(event),
            )
        )
    return found


def _service(port: int, source_port: int) -> tuple[Service, bool]:
    if port not in SERVICES and source_port in SERVICES and port >= 1024:
        return SERVICES[source_port], True
    return service_of(port), False


def _alone(kind: int, service: Service, source: HostKind, destination: HostKind) -> int:
    """What a single flow shows by itself."""
    outbound = (source, destination) == ("internal", "external")
    if kind == _LARGE:
        return LEAK if service.text in UNNAMED else DOWNLOAD
    # Going out, many requests in one session are what browsing looks like.
    if kind == _CHATTY and service.role in ("web", "login") and not outbound:
        return REQUESTS
    if outbound and kind == _ONE_WAY:
        return UPLOAD
    if outbound and kind in (_SLOW, _PATIENT) and service.role == "other":
        return BEACON
    return SINGLE


def _together(
    company: Company, service: Service, sent: int, received: int, kind: int, alone: int
) -> tuple[int, int]:
    """What an event in this company is part of, and the step of how often.

    Careful with what ordinary use looks like too: browsers open dozens of connections to one web
    server, domain members talk to a dozen ports of their controller, names are looked up all day.
    """
    empty, light = sent <= 0 and received <= 0, sent <= 1 and received <= 1
    if company.ports >= (1 if empty else 2) and light:
        return SCAN, company.ports
    if company.same and service.role == "login" and sent <= 2 and received <= 2:
        return GUESSING, company.same
    if company.hosts >= (1 if empty else 2) and light and service.role not in ("web", "name"):
        return SWEEP, company.hosts
    if company.same and service.role == "web" and kind == _SLOW:
        return SLOW, company.same
    if alone != SINGLE:
        return alone, 0
    if company.same == 3 and service.role == "web":
        return FLOOD, company.same
    if company.sources == 3 and service.role not in ("name", "control"):
        return CROWD, company.sources
    return (REPEATED, company.same) if company.same >= 2 else (SINGLE, 0)


def _numeric_steps(features: NDArray[np.float64]) -> list[tuple[int, ...]]:
    def column(name: str) -> NDArray[np.float64]:
        return features[:, COLUMN[name]]

    sent = column("total_forward_bytes")
    received = column("total_backward_bytes")
    back = column("total_backward_packets")
    packets = column("total_forward_packets") + back
    duration = column("flow_duration_microseconds")
    with np.errstate(invalid="ignore"):
        pauses = (column("idle_mean") > _PAUSE_US) & (duration > 6 * _PAUSE_US)
        lasting = duration > _LASTING_US
        kinds = np.select(
            [
                (sent >= _BULK_BYTES) & (sent > 5 * received),
                (received >= _LARGE_BYTES) & (received > 5 * sent),
                lasting & (column("forward_psh_flags") >= _CHATTY_PUSHES),
                lasting & (received < _SLOW_BYTES),
                pauses & (sent + received < _BULK_BYTES),
            ],
            [_ONE_WAY, _LARGE, _CHATTY, _SLOW, _PATIENT],
            0,
        )
        pace = np.where(packets >= 50, column("flow_packets_per_second"), 0.0)
    return list(
        zip(
            VOLUME.steps(sent),
            VOLUME.steps(received),
            PACKETS.steps(packets),
            DURATION.steps(duration),
            PACE.steps(pace),
            pauses.tolist(),
            _outcomes(features).tolist(),
            SCORE.steps(column("overall_threat_score")),
            kinds.tolist(),
            strict=True,
        )
    )


def _outcomes(features: NDArray[np.float64]) -> NDArray[np.int64]:
    def column(name: str) -> NDArray[np.float64]:
        return features[:, COLUMN[name]]

    protocol = column("protocol_number")
    tcp, answers = protocol == 6, protocol == 17
    forward, back = column("total_forward_packets"), column("total_backward_packets")
    syn, rst, fin = (column(f"{flag}_flag_count") for flag in ("syn", "rst", "fin"))
    payload = column("total_forward_bytes") + column("total_backward_bytes")
    odd = (column("urg_flag_count") > 0) | ((syn > 0) & (fin > 0) & (forward + back <= 2))
    return np.select(
        [
            tcp & odd & (forward + back <= 4),
            (tcp | answers) & (back == 0) & (forward > 0),
            tcp & (rst > 0) & (payload == 0),
            tcp & (rst > 0),
            tcp & (syn > 0) & (fin == 0),
        ],
        [ODD, UNANSWERED, REFUSED, RESET, OPEN],
        UNTOLD,
    )
