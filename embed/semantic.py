"""The semantic index: one row per distinct description of an event, and one for the day, 384 wide.

Equal descriptions are embedded once and carry their count, which is exact: the vector is a
function of the text. The day's row is `pooling.two_voices` over the descriptions, so that neither
a hundred thousand name lookups nor a flood drowns a single attack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from embed.behaviour import behaviours
from embed.chunk import ChunkSpan, EventBatch, Origin
from embed.company import CompanyBook
from embed.describe import describe
from embed.distinct import address_value
from embed.embedder import Embedder
from embed.fingerprint import Fingerprint, text_number
from embed.onnx_session import model_facts
from embed.pooling import two_voices
from embed.rows import JSON, Embedded, RowBlock, RowFacts, Vectors
from embed.sentences import SentenceEncoder, Tokens
from embed.top_counts import TopCounts
from models.store import ModelFiles
from proto.network_security_pb2 import NetworkSecurityEvent

RECIPE = 2
EVENT_IDS = 20
TOP = 10
BLOCK = 1024
NEVER = 2**63 - 1


@dataclass(slots=True)
class _Group:
    """Events that read equal.

    Attributes:
        count: how many; a flow that was assembled from packet events is one.
        events: how many events of the chunk.
        flows: how many of `count` were assembled.
    """

    # What the fingerprint covers, per event; `add` gives the numbers from the fourth on.
    FED: ClassVar = ("time", "bytes", "packets", "text", "source", "destination", "port", "labels")

    number: int
    tokens: Tokens
    flagged: bool = False
    first_ns: int = NEVER
    last_ns: int = 0
    count: int = 0
    events: int = 0
    flows: int = 0
    bytes: int = 0
    packets: int = 0
    event_ids: list[str] = field(default_factory=list)
    sources: TopCounts = field(default_factory=TopCounts)
    destinations: TopCounts = field(default_factory=TopCounts)
    ports: TopCounts = field(default_factory=TopCounts)
    categories: TopCounts = field(default_factory=TopCounts)
    tags: TopCounts = field(default_factory=TopCounts)

    def add(
        self,
        event: NetworkSecurityEvent,
        origin: Origin | None,
        flagged: bool,
        time_ns: int,
        size: int,
        packets: int,
    ) -> tuple[int, int, int, int, int]:
        """Take an event; returns what the fingerprint is to cover of it."""
        self.count += 1
        if origin is None:
            self.events += 1
            if len(self.event_ids) < EVENT_IDS:
                self.event_ids.append(event.event_id)
            self.last_ns = max(self.last_ns, time_ns)
        else:
            self.events += origin.events
            self.flows += 1
            self.event_ids += origin.event_ids[: EVENT_IDS - len(self.event_ids)]
            self.last_ns = max(self.last_ns, origin.last_ns)
        self.flagged = self.flagged or flagged
        self.bytes += size
        self.packets += packets
        self.first_ns = min(self.first_ns, time_ns)
        category, tags = event.threat_category, event.event_tags
        if category:
            self.categories.add(category)
        for tag in tags:
            self.tags.add(tag)
        labels = text_number("\n".join((category, *tags)))
        if not event.HasField("network_features"):
            return self.number, 0, 0, 0, labels
        network = event.network_features
        source, destination = network.source_ip, network.destination_ip
        port = network.destination_port
        self.sources.add(source)
        self.destinations.add(destination)
        self.ports.add(str(port))
        return self.number, address_value(source), address_value(destination), port, labels

    def detail(self) -> dict[str, JSON]:
        detail: dict[str, JSON] = {
            "event_ids": list(self.event_ids),
            "source_ips": self.sources.shown(),
            "destination_ips": self.destinations.shown(),
            "destination_ports": self.ports.shown(),
            "categories": self.categories.shown(),
            "tags": self.tags.shown(),
            "flagged": self.flagged,
            "bytes": self.bytes,
            "packets": self.packets,
            "tokens": len(self.tokens.ids),
            "windows": len(self.tokens.cuts),
        }
        if self.flows:
            detail["packet_flows"] = self.flows
        return detail


class SemanticEmbedder(Embedder):
    """See the module and `Embedder`. Memory grows with distinct descriptions, not with events.

    Args:
        files: the encoder, from `models.store.locate("semantic")`.
        threads: threads of the encoder.
    """

    name = "semantic"

    def __init__(self, files: ModelFiles, *, threads: int = 2) -> None:
        super().__init__()
        self.dimension = files.entry.dimension
        self.model = model_facts(files, recipe=RECIPE)
        self._encoder = SentenceEncoder(files, threads=threads)
        self._book = CompanyBook()
        self._groups: dict[str, _Group] = {}
        self._events = 0
        self._tokens_in = 0
        self._fingerprint = Fingerprint()

    def embed_text(self, text: str) -> Vectors:
        """Embed a query or any other text, float32 (384,) of length 1, with windows if it is long."""
        vector: Vectors = self._encoder.embed([self._encoder.tokenise(text)])[0]
        return vector

    def _reset(self, span: ChunkSpan) -> None:  # noqa: ARG002 - the day is in self.span
        self._book = CompanyBook()
        self._groups = {}
        self._events = 0
        self._tokens_in = 0
        self._fingerprint = Fingerprint()

    def _add(self, batch: EventBatch) -> None:
        found = [describe(behaviour) for behaviour in behaviours(batch, self.span, self._book)]
        sizes, packets = batch.volumes
        fed = np.empty((len(batch), len(_Group.FED)), dtype=np.uint64)
        fed[:, 0], fed[:, 1], fed[:, 2] = batch.times, sizes, packets
        rows = zip(
            batch.events,
            found,
            batch.flagged.tolist(),
            batch.times.tolist(),
            sizes.tolist(),
            packets.tolist(),
            strict=True,
        )
        for place, (event, text, flagged, *numbers) in enumerate(rows):
            group = self._groups.get(text)
            if group is None:
                group = self._groups[text] = _Group(text_number(text), self._encoder.tokenise(text))
            fed[place, 3:] = group.add(event, batch.origins.get(place), flagged, *numbers)
            self._tokens_in += len(group.tokens.ids)
        self._events += int(batch.counts.sum())
        self._fingerprint.add(fed)
        self._fingerprint.add(batch.origin_numbers)

    def _finish(self, span: ChunkSpan) -> Embedded:
        groups, self._groups = self._groups, {}
        texts = sorted(groups)
        vectors = self._encoder.embed([groups[text].tokens for text in texts])
        # What went through the encoder is counted from the windows, not from the texts.
        tokens = sum(group.tokens.embedded * group.count for group in groups.values())
        coverage = {
            "events": sum(group.events for group in groups.values()),
            "tokens_in": self._tokens_in,
            "tokens_embedded": tokens,
            "descriptions": len(groups),
        }
        day = two_voices(
            vectors,
            np.array([groups[text].count for text in texts], dtype=np.int64),
            np.array([groups[text].flagged for text in texts], dtype=np.bool_),
        )
        head = RowBlock(day, [_day_facts(span, groups, self._events, str(self._fingerprint))])
        return Embedded(_blocks(head, vectors, texts, groups), coverage)


def _blocks(
    head: RowBlock, vectors: Vectors, texts: Sequence[str], groups: dict[str, _Group]
) -> Iterator[RowBlock]:
    yield head
    for start in range(0, len(texts), BLOCK):
        facts = []
        for text in texts[start : start + BLOCK]:
            group = groups[text]
            facts.append(
                RowFacts(
                    "description", text, group.events, group.first_ns, group.last_ns, group.detail()
                )
            )
        yield RowBlock(np.ascontiguousarray(vectors[start : start + BLOCK]), facts)


def _day_facts(
    span: ChunkSpan, groups: dict[str, _Group], events: int, fingerprint: str
) -> RowFacts:
    ranked = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
    alarming = [(text, group) for text, group in ranked if group.flagged]
    detail: dict[str, JSON] = {
        "descriptions": len(groups),
        "flagged_events": sum(group.events for _, group in alarming),
        "top": _listed(ranked),
        "top_flagged": _listed(alarming),
        "fingerprint": fingerprint,
    }
    first = min((group.first_ns for group in groups.values()), default=span.start_ns)
    last = max((group.last_ns for group in groups.values()), default=span.end_ns)
    return RowFacts("day", span.day.isoformat(), events, first, last, detail)


def _listed(ranked: Sequence[tuple[str, _Group]]) -> list[JSON]:
    return [{"text": text, "count": group.count} for text, group in ranked[:TOP]]
