"""From packets to flows with the 65 traffic features of the contract (`models/features83.csv`).

A flow is what its two ends exchange under one pair of addresses and ports, begun by the sender of
its first packet, for 120 seconds at most. A TCP flow is over after a reset or after both ends have
said FIN; what straggles in later belongs to it, unless it opens a connection anew. The
measures are those of CICFlowMeter, with the faults mended that G. Engelen, V. Rimmer and W. Joosen
describe in "Troubleshooting an Intrusion Detection Dataset: the CICIDS2017 Case Study" (2021):
sizes are those of the payload, a bulk is four packets or more of one direction without a second's
pause, and a pause of five seconds makes a flow idle.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.second_network.gateway import TCP, Packets

LONGEST_US = 120_000_000
BULK_PAUSE_US, BULK_PACKETS = 1_000_000, 4
IDLE_US = 5_000_000
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7))

Row = tuple[int, int, int, int, int]  # time in us, payload, header, flags, 1 if forward
Numbers = NDArray[np.float64]


@dataclass(slots=True)
class Flow:
    """One flow, by its packets: `source` is who sent the first."""

    source: int
    destination: int
    source_port: int
    destination_port: int
    protocol: int
    rows: list[Row] = field(default_factory=list)
    finished: int = 0

    @property
    def began_us(self) -> int:
        """When its first packet passed, in microseconds since 1970."""
        return self.rows[0][0]

    @property
    def over(self) -> bool:
        """Whether a TCP connection has ended."""
        return self.finished >= 2


def assemble(packets: Packets) -> Iterator[Flow]:
    """The flows of some packets in order of time, each when it has ended or the packets have."""
    open_flows: dict[tuple[int, int, int, int, int], Flow] = {}
    for (
        time_us,
        source,
        destination,
        sport,
        dport,
        payload,
        header,
        protocol,
        flags,
    ) in packets.tolist():
        key = (source, destination, sport, dport, protocol)
        back = (destination, source, dport, sport, protocol)
        found = key if key in open_flows else back
        flow = open_flows.get(found)
        if flow and (
            time_us - flow.began_us > LONGEST_US or (flow.over and flags & SYN and not flags & ACK)
        ):
            yield open_flows.pop(found)
            flow = None
        if flow is None:
            flow = open_flows[key] = Flow(*key)
        forward = source == flow.source and sport == flow.source_port
        flow.rows.append((time_us, payload, header, flags, int(forward)))
        if protocol == TCP:
            flow.finished += 2 if flags & RST else int(bool(flags & FIN))
    yield from open_flows.values()


def address(number: int) -> str:
    """An IPv4 address as it is written."""
    return socket.inet_ntoa(struct.pack(">I", number))


def features(flow: Flow) -> dict[str, float]:
    """The 65 features under the names of the contract; times in microseconds, sizes in bytes."""
    rows = np.array(flow.rows, dtype=np.int64)
    times, payload, header, flags = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]
    ahead = rows[:, 4] == 1
    duration = max(1, int(times[-1] - times[0]))
    seconds = duration / 1e6
    forward, backward = int(ahead.sum()), int((~ahead).sum())
    found: dict[str, float] = {
        "source_port": flow.source_port,
        "destination_port": flow.destination_port,
        "protocol_number": flow.protocol,
        "flow_duration_microseconds": duration,
        "total_forward_packets": forward,
        "total_backward_packets": backward,
        "total_forward_bytes": int(payload[ahead].sum()),
        "total_backward_bytes": int(payload[~ahead].sum()),
        "flow_bytes_per_second": float(payload.sum()) / seconds,
        "flow_packets_per_second": len(rows) / seconds,
        "forward_packets_per_second": forward / seconds,
        "backward_packets_per_second": backward / seconds,
        "download_upload_ratio": backward / forward,
        "forward_psh_flags": int((flags[ahead] & PSH > 0).sum()),
        "backward_psh_flags": int((flags[~ahead] & PSH > 0).sum()),
        "forward_urg_flags": int((flags[ahead] & URG > 0).sum()),
        "backward_urg_flags": int((flags[~ahead] & URG > 0).sum()),
        "forward_header_length": int(header[ahead].sum()),
        "backward_header_length": int(header[~ahead].sum()),
    }
    for name, bit in (
        ("fin", FIN), ("syn", SYN), ("rst", RST), ("psh", PSH), ("ack", ACK), ("urg", URG),
        ("cwe", CWR), ("ece", ECE),
    ):  # fmt: skip
        found[f"{name}_flag_count"] = int((flags & bit > 0).sum())
    for way, chosen in (("forward", ahead), ("backward", ~ahead)):
        size = _spread(payload[chosen])
        for key in ("max", "min", "mean", "std"):
            found[f"{way}_packet_length_{key}"] = size[key]
        found[f"average_{way}_segment_size"] = size["mean"]
        pauses = np.diff(times[chosen])
        found[f"{way}_inter_arrival_time_total"] = float(pauses.sum())
        for key, value in _spread(pauses).items():
            found[f"{way}_inter_arrival_time_{key}"] = value
    for key, value in _spread(np.diff(times)).items():
        found[f"flow_inter_arrival_time_{key}"] = value
    size = _spread(payload)
    return found | {
        "average_packet_size": size["mean"],
        "minimum_packet_length": size["min"],
        "maximum_packet_length": size["max"],
        "packet_length_mean": size["mean"],
        "packet_length_std": size["std"],
        "packet_length_variance": size["std"] ** 2,
        **_bulks(times, payload, ahead),
        **_rests(times),
    }


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    """Largest, smallest, mean and standard deviation of a sample; zeros where there is nothing."""
    if not len(values):
        return dict.fromkeys(("max", "min", "mean", "std"), 0.0)
    return {
        "max": float(values.max()),
        "min": float(values.min()),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    }


def _bulks(
    times: NDArray[np.int64], payload: NDArray[np.int64], ahead: NDArray[np.bool_]
) -> dict[str, float]:
    """Mean size, packets and pace of the bulks each way; data of the other way ends one."""
    kept = payload > 0
    times, payload, ahead = times[kept], payload[kept], ahead[kept]
    breaks = np.flatnonzero((np.diff(times) > BULK_PAUSE_US) | (ahead[1:] != ahead[:-1])) + 1
    found: dict[str, float] = {}
    runs = [run for run in np.split(np.arange(len(times)), breaks) if len(run) >= BULK_PACKETS]
    for way, forward in (("forward", True), ("backward", False)):
        own = [run for run in runs if ahead[run[0]] == forward]
        size = float(sum(payload[run].sum() for run in own))
        lasted = float(sum(times[run[-1]] - times[run[0]] for run in own))
        number = max(1, len(own))
        found[f"{way}_average_bytes_bulk"] = size / number
        found[f"{way}_average_packets_bulk"] = sum(map(len, own)) / number
        found[f"{way}_average_bulk_rate"] = size / (lasted / 1e6) if lasted else 0.0
    return found


def _rests(times: NDArray[np.int64]) -> dict[str, float]:
    """Mean length of the active stretches that ended in a rest, and of the rests."""
    pauses = np.diff(times)
    ends = np.flatnonzero(pauses > IDLE_US)
    starts = np.concatenate(([0], ends + 1))[: len(ends)]
    active = (times[ends] - times[starts])[times[ends] > times[starts]]
    return {
        "active_mean": float(active.mean()) if len(active) else 0.0,
        "idle_mean": float(pauses[ends].mean()) if len(ends) else 0.0,
    }


def columns(flows: Sequence[Flow]) -> dict[str, list[float]]:
    """The features of many flows, column by column."""
    rows = [features(flow) for flow in flows]
    return {name: [row[name] for row in rows] for name in rows[0]}
