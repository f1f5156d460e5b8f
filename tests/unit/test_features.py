import math
from typing import Any

import numpy as np
import pytest

from embed.chunk import EventBatch
from embed.features import COLUMN, WIDTH
from embed.sensors import Sensor, Sensors
from models.manifest import load_features
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.embed_samples import START_NS, event, sample


def table(*events: NetworkSecurityEvent, at_ns: int = START_NS) -> EventBatch:
    return EventBatch([at_ns] * len(events), list(events))


def value(message: NetworkSecurityEvent, name: str) -> float:
    return float(table(message).features[0, COLUMN[name]])


def test_every_feature_is_read_from_the_path_of_the_contract() -> None:
    message = event()[1]
    expected = {}
    for spec in load_features():
        if spec.path.startswith("("):
            continue
        owner = message
        *parents, name = spec.path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        number = {"flag": 1, "unit": 0.25, "category": 3, "port": 443}.get(
            spec.transform, 1000 + spec.index
        )
        setattr(owner, name, bool(number) if spec.transform == "flag" else number)
        expected[spec.index] = float(number)
    row = table(message).features[0]
    assert {place: row[place] for place in expected} == expected


def test_an_absent_message_is_missing_and_not_zero() -> None:
    bare = NetworkSecurityEvent()
    row = table(bare).features[0]
    detector = [COLUMN[name] for name in ("overall_threat_score", "fast_detector_score")]
    assert np.isnan(row[: COLUMN["overall_threat_score"]]).all()
    assert (row[detector] == 0.0).all()
    assert np.isnan(row[COLUMN["score_divergence"]])
    assert np.isnan(row[COLUMN["geographic_anomaly_score"]])


def test_a_zero_in_a_present_message_is_a_zero() -> None:
    assert value(event(network_total_backward_bytes=0)[1], "total_backward_bytes") == 0.0


def test_the_sentinel_is_missing_and_counted() -> None:
    batch = table(event(network_flow_bytes_per_second=-9999.0)[1])
    assert math.isnan(batch.features[0, COLUMN["flow_bytes_per_second"]])
    assert (batch.table.sentinels, batch.table.refused) == (1, 0)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("network_flow_bytes_per_second", math.inf),
        ("network_flow_bytes_per_second", -math.inf),
        ("network_packet_length_mean", math.nan),
        ("network_destination_port", 70_000),
        ("network_flow_duration_microseconds", 2**64 - 1),
        ("overall_threat_score", 12.0),
        ("overall_threat_score", -1.0),
        ("overall_threat_score", math.nan),
    ],
)
def test_an_impossible_value_is_missing_and_counted(field: str, wrong: float) -> None:
    batch = table(event(**{field: wrong})[1])
    name = field.removeprefix("network_")
    assert math.isnan(batch.features[0, COLUMN[name]])
    assert (batch.table.sentinels, batch.table.refused) == (0, 1)


def test_a_negative_measurement_is_kept() -> None:
    assert value(event(network_active_mean=-3.5)[1], "active_mean") == -3.5


@pytest.mark.parametrize(("hour", "sine", "cosine"), [(0, 0, 1), (6, 1, 0), (12, 0, -1)])
def test_the_time_of_day_is_that_of_the_effective_time_in_utc(
    hour: int, sine: float, cosine: float
) -> None:
    row = table(event()[1], at_ns=START_NS + hour * 3_600_000_000_000).features[0]
    assert row[COLUMN["time_of_day_sin"]] == pytest.approx(sine, abs=1e-12)
    assert row[COLUMN["time_of_day_cos"]] == pytest.approx(cosine, abs=1e-12)


def test_real_flows_have_nothing_that_is_refused() -> None:
    timed = sample()[:500]
    batch = EventBatch([at for at, _ in timed], [message for _, message in timed])
    assert batch.features.shape == (500, WIDTH)
    assert (batch.table.sentinels, batch.table.refused) == (0, 0)


def test_a_payload_that_is_no_whole_event_stays_in_the_batch_with_what_can_be_read() -> None:
    good = event(event_id="good")[1].SerializeToString()
    # A network_features message (field 4, length-delimited) that is cut off inside.
    bad = NetworkSecurityEvent(event_id="bad", originating_node_id="n").SerializeToString()
    bad += b"\x22\x02\x0a\x7f"
    batch = EventBatch.parse([1, 2], [good, bad])
    assert [message.event_id for message in batch.events] == ["good", "bad"]
    assert batch.unreadable == 1
    assert not batch.events[1].HasField("network_features")


def test_reversed_addresses_of_a_node_are_turned_except_those_of_fast_alerts() -> None:
    plain = event(event_id="p-1", network_source_ip="10.56.168.192")[1]
    alert = event(event_id="fast-alert-1", network_source_ip="192.168.56.10")[1]
    batch = EventBatch.parse(
        [1, 2],
        [plain.SerializeToString(), alert.SerializeToString()],
        sensors=Sensors(by_node={"node": Sensor(turned=True)}),
    )
    assert [message.network_features.source_ip for message in batch.events] == [
        "192.168.56.10",
        "192.168.56.10",
    ]


def test_a_batch_without_events_has_no_features() -> None:
    assert EventBatch([], []).features.shape == (0, WIDTH)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"final_classification": "SUSPICIOUS"}, True),
        ({"final_classification": " normal "}, False),
        ({"final_classification": ""}, False),
        ({"overall_threat_score": 0.70}, True),
        ({"overall_threat_score": 0.69}, False),
        ({"overall_threat_score": math.nan}, False),
        ({"fast_detector_triggered": True}, True),
    ],
)
def test_an_event_is_flagged_by_its_class_its_score_or_the_fast_detector(
    changes: dict[str, Any], expected: bool
) -> None:
    assert table(event(**changes)[1]).flagged.tolist() == [expected]
