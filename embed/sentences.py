"""The sentence encoder: any text in, one vector out, every token of it read.

Texts go in with truncation off. One that is longer than the encoder's limit goes through in
overlapping windows, and the windows' means are weighted by the tokens each stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embed.coverage import covered, window_shares, windows
from embed.onnx_session import OnnxSession, SessionOptions
from embed.pooling import normalise
from embed.rows import Vectors
from models.errors import ModelRunError
from models.store import ModelFiles

OVERLAP = 32
SPECIAL = 2  # [CLS] before and [SEP] behind each window
# Few shapes, because the runtime keeps memory for each it has seen.
LENGTHS = (16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 128, 192, 256)
BATCHES = (16, 4, 1)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised text.

    Attributes:
        ids: token ids without [CLS] and [SEP].
        cuts: its windows, half-open stretches of `ids`.
    """

    ids: tuple[int, ...]
    cuts: tuple[tuple[int, int], ...]

    @property
    def embedded(self) -> int:
        """How many of the tokens lie in a window."""
        return covered(len(self.ids), list(self.cuts))


@dataclass(frozen=True, slots=True)
class _Window:
    """One stretch of one text on its way through the encoder."""

    text: int
    ids: tuple[int, ...]
    share: float


class SentenceEncoder:
    """all-MiniLM-L6-v2, or any encoder with its inputs.

    Args:
        files: the graph, with `tokenizer.json` beside it.
        threads: threads of the encoder.

    Raises:
        ModelRunError: the graph or the tokenizer cannot be loaded.
    """

    def __init__(self, files: ModelFiles, *, threads: int = 2) -> None:
        entry = files.entry
        self.dimension = entry.dimension
        self._room = entry.context - SPECIAL
        self._lengths = (*(n for n in LENGTHS if n < entry.context), entry.context)
        self._session = OnnxSession(
            files,
            inputs=("input_ids", "attention_mask"),
            output="mean",
            width=entry.dimension,
            options=SessionOptions(threads=threads),
        )
        try:
            self._tokenizer = Tokenizer.from_file(str(files.extra["tokenizer.json"]))
            # The file that ships with the model cuts at 128 tokens without a word.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._before, self._behind = self._tokenizer.encode("", add_special_tokens=True).ids
        except Exception as error:
            # The tokenizers library raises bare Exception.
            raise ModelRunError(
                f"model {entry.name}: its tokenizer.json cannot be used: {error}; run "
                f"`dayfold models build {entry.name}`"
            ) from error

    def tokenise(self, text: str) -> Tokens:
        """Cut a text into tokens and windows.

        Raises:
            ModelRunError: the tokenizer did not reach the end of the text.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        end = len(text.rstrip())
        reached = encoding.offsets[-1][1] if encoding.offsets else 0
        if reached < end and any(c.isalnum() for c in text[reached:]):
            raise ModelRunError(
                f"the tokenizer stopped after {reached} of {end} characters of {text[:60]!r}"
            )
        cuts = windows(len(encoding.ids), self._room, min(OVERLAP, self._room // 2))
        return Tokens(tuple(encoding.ids), tuple(cuts))

    def embed(self, texts: Sequence[Tokens]) -> Vectors:
        """Embed texts, float32 (n, dimension) of length 1.

        The same texts in the same order give the same bits. A text without tokens is embedded as
        an empty one.
        """
        pooled = np.zeros((len(texts), self.dimension))
        parts = sorted(_cut(texts), key=lambda part: len(part.ids))
        for length, batch in self._batches(parts):
            means = self._session.run(self._feed(batch, length))
            for part, mean in zip(batch, means, strict=True):
                # Windows are pooled before normalisation: their means are per token.
                pooled[part.text] += part.share * mean.astype(np.float64)
        return normalise(pooled)

    def _batches(self, parts: Sequence[_Window]) -> Iterator[tuple[int, Sequence[_Window]]]:
        """Windows of one padded length, in batches of 16, 4 or 1."""
        start = 0
        for length in self._lengths:
            stop = start
            while stop < len(parts) and len(parts[stop].ids) + SPECIAL <= length:
                stop += 1
            while start < stop:
                size = next(size for size in BATCHES if size <= stop - start)
                yield length, parts[start : start + size]
                start += size

    def _feed(self, batch: Sequence[_Window], length: int) -> dict[str, NDArray[np.int64]]:
        ids = np.zeros((len(batch), length), dtype=np.int64)
        mask = np.zeros((len(batch), length), dtype=np.int64)
        for row, part in enumerate(batch):
            whole = (self._before, *part.ids, self._behind)
            ids[row, : len(whole)] = whole
            mask[row, : len(whole)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def _cut(texts: Sequence[Tokens]) -> Iterator[_Window]:
    for place, text in enumerate(texts):
        if not text.cuts:
            yield _Window(place, (), 1.0)
            continue
        shares = window_shares(len(text.ids), list(text.cuts))
        for (start, end), share in zip(text.cuts, shares.tolist(), strict=True):
            yield _Window(place, text.ids[start:end], share)
