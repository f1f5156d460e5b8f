"""What is known of a prototype is what its events say, one by one, whatever was merged meanwhile."""

from collections import Counter

import numpy as np
import pytest

from embed.chunk import EventBatch, Origin
from embed.pooling import normalise
from embed.prototypes import EVENT_IDS, PROTOTYPES, Entries, Prototypes
from embed.services import service_of
from tests.embed_samples import event

WIDTH = 6
BLOCK = 100


def batch(count: int, draw: np.random.Generator) -> EventBatch:
    made = [
        event(
            float(draw.integers(0, 86_400)),
            event_id=f"event {number}",
            network_source_ip=f"10.0.0.{draw.integers(1, 40)}",
            network_destination_port=int(draw.choice((22, 53, 80, 443))),
            threat_category=str(draw.choice(("", "DDOS", "WORM"))),
        )
        for number in range(count)
    ]
    times, events = map(list, zip(*made, strict=True))
    events[3].ClearField("network_features")
    flow = Origin(30, tuple(f"packet {number}" for number in range(30)), times[5] + 7, 1)
    return EventBatch(times, events, origins={5: flow})


@pytest.fixture(scope="module", params=[120, 3_000])
def gathered(request: pytest.FixtureRequest) -> tuple[EventBatch, Prototypes, list[int]]:
    """A batch, the prototypes it was put into block by block, and where each event ended up."""
    draw = np.random.default_rng(request.param)
    events = batch(request.param, draw)
    entries = Entries.of(events, np.ones(len(events), dtype=np.bool_))
    vectors = normalise(draw.standard_normal((len(events), WIDTH)))
    prototypes, where, merged = Prototypes(WIDTH), np.zeros(0, dtype=np.int64), False
    for start in range(0, len(events), BLOCK):
        placed = prototypes.place(vectors[start : start + BLOCK])
        prototypes.gather(placed, entries.part(start, start + BLOCK))
        if placed.merged is not None:
            where, merged = placed.merged[where], True
        where = np.concatenate((where, placed.groups))
    assert merged == (len(events) > PROTOTYPES)
    return events, prototypes, where.tolist()


def test_facts_are_those_of_the_events(
    gathered: tuple[EventBatch, Prototypes, list[int]],
) -> None:
    events, prototypes, where = gathered
    columns = events.columns
    for group, fact in enumerate(prototypes.facts()):
        places = [place for place, other in enumerate(where) if other == group]
        assert fact.weight == sum(events.counts[places])
        assert fact.first_ns == min(events.times[places])
        assert fact.last_ns == max(events.ends[places])
        there = [place for place in places if columns.present[place]]
        assert fact.detail["source_ips"] == Counter(columns.sources[place] for place in there)
        services = Counter(service_of(columns.ports[place]).text for place in there)
        assert fact.detail["services"] == services
        named = (columns.categories[place] for place in places)
        assert fact.detail["categories"] == Counter(name for name in named if name)
        assert fact.detail.get("packet_flows", 0) == sum(place == 5 for place in places)
    assert prototypes.events == sum(events.counts)
    assert prototypes.times == (min(events.times), max(events.ends))
    assert prototypes.counts.tolist() == [where.count(group) for group in range(len(prototypes))]


def test_the_first_ids_of_each_are_kept(
    gathered: tuple[EventBatch, Prototypes, list[int]],
) -> None:
    events, prototypes, where = gathered
    assert len(prototypes) <= PROTOTYPES
    for group, fact in enumerate(prototypes.facts()):
        ids = fact.detail["event_ids"]
        assert isinstance(ids, list)
        own = [
            name
            for place, other in enumerate(where)
            if other == group
            for name in (events.origins[place].event_ids if place == 5 else (f"event {place}",))
        ]
        assert len(ids) == min(len(own), EVENT_IDS)
        assert set(ids) <= set(own)


def test_entries_are_cut_and_joined_without_loss() -> None:
    events = batch(50, np.random.default_rng(1))
    whole = Entries.of(events, np.ones(50, dtype=np.bool_))
    again = Entries.joined([whole.part(0, 20), whole.part(20, 21), whole.part(21, 50)])
    assert np.array_equal(again.numbers, whole.numbers)
    assert again.features.tobytes() == whole.features.tobytes()
    for name in ("event_ids", "categories", "present", "sources", "ports", "facts"):
        assert list(getattr(again, name)) == list(getattr(whole, name)), name
