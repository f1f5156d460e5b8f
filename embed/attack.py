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
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunk import ChunkSpan, EventBatch, Origin
from embed.clusters import Placed
from embed.embedder import Embedder
from embed.features import WIDTH
from embed.fingerprint import Fingerprint
from embed.onnx_session import OnnxSession, SessionOptions, model_facts
from embed.pooling import normalise, two_voices
from embed.prototypes import Entries, Prototypes
from embed.recipes import RECIPES
from embed.rows import JSON, Embedded, RowBlock, RowFacts, Vectors
from embed.spool import RowSpool
from embed.top_counts import TopCounts
from models.store import ModelFiles
from proto.network_security_pb2 import NetworkSecurityEvent

RECIPE = RECIPES["attack"]
# The encoder sees blocks of these sizes only; a last block is filled up with missing values.
SIZES = (1024, 256, 64)
# Blocks that may wait for the encoder; further ones wait for it themselves.
MOST_BLOCKS = 8


class _Side:
    """Flagged or unflagged events on their way through the encoder, in blocks of 1,024."""

    def __init__(self, dimension: int) -> None:
        self.prototypes = Prototypes(dimension)
        self.seen = 0
        self.waiting = 0
        self._parts: list[Entries] = []

    def note(self, entries: Entries) -> None:
        """Take events, to wait for their block."""
        if len(entries):
            self._parts.append(entries)
            self.waiting += len(entries)

    def block(self, size: int) -> Entries:
        """Take the first events that wait."""
        whole = Entries.joined(self._parts)
        block, rest = whole.part(0, size), whole.part(size, len(whole))
        self._parts = [rest] if len(rest) else []
        self.waiting -= len(block)
        self.seen += len(block)
        return block


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
        self._asked: deque[tuple[_Side, Entries, Future[tuple[Vectors, Placed]]]] = deque()
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
        self._flagged.note(_with_facts(batch))
        self._rest.note(Entries.of(batch, ~batch.flagged))
        for side in (self._flagged, self._rest):
            while side.waiting >= SIZES[0]:
                self._ask(side, SIZES[0])

    def _ask(self, side: _Side, size: int) -> None:
        """Send a block of one side to the encoder, which runs beside the pass over the events."""
        if self._background is None:
            raise self._out_of_order()
        entries = side.block(size)
        asked = self._background.submit(self._place, side.prototypes, entries)
        self._asked.append((side, entries, asked))
        while len(self._asked) > MOST_BLOCKS:
            self._gather()

    def _place(self, prototypes: Prototypes, entries: Entries) -> tuple[Vectors, Placed]:
        """Embed a block and find its groups; NumPy gives the interpreter free for most of it."""
        vectors = self.embed_features(entries.features)
        return vectors, prototypes.place(vectors)

    def _gather(self) -> None:
        """Wait for the oldest block and put its events where they belong."""
        side, entries, asked = self._asked.popleft()
        vectors, placed = asked.result()
        side.prototypes.gather(placed, entries)
        if side is self._flagged:
            for category in entries.categories:
                self._categories.add(category or "none")
            self._begun().add(vectors, entries.facts)

    def _finish(self, span: ChunkSpan) -> Embedded:
        for side in (self._flagged, self._rest):
            if side.waiting:
                self._ask(side, side.waiting)
        while self._asked:
            self._gather()
        if self._background is not None:
            self._background.shutdown()
            self._background = None
        flagged, rest, spool = self._flagged.prototypes, self._rest.prototypes, self._begun()
        self._spool = None
        coverage = {
            "events": spool.weight + rest.events,
            "flagged": len(spool),
            "prototypes": len(rest),
            "values_refused": self._refused,
            "values_sentinel": self._sentinels,
            "events_unreadable": self._unreadable,
        }
        prototypes = rest.vectors()
        day = two_voices(
            np.vstack((flagged.vectors(), prototypes)),
            np.concatenate((flagged.counts, rest.counts)),
            np.arange(len(flagged) + len(rest)) < len(flagged),
        )
        blocks = _blocks(
            RowBlock(day, [self._day_facts(span)]), RowBlock(prototypes, rest.facts()), spool
        )
        self._begin_day()
        return Embedded(blocks, coverage)

    def _day_facts(self, span: ChunkSpan) -> RowFacts:
        flagged, rest = self._flagged.prototypes, self._rest.prototypes
        detail: dict[str, JSON] = {
            "flagged": self._flagged.seen,
            "unflagged": self._rest.seen,
            "categories": self._categories.shown(),
            "top_flagged": flagged.largest(),
            "top_prototypes": rest.largest(),
            "fingerprint": str(self._fingerprint),
        }
        events = flagged.events + rest.events
        first = min(flagged.times[0], rest.times[0]) if events else span.start_ns
        last = max(flagged.times[1], rest.times[1]) if events else span.end_ns
        return RowFacts("day", span.day.isoformat(), events, first, last, detail)

    def _begun(self) -> RowSpool:
        if self._spool is None:
            raise self._out_of_order()
        return self._spool


def _blocks(head: RowBlock, prototypes: RowBlock, spool: RowSpool) -> Iterator[RowBlock]:
    yield head
    if prototypes.facts:
        yield prototypes
    yield from spool.blocks()


def _with_facts(batch: EventBatch) -> Entries:
    """The flagged events of a batch, each with the facts of its row."""
    facts = [
        _event_facts(batch.events[place], int(batch.times[place]), batch.origins.get(place))
        for place in np.flatnonzero(batch.flagged).tolist()
    ]
    return replace(Entries.of(batch, batch.flagged), facts=facts)


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
