"""From packets to the flows of the second network, and the file of them that the repository keeps."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.second_network.flows import ACK, FIN, PSH, RST, SYN, Flow, assemble, features
from benchmarks.second_network.gateway import PACKET, RECORD, TCP, UDP, header_of
from benchmarks.second_network.hosts import HOSTS, label_of
from models.evaluate_attack import FLOW_COLUMNS, feature_names

KEPT = Path(__file__).parents[2] / "benchmarks/second_network/flows.parquet"
DESK, WEB = 1, 2


def flows_of(*packets: tuple[float, int, int, int]) -> list[Flow]:
    """Flows of packets (seconds, sender, payload, flags) between one port of DESK and one of WEB."""
    rows = [
        (int(at * 1e6), sender, 3 - sender, *((5000, 80) if sender == DESK else (80, 5000)), payload, 20, TCP, flags)
        for at, sender, payload, flags in packets
    ]  # fmt: skip
    return list(assemble(np.array(rows, dtype=PACKET)))


def test_both_ways_of_a_connection_are_one_flow_begun_by_who_spoke_first() -> None:
    (flow,) = flows_of(
        (0, DESK, 0, SYN), (0.1, WEB, 0, SYN | ACK), (0.2, DESK, 0, ACK),
        (0.3, DESK, 100, PSH | ACK), (0.5, WEB, 900, PSH | ACK), (0.6, WEB, 0, FIN | ACK),
        (0.7, DESK, 0, FIN | ACK), (0.8, WEB, 0, ACK),
    )  # fmt: skip
    found = features(flow)
    assert flow.source == DESK
    assert (found["total_forward_packets"], found["total_backward_packets"]) == (4, 4)
    assert (found["total_forward_bytes"], found["total_backward_bytes"]) == (100, 900)
    assert found["flow_duration_microseconds"] == 800_000
    assert (found["syn_flag_count"], found["fin_flag_count"], found["psh_flag_count"]) == (2, 2, 2)
    assert found["flow_bytes_per_second"] == pytest.approx(1250)
    assert found["backward_inter_arrival_time_max"] == pytest.approx(400_000)


def test_what_straggles_in_after_a_reset_belongs_to_the_flow_and_a_new_syn_does_not() -> None:
    first, second = flows_of(
        (0, DESK, 0, SYN), (0.1, WEB, 0, RST | ACK), (0.2, DESK, 0, ACK), (0.3, DESK, 0, SYN)
    )
    assert (len(first.rows), len(second.rows)) == (3, 1)


def test_a_flow_ends_after_120_seconds() -> None:
    found = flows_of((0, DESK, 10, ACK), (60, WEB, 10, ACK), (121, DESK, 10, ACK))
    assert [len(flow.rows) for flow in found] == [2, 1]


def test_four_packets_of_data_in_a_row_are_a_bulk_and_data_the_other_way_ends_it() -> None:
    (whole,) = flows_of(*[(n / 10, DESK, 100, ACK) for n in range(4)])
    (broken,) = flows_of(
        *[(n / 10, DESK, 100, ACK) for n in range(3)], (0.25, WEB, 5, ACK), (0.3, DESK, 100, ACK)
    )
    assert features(whole)["forward_average_packets_bulk"] == 4
    assert features(whole)["forward_average_bulk_rate"] == pytest.approx(400 / 0.3)
    assert features(broken)["forward_average_packets_bulk"] == 0


def test_a_pause_of_more_than_five_seconds_is_a_rest() -> None:
    (flow,) = flows_of((0, DESK, 1, ACK), (2, WEB, 1, ACK), (12, DESK, 1, ACK))
    assert features(flow)["idle_mean"] == 10_000_000
    assert features(flow)["active_mean"] == 2_000_000


def test_a_flow_has_the_65_features_of_the_contract() -> None:
    (flow,) = flows_of((0, DESK, 0, SYN))
    assert set(features(flow)) == {feature_names()[place] for place in FLOW_COLUMNS}
    assert all(np.isfinite(list(features(flow).values())))


def test_a_record_is_as_wide_as_its_dtype() -> None:
    assert RECORD.size == PACKET.itemsize


@pytest.mark.parametrize(
    ("protocol", "transport", "expected"),
    [
        (TCP, struct.pack(">HHIIBBHHH", 5000, 80, 0, 0, 6 << 4, SYN, 0, 0, 0) + b"\0" * 4 + b"abc", (3, 24, TCP, SYN)),
        (UDP, struct.pack(">HHHH", 5000, 80, 11, 0) + b"abc", (3, 8, UDP, 0)),
    ],
)  # fmt: skip
def test_the_header_of_a_packet_is_read(
    protocol: int, transport: bytes, expected: tuple[int, int, int, int]
) -> None:
    size = 20 + len(transport)
    packet = struct.pack(">BBHHHBBHII", 0x45, 0, size, 0, 0, 64, protocol, 0, DESK, WEB) + transport
    assert header_of(packet) == (DESK, WEB, 5000, 80, *expected)


@pytest.mark.parametrize(
    "packet", [b"", b"\x60" + b"\0" * 39, b"\x45" + b"\0" * 8 + b"\x01" + b"\0" * 20]
)
def test_what_is_neither_tcp_nor_udp_over_ipv4_is_no_flow(packet: bytes) -> None:
    assert header_of(packet) is None


def test_the_kept_flows_are_those_of_the_second_network_alone() -> None:
    table = pq.read_table(KEPT)
    ends = zip(*(table[name].to_pylist() for name in ("source_ip", "destination_ip")), strict=True)
    assert [label_of(*pair) for pair in ends] == table["label"].to_pylist()
    assert set(table["label"].to_pylist()) == {host.label for host in HOSTS}
