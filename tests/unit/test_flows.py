"""Recorded flows become events: every column arrives, nothing is made up but the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.errors import UsageError
from consumer.replay.build_sample import SAMPLE, build_sample
from consumer.replay.flows import FlowRecording, event_id_of
from models.labels import BENIGN
from proto.network_security_pb2 import NetworkSecurityEvent

START = datetime(2017, 7, 4, 10, 30, 0, 123456, tzinfo=UTC)


def _write(path: Path, columns: Mapping[str, Any]) -> Path:
    pq.write_table(pa.table(dict(columns)), path)
    return path


def _times(count: int) -> pa.Array:
    stamps = [START + timedelta(seconds=second) for second in range(count)]
    return pa.array(stamps, pa.timestamp("us", tz="UTC"))


def _events(path: Path, **options: Any) -> list[NetworkSecurityEvent]:
    return [event for _, event in FlowRecording(path, node="n", **options)]


@pytest.fixture(scope="module")
def sample_events() -> list[NetworkSecurityEvent]:
    return _events(SAMPLE)


@pytest.fixture(scope="module")
def sample_flows() -> pa.Table:
    return pq.read_table(SAMPLE)


def test_every_column_of_the_sample_but_the_label_arrives(
    sample_events: list[NetworkSecurityEvent], sample_flows: pa.Table
) -> None:
    names = [name for name in sample_flows.column_names if name not in {"timestamp", "label"}]
    assert len(names) == 67
    for row in range(0, sample_flows.num_rows, 97):
        flow = sample_flows.slice(row, 1).to_pylist()[0]
        features = sample_events[row].network_features
        assert {name: getattr(features, name) for name in names} == {
            name: flow[name] for name in names
        }


def test_an_event_has_the_time_and_the_identity_of_its_flow(
    sample_events: list[NetworkSecurityEvent], sample_flows: pa.Table
) -> None:
    for row in (0, 4000, 8016):
        event = sample_events[row]
        began = sample_flows["timestamp"][row].as_py()
        assert event.event_id == event_id_of("n", row) == f"n-{row:07d}"
        assert event.originating_node_id == event.capturing_node.node_id == "n"
        assert event.event_timestamp.ToDatetime(UTC) == began
        assert event.network_features.flow_start_time.ToDatetime(UTC) == began
        lasted_us = event.network_features.flow_duration.ToMicroseconds()
        assert lasted_us == sample_flows["flow_duration_microseconds"][row].as_py()
    assert {event.network_features.protocol_name for event in sample_events} >= {"TCP", "UDP"}


def test_no_event_names_its_label(
    sample_events: list[NetworkSecurityEvent], sample_flows: pa.Table
) -> None:
    labels = set(sample_flows["label"].unique().to_pylist()) - {BENIGN, "DDoS"}
    words = {word.lower() for label in labels for word in label.split() if len(word) > 3}
    words.remove("attack")  # a prediction class of the detector's first level
    assert {"ssh-patator", "portscan", "slowloris"} <= words
    for event in sample_events:
        text = str(event).lower()
        assert not [word for word in words if word in text]


def test_labels_of_one_severity_make_the_same_events(
    tmp_path: Path, sample_events: list[NetworkSecurityEvent], sample_flows: pa.Table
) -> None:
    intrusions = {"FTP-Patator": "Portscan", "SSH-Patator": "Heartbleed", "Portscan": "Anything"}
    labels = [intrusions.get(label, label) for label in sample_flows["label"].to_pylist()]
    at = sample_flows.schema.get_field_index("label")
    path = tmp_path / "f.parquet"
    pq.write_table(sample_flows.set_column(at, "label", pa.array(labels)), path)

    assert _events(path) == sample_events


def test_events_are_as_large_as_a_detectors(sample_events: list[NetworkSecurityEvent]) -> None:
    sizes = sorted(event.ByteSize() for event in sample_events)
    assert sizes[0] > 500
    assert sizes[-1] < 2000


def test_every_event_says_that_its_verdict_is_simulated(
    sample_events: list[NetworkSecurityEvent],
) -> None:
    assert all("simulated_verdict" in event.event_tags for event in sample_events)


def test_the_sample_holds_all_days_and_classes(sample_flows: pa.Table) -> None:
    days = {stamp.date() for stamp in sample_flows["timestamp"].to_pylist()}
    assert days == {date(2017, 7, day) for day in range(3, 8)}
    labels = sample_flows["label"].to_pylist()
    assert labels.count("BENIGN") == 5220
    assert labels.count("SSH-Patator") == labels.count("FTP-Patator") == 300
    assert labels.count("Heartbleed") == 8
    assert len(set(labels)) == 15


def test_the_sample_is_in_the_order_of_time(sample_flows: pa.Table) -> None:
    stamps = sample_flows["timestamp"].to_pylist()
    assert stamps == sorted(stamps)


def test_building_a_sample_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_sample(SAMPLE, tmp_path / name, per_class=20)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    labels = pq.read_table(tmp_path / "a")["label"].to_pylist()
    assert labels.count("BENIGN") == 5220
    assert labels.count("DDoS") == 20
    assert labels.count("Heartbleed") == 8


def test_a_chosen_day_keeps_the_ids_of_its_flows(
    sample_events: list[NetworkSecurityEvent],
) -> None:
    day = date(2017, 7, 6)
    chosen = _events(SAMPLE, days=frozenset({day}))
    expected = [
        event for event in sample_events if event.event_timestamp.ToDatetime(UTC).date() == day
    ]
    assert chosen == expected
    assert len(expected) > 1000


def test_an_older_detector_fills_no_newer_field() -> None:
    newer = next(iter(FlowRecording(SAMPLE, node="n")))[1]
    older = next(iter(FlowRecording(SAMPLE, node="n", newer=False)))[1]
    assert newer.HasField("provenance")
    assert not older.HasField("provenance")
    newer.ClearField("provenance")
    assert newer == older


def test_a_column_that_is_absent_or_null_stays_unset(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "f.parquet",
        {
            "timestamp": _times(2),
            "destination_port": pa.array([22, None], pa.int64()),
            "packet_length_mean": pa.array([None, 1.5]),
        },
    )
    first, second = (
        {field.name for field, _ in event.network_features.ListFields()} for event in _events(path)
    )
    assert first == {"flow_start_time", "destination_port"}
    assert second == {"flow_start_time", "packet_length_mean"}


def test_flows_with_nothing_but_a_time_are_events(tmp_path: Path) -> None:
    path = _write(tmp_path / "f.parquet", {"timestamp": _times(3)})
    assert [event.event_id for event in _events(path)] == ["n-0000000", "n-0000001", "n-0000002"]


def test_unknown_columns_are_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "f.parquet", {"timestamp": _times(1), "colour": ["vermilion"]})
    assert "vermilion" not in str(_events(path))


def test_numbers_of_another_type_fit_if_their_value_does(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "f.parquet",
        {
            "timestamp": _times(1),
            "source_port": pa.array([4000.0]),
            "idle_mean": pa.array([7], pa.int16()),
        },
    )
    (event,) = _events(path)
    assert (event.network_features.source_port, event.network_features.idle_mean) == (4000, 7.0)


def test_a_value_that_its_field_cannot_hold_names_its_row(tmp_path: Path) -> None:
    path = _write(tmp_path / "f.parquet", {"timestamp": _times(2), "source_port": [1, -1]})
    with pytest.raises(UsageError, match=r"f\.parquet: row 1: .*-1"):
        _events(path)


def test_a_column_that_cannot_be_its_field_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "f.parquet", {"timestamp": _times(1), "source_port": ["ssh"]})
    with pytest.raises(UsageError, match=r"f\.parquet: column source_port"):
        _events(path)


@pytest.mark.parametrize("columns", [{"source_port": [1]}, {"timestamp": ["monday"]}])
def test_without_a_time_flows_are_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = _write(tmp_path / "f.parquet", columns)
    with pytest.raises(UsageError, match="no column 'timestamp' of type timestamp"):
        FlowRecording(path, node="n")


def test_a_flow_without_a_time_is_named(tmp_path: Path) -> None:
    stamps = [*_times(1500).to_pylist(), None]
    path = _write(tmp_path / "f.parquet", {"timestamp": stamps})
    with pytest.raises(UsageError, match=r"f\.parquet: row 1500: no timestamp"):
        _events(path)


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ns", tz="Europe/Madrid")])
def test_times_of_any_unit_and_zone_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    stamps = pa.array([START.replace(microsecond=0)], pa.timestamp("s", tz="UTC"))
    path = _write(tmp_path / "f.parquet", {"timestamp": stamps.cast(pa.timestamp("s")).cast(kind)})
    (event,) = _events(path)
    assert event.event_timestamp.ToDatetime(UTC) == START.replace(microsecond=0)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(SAMPLE.read_bytes())
    damaged[4 : len(damaged) // 2] = b"\xff" * (len(damaged) // 2 - 4)
    (tmp_path / "f.parquet").write_bytes(damaged)
    with pytest.raises(UsageError, match="cannot be read to its end"):
        _events(tmp_path / "f.parquet")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        FlowRecording(tmp_path / "f.parquet", node="n")
    with pytest.raises(UsageError, match="no such file"):
        FlowRecording(tmp_path / "absent.parquet", node="n")
