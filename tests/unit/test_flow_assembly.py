"""Packets become flows: which events, by which rules, with which features, within which limits."""

import math
from collections.abc import Sequence
from copy import deepcopy
from datetime import date
from typing import Any

import pytest

from embed.chunk import EventBatch
from embed.features import COLUMN
from embed.flags import alarm
from embed.flow_stats import FlowStats
from embed.flows import FlowAssembler, packet_size
from embed.sensors import Sensor, Sensors
from proto.network_security_pb2 import NetworkFeatures, NetworkSecurityEvent
from tests.embed_samples import START_NS, Timed, event, sample
from tests.packet_samples import assemble, expected, grouped, packet, packets_of_flows

S = 1_000_000_000
CLIENT, SERVER = ("10.0.0.7", 50_000), ("10.0.0.9", 22)
# Every feature that is derived, without the bulks, which have a test of their own.
DERIVED = list(expected([packet(START_NS, CLIENT, SERVER, 60)]))


def exchange(*at_s: float, size: int = 100, first: int = 0) -> list[Timed]:
    """Packets of one connection at these seconds, client and server in turn."""
    ends = (CLIENT, SERVER)
    return [
        packet(
            START_NS + round(at * S),
            ends[place % 2],
            ends[1 - place % 2],
            size + place,
            event_id=f"p{first + place}",
        )
        for place, at in enumerate(at_s)
    ]


def flows_of(events: Sequence[Timed], **options: Any) -> list[tuple[int, NetworkSecurityEvent]]:
    return [
        (int(time_ns), event)
        for batch in assemble(events, **options)
        for time_ns, event in zip(batch.times, batch.events, strict=True)
    ]


def test_flows_of_a_capture_taken_apart_have_the_features_of_a_plain_computation() -> None:
    packets = packets_of_flows(date(2017, 7, 4), 250)
    plain = grouped(packets)
    batches = assemble(packets)
    found = {
        (one.event_ids, one.events): batch.features[place]
        for batch in batches
        for place, one in batch.origins.items()
    }
    assert len(found) == len(plain) > 200
    for flow in plain:
        ids = tuple(event.event_id for _, event in flow[:20])
        row = found[ids, len(flow)]
        told = {name: row[COLUMN[name]] for name in DERIVED}
        assert told == pytest.approx(expected(flow), rel=1e-9, abs=1e-6)


def test_every_packet_is_in_exactly_one_flow() -> None:
    packets = packets_of_flows(date(2017, 7, 5), 150)
    assembler = FlowAssembler()
    batches = assemble(packets, assembler=assembler)
    assert sum(int(batch.counts.sum()) for batch in batches) == len(packets)
    assert assembler.facts.packets == assembler.facts.packets_out == len(packets)
    assert assembler.facts.flows == sum(len(batch) for batch in batches)
    assert assembler.facts.cut == 0


def test_a_batch_without_packets_is_given_back_as_it_is() -> None:
    batch = EventBatch.parse([1], [event()[1].SerializeToString()])
    assembler = FlowAssembler()
    assert assembler.feed(batch, [b""]) is batch
    assert assembler.facts.coverage() == {}


def test_no_flow_of_the_sample_is_taken_for_a_packet() -> None:
    assert not any(packet_size(flow) for _, flow in sample())


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 100),
        ({"total_forward_packets": 0, "total_forward_bytes": 0}, 100),
        ({"maximum_packet_length": 0}, 100),
        ({"maximum_packet_length": 0, "total_forward_bytes": 0}, 100),
        ({"flow_duration_microseconds": 1}, 0),
        ({"total_forward_packets": 2}, 0),
        ({"total_backward_packets": 1}, 0),
        ({"forward_packet_length_max": 100}, 0),
        ({"maximum_packet_length": 1 << 30}, 0),
        ({"source_ip": ""}, 0),
        (
            {
                "maximum_packet_length": 0,
                "total_forward_bytes": 0,
                "packet_length_mean": math.nan,
            },
            0,
        ),
    ],
)
def test_a_packet_event_has_addresses_and_a_size_and_nothing_of_a_flow(
    changes: dict[str, Any], size: int
) -> None:
    _, message = packet(START_NS, CLIENT, SERVER, 100)
    for name, value in changes.items():
        setattr(message.network_features, name, value)
    assert packet_size(message) == size


def test_an_alert_of_the_fast_detector_is_no_packet() -> None:
    _, message = packet(START_NS, CLIENT, SERVER, 100, event_id="fast-alert-1")
    assert packet_size(message) == 0
    assert packet_size(NetworkSecurityEvent(event_id="empty")) == 0


def test_both_directions_are_one_flow_that_begins_with_its_first_packet() -> None:
    ((time_ns, flow),) = flows_of(exchange(0, 0.01, 0.02, 0.5))
    features = flow.network_features
    assert time_ns == START_NS
    assert flow.event_id == "p0"
    assert (features.source_ip, features.source_port) == CLIENT
    assert (features.total_forward_packets, features.total_backward_packets) == (2, 2)
    assert (features.total_forward_bytes, features.total_backward_bytes) == (202, 204)
    assert features.flow_duration_microseconds == 500_000


def test_a_minute_of_silence_ends_a_flow_and_a_little_less_does_not() -> None:
    assert len(flows_of(exchange(0, 60))) == 1
    assert len(flows_of(exchange(0, 60.001))) == 2


def test_a_flow_ends_after_two_minutes() -> None:
    assert [
        flow.network_features.flow_duration_microseconds
        for _, flow in flows_of(exchange(*range(0, 241, 20)))
    ] == [120_000_000, 100_000_000]


def test_the_same_ends_at_another_node_or_over_another_protocol_are_another_flow() -> None:
    first = packet(START_NS, CLIENT, SERVER, 100)
    other_node = packet(START_NS, CLIENT, SERVER, 100, node="sniffer-2")
    other_protocol = packet(START_NS, CLIENT, SERVER, 100, protocol=17)
    assert len(flows_of([first, other_node, other_protocol, first])) == 3


def test_other_events_keep_their_place_and_their_bytes() -> None:
    plain = event(0.5, event_id="flow")
    stream = [*exchange(0, 0.1), plain, *exchange(0.2, 0.3, first=2)]
    batches = assemble(stream, cut=2)
    events = [message for batch in batches for message in batch.events]
    assert [message.event_id for message in events] == ["flow", "p0"]
    assert events[0] == plain[1]
    assert sum(int(batch.counts.sum()) for batch in batches) == len(stream)


def test_a_flow_ends_soon_after_its_packets_in_the_stream() -> None:
    probes = [
        packet(START_NS + 5 * second * S, ("10.0.0.7", 40_000 + second), SERVER, 60)
        for second in range(100)
    ]
    first = assemble(probes, cut=len(probes))[0]
    # All but those of the last two minutes.
    assert len(first) == 100 - 25


def test_packets_of_an_import_do_not_wait_for_those_of_the_evening() -> None:
    evening = exchange(80_000, 80_000.1)
    morning = [
        packet(START_NS + second * S, ("10.0.0.8", 40_000 + second), SERVER, 60)
        for second in range(0, 1000, 10)
    ]
    first = assemble([*evening, *morning], cut=102)[0]
    assert first.events[0].event_id == "p0"
    assert first.origins[0].events == 2
    assert len(first) > 80


def test_times_between_packets_are_those_of_a_clock_that_counts_from_boot() -> None:
    boot_s = 5_000.0
    burst = [  # all arrive together, 300 s later than they happened
        packet(START_NS, CLIENT, SERVER, 100, own_ns=round((boot_s + at) * S))
        for at in (0.0, 0.25, 1.0)
    ]
    ((_, flow),) = flows_of(burst)
    features = flow.network_features
    assert features.flow_duration_microseconds == 1_000_000
    assert features.flow_inter_arrival_time_max == 750_000


def test_a_sensor_that_restarts_or_has_no_clock_is_timed_by_arrival() -> None:
    restarted = [
        packet(START_NS, CLIENT, SERVER, 100, own_ns=9_000 * S),
        packet(START_NS + 2 * S, CLIENT, SERVER, 100, own_ns=3 * S),
        packet(START_NS + 3 * S, CLIENT, SERVER, 100, own_ns=4 * S),
    ]
    without = [packet(START_NS + second * S, CLIENT, SERVER, 100, own_ns=0) for second in (0, 2, 3)]
    for stream in (restarted, without):
        ((_, flow),) = flows_of(stream)
        assert flow.network_features.flow_duration_microseconds == 3_000_000


def test_a_packet_that_overtook_another_counts_with_a_gap_of_nothing() -> None:
    ((_, flow),) = flows_of(exchange(0, 1, 0.9, 1.1))
    features = flow.network_features
    assert features.flow_duration_microseconds == 1_100_000
    assert features.flow_inter_arrival_time_min == 0


def test_what_is_said_of_a_flow_is_said_of_its_most_alarming_packet() -> None:
    stream = exchange(0, 0.1, 0.2, 0.3)
    stream[1][1].overall_threat_score = 0.95
    stream[1][1].threat_category = "first"
    stream[2][1].overall_threat_score = 0.2
    stream[2][1].final_classification = "MALICIOUS"
    stream[3][1].overall_threat_score = math.inf
    (batch,) = [batch for batch in assemble(stream, cut=1) if len(batch)]
    assert batch.events[0].threat_category == "first"
    assert batch.flagged.tolist() == [True]
    assert batch.events[0].event_id == "p0"
    quiet = exchange(0, 0.1)
    quiet[1][1].final_classification = "MALICIOUS"
    assert assemble(quiet)[0].flagged.tolist() == [True]


@pytest.mark.parametrize("score", [0.0, 0.69, 0.70, 1.0, 12.0, -9999.0, math.nan])
@pytest.mark.parametrize("classification", ["", "BENIGN", "SUSPICIOUS"])
@pytest.mark.parametrize("triggered", [False, True])
def test_one_event_is_flagged_exactly_when_its_batch_says_so(
    score: float, classification: str, triggered: bool
) -> None:
    _, message = event(
        overall_threat_score=score,
        final_classification=classification,
        fast_detector_triggered=triggered,
    )
    assert [alarm(message)[0]] == EventBatch([START_NS], [message]).flagged.tolist()


def test_reversed_addresses_meet_their_answers_only_when_they_are_turned() -> None:
    asked = packet(START_NS, ("7.0.0.10", 50_000), ("9.0.0.10", 22), 60)
    payload = asked[1].SerializeToString()
    sensors = Sensors(by_node={"sniffer-1": Sensor(turned=True)})
    assembler = FlowAssembler(sensors)
    assembler.feed(EventBatch.parse([START_NS], [payload], sensors=sensors), [payload])
    (batch,) = assembler.finish()
    assert batch.events[0].network_features.source_ip == "10.0.0.7"


def test_the_longest_silent_flow_ends_early_at_the_limit_and_nothing_is_lost() -> None:
    probes = [
        packet(START_NS + number, ("10.0.0.7", number), SERVER, 60, event_id=f"e{number}")
        for number in range(100)
    ]
    for options in ({"most_flows": 10}, {"most_bytes": 10 * len(probes[0][1].SerializeToString())}):
        assembler = FlowAssembler(**options)  # type: ignore[arg-type]  # two integers
        batches = assemble(probes, cut=100, assembler=assembler)
        assert [message.event_id for message in batches[0].events][:3] == ["e0", "e1", "e2"]
        assert 85 <= assembler.facts.cut <= 92
        assert sum(int(batch.counts.sum()) for batch in batches) == 100


def test_a_bulk_is_four_packets_of_one_direction_without_a_pause() -> None:
    stats, features = FlowStats(), NetworkFeatures()
    for place in range(5):
        stats.add(1_000_000 if place else 0, 1000, features, forward=True)
    stats.add(2_000_000, 100, features, forward=False)
    stats.add(1_500_000_000, 1000, features, forward=True)
    flow = NetworkFeatures()
    stats.fill(flow)
    assert flow.forward_average_packets_bulk == 5
    assert flow.forward_average_bytes_bulk == 5000
    assert flow.forward_average_bulk_rate == 5000 / 0.004
    assert flow.backward_average_packets_bulk == 0


def test_absurd_packets_are_counted_without_an_error() -> None:
    absurd = packet(
        START_NS,
        CLIENT,
        SERVER,
        60,
        syn_flag_count=2**32 - 1,
        forward_header_length=math.nan,  # type: ignore[arg-type]  # what a broken sensor writes
    )
    stream = [absurd, deepcopy(absurd), *exchange(0.1)]
    stream[1][1].event_timestamp.seconds = -(2**62)
    ((_, flow),) = flows_of(stream)
    assert flow.network_features.syn_flag_count == 2
    assert flow.network_features.forward_header_length == 0
