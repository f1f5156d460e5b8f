"""A detector's record becomes its event as far as it tells, and loses nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumer.backfill.fields import MISSING, instant_ns
from consumer.backfill.jsonl import (
    KEPT_BYTES,
    RECORD_MARK,
    Mark,
    read_line,
    read_record,
    record_digest,
)
from proto.network_security_pb2 import DetectorSource, NetworkSecurityEvent
from tests.detector_layout import DETECTOR_NODE, line_of, record_of
from tests.embed_samples import sample

FALLBACK_NS = 1_500_000_000 * 10**9


def event(number: int = 0) -> NetworkSecurityEvent:
    return sample()[number][1]


def record(number: int = 0) -> dict[str, Any]:
    made = event(number)
    return record_of(made, number, logged_s=made.event_timestamp.seconds + 2)


def read(given: dict[str, Any]) -> NetworkSecurityEvent:
    return read_record(given, fallback_ns=FALLBACK_NS).event


def kept(made: NetworkSecurityEvent) -> dict[str, Any]:
    return {
        name.removeprefix("log."): json.loads(text)
        for name, text in made.custom_metadata.items()
        if name.startswith("log.")
    }


def test_what_a_record_tells_of_its_event_is_in_the_event() -> None:
    for number in range(0, 8000, 801):
        logged, real = read(record(number)), event(number)
        flow, real_flow = logged.network_features, real.network_features
        for name in (
            "source_ip", "destination_ip", "source_port", "destination_port", "protocol_number",
            "protocol_name", "flow_duration_microseconds", "total_forward_packets",
            "total_backward_packets", "total_forward_bytes", "total_backward_bytes",
            "flow_bytes_per_second", "flow_packets_per_second", "average_packet_size",
            "syn_flag_count", "ack_flag_count", "fin_flag_count", "rst_flag_count",
            "psh_flag_count", "flow_inter_arrival_time_mean", "flow_inter_arrival_time_std",
            "forward_inter_arrival_time_mean", "backward_inter_arrival_time_mean",
        ):  # fmt: skip
            assert getattr(flow, name) == getattr(real_flow, name), name
        for name in (
            "overall_threat_score", "fast_detector_score", "ml_detector_score",
            "final_classification", "threat_category", "authoritative_source",
            "fast_detector_triggered", "fast_detector_reason",
        ):  # fmt: skip
            assert getattr(logged, name) == getattr(real, name), name
        decision, real_decision = logged.decision_metadata, real.decision_metadata
        assert decision.score_divergence == real_decision.score_divergence
        assert decision.requires_rag_analysis == real_decision.requires_rag_analysis
        assert decision.confidence_level == real_decision.confidence_level
        assert logged.ml_analysis.level1_confidence == real.ml_analysis.level1_confidence
        assert logged.ml_analysis.attack_detected_level1 == real.ml_analysis.attack_detected_level1
        assert logged.event_timestamp.seconds == real.event_timestamp.seconds


def test_what_no_field_takes_stays_with_the_event_as_text() -> None:
    given = record()
    given["system_state"]["queue"] = {"depth": [1, 2]}
    given["network"]["vlan"] = 12
    given["weather"] = "fine"
    found = kept(read(given))
    assert found["system_state"] == given["system_state"]
    assert found["ml_training_metadata"] == given["ml_training_metadata"]
    assert found["network"]["vlan"] == 12
    assert found["weather"] == "fine"
    assert found["detection"]["classification"] == {"attack_family": "UNKNOWN"}


def test_what_is_kept_as_text_is_bounded_and_what_is_cut_is_counted() -> None:
    given = record()
    given["system_state"] = {"dump": "x" * (3 * KEPT_BYTES)}
    made = read(given)
    texts = {name: text for name, text in made.custom_metadata.items() if name.startswith("log.")}
    cut = int(texts.pop("log.cut_bytes"))
    assert sum(len(name) + len(text) for name, text in texts.items()) <= KEPT_BYTES
    assert cut > 2 * KEPT_BYTES


def test_features_that_a_record_does_not_tell_are_marked_as_not_measured() -> None:
    flow = read(record()).network_features
    assert flow.idle_mean == MISSING
    assert flow.forward_packet_length_mean == MISSING
    assert flow.average_packet_size != MISSING


def test_a_record_without_a_flow_gives_an_event_without_one() -> None:
    given = record()
    del given["network"], given["features"]
    assert not read(given).HasField("network_features")


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("five_tuple", {"source_ip": "10.0.0.1", "destination_port": 22, "protocol_number": 6}),
        ("five_tuple", {"src": "10.0.0.1", "dport": "22", "proto": 6}),
        ("five_tuple", {"src_ip": "10.0.0.1", "dst_port": 22.0, "protocol": "tcp"}),
    ],
)
def test_the_ends_are_known_by_their_usual_names(section: str, names: dict[str, Any]) -> None:
    flow = read({"network": {section: names}}).network_features
    assert (flow.source_ip, flow.destination_port) == ("10.0.0.1", 22)
    assert (flow.protocol_number, flow.protocol_name.upper()) == (6, "TCP")


@pytest.mark.parametrize(
    "amounts",
    [
        {"forward_bytes": 7, "backward_packets": 3},
        {"total_fwd_bytes": 7, "total_bwd_packets": 3},
        {"bytes_forward": 7, "packets_backward": 3},
        {"bytes": {"forward": 7}, "packets": {"backward": 3}},
        {"total_forward_bytes": "7", "total_backward_packets": 3.0},
    ],
)
def test_amounts_of_both_directions_are_known_by_their_usual_names(amounts: dict[str, Any]) -> None:
    flow = read({"network": {"flow": amounts}}).network_features
    assert (flow.total_forward_bytes, flow.total_backward_packets) == (7, 3)


def test_places_and_messages_below_a_section_are_read() -> None:
    made = read(
        {
            "network": {
                "geoip": {
                    "source": {"country": "ES", "city": "Badajoz", "threat_level": "HIGH"},
                    "dst": {"country": "Portugal", "lat": 38.7},
                    "distance_km": 180,
                },
                "interface": {"name": "eth0", "mode": 2, "wan_facing": True},
            },
            "features": {"ddos_embedded": {"syn_ack_ratio": 0.5, "unheard_of": 1}},
            "detection": {"classification": {"authoritative_source": "divergence"}},
        }
    )
    geo, flow = made.geo_enrichment, made.network_features
    assert (geo.source_ip_geo.country_code, geo.source_ip_geo.threat_level) == ("ES", 3)
    assert (geo.destination_ip_geo.country_name, geo.destination_ip_geo.latitude) == (
        "Portugal",
        38.7,
    )
    assert geo.source_destination_distance_km == 180
    assert (flow.source_interface, flow.interface_mode, flow.is_wan_facing) == ("eth0", 2, True)
    assert flow.ddos_embedded.syn_ack_ratio == 0.5
    assert kept(made)["features"] == {"ddos_embedded": {"unheard_of": 1}}
    assert made.authoritative_source == DetectorSource.DETECTOR_SOURCE_DIVERGENCE


@pytest.mark.parametrize("nothing", ["NaN", "Infinity", "-Infinity", "null", '"nan"'])
def test_a_number_that_is_none_counts_as_not_measured(nothing: str) -> None:
    line = (
        f'{{"detection":{{}},"features":{{"timing":{{"flow_iat_mean":{nothing},"idle_mean":3}}}}}}'
    )
    (found,) = read_line(line.encode()).records
    flow = read(found.record).network_features
    assert (flow.flow_inter_arrival_time_mean, flow.idle_mean) == (MISSING, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("src_port", -1),
        ("src_port", 2**40),
        ("src_port", "ssh"),
        ("src_port", [22]),
        ("src_ip", {"octets": [10, 0, 0, 1]}),
        ("interface_mode", "bridge"),
        ("is_wan_facing", "perhaps"),
    ],
)
def test_a_value_of_the_wrong_type_is_kept_as_text_and_spoils_nothing(
    name: str, value: Any
) -> None:
    made = read({"network": {"five_tuple": {name: value, "dst_ip": "10.0.0.9"}}})
    assert made.network_features.destination_ip == "10.0.0.9"
    assert made.network_features.source_port == 0
    assert kept(made)["network"]["five_tuple"][name] == value


def test_the_id_and_the_digest_depend_on_the_content_and_not_on_the_layout() -> None:
    given = record()
    other = json.loads(json.dumps(dict(reversed(given.items())), indent=2))
    assert record_digest(given) == record_digest(other)
    assert read(given).event_id == read(other).event_id
    assert read(given).SerializeToString(deterministic=True) == read(other).SerializeToString(
        deterministic=True
    )
    other["system_state"]["events_processed_total"] += 1
    assert read(given).event_id != read(other).event_id
    assert read(given).originating_node_id == DETECTOR_NODE


def test_a_mark_says_which_record_an_event_was_read_from() -> None:
    logged = read_record(record(), fallback_ns=FALLBACK_NS)
    assert Mark.of(logged.event) == logged.mark
    assert logged.mark.detailed
    assert Mark.of(event()) is None
    assert RECORD_MARK not in event().custom_metadata


def test_a_record_from_a_boot_clock_gets_the_time_at_which_it_was_logged() -> None:
    given = record()
    given["detection"]["detection_timestamp"] = 5124
    given["rag_metadata"]["logged_at"] = "2017-07-05T10:00:00Z"
    logged = read_record(given, fallback_ns=FALLBACK_NS)
    assert logged.event.event_timestamp.ToJsonString() == "2017-07-05T10:00:00Z"
    assert logged.mark.second == 5124
    assert kept(logged.event)["detection"]["detection_timestamp"] == 5124


def test_a_record_without_any_time_gets_the_one_that_is_handed_in() -> None:
    given = record()
    del given["detection"]["detection_timestamp"], given["rag_metadata"]
    assert read(given).event_timestamp.ToNanoseconds() == FALLBACK_NS


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (1499083071, 1499083071 * 10**9),
        (1499083071.25, 1499083071_250_000_000),
        ("1499083071", 1499083071 * 10**9),
        (1499083071_250, 1499083071_250_000_000),
        (1499083071_250_000, 1499083071_250_000_000),
        (1499083071_250_000_001, 1499083071_250_000_001),
        ("2017-07-03T11:57:51Z", 1499083071 * 10**9),
        ("2017-07-03T13:57:51+02:00", 1499083071 * 10**9),
        ("2017-07-03 11:57:51.5", 1499083071_500_000_000),
        ("yesterday", None),
        (float("nan"), None),
        (None, None),
        (True, None),
        ([], None),
    ],
)
def test_instants_are_read_in_the_units_that_are_seen(value: Any, ns: int | None) -> None:
    assert instant_ns(value) == ns


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\0\0\0\0\0\0", "corrupt"),
        (b"\xff\xfe{}", "corrupt"),
        (b"{" * 20_000, "corrupt"),
        (b"[" * 20_000 + b"]" * 20_000, "corrupt"),
        (b'{"detection": {"a": ' + b"9" * 5000 + b"}}", "corrupt"),
        (b"12", "not_a_record"),
        (b"[1, 2]", "not_a_record"),
        (b'{"log": "line"}', "not_a_record"),
        (b'{"detection": 5}', "not_a_record"),
    ],
)
def test_a_line_that_is_no_record_says_why(line: bytes, reason: str) -> None:
    assert read_line(line) == ([], reason)


def test_a_record_behind_a_torn_one_is_found() -> None:
    first, second = line_of(record(0)).rstrip(), line_of(record(1)).rstrip()
    for cut in range(1, len(first), 7):
        found = read_line(first[:cut] + second)
        assert [one.record for one in found.records] == [record(1)], cut
        assert found.reason == "corrupt"


def test_two_records_on_one_line_are_both_found() -> None:
    first, second = line_of(record(0)).rstrip(), line_of(record(1)).rstrip()
    found = read_line(first + second)
    assert [one.record for one in found.records] == [record(0), record(1)]
    assert [(one.start, one.end) for one in found.records] == [
        (0, len(first)),
        (len(first), len(first) + len(second)),
    ]
    assert found.reason is None


def test_halves_of_surrogate_pairs_do_not_stop_a_record() -> None:
    line = rb'{"detection": {"reasons": {"fast_detector_reason": "a\ud800b"}}, "\udfff": 1}'
    (found,) = read_line(line).records
    assert read(found.record).fast_detector_reason == "a?b"
