"""What is known of the events that read equal: sums, first and last, and the most frequent values.

Kept in columns, so that a batch costs a few operations on arrays and not some per event. Memory
grows with the groups; who talked to whom goes through `embed.pair_counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunk import EventBatch
from embed.pair_counts import PairCounts, Texts, Top
from embed.rows import JSON
from embed.top_counts import SHOW
from embed.values import Values

EVENT_IDS = 20
NEVER = 2**63 - 1

Ints = NDArray[np.int64]

_SUMS = ("count", "events", "flows", "bytes", "packets", "last_ns")
# Where the counts of each are: the table, how many owners a group has there, and which one it is.
_SHOWN = {
    "source_ips": ("addresses", 2, 0),
    "destination_ips": ("addresses", 2, 1),
    "destination_ports": ("ports", 1, 0),
    "categories": ("words", 2, 0),
    "tags": ("words", 2, 1),
}


class Groups:
    """Numbered from 0 in the order in which they were first seen.

    Args:
        scratch: folder for temporary files.
    """

    def __init__(self, *, scratch: Path | None = None) -> None:
        self._size = 0
        self._sums = {name: np.zeros(256, dtype=np.int64) for name in _SUMS}
        self._first = np.full(256, NEVER, dtype=np.int64)
        self._flagged = np.zeros(256, dtype=np.bool_)
        self._ids: list[list[str]] = []
        self._values = Values()
        # Numbers mean something else in each.
        self._pairs = {
            name: PairCounts(scratch=scratch) for name in ("addresses", "ports", "words")
        }
        self._tables: dict[str, _TopTable] = {}

    def __len__(self) -> int:
        return self._size

    def column(self, name: str) -> Ints:
        """One number per group, int64 (groups,).

        `count` (a flow that was assembled from packet events is one), `events`, `flows` (those of
        `count` that were assembled), `bytes`, `packets` or `last_ns`.
        """
        return self._sums[name][: self._size]

    @property
    def first_ns(self) -> Ints:
        """Time of the earliest event of each group, int64 (groups,)."""
        return self._first[: self._size]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Whether an event of the group was flagged, bool (groups,)."""
        return self._flagged[: self._size]

    def add(self, groups: Ints, batch: EventBatch) -> None:
        """Take a batch; `groups` has the group of each event, int64 (n,), new ones next in order."""
        self._grow(int(groups.max()) + 1)
        sizes, packets = batch.volumes
        assembled = np.zeros(len(batch), dtype=np.int64)
        assembled[list(batch.origins)] = 1
        for name, amount in (
            ("count", np.ones(len(batch), dtype=np.int64)),
            ("events", batch.counts),
            ("flows", assembled),
            ("bytes", sizes),
            ("packets", packets),
        ):
            np.add.at(self._sums[name], groups, amount)
        np.maximum.at(self._sums["last_ns"], groups, _lasts(batch))
        np.minimum.at(self._first, groups, batch.times)
        np.logical_or.at(self._flagged, groups, batch.flagged)
        self._note_ids(groups, batch)
        self._count_values(groups, batch)

    def detail(self, group: int) -> dict[str, JSON]:
        """What the facts of a group's row say of it beside the text."""
        detail: dict[str, JSON] = {"event_ids": self._ids[group]}
        for name, (table, each, place) in _SHOWN.items():
            detail[name] = self._table(table).of(each * group + place)
        detail["flagged"] = bool(self._flagged[group])
        detail["bytes"] = int(self._sums["bytes"][group])
        detail["packets"] = int(self._sums["packets"][group])
        return detail

    def close(self) -> None:
        """Give temporary files back; may be called twice."""
        for pairs in self._pairs.values():
            pairs.close()

    def _grow(self, size: int) -> None:
        room = len(self._first)
        if size > room:
            more = max(size, 2 * room) - room
            for name in _SUMS:
                self._sums[name] = np.pad(self._sums[name], (0, more))
            self._first = np.pad(self._first, (0, more), constant_values=NEVER)
            self._flagged = np.pad(self._flagged, (0, more))
        self._ids += [[] for _ in range(size - self._size)]
        self._size = max(self._size, size)

    def _note_ids(self, groups: Ints, batch: EventBatch) -> None:
        ids = batch.columns.event_ids
        for place, group in enumerate(groups.tolist()):
            known = self._ids[group]
            if len(known) < EVENT_IDS:
                origin = batch.origins.get(place)
                if origin is None:
                    known.append(ids[place])
                else:
                    known += origin.event_ids[: EVENT_IDS - len(known)]

    def _count_values(self, groups: Ints, batch: EventBatch) -> None:
        columns, values = batch.columns, self._values
        there = np.array(columns.present, dtype=np.bool_)
        sources = values.addresses(batch.sources, columns.sources)
        destinations = values.addresses(batch.destinations, columns.destinations)
        owners = np.concatenate((2 * groups, 2 * groups + 1))
        _count(self._pairs["addresses"], owners, np.concatenate((sources, destinations)))
        _count(self._pairs["ports"], groups[there], batch.ports[there])
        owned: list[int] = []
        words: list[int] = []
        for group, category, tags in zip(
            groups.tolist(), columns.categories, batch.tags, strict=True
        ):
            if category:
                owned.append(2 * group)
                words.append(values.number(category))
            for tag in tags:
                owned.append(2 * group + 1)
                words.append(values.number(tag))
        _count(
            self._pairs["words"], np.array(owned, dtype=np.int64), np.array(words, dtype=np.int64)
        )

    def _table(self, name: str) -> _TopTable:
        """The most frequent values of every group, made at first use."""
        if name not in self._tables:
            texts = _port_texts if name == "ports" else self._values.texts
            tops = list(self._pairs[name].top(SHOW, texts))
            self._tables[name] = _TopTable(tops, texts)
        return self._tables[name]


class _TopTable:
    """The most frequent values of every owner."""

    def __init__(self, tops: Sequence[Top], texts: Texts) -> None:
        none = np.zeros(0, dtype=np.int64)
        self._owners = np.concatenate([none, *(top.groups for top in tops)])
        self._values = np.concatenate([none, *(top.values for top in tops)])
        self._counts = np.concatenate([none, *(top.counts for top in tops)])
        self._texts = texts

    def of(self, owner: int) -> dict[str, JSON]:
        """Values and counts of an owner, the most frequent first."""
        start, stop = np.searchsorted(self._owners, (owner, owner + 1))
        texts = self._texts(self._values[start:stop])
        return dict(zip(texts, self._counts[start:stop].tolist(), strict=True))


def _lasts(batch: EventBatch) -> Ints:
    lasts = batch.times.copy()
    for place, origin in batch.origins.items():
        lasts[place] = origin.last_ns
    return lasts


def _count(pairs: PairCounts, owners: Ints, values: Ints) -> None:
    known = values >= 0
    pairs.add(owners[known], values[known])


def _port_texts(ports: Ints) -> list[str]:
    return [str(port) for port in ports.tolist()]
