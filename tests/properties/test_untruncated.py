"""Nothing of a day is cut off: a change of one field of any one event shows in the rows it feeds."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from embed.attack import AttackEmbedder
from embed.embedder import Embedder
from embed.fields import FIELDS_FED, TIME
from embed.rooms import open_embedder
from embed.semantic import SemanticEmbedder
from embed.timeseries import TimeSeriesEmbedder
from models.manifest import load_features
from proto.network_security_pb2 import NetworkSecurityEvent
from tests import standin_models
from tests.embed_samples import DAY, DAY_NS, START_NS, Timed, event, fold, sample_day

INDICES = ("timeseries", "semantic", "attack")
EXACT = [
    (index, path) for index in INDICES for path, how in FIELDS_FED[index].items() if how == "exact"
]
STEPS = [
    (index, path) for index in INDICES for path, how in FIELDS_FED[index].items() if how == "steps"
]
TRANSFORMS = {spec.path: spec.transform for spec in load_features()}
# A slice that crosses the morning's ordinary traffic and the beginning of an attack.
EVENTS = sample_day(DAY)[100:180] + sample_day(DAY)[700:780]


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Embedder]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "timeseries": TimeSeriesEmbedder(standin_models.timeseries(folder)),
        "semantic": SemanticEmbedder(standin_models.semantic(folder)),
        "attack": AttackEmbedder(standin_models.attack(folder)),
    }


@pytest.fixture(scope="module")
def unchanged(embedders: dict[str, Embedder]) -> dict[str, Any]:
    return {name: fold(embedder, EVENTS) for name, embedder in embedders.items()}


def owner_of(message: NetworkSecurityEvent, path: str) -> tuple[Message, str]:
    owner: Any = message
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def another_value(draw: Callable[..., Any], path: str, old: Any) -> Any:
    """A plausible value that is not the old one."""
    if isinstance(old, str):
        texts = ("10.9.8.7", "203.0.113.5", "fe80::7") if path.endswith("_ip") else ("DDOS", "worm")
        return draw(st.sampled_from([text for text in texts if text != old]))
    if isinstance(old, bool):
        return not old
    transform = TRANSFORMS.get(path, "unit")
    if transform == "unit":
        return draw(st.integers(0, 1000)) / 1000
    if isinstance(old, float):
        return draw(st.integers(-(10**6), 10**9)) / 8
    return draw(st.integers(0, {"port": 65535, "category": 255}.get(transform, 10**9)))


def changed(draw: Callable[..., Any], path: str) -> list[Timed]:
    place = draw(st.integers(0, len(EVENTS) - 1))
    at_ns, message = EVENTS[place]
    message = deepcopy(message)
    if path == TIME:
        new_ns = START_NS + draw(st.integers(0, DAY_NS // 1_000_000 - 1)) * 1_000_000
        assume(new_ns != at_ns)
        at_ns = new_ns
    elif path == "event_tags":
        message.event_tags.append("reviewed")
    else:
        owner, name = owner_of(message, path)
        old = getattr(owner, name)
        new = another_value(draw, path, old)
        assume(new != old)
        setattr(owner, name, new)
    return [*EVENTS[:place], (at_ns, message), *EVENTS[place + 1 :]]


@pytest.mark.parametrize(("index", "path"), EXACT)
@settings(max_examples=3)
@given(data=st.data())
def test_any_change_of_one_field_of_one_event_changes_the_rows_it_feeds(
    index: str,
    path: str,
    data: st.DataObject,
    embedders: dict[str, Embedder],
    unchanged: dict[str, Any],
) -> None:
    vectors, facts, _ = fold(embedders[index], changed(data.draw, path))
    before, facts_before, _ = unchanged[index]
    assert vectors.tobytes() != before.tobytes() or facts != facts_before


@settings(max_examples=30)
@given(
    place=st.integers(0, len(EVENTS) - 1),
    feature=st.sampled_from(
        [spec for spec in load_features() if spec.transform == "log1p" and spec.group == "flow"]
    ),
)
def test_a_tenfold_feature_of_any_event_flagged_or_not_moves_a_vector_of_the_attack_index(
    place: int, feature: Any, embedders: dict[str, Embedder], unchanged: dict[str, Any]
) -> None:
    message = deepcopy(EVENTS[place][1])
    owner, name = owner_of(message, feature.path)
    setattr(owner, name, 10 * abs(getattr(owner, name)) + 50)
    events = [*EVENTS[:place], (EVENTS[place][0], message), *EVENTS[place + 1 :]]
    vectors, _, _ = fold(embedders["attack"], events)
    assert vectors.tobytes() != unchanged["attack"][0].tobytes()


@settings(max_examples=20)
@given(place=st.integers(0, len(EVENTS) - 1))
def test_leaving_out_any_event_changes_all_three_indices(
    place: int, embedders: dict[str, Embedder], unchanged: dict[str, Any]
) -> None:
    events = [*EVENTS[:place], *EVENTS[place + 1 :]]
    for name, embedder in embedders.items():
        vectors, facts, coverage = fold(embedder, events)
        assert facts[0] != unchanged[name][1][0]
        assert coverage["events"] == len(EVENTS) - 1
        if name != "semantic" or facts[1:] != unchanged[name][1][1:]:
            assert vectors.tobytes() != unchanged[name][0].tobytes()


@settings(max_examples=30)
@given(minute=st.integers(0, 1439))
def test_an_event_in_any_minute_moves_the_row_of_its_series(
    minute: int, embedders: dict[str, Embedder], unchanged: dict[str, Any]
) -> None:
    vectors, _, _ = fold(embedders["timeseries"], [*EVENTS, event(60 * minute)])
    before = unchanged["timeseries"][0]
    assert vectors[1].tobytes() != before[1].tobytes()
    assert vectors[0].tobytes() != before[0].tobytes()


# For each field that is told in steps, a value on the other side of a step for `event()`.
ACROSS: dict[str, Callable[[NetworkSecurityEvent], None]] = {}


def across(path: str) -> Callable[[Callable[[NetworkSecurityEvent], None]], None]:
    def register(change: Callable[[NetworkSecurityEvent], None]) -> None:
        ACROSS[path] = change

    return register


def sets(path: str, value: Any) -> None:
    def change(message: NetworkSecurityEvent) -> None:
        owner, name = owner_of(message, path)
        setattr(owner, name, value)

    ACROSS[path] = change


sets("network_features.protocol_number", 17)
sets("network_features.flow_duration_microseconds", 90_000_000)
sets("network_features.flow_packets_per_second", 50_000.0)
sets("network_features.rst_flag_count", 3)
sets("network_features.fin_flag_count", 0)
sets("overall_threat_score", 0.8)
sets("final_classification", "MALICIOUS")
sets("fast_detector_triggered", True)
sets("fast_detector_reason", "SYN_FLOOD")
sets("decision_metadata.score_divergence", 0.5)
sets("decision_metadata.divergence_reason", "engines differ")
sets("ml_analysis.traffic_context", "INTERNAL")
sets("ml_analysis.final_threat_classification", "WORM")
sets("human_review.requires_human_analysis", True)
sets("geo_enrichment.source_ip_geo.country_name", "Iceland")
sets("geo_enrichment.destination_ip_geo.is_tor_exit_node", True)
sets("geo_enrichment.suspicious_geographic_pattern", True)
sets("network_features.internal_anomaly.lateral_movement_score", 0.9)
sets("network_features.ransomware.rdp_failed_auth_count", 5)
sets("network_features.forward_psh_flags", 90)
sets("network_features.idle_mean", 2e7)
sets("network_features.urg_flag_count", 1)
sets("network_features.syn_flag_count", 0)
sets("network_features.source_port", 53)


@across("decision_metadata.anomaly_flags")
def _(message: NetworkSecurityEvent) -> None:
    message.decision_metadata.anomaly_flags.append("ODD_HOURS")


@across("human_review.review_reasons")
def _(message: NetworkSecurityEvent) -> None:
    message.human_review.review_reasons.append("new host")


@across("provenance.verdicts")
def _(message: NetworkSecurityEvent) -> None:
    message.provenance.verdicts.add(reason_code="STAT_ANOMALY")


@across("geo_enrichment.threat_intelligence_matches")
def _(message: NetworkSecurityEvent) -> None:
    message.geo_enrichment.threat_intelligence_matches.append("known scanner")


# What the event needs to be for the step to be told at all.
BASIS: dict[str, dict[str, Any]] = {
    "network_features.flow_packets_per_second": {"network_total_forward_packets": 500},
    "network_features.forward_psh_flags": {"network_flow_duration_microseconds": 30_000_000},
    "network_features.idle_mean": {"network_flow_duration_microseconds": 90_000_000},
    "network_features.urg_flag_count": {
        "network_total_forward_packets": 1,
        "network_total_backward_packets": 2,
    },
    "network_features.syn_flag_count": {"network_fin_flag_count": 0},
    "network_features.source_port": {"network_destination_port": 50_001},
}


@pytest.mark.parametrize(("index", "path"), STEPS)
def test_a_change_across_a_step_changes_the_rows(
    index: str, path: str, embedders: dict[str, Embedder]
) -> None:
    basis = BASIS.get(path, {})
    quiet = event(600, **basis)
    if path == "human_review.review_reasons":
        quiet[1].human_review.requires_human_analysis = True
    loud = (quiet[0], deepcopy(quiet[1]))
    if path == TIME:
        loud = (quiet[0] + 60_000_000_000, loud[1])
    else:
        changes = [change for known, change in ACROSS.items() if known.startswith(path)]
        assert changes, f"no value across a step is known for {path}"
        changes[0](loud[1])
    vectors, facts, _ = fold(embedders[index], [event(), quiet])
    after, facts_after, _ = fold(embedders[index], [event(), loud])
    assert vectors.tobytes() != after.tobytes()
    assert facts != facts_after


def test_every_field_that_is_listed_is_in_the_schema() -> None:
    for paths in FIELDS_FED.values():
        for path in paths:
            if path != TIME:
                owner, name = owner_of(NetworkSecurityEvent(), path)
                assert name in owner.DESCRIPTOR.fields_by_name, path


def test_the_shipped_attack_encoder_is_moved_by_one_unflagged_event() -> None:
    attack = open_embedder("attack")
    events = list(sample_day(date(2017, 7, 4)))
    place = next(
        i for i, (_, message) in enumerate(events) if message.final_classification == "BENIGN"
    )
    message = deepcopy(events[place][1])
    message.network_features.total_forward_bytes += 500
    base, _, _ = fold(attack, events)
    moved, _, _ = fold(attack, [*events[:place], (events[place][0], message), *events[place + 1 :]])
    assert base.tobytes() != moved.tobytes()


def test_the_shipped_time_series_encoder_is_moved_by_one_event_in_the_last_minute(
    tmp_path: Path,
) -> None:
    timeseries = open_embedder("timeseries", scratch=tmp_path)
    events = list(sample_day(date(2017, 7, 4)))
    base, _, _ = fold(timeseries, events)
    moved, _, coverage = fold(timeseries, [*events, event(86_399)])
    assert coverage["minutes"] == 1440
    assert np.linalg.norm(base[0] - moved[0]) > 1e-4
