"""The attack index: a row per flagged event, prototypes for the rest, one for the day; 256 wide.

Every event goes through the encoder. Those that the detector flagged (`embed.flags`) become rows
of their own; the others are gathered into at most 256 weighted prototypes, so that ordinary
traffic cannot crowd attacks out of anyone's neighbours. The day's row is `pooling.two_voices` over
the prototypes of both kinds.

A flow that was assembled from packet events (`embed.flows`) is one event here; its row says how many
it was made of. The facts of the day's row carry a fingerprint of the 83 values of every event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embed.chunk import ChunkSpan, EventBatch, Origin
from embed.clusters import LeaderClusters
from embed.embedder import Embedder
from embed.features import WIDTH
from embed.fingerprint import Fingerprint
from embed.onnx_session import OnnxSession, SessionOptions, model_facts
from embed.pooling import normalise, two_voices
from embed.recipes import RECIPES
from embed.rows import JSON, Embedded, RowBlock, RowFacts, Vectors
from embed.services import service_of
from embed.spool import RowSpool
from embed.top_counts import TopCounts
from models.store import ModelFiles
from proto.network_security_pb2 import NetworkSecurityEvent

RECIPE = RECIPES["attack"]
# The encoder sees blocks of these sizes only; a last block is filled up with missing values.
SIZES = (1024, 256, 64)
PROTOTYPES = 256
NEAR = 0.97
EVENT_IDS = 20
TOP = 10
NEVER = 2**63 - 1
# Blocks that may wait for the encoder; further ones wait for it themselves.
MOST_BLOCKS = 8


@dataclass(slots=True)
class _Members:
    """The facts of one prototype."""

    first_ns: int = NEVER
    last_ns: int = 0
    events: int = 0
    flows: int = 0
    event_ids: list[str] = field(default_factory=list)
    sources: TopCounts = field(default_factory=TopCounts)
    services: TopCounts = field(default_factory=TopCounts)
    categories: TopCounts = field(default_factory=TopCounts)

    def add(self, entry: _Entry) -> None:
        self.first_ns = min(self.first_ns, entry.time_ns)
        origin = entry.origin
        if origin is None:
            self.events += 1
            self.last_ns = max(self.last_ns, entry.time_ns)
            if len(self.event_ids) < EVENT_IDS:
                self.event_ids.append(entry.event_id)
        else:
            self.events += origin.events
            self.flows += 1
            self.last_ns = max(self.last_ns, origin.last_ns)
            self.event_ids += origin.event_ids[: EVENT_IDS - len(self.event_ids)]
        if entry.present:
            self.sources.add(entry.source)
            self.services.add(service_of(entry.port).text)
        if entry.category:
            self.categories.add(entry.category)

    def take(self, other: _Members) -> None:
        self.first_ns = min(self.first_ns, other.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)
        self.events += other.events
        self.flows += other.flows
        self.event_ids = (self.event_ids + other.event_ids)[:EVENT_IDS]
        self.sources.take(other.sources)
        self.services.take(other.services)
        self.categories.take(other.categories)


class _Entry(NamedTuple):
    """What is kept of an event, or of an assembled flow, while it goes through the encoder.

    Attributes:
        time_ns: effective time, UTC ns.
        event_id: its identifier.
        category: threat category.
        present: whether it has network features, and so a source and a port.
        source: source address.
        port: destination port.
        facts: what becomes the facts of its own row; None if it is not flagged and has none.
        origin: what it was assembled from, if it was.
    """

    time_ns: int
    event_id: str
    category: str
    present: bool
    source: str
    port: int
    facts: RowFacts | None
    origin: Origin | None


class _Side:
    """Flagged or unflagged events on their way through the encoder, in blocks of 1,024."""

    def __init__(self, dimension: int) -> None:
        self.clusters = LeaderClusters(dimension, most=PROTOTYPES, near=NEAR)
        self.members: list[_Members] = []
        self.entries: list[_Entry] = []
        self.features: list[NDArray[np.float32]] = []
        self.waiting = 0
        self.seen = 0

    def note(self, batch: EventBatch, chosen: NDArray[np.bool_], *, rows: bool) -> None:
        """Take the chosen events; with `rows` each becomes a row of its own."""
        places = np.flatnonzero(chosen)
        if not places.size:
            return
        columns, times, origins = batch.columns, batch.times.tolist(), batch.origins
        for place in places.tolist():
            time_ns, origin = times[place], origins.get(place)
            self.entries.append(
                _Entry(
                    time_ns,
                    columns.event_ids[place],
                    columns.categories[place],
                    columns.present[place],
                    columns.sources[place],
                    columns.ports[place],
                    _event_facts(batch.events[place], time_ns, origin) if rows else None,
                    origin,
                )
            )
        self.features.append(batch.features[places].astype(np.float32))
        self.waiting += places.size

    def block(self, size: int) -> tuple[list[_Entry], NDArray[np.float32]]:
        """Take the first events that wait."""
        rows = np.concatenate(self.features) if len(self.features) > 1 else self.features[0]
        entries = self.entries[:size]
        self.entries, self.features = self.entries[size:], [rows[size:]]
        self.waiting -= len(entries)
        self.seen += len(entries)
        return entries, rows[:size]

    def gather(self, vectors: Vectors, entries: list[_Entry]) -> None:
        """Put embedded events into their prototypes."""
        placed = self.clusters.add(vectors)
        if placed.merged is not None:
            self._merge(placed.merged.tolist())
        for group, entry in zip(placed.groups.tolist(), entries, strict=True):
            while group >= len(self.members):
                self.members.append(_Members())
            self.members[group].add(entry)

    def _merge(self, numbers: list[int]) -> None:
        merged: dict[int, _Members] = {}
        for number, members in zip(numbers, self.members, strict=True):
            if number in merged:
                merged[number].take(members)
            else:
                merged[number] = members
        self.members = [merged[number] for number in sorted(merged)]

    @property
    def counts(self) -> NDArray[np.int64]:
        return self.clusters.counts

    @property
    def chunk_events(self) -> int:
        """How many events of the chunk were gathered."""
        return sum(member.events for member in self.members)


class AttackEmbedder(Embedder):
    """See the module and `Embedder`.

    Args:
        files: the encoder, from `models.store.locate("attack")`.
        threads: threads of the encoder.
        scratch: folder for temporary files; flagged events take 1 KiB and their facts there.
    """

    name = "attack"

    def __init__(self, files: ModelFiles, *, threads: int = 2, scratch: Path | None = None) -> None:
        super().__init__()
        self.dimension = files.entry.dimension
        self.model = model_facts(files, recipe=RECIPE)
        self._scratch = scratch
        self._session = OnnxSession(
            files,
            inputs=("features",),
            output="embedding",
            width=self.dimension,
            options=SessionOptions(threads=threads),
        )
        self._spool: RowSpool | None = None
        self._background: ThreadPoolExecutor | None = None
        self._begin_day()

    def embed_features(self, features: NDArray[np.floating]) -> Vectors:
        """Embed raw features, (n, 83) with NaN = missing, to float32 (n, 256) of length 1."""
        rows = np.asarray(features, dtype=np.float32)
        found = np.empty((len(rows), self.dimension), dtype=np.float32)
        start = 0
        while start < len(rows):
            left = len(rows) - start
            size = min((size for size in SIZES if size >= left), default=SIZES[0])
            block = np.full((size, WIDTH), np.nan, dtype=np.float32)
            part = rows[start : start + size]
            block[: len(part)] = part
            vectors = self._session.run({"features": block})
            found[start : start + len(part)] = normalise(vectors[: len(part)])
            start += len(part)
        return found

    def _begin_day(self) -> None:
        self._flagged = _Side(self.dimension)
        self._rest = _Side(self.dimension)
        self._asked: deque[tuple[_Side, list[_Entry], Future[Vectors]]] = deque()
        self._fingerprint = Fingerprint()
        self._refused = 0
        self._sentinels = 0
        self._unreadable = 0
        self._categories = TopCounts()

    def _reset(self, span: ChunkSpan) -> None:  # noqa: ARG002 - the day is in self.span
        if self._spool is not None:
            self._spool.close()
        if self._background is not None:
            self._background.shutdown(cancel_futures=True)
        self._spool = RowSpool(self.dimension, scratch=self._scratch)
        self._background = ThreadPoolExecutor(1, "attack encoder")
        self._begin_day()

    def _add(self, batch: EventBatch) -> None:
        self._fingerprint.add_floats(batch.features)
        self._fingerprint.add(batch.origin_numbers)
        self._refused += batch.table.refused
        self._sentinels += batch.table.sentinels
        self._unreadable += batch.unreadable
        self._flagged.note(batch, batch.flagged, rows=True)
        self._rest.note(batch, ~batch.flagged, rows=False)
        for side in (self._flagged, self._rest):
            while side.waiting >= SIZES[0]:
                self._ask(side, SIZES[0])

    def _ask(self, side: _Side, size: int) -> None:
        """Send a block of one side to the encoder, which runs beside the pass over the events."""
        if self._background is None:
            raise self._out_of_order()
        entries, features = side.block(size)
        asked = self._background.submit(self.embed_features, features)
        self._asked.append((side, entries, asked))
        while len(self._asked) > MOST_BLOCKS:
            self._gather()

    def _gather(self) -> None:
        """Wait for the oldest block and put its events where they belong."""
        side, entries, asked = self._asked.popleft()
        vectors = asked.result()
        side.gather(vectors, entries)
        if side is self._flagged:
            for entry in entries:
                self._categories.add(entry.category or "none")
            self._begun().add(vectors, [entry.facts for entry in entries if entry.facts])

    def _finish(self, span: ChunkSpan) -> Embedded:
        for side in (self._flagged, self._rest):
            if side.waiting:
                self._ask(side, side.waiting)
        while self._asked:
            self._gather()
        if self._background is not None:
            self._background.shutdown()
            self._background = None
        flagged, rest, spool = self._flagged, self._rest, self._begun()
        self._spool = None
        coverage = {
            "events": spool.weight + rest.chunk_events,
            "flagged": len(spool),
            "prototypes": len(rest.clusters),
            "values_refused": self._refused,
            "values_sentinel": self._sentinels,
            "events_unreadable": self._unreadable,
        }
        prototypes = rest.clusters.vectors()
        day = two_voices(
            np.vstack((flagged.clusters.vectors(), prototypes)),
            np.concatenate((flagged.counts, rest.counts)),
            np.arange(len(flagged.clusters) + len(rest.clusters)) < len(flagged.clusters),
        )
        blocks = _blocks(
            RowBlock(day, [self._day_facts(span)]),
            RowBlock(prototypes, [_prototype_facts(i, rest) for i in range(len(prototypes))]),
            spool,
        )
        self._begin_day()
        return Embedded(blocks, coverage)

    def _day_facts(self, span: ChunkSpan) -> RowFacts:
        sides = (self._flagged, self._rest)
        members = [member for side in sides for member in side.members]
        detail: dict[str, JSON] = {
            "flagged": self._flagged.seen,
            "unflagged": self._rest.seen,
            "categories": self._categories.shown(),
            "top_flagged": _listed(self._flagged),
            "top_prototypes": _listed(self._rest),
            "fingerprint": str(self._fingerprint),
        }
        return RowFacts(
            "day",
            span.day.isoformat(),
            sum(member.events for member in members),
            min((member.first_ns for member in members), default=span.start_ns),
            max((member.last_ns for member in members), default=span.end_ns),
            detail,
        )

    def _begun(self) -> RowSpool:
        if self._spool is None:
            raise self._out_of_order()
        return self._spool


def _blocks(head: RowBlock, prototypes: RowBlock, spool: RowSpool) -> Iterator[RowBlock]:
    yield head
    if prototypes.facts:
        yield prototypes
    yield from spool.blocks()


def _event_facts(event: NetworkSecurityEvent, time_ns: int, origin: Origin | None) -> RowFacts:
    network = event.network_features
    score = event.overall_threat_score
    detail: dict[str, JSON] = {
        "event_id": event.event_id,
        "node": event.originating_node_id,
        "source_ip": network.source_ip,
        "destination_ip": network.destination_ip,
        "destination_port": network.destination_port,
        "protocol": network.protocol_number,
        "classification": event.final_classification,
        "threat_category": event.threat_category,
        # NaN and infinity are no JSON.
        "score": score if 0.0 <= score <= 1.0 else None,
    }
    if origin is None:
        return RowFacts("event", event.event_id, 1, time_ns, time_ns, detail)
    detail["event_ids"] = list(origin.event_ids)
    return RowFacts("event", event.event_id, origin.events, time_ns, origin.last_ns, detail)


def _prototype_facts(place: int, side: _Side) -> RowFacts:
    members = side.members[place]
    detail: dict[str, JSON] = {
        "event_ids": list(members.event_ids),
        "source_ips": members.sources.shown(),
        "services": members.services.shown(),
        "categories": members.categories.shown(),
    }
    if members.flows:
        detail["packet_flows"] = members.flows
    return RowFacts(
        "prototype",
        f"prototype {place + 1}",
        members.events,
        members.first_ns,
        members.last_ns,
        detail,
    )


def _listed(side: _Side) -> list[JSON]:
    ranked = sorted(range(len(side.clusters)), key=lambda place: (-int(side.counts[place]), place))
    return [
        {
            "count": int(side.counts[place]),
            "service": side.members[place].services.first(),
            "category": side.members[place].categories.first(),
        }
        for place in ranked[:TOP]
    ]
