"""The prototypes of an index and what is known of the events behind each.

Events come in blocks, as columns, because a day has millions of them. Vectors are put into groups by
`embed.clusters`; sums, first and last are operations on arrays, and names are counted once per block
and pair of group and name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embed.chunk import EventBatch
from embed.clusters import Groups, LeaderClusters, Placed
from embed.rows import JSON, RowFacts, Vectors
from embed.services import service_of
from embed.top_counts import TopCounts

PROTOTYPES = 256
NEAR = 0.97
EVENT_IDS = 20
TOP = 10
NEVER = 2**63 - 1

Ints = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entries:
    """Some events, or flows that were assembled from packet events (`embed.flows`), as columns.

    Attributes:
        features: float32 (n, 83).
        numbers: int64 (n, 4): first and last time, UTC ns; how many events of the chunk; 1 for an
            assembled flow, else 0.
        event_ids: the ids of the events behind each, 20 at most.
        categories: threat categories.
        present: whether each has network features, and so a source and a port.
        sources: source addresses.
        ports: destination ports.
        facts: what becomes the facts of rows of their own; empty if they get none.
    """

    features: NDArray[np.float32]
    numbers: Ints
    event_ids: Sequence[tuple[str, ...]]
    categories: Sequence[str]
    present: Sequence[bool]
    sources: Sequence[str]
    ports: Sequence[int]
    facts: Sequence[RowFacts] = ()

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of(cls, batch: EventBatch, chosen: NDArray[np.bool_]) -> Entries:
        """The chosen events of a batch, bool (n,), without facts."""
        columns, flags = batch.columns, chosen.tolist()
        ids: list[tuple[str, ...]] = [(name,) for name in columns.event_ids]
        flows = np.zeros(len(batch), dtype=np.int64)
        for place, origin in batch.origins.items():
            ids[place], flows[place] = origin.event_ids[:EVENT_IDS], 1
        numbers = np.stack((batch.times, batch.ends, batch.counts, flows), axis=1)
        return cls(
            batch.features[chosen].astype(np.float32),
            numbers[chosen],
            list(compress(ids, flags)),
            list(compress(columns.categories, flags)),
            list(compress(columns.present, flags)),
            list(compress(columns.sources, flags)),
            list(compress(columns.ports, flags)),
        )

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.numbers for part in parts]),
            _chained(part.event_ids for part in parts),
            _chained(part.categories for part in parts),
            _chained(part.present for part in parts),
            _chained(part.sources for part in parts),
            _chained(part.ports for part in parts),
            _chained(part.facts for part in parts),
        )

    def part(self, start: int, stop: int) -> Entries:
        """Those from `start` up to `stop`."""
        cut = slice(start, stop)
        return Entries(
            self.features[cut],
            self.numbers[cut],
            self.event_ids[cut],
            self.categories[cut],
            self.present[cut],
            self.sources[cut],
            self.ports[cut],
            self.facts[cut],
        )


@dataclass(slots=True)
class _Names:
    """The names in one prototype."""

    event_ids: list[str] = field(default_factory=list)
    sources: TopCounts = field(default_factory=TopCounts)
    services: TopCounts = field(default_factory=TopCounts)
    categories: TopCounts = field(default_factory=TopCounts)

    def take(self, other: _Names) -> None:
        self.event_ids = (self.event_ids + other.event_ids)[:EVENT_IDS]
        self.sources.take(other.sources)
        self.services.take(other.services)
        self.categories.take(other.categories)


class Prototypes:
    """At most 256 groups of like vectors, and the events in each.

    `place` may run in another thread than the rest, block after block; each block goes through
    `place` and then `gather`, in the same order.

    Args:
        dimension: width of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self._clusters = LeaderClusters(dimension, most=PROTOTYPES, near=NEAR)
        self._names: list[_Names] = []
        self._first = np.full(PROTOTYPES, NEVER, dtype=np.int64)
        self._last = np.zeros(PROTOTYPES, dtype=np.int64)
        self._events = np.zeros(PROTOTYPES, dtype=np.int64)
        self._flows = np.zeros(PROTOTYPES, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._clusters)

    @property
    def counts(self) -> Groups:
        """How many entries each has, int64 (prototypes,)."""
        return self._clusters.counts

    @property
    def events(self) -> int:
        """How many events of the chunk are in them."""
        return int(self._events.sum())

    @property
    def times(self) -> tuple[int, int]:
        """The earliest and the latest time in any of them; `NEVER` and 0 if there is none."""
        return int(self._first.min()), int(self._last.max())

    def vectors(self) -> Vectors:
        """One per prototype, float32 (prototypes, d) of length 1."""
        return self._clusters.vectors()

    def place(self, vectors: Vectors) -> Placed:
        """Put a block of vectors, float32 (n, d) of length 1, into groups."""
        return self._clusters.add(vectors)

    def gather(self, placed: Placed, entries: Entries) -> None:
        """Take what is known of the entries whose vectors were placed."""
        if placed.merged is not None:
            self._merge(placed.merged)
        groups = placed.groups
        first, last, events, flows = entries.numbers.T
        np.minimum.at(self._first, groups, first)
        np.maximum.at(self._last, groups, last)
        np.add.at(self._events, groups, events)
        np.add.at(self._flows, groups, flows)
        numbers = groups.tolist()
        names = self._names
        names += (_Names() for _ in range(len(names), int(groups.max()) + 1))
        for group, ids in zip(numbers, entries.event_ids, strict=True):
            known = names[group].event_ids
            if len(known) < EVENT_IDS:
                known += ids[: EVENT_IDS - len(known)]
        there = list(compress(numbers, entries.present))
        for (group, source), times in _pairs(there, compress(entries.sources, entries.present)):
            names[group].sources.add(source, times)
        for (group, port), times in _pairs(there, compress(entries.ports, entries.present)):
            names[group].services.add(service_of(port).text, times)
        for (group, category), times in _pairs(numbers, entries.categories):
            if category:
                names[group].categories.add(category, times)

    def _merge(self, numbers: Groups) -> None:
        """Put groups together; `numbers` has the new number of each, int64 (groups,)."""
        merged: dict[int, _Names] = {}
        for number, names in zip(numbers.tolist(), self._names, strict=True):
            if number in merged:
                merged[number].take(names)
            else:
                merged[number] = names
        self._names = [merged[number] for number in sorted(merged)]
        first, last, size = self._first, self._last, len(numbers)
        self._first, self._last = np.full_like(first, NEVER), np.zeros_like(last)
        np.minimum.at(self._first, numbers, first[:size])
        np.maximum.at(self._last, numbers, last[:size])
        for sums in (self._events, self._flows):
            before = sums[:size].copy()
            sums[:] = 0
            np.add.at(sums, numbers, before)

    def facts(self) -> list[RowFacts]:
        """The facts of each prototype."""
        return [self._facts(place) for place in range(len(self))]

    def _facts(self, place: int) -> RowFacts:
        names = self._names[place]
        detail: dict[str, JSON] = {
            "event_ids": list(names.event_ids),
            "source_ips": names.sources.shown(),
            "services": names.services.shown(),
            "categories": names.categories.shown(),
        }
        if flows := int(self._flows[place]):
            detail["packet_flows"] = flows
        return RowFacts(
            "prototype",
            f"prototype {place + 1}",
            int(self._events[place]),
            int(self._first[place]),
            int(self._last[place]),
            detail,
        )

    def largest(self) -> list[JSON]:
        """What the largest ten hold most of, the largest first."""
        counts = self.counts.tolist()
        ranked = sorted(range(len(self)), key=lambda place: (-counts[place], place))
        return [
            {
                "count": counts[place],
                "service": self._names[place].services.first(),
                "category": self._names[place].categories.first(),
            }
            for place in ranked[:TOP]
        ]


def _pairs(groups: Iterable[int], values: Iterable[T]) -> Iterable[tuple[tuple[int, T], int]]:
    """How often each group met each value, in the order in which they first did."""
    return Counter(zip(groups, values, strict=True)).items()


def _chained(parts: Iterable[Iterable[T]]) -> list[T]:
    return list(chain.from_iterable(parts))
