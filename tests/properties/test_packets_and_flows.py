"""However packets come and are cut into batches: every one counts once, and every one shows."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.attack import AttackEmbedder
from embed.chunk import EventBatch
from embed.coverage import check_coverage
from embed.embedder import Embedder
from embed.flows import EVENT_IDS, FlowAssembler
from embed.semantic import SemanticEmbedder
from embed.timeseries import TimeSeriesEmbedder
from tests import standin_models
from tests.embed_samples import START_NS, Timed, event, read, span
from tests.packet_samples import assemble, packet, packets_of_flows

S = 1_000_000_000
HOSTS = [("10.0.0.1", 1000), ("10.0.0.2", 80), ("10.0.0.3", 443)]


@st.composite
def streams(draw: st.DrawFn) -> list[Timed]:
    """Packets of three hosts and two nodes, and flows among them, times forwards and backwards."""
    now = START_NS
    stream: list[Timed] = []
    for number in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 1, S, 40 * S, 61 * S, -2 * S, 500 * S, -500 * S]))
        if draw(st.integers(0, 9)) == 0:
            stream.append(event((now - START_NS) / S, event_id=f"flow{number}"))
            continue
        source, destination = draw(st.permutations(HOSTS))[:2]
        stream.append(
            packet(
                now,
                source,
                destination,
                draw(st.integers(1, 1500)),
                event_id=f"p{number}",
                node=draw(st.sampled_from(["n1", "n2"])),
                own_ns=draw(st.sampled_from([now, now - START_NS + S, 0])),
            )
        )
    return stream


def told(batches: list[EventBatch]) -> list[Any]:
    return [
        (int(time_ns), message.SerializeToString(deterministic=True), batch.origins.get(place))
        for batch in batches
        for place, (time_ns, message) in enumerate(zip(batch.times, batch.events, strict=True))
    ]


@settings(max_examples=150)
@given(stream=streams(), cut=st.integers(1, 45), most_flows=st.integers(1, 6))
def test_the_way_packets_are_cut_into_batches_changes_nothing(
    stream: list[Timed], cut: int, most_flows: int
) -> None:
    whole = FlowAssembler(most_flows=most_flows)
    parts = FlowAssembler(most_flows=most_flows)
    assert told(assemble(stream, cut=50, assembler=whole)) == told(
        assemble(stream, cut=cut, assembler=parts)
    )
    assert whole.facts == parts.facts


@settings(max_examples=150)
@given(stream=streams(), most_flows=st.integers(1, 6))
def test_every_event_is_in_one_entry_and_every_byte_in_one_flow(
    stream: list[Timed], most_flows: int
) -> None:
    assembler = FlowAssembler(most_flows=most_flows)
    batches = assemble(stream, cut=7, assembler=assembler)
    assert sum(int(batch.counts.sum()) for batch in batches) == len(stream)
    sent = sum(
        message.network_features.total_forward_bytes + message.network_features.total_backward_bytes
        for _, message in stream
    )
    assert sum(int(batch.volumes[0].sum()) for batch in batches) == sent
    origins = [origin for batch in batches for origin in batch.origins.values()]
    assert all(len(origin.event_ids) == min(origin.events, EVENT_IDS) for origin in origins)
    ids = [one for origin in origins for one in origin.event_ids]
    packets = {message.event_id for _, message in stream if message.event_id.startswith("p")}
    assert len(ids) == len(set(ids))
    assert packets.issuperset(ids)
    assert assembler.facts.packets == assembler.facts.packets_out == len(packets)


PACKETS = packets_of_flows(date(2017, 7, 4), 40, most=6)
# Whatever is true of packets has to be true beside flows.
MIXED = sorted([*PACKETS, *(event(3600 * hour) for hour in range(24))], key=lambda timed: timed[0])


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Embedder]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "timeseries": TimeSeriesEmbedder(standin_models.timeseries(folder)),
        "semantic": SemanticEmbedder(standin_models.semantic(folder)),
        "attack": AttackEmbedder(standin_models.attack(folder)),
    }


def fold(name: str, embedder: Embedder, stream: list[Timed], *, cut: int = 100) -> tuple[Any, Any]:
    """Vectors and facts of a chunk; its coverage is held against it."""
    whole = span(len(stream))
    assembler = FlowAssembler()
    embedder.begin(whole)
    for batch in assemble(stream, cut=cut, assembler=assembler):
        embedder.add(batch)
    vectors, facts, coverage = read(embedder.finish())
    check_coverage(whole, {**coverage, **assembler.facts.coverage()}, index=name)
    if name != "timeseries":
        # The day's row speaks for every event, and so do the others together.
        assert facts[0].weight == sum(fact.weight for fact in facts[1:]) == len(stream)
    return vectors, facts


@pytest.fixture(scope="module")
def unchanged(embedders: dict[str, Embedder]) -> dict[str, Any]:
    return {name: fold(name, embedder, MIXED) for name, embedder in embedders.items()}


CHANGES = ("size", "time", "port", "score", "tag", "gone")


@settings(max_examples=40)
@given(place=st.integers(0, len(MIXED) - 1), change=st.sampled_from(CHANGES))
def test_a_change_of_any_packet_shows_in_all_three_indices(
    place: int, change: str, embedders: dict[str, Embedder], unchanged: dict[str, Any]
) -> None:
    time_ns, message = MIXED[place]
    if not message.event_id.startswith("f"):
        return
    message = deepcopy(message)
    if change == "size":
        message.network_features.maximum_packet_length += 1
    elif change == "time":
        time_ns += 1000
        message.event_timestamp.FromNanoseconds(time_ns)
    elif change == "port":
        message.network_features.destination_port ^= 1
    elif change == "score":
        message.overall_threat_score += 0.001
    else:
        message.event_tags.append("seen")
    stream = [*MIXED[:place], (time_ns, message), *MIXED[place + 1 :]]
    if change == "gone":
        stream.pop(place)
    for name, embedder in embedders.items():
        assert fold(name, embedder, stream)[1][0] != unchanged[name][1][0], name


def test_the_rows_are_the_same_bit_for_bit_however_the_batches_are_cut(
    embedders: dict[str, Embedder], unchanged: dict[str, Any]
) -> None:
    for name, embedder in embedders.items():
        vectors, facts = fold(name, embedder, MIXED, cut=7)
        assert vectors.tobytes() == unchanged[name][0].tobytes()
        assert facts == unchanged[name][1]


def test_the_series_count_the_packets_and_bytes_of_packet_events(
    embedders: dict[str, Embedder],
) -> None:
    vectors, facts = fold("timeseries", embedders["timeseries"], PACKETS)
    totals = {fact.label: fact.detail["total"] for fact in facts[1:]}
    sizes = [message.network_features.maximum_packet_length for _, message in PACKETS]
    assert totals["events"] == totals["packets"] == len(PACKETS)
    assert totals["bytes"] == sum(sizes)
    assert np.isfinite(vectors).all()


def test_rows_name_the_first_events_of_their_flows(embedders: dict[str, Embedder]) -> None:
    stream = [
        packet(
            START_NS + number * S,
            HOSTS[number % 2],
            HOSTS[1 - number % 2],
            100,
            event_id=f"p{number}",
        )
        for number in range(30)
    ]
    stream[4][1].overall_threat_score = 0.9
    first = [f"p{number}" for number in range(20)]
    _, described = fold("semantic", embedders["semantic"], stream)
    assert described[1].detail["event_ids"] == first
    assert described[1].detail["packet_flows"] == 1
    assert (described[1].weight, described[1].last_ns) == (30, START_NS + 29 * S)
    _, rows = fold("attack", embedders["attack"], stream)
    flow = next(row for row in rows if row.kind == "event")
    assert (flow.label, flow.weight, flow.detail["event_ids"]) == ("p0", 30, first)
