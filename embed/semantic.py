"""The semantic index: one row per distinct description of an event, and one for the day, 384 wide.

Equal descriptions are embedded once and carry their count, which is exact: the vector is a
function of the text. So it is kept across days too (`embed.sentence_cache`). The encoder runs beside
the pass over the events, as soon as there are texts for it. The day's row is `pooling.two_voices`
over the descriptions, so that neither a hundred thousand name lookups nor a flood drowns a single
attack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embed.behaviour import behaviours
from embed.chunk import ChunkSpan, EventBatch
from embed.company import CompanyBook
from embed.describe import describe
from embed.embedder import Embedder
from embed.fingerprint import Fingerprint, text_number
from embed.groups import Groups
from embed.onnx_session import model_facts
from embed.pooling import two_voices
from embed.recipes import RECIPES
from embed.rows import JSON, Embedded, RowBlock, RowFacts, Vectors
from embed.sentence_cache import SentenceCache
from embed.sentences import SentenceEncoder, Tokens
from models.store import ModelFiles

RECIPE = RECIPES["semantic"]
TOP = 10
BLOCK = 1024
# Texts that are sent to the encoder together.
TOGETHER = 64


class _Described(NamedTuple):
    """A description of the day.

    Attributes:
        text: what it says.
        number: the text as a number, for the fingerprint.
        tokens: how many tokens it has.
        windows: how many windows they take.
        embedded: how many of the tokens lie in a window.
    """

    text: str
    number: int
    tokens: int
    windows: int
    embedded: int


class SemanticEmbedder(Embedder):
    """See the module and `Embedder`. Memory grows with distinct descriptions, not with events.

    Args:
        files: the encoder, from `models.store.locate("semantic")`.
        threads: texts that are embedded at the same time.
        scratch: folder for temporary files.
        cache: file of vectors that earlier days left; none is kept if not given.
    """

    name = "semantic"

    def __init__(
        self,
        files: ModelFiles,
        *,
        threads: int = 2,
        scratch: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.dimension = files.entry.dimension
        self.model = model_facts(files, recipe=RECIPE)
        self._encoder = SentenceEncoder(files, threads=threads)
        self._scratch = scratch
        self._cache = cache
        self._day: _Day | None = None

    def embed_text(self, text: str) -> Vectors:
        """Embed a query or any other text, float32 (384,) of length 1, with windows if it is long."""
        vector: Vectors = self._encoder.embed([self._encoder.tokenise(text)])[0]
        return vector

    def _reset(self, span: ChunkSpan) -> None:  # noqa: ARG002 - the day is in self.span
        if self._day is not None:
            self._day.close()
        path = self._cache
        cache = None if path is None else SentenceCache(path, self.model, self.dimension)
        self._day = _Day(self._encoder, cache, self._scratch)

    def _add(self, batch: EventBatch) -> None:
        day = self._begun()
        found = [describe(behaviour) for behaviour in behaviours(batch, self.span, day.book)]
        day.add(day.numbers_of(found), batch)

    def _finish(self, span: ChunkSpan) -> Embedded:
        day, self._day = self._begun(), None
        vectors = day.finish().reshape(-1, self.dimension)
        groups, described = day.groups, day.described
        counts = groups.column("count")
        coverage = {
            "events": int(groups.column("events").sum()),
            "tokens_in": day.tokens_in,
            # What went through the encoder is counted from the windows, not from the texts.
            "tokens_embedded": sum(
                one.embedded * count for one, count in zip(described, counts.tolist(), strict=True)
            ),
            "descriptions": len(described),
        }
        order = sorted(range(len(described)), key=lambda number: described[number].text)
        vectors = vectors[order]
        head = RowBlock(
            two_voices(vectors, counts[order], groups.flagged[order]), [_day_facts(span, day)]
        )
        return Embedded(_blocks(head, vectors, order, day), coverage)

    def _begun(self) -> _Day:
        if self._day is None:
            raise self._out_of_order()
        return self._day


class _Day:
    """The descriptions of one day, and the thread that embeds them meanwhile.

    Attributes:
        book: the company that events keep.
        groups: the events of each description.
        described: the descriptions, in the order in which they were first seen.
        tokens_in: tokens of the descriptions of all events.
        fingerprint: of what the events gave.
    """

    def __init__(
        self, encoder: SentenceEncoder, cache: SentenceCache | None, scratch: Path | None
    ) -> None:
        self.book = CompanyBook()
        self.groups = Groups(scratch=scratch)
        self.described: list[_Described] = []
        self.tokens_in = 0
        self.fingerprint = Fingerprint()
        self._encoder = encoder
        self._cache = cache
        self._numbers: dict[str, int] = {}
        self._vectors: dict[int, Vectors] = {}
        self._waiting: list[tuple[int, Tokens]] = []
        self._asked: list[tuple[list[int], Future[Vectors]]] = []
        self._background = ThreadPoolExecutor(1, "sentences of the day")

    def numbers_of(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The group of each text, int64 (n,); new texts are sent to the encoder."""
        groups = np.array([self._numbers.get(text, -1) for text in texts], dtype=np.int64)
        for place in np.flatnonzero(groups < 0).tolist():
            groups[place] = self._number(texts[place])
        while len(self._waiting) >= TOGETHER:
            self._ask()
        return groups

    def add(self, groups: NDArray[np.int64], batch: EventBatch) -> None:
        """Take the events of a batch, each in its group."""
        self.groups.add(groups, batch)
        rows = [self.described[group] for group in groups.tolist()]
        self.tokens_in += sum(row.tokens for row in rows)
        sizes, packets = batch.volumes
        labels = map(_labels, batch.columns.categories, batch.tags)
        ends = (np.maximum(one, 0) for one in (batch.sources, batch.destinations, batch.ports))
        texts = np.array([row.number for row in rows], dtype=np.int64)
        fed = (batch.times, sizes, packets, texts, *ends, np.array(list(labels), dtype=np.int64))
        self.fingerprint.add(np.stack(fed, axis=1).astype(np.uint64))
        self.fingerprint.add(batch.origin_numbers)

    def finish(self) -> Vectors:
        """The vectors of all descriptions, float32 (n, dimension)."""
        while self._waiting:
            self._ask()
        for numbers, asked in self._asked:
            found = asked.result()
            self._vectors.update(zip(numbers, found, strict=True))
            if self._cache is not None:
                self._cache.put([self.described[number].text for number in numbers], found)
        self._background.shutdown()
        if self._cache is not None:
            self._cache.close()
        vectors, self._vectors = self._vectors, {}
        return np.array([vectors[number] for number in range(len(vectors))], dtype=np.float32)

    def close(self) -> None:
        """End the thread and give the files back; may be called twice."""
        self._background.shutdown(cancel_futures=True)
        if self._cache is not None:
            self._cache.close()
        self.groups.close()

    def _number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.described)
            tokens = self._encoder.tokenise(text)
            self.described.append(
                _Described(
                    text, text_number(text), len(tokens.ids), len(tokens.cuts), tokens.embedded
                )
            )
            known = None if self._cache is None else self._cache.get(text)
            if known is None:
                self._waiting.append((number, tokens))
            else:
                self._vectors[number] = known
        return number

    def _ask(self) -> None:
        """Send some of the texts that wait to the encoder."""
        part, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
        numbers, tokens = zip(*part, strict=True)
        self._asked.append((list(numbers), self._background.submit(self._encoder.embed, tokens)))


def _blocks(
    head: RowBlock, vectors: Vectors, order: Sequence[int], day: _Day
) -> Iterator[RowBlock]:
    yield head
    for start in range(0, len(order), BLOCK):
        facts = [_facts(number, day) for number in order[start : start + BLOCK]]
        yield RowBlock(np.ascontiguousarray(vectors[start : start + BLOCK]), facts)
    day.close()


def _facts(number: int, day: _Day) -> RowFacts:
    groups, described = day.groups, day.described[number]
    detail = groups.detail(number)
    detail["tokens"], detail["windows"] = described.tokens, described.windows
    if flows := int(groups.column("flows")[number]):
        detail["packet_flows"] = flows
    return RowFacts(
        "description",
        described.text,
        int(groups.column("events")[number]),
        int(groups.first_ns[number]),
        int(groups.column("last_ns")[number]),
        detail,
    )


def _day_facts(span: ChunkSpan, day: _Day) -> RowFacts:
    groups, described = day.groups, day.described
    counts, events = groups.column("count").tolist(), groups.column("events")
    ranked = sorted(range(len(described)), key=lambda n: (-counts[n], described[n].text))
    alarming = [number for number in ranked if groups.flagged[number]]
    detail: dict[str, JSON] = {
        "descriptions": len(described),
        "flagged_events": int(events[alarming].sum()),
        "top": [{"text": described[n].text, "count": counts[n]} for n in ranked[:TOP]],
        "top_flagged": [{"text": described[n].text, "count": counts[n]} for n in alarming[:TOP]],
        "fingerprint": str(day.fingerprint),
    }
    first, last = span.start_ns, span.end_ns
    if described:
        first, last = int(groups.first_ns.min()), int(groups.column("last_ns").max())
    return RowFacts("day", span.day.isoformat(), int(events.sum()), first, last, detail)


@lru_cache(maxsize=8192)
def _labels(category: str, tags: tuple[str, ...]) -> int:
    return text_number("\n".join((category, *tags)))
