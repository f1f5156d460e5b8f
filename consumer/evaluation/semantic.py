"""Measures the search in words, as `dayfold models evaluate semantic` prints it.

The shipped flows are described twice, with the simulated verdicts (seed 0) and with all verdicts
blanked, and every question of `questions.toml` is put to both: as typed, and in the words of the
glossary, which is what `dayfold search` does. Nothing is drawn by lot.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consumer.evaluation.corpus import FLOWS, described
from consumer.evaluation.int8 import quantised
from consumer.evaluation.questions import Question, load_questions, read_flows
from consumer.evaluation.ranking import METHODS, Encode, Judged, Measured
from consumer.questions.glossary import in_words_of_descriptions
from embed.rows import Vectors
from embed.sentences import SentenceEncoder
from models.store import locate

THREADS = 2
# What the search does: this method on queries in these words.
SHIPPED = ("weighted", "glossary")


def evaluate_semantic(cache_dir: Path | None = None, *, int8: bool = True) -> dict[str, Any]:
    """Put all questions to the shipped flows.

    Args:
        cache_dir: where models are kept; the default if not given.
        int8: also measure the encoder quantised to 8 bits, if the package `onnx` is installed.

    Returns:
        `figures`: one entry per verdicts (kept or blanked), language, part (all questions or the
        held ones), wording of the query (as typed or through the glossary) and method, with
        recall_at_5, precision_at_5 and mrr. `int8`: the same of the shipped method for both
        precisions, and their speed; None where it cannot be measured.

    Raises:
        ModelError: the encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    files = locate("semantic", cache_dir)
    questions, flows = load_questions(), read_flows(FLOWS)
    encode = _Encoder(SentenceEncoder(files, threads=THREADS))
    figures: list[dict[str, Any]] = []
    corpora = {kept: described(FLOWS, verdicts=kept) for kept in (True, False)}
    for kept, corpus in corpora.items():
        judged = Judged(corpus, flows, encode)
        for wording in ("as typed", "glossary"):
            found = _ask_all(judged, questions, encode, glossary=wording == "glossary")
            figures += [
                {"verdicts": "kept" if kept else "blanked", "wording": wording, **figure}
                for figure in _summed(questions, found)
            ]
    comparison = None
    if int8:
        with quantised(files) as small:
            if small is not None:
                eight = _Encoder(SentenceEncoder(small, threads=THREADS))
                judged = Judged(corpora[False], flows, eight)
                found = _ask_all(judged, questions, eight, glossary=True)
                comparison = {
                    "fp32": _precision(encode, _shipped(figures)),
                    "int8": _precision(eight, list(_summed(questions, found))),
                    "mean_cosine": eight.likeness(encode),
                }
    return {
        "model": files.entry.name,
        "flows": len(flows.label),
        "descriptions": {
            "kept": len(set(corpora[True].texts)),
            "blanked": len(set(corpora[False].texts)),
        },
        "questions": {
            language: sum(question.language == language for question in questions)
            for language in ("en", "es")
        },
        "figures": figures,
        "int8": comparison,
        "seconds": round(time.monotonic() - started, 1),
    }


class _Encoder:
    """Encodes texts, each once, and keeps the time."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Vectors] = {}
        self._seconds = 0.0

    def __call__(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        started = time.monotonic()
        vectors = self._encoder.embed(new)
        self._seconds += time.monotonic() - started
        self._known.update(zip(new, vectors, strict=True))
        return np.array([self._known[text] for text in texts])

    @property
    def texts_per_second(self) -> float:
        return len(self._known) / self._seconds

    def likeness(self, other: _Encoder) -> float:
        """Mean cosine of the texts that both have encoded."""
        both = self._known.keys() & other._known.keys()
        cosines = [float(self._known[text] @ other._known[text]) for text in both]
        return round(float(np.mean(cosines)), 4)


def _ask_all(
    judged: Judged, questions: Sequence[Question], encode: Encode, *, glossary: bool
) -> list[dict[str, Measured]]:
    texts = [
        in_words_of_descriptions(question.text) if glossary else question.text
        for question in questions
    ]
    return [
        judged.ask(question, text, vector)
        for question, text, vector in zip(questions, texts, encode(texts), strict=True)
    ]


def _summed(
    questions: Sequence[Question], found: Sequence[dict[str, Measured]]
) -> Iterable[dict[str, Any]]:
    """The mean of each measure, by language, part and method."""
    for language in ("en", "es"):
        for part in ("all", "held"):
            chosen = [
                measured
                for question, measured in zip(questions, found, strict=True)
                if question.language == language and part in ("all", question.part)
            ]
            for method in METHODS:
                yield {
                    "language": language,
                    "part": part,
                    "method": method,
                    "questions": len(chosen),
                    "recall_at_5": _mean(one[method].recall for one in chosen),
                    "precision_at_5": _mean(one[method].precision for one in chosen),
                    "mrr": _mean(one[method].reciprocal for one in chosen),
                }


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 3)


def _shipped(figures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        figure
        for figure in figures
        if figure["verdicts"] == "blanked" and figure["wording"] == SHIPPED[1]
    ]


def _precision(encode: _Encoder, figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Speed and figures of the shipped method, with the verdicts blanked."""
    kept = ("language", "recall_at_5", "precision_at_5", "mrr")
    return {
        "texts_per_second": round(encode.texts_per_second, 1),
        "figures": [
            {name: figure[name] for name in kept}
            for figure in figures
            if figure["method"] == SHIPPED[0] and figure["part"] == "all"
        ],
    }
