"""How well a ranking answers the questions: the measures, and the rankings that are compared.

A result is one behaviour of one day, as `dayfold search` shows it. It is right when more than half
of its events satisfy the question's predicate. Per question:

* recall@5: 1 if one of the first five results is right;
* precision@5: right ones among the first five, as a part of five or of all that are right if fewer;
* MRR: 1 / the place of the first right result among the first thousand, else 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from consumer.evaluation.corpus import Corpus
from consumer.evaluation.questions import Flags, Flows, Question
from consumer.questions.search import DEPTH, WEIGHTS
from consumer.questions.texts import Descriptions, Told
from embed.describe import without_verdict
from embed.rows import Vectors
from index.fusion import reciprocal_rank, weighted_mean

FIRST = 5
DEEPEST = 1000
METHODS = ("chance", "words", "meaning", "ranks", "weighted")

Counts = NDArray[np.int64]
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one method reached on one question."""

    recall: float
    precision: float
    reciprocal: float


class Judged:
    """A corpus that questions can be put to.

    Args:
        corpus: rows and texts.
        flows: the flows that the rows were made of.
        encode: texts to vectors, float32 (n, d) of length 1.
    """

    def __init__(self, corpus: Corpus, flows: Flows, encode: Encode) -> None:
        self._flows = flows
        self._row_of_flow = corpus.row_of_flow
        self._ids = corpus.ids
        self._sizes = np.bincount(corpus.row_of_flow, minlength=len(corpus.ids))
        self._descriptions = Descriptions(
            corpus.ids, corpus.texts, self._sizes.tolist(), without_verdict
        )
        self._vectors = encode(self._descriptions.texts)
        self._all: Flags = np.ones(len(corpus.ids), dtype=np.bool_)

    def ask(self, question: Question, text: str, vector: Vectors) -> dict[str, Measured]:
        """Put a question, by each method of `METHODS`.

        Args:
            question: what is right.
            text: what is searched for.
            vector: its embedding, (d,).
        """
        holds = question.flows.holds(self._flows)
        right_flows: Counts = np.bincount(self._row_of_flow[holds], minlength=len(self._ids))
        rankings = self._rankings(text, vector)
        results = {
            name: self._descriptions.tell(self._descriptions.rank(scores), self._all, DEEPEST)
            for name, scores in rankings.items()
        }
        judged = {
            name: np.array([self._is_right(one, right_flows) for one in told], dtype=np.bool_)
            for name, told in results.items()
        }
        # By meaning every text has a place, so every result is among them, unless there are more.
        everything = self._descriptions.tell(
            self._descriptions.rank(dict.fromkeys(range(len(self._descriptions.texts)), 0.0)),
            self._all,
            len(self._ids),
        )
        right = sum(self._is_right(one, right_flows) for one in everything)
        found = {name: _measured(flags, right) for name, flags in judged.items()}
        return {"chance": _by_chance(len(everything), right), **found}

    def _rankings(self, text: str, vector: Vectors) -> Mapping[str, Mapping[int, float]]:
        """Score of texts by method, over what either comparison puts forward."""
        similar = self._vectors @ vector
        nearest = np.argsort(-similar, kind="stable")[:DEPTH].tolist()
        worded = self._descriptions.by_words(text, self._descriptions.carriers(self._all), DEPTH)
        cosines = {number: float(similar[number]) for number in dict.fromkeys((*nearest, *worded))}
        words = self._descriptions.wording(text, list(cosines))
        ranks = reciprocal_rank({"meaning": nearest, "words": worded})
        return {
            "words": {number: words[number] for number in worded},
            "meaning": {number: cosines[number] for number in nearest},
            "ranks": {fused.item: fused.score for fused in ranks},
            "weighted": weighted_mean({"meaning": cosines, "words": words}, WEIGHTS),
        }

    def _is_right(self, told: Told, right_flows: Counts) -> bool:
        rows = np.searchsorted(self._ids, told.rows)
        return bool(2 * right_flows[rows].sum() > told.events)


def _measured(flags: Flags, right: int) -> Measured:
    places = np.flatnonzero(flags)
    return Measured(
        float(flags[:FIRST].any()),
        float(flags[:FIRST].sum()) / max(1, min(FIRST, right)),
        1.0 / (1.0 + float(places[0])) if len(places) else 0.0,
    )


def _by_chance(results: int, right: int) -> Measured:
    """What results in an order drawn by lot reach in the mean."""
    first = min(FIRST, results)
    missed = comb(results - right, first) / comb(results, first)
    # The mean of 1 / place: place p is the first right one when p - 1 wrong ones come before it.
    reciprocal, before = 0.0, 1.0
    for place in range(1, results - right + 2):
        left = results - place + 1
        reciprocal += before * right / left / place
        before *= (left - right) / left
    return Measured(1.0 - missed, first * right / results / max(1, min(FIRST, right)), reciprocal)
