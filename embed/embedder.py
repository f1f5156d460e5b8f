"""The interface of the three embedders: a chunk goes in, rows come out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from embed.chunk import ChunkSpan, EventBatch
from embed.errors import EmbedderStateError
from embed.rows import Embedded, ModelFacts


class Embedder(ABC):
    """Turns one chunk into rows of one index.

    Use: `begin(span)`, `add(batch)` for every batch in the journal's order, `finish()`. An
    embedder can begin again after `finish`; what an unfinished chunk left behind is dropped then.

    Promises: the same records give the same rows, bit for bit, however they are cut into batches;
    no event, minute or token is left out; memory does not grow with the number of events. Vectors
    are float32 of length 1. Not safe for use by several threads.

    Attributes:
        name: the index that the rows belong to.
        dimension: width of its vectors.
        model: which encoder makes them.
    """

    name: str
    dimension: int
    model: ModelFacts

    def __init__(self) -> None:
        self._span: ChunkSpan | None = None

    @property
    def span(self) -> ChunkSpan:
        """The chunk in work.

        Raises:
            EmbedderStateError: `begin` has not been called.
        """
        if self._span is None:
            raise self._out_of_order()
        return self._span

    def begin(self, span: ChunkSpan) -> None:
        """Start a chunk."""
        self._span = span
        self._reset(span)

    def add(self, batch: EventBatch) -> None:
        """Take the next events of the chunk.

        Raises:
            EmbedderStateError: no chunk was begun.
            ModelError: the encoder failed.
        """
        if self._span is None:
            raise self._out_of_order()
        if len(batch):
            self._add(batch)

    def finish(self) -> Embedded:
        """Close the chunk and give its rows.

        Raises:
            EmbedderStateError: no chunk was begun.
            ModelError: the encoder failed.
        """
        embedded = self._finish(self.span)
        self._span = None
        return embedded

    def _out_of_order(self) -> EmbedderStateError:
        return EmbedderStateError(f"embedder {self.name}: call begin() before add() and finish()")

    @abstractmethod
    def _reset(self, span: ChunkSpan) -> None: ...

    @abstractmethod
    def _add(self, batch: EventBatch) -> None: ...

    @abstractmethod
    def _finish(self, span: ChunkSpan) -> Embedded: ...
