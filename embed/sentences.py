"""The sentence encoder: any text in, one vector out, every token of it read.

Texts go in with truncation off. One that is longer than the encoder's limit goes through in
overlapping windows, and the windows' means are weighted by the tokens each stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
LENGTHS = (*range(12, 100, 4), 112, 128, 192, 256)


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


class SentenceEncoder:
    """all-MiniLM-L6-v2, or any encoder with its inputs.

    Args:
        files: the graph, with `tokenizer.json` beside it.
        threads: texts that are embedded at the same time.

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
            options=SessionOptions(threads=1),
        )
        self._threads = threads
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

        Windows go through one by one, some at a time on threads of their own: a text's vector
        depends on nothing but the text, and a batch would be no faster. A text without tokens is
        embedded as an empty one.
        """
        if self._threads == 1 or len(texts) < 2:
            return normalise(
                np.array([self._mean(text) for text in texts]).reshape(-1, self.dimension)
            )
        with ThreadPoolExecutor(min(self._threads, len(texts)), "sentences") as pool:
            return normalise(np.array(list(pool.map(self._mean, texts))))

    def _mean(self, text: Tokens) -> NDArray[np.float64]:
        """The mean over a text's tokens, float64 (dimension,)."""
        if not text.cuts:
            return self._window(())
        # Windows are pooled before normalisation: their means are per token.
        pooled = np.zeros(self.dimension)
        shares = window_shares(len(text.ids), list(text.cuts))
        for (start, end), share in zip(text.cuts, shares.tolist(), strict=True):
            pooled += share * self._window(text.ids[start:end])
        return pooled

    def _window(self, ids: tuple[int, ...]) -> NDArray[np.float64]:
        whole = (self._before, *ids, self._behind)
        length = next(length for length in self._lengths if length >= len(whole))
        padded = np.zeros((1, length), dtype=np.int64)
        mask = np.zeros((1, length), dtype=np.int64)
        padded[0, : len(whole)] = whole
        mask[0, : len(whole)] = 1
        (mean,) = self._session.run({"input_ids": padded, "attention_mask": mask})
        return np.asarray(mean, dtype=np.float64)
