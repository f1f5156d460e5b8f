"""The sentence encoder: any text in, one vector out, every token of it read.

A text goes through sentence by sentence, and its vector is the mean over the tokens of them all. So
texts that are put together from the same sentences share the work: thousands of descriptions of a day
are made of some hundred sentences. Truncation is off. A sentence that is longer than the encoder's
limit goes through in overlapping windows, whose means are weighted by the tokens each stands for.
"""

from __future__ import annotations

import re
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

_END = re.compile(r"(?<=[.!?])\s+")


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text, at least one; no character but the spaces between them is lost."""
    return tuple(_END.split(text.strip()))


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised sentence.

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


def pooled(means: Sequence[Vectors], tokens: Sequence[int]) -> NDArray[np.float64]:
    """The mean over all tokens of a text, float64 (dimension,), not of length 1.

    Args:
        means: the mean over each sentence's tokens, float32 (dimension,).
        tokens: how many tokens each has. [CLS] and [SEP] of each count as well: they are in the mean.
    """
    whole = np.zeros(len(means[0]))
    for mean, count in zip(means, tokens, strict=True):
        whole += (count + SPECIAL) * mean.astype(np.float64)
    return whole / sum(count + SPECIAL for count in tokens)


class SentenceEncoder:
    """all-MiniLM-L6-v2, or any encoder with its inputs.

    Args:
        files: the graph, with `tokenizer.json` beside it.
        threads: sentences that are embedded at the same time.

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

    def tokenise(self, sentence: str) -> Tokens:
        """Cut a sentence into tokens and windows.

        Raises:
            ModelRunError: the tokenizer did not reach the end of the sentence.
        """
        encoding = self._tokenizer.encode(sentence, add_special_tokens=False)
        end = len(sentence.rstrip())
        reached = encoding.offsets[-1][1] if encoding.offsets else 0
        if reached < end and any(c.isalnum() for c in sentence[reached:]):
            raise ModelRunError(
                f"the tokenizer stopped after {reached} of {end} characters of {sentence[:60]!r}"
            )
        cuts = windows(len(encoding.ids), self._room, min(OVERLAP, self._room // 2))
        return Tokens(tuple(encoding.ids), tuple(cuts))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, float32 (n, dimension) of length 1; a vector depends on its text alone."""
        cut = [sentences_of(text) for text in texts]
        different = list(dict.fromkeys(sentence for found in cut for sentence in found))
        tokens = [self.tokenise(sentence) for sentence in different]
        known = dict(zip(different, zip(self.means(tokens), tokens, strict=True), strict=True))
        vectors = np.zeros((len(texts), self.dimension))
        for place, found in enumerate(cut):
            means, of_each = zip(*(known[sentence] for sentence in found), strict=True)
            vectors[place] = pooled(means, [len(one.ids) for one in of_each])
        return normalise(vectors)

    def means(self, sentences: Sequence[Tokens]) -> Vectors:
        """The mean over each sentence's tokens, float32 (n, dimension), not of length 1.

        Windows go through one by one, some at a time on threads of their own: a sentence's mean
        depends on nothing but the sentence, and a batch would be no faster. A sentence without
        tokens is embedded as an empty one.
        """
        if self._threads == 1 or len(sentences) < 2:
            found = [self._mean(sentence) for sentence in sentences]
        else:
            with ThreadPoolExecutor(min(self._threads, len(sentences)), "sentences") as pool:
                found = list(pool.map(self._mean, sentences))
        return np.array(found, dtype=np.float32).reshape(-1, self.dimension)

    def _mean(self, sentence: Tokens) -> NDArray[np.float64]:
        """The mean over a sentence's tokens, float64 (dimension,)."""
        if not sentence.cuts:
            return self._window(())
        # Windows are pooled before normalisation: their means are per token.
        whole = np.zeros(self.dimension)
        shares = window_shares(len(sentence.ids), list(sentence.cuts))
        for (start, end), share in zip(sentence.cuts, shares.tolist(), strict=True):
            whole += share * self._window(sentence.ids[start:end])
        return whole

    def _window(self, ids: tuple[int, ...]) -> NDArray[np.float64]:
        whole = (self._before, *ids, self._behind)
        length = next(length for length in self._lengths if length >= len(whole))
        padded = np.zeros((1, length), dtype=np.int64)
        mask = np.zeros((1, length), dtype=np.int64)
        padded[0, : len(whole)] = whole
        mask[0, : len(whole)] = 1
        (mean,) = self._session.run({"input_ids": padded, "attention_mask": mask})
        return np.asarray(mean, dtype=np.float64)
