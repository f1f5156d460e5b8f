"""The semantic index: one row per distinct description of an event, and one for the day, 384 wide.

Equal descriptions are one row and carry their count, which is exact: the vector is a function of the
text. It is put together from those of the text's sentences (`embed.sentences`), each of which is
embedded once and kept across days too (`embed.sentence_cache`). The encoder runs beside the pass over
the events, as soon as there are sentences for it. The day's row is `pooling.two_voices`
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
from embed.pooling import normalise, two_voices
from embed.recipes import RECIPES
from embed.rows import JSON, Embedded, RowBlock, RowFacts, Vectors
from embed.sentence_cache import SentenceCache
from embed.sentences import SentenceEncoder, Tokens, pooled, sentences_of
from models.store import ModelFiles

RECIPE = RECIPES["semantic"]
TOP = 10
BLOCK = 1024
# Sentences that are sent to the encoder together.
TOGETHER = 16


class _Described(NamedTuple):
    """A description of the day.

    Attributes:
        text: what it says.
        number: the text as a number, for the fingerprint.
        sentences: numbers of its sentences.
        tokens: how many tokens it has.
        windows: how many windows they take.
        embedded: how many of the tokens lie in a window.
    """

    text: str
    number: int
    sentences: tuple[int, ...]
    tokens: int
    windows: int
    embedded: int


class SemanticEmbedder(Embedder):
    """See the module and `Embedder`. Memory grows with distinct descriptions, not with events.

    Args:
        files: the encoder, from `models.store.locate("semantic")`.
        threads: sentences that are embedded at the same time.
        scratch: folder for temporary files.
        cache: file of sentences that earlier days left; none is kept if not given.
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
        """Embed a query or any other text, however long, float32 (384,) of length 1."""
        vector: Vectors = self._encoder.embed([text])[0]
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
        vectors = day.finish()
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
    """The descriptions of one day, and the thread that embeds their sentences meanwhile.

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
        self._sentences: dict[str, int] = {}
        self._tokens: list[Tokens] = []
        self._means: dict[int, Vectors] = {}
        self._waiting: list[str] = []
        self._asked: list[tuple[list[str], Future[Vectors]]] = []
        self._background = ThreadPoolExecutor(1, "sentences of the day")

    def numbers_of(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The group of each text, int64 (n,); new sentences are sent to the encoder."""
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
        for sentences, asked in self._asked:
            found = asked.result()
            self._means.update(zip(map(self._sentences.__getitem__, sentences), found, strict=True))
            if self._cache is not None:
                self._cache.put(sentences, found)
        self._background.shutdown()
        if self._cache is not None:
            self._cache.close()
        vectors = np.zeros((len(self.described), self._encoder.dimension))
        for place, one in enumerate(self.described):
            means = [self._means[number] for number in one.sentences]
            vectors[place] = pooled(means, [len(self._tokens[n].ids) for n in one.sentences])
        return normalise(vectors)

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
            sentences = tuple(self._sentence(sentence) for sentence in sentences_of(text))
            tokens = [self._tokens[sentence] for sentence in sentences]
            self.described.append(
                _Described(
                    text,
                    text_number(text),
                    sentences,
                    sum(len(one.ids) for one in tokens),
                    sum(len(one.cuts) for one in tokens),
                    sum(one.embedded for one in tokens),
                )
            )
        return number

    def _sentence(self, sentence: str) -> int:
        number = self._sentences.get(sentence)
        if number is None:
            number = self._sentences[sentence] = len(self._tokens)
            self._tokens.append(self._encoder.tokenise(sentence))
            known = None if self._cache is None else self._cache.get(sentence)
            if known is None:
                self._waiting.append(sentence)
            else:
                self._means[number] = known
        return number

    def _ask(self) -> None:
        """Send some of the sentences that wait to the encoder."""
        part, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
        tokens = [self._tokens[self._sentences[sentence]] for sentence in part]
        self._asked.append((part, self._background.submit(self._encoder.means, tokens)))


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
