"""The search answers its questions about as well as `docs/search.md` says.

The floors are well below what was measured: they are there to catch what breaks the search, not
what moves a figure.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from consumer.evaluation.corpus import FLOWS, described
from consumer.evaluation.questions import load_questions, read_flows
from consumer.evaluation.ranking import Judged
from consumer.questions.glossary import in_words_of_descriptions
from embed.rows import Vectors
from embed.sentences import SentenceEncoder
from models.build import build

pytestmark = pytest.mark.slow
Figures = dict[tuple[str, str], tuple[float, float]]


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Recall@5 and MRR by language and method, all verdicts blanked, queries as search puts them."""
    encoder = SentenceEncoder(build("minilm"))

    def encode(texts: Sequence[str]) -> Vectors:
        return encoder.embed(texts)

    questions = load_questions()
    judged = Judged(described(FLOWS, verdicts=False), read_flows(FLOWS), encode)
    texts = [in_words_of_descriptions(question.text) for question in questions]
    found = [
        judged.ask(question, text, vector)
        for question, text, vector in zip(questions, texts, encode(texts), strict=True)
    ]
    return {
        (language, method): (
            float(np.mean([one[method].recall for one in chosen])),
            float(np.mean([one[method].reciprocal for one in chosen])),
        )
        for language in ("en", "es")
        for chosen in [
            [
                one
                for question, one in zip(questions, found, strict=True)
                if question.language == language
            ]
        ]
        for method in chosen[0]
    }


@pytest.mark.parametrize(("language", "recall", "mrr"), [("en", 0.80, 0.73), ("es", 0.80, 0.80)])
def test_behaviour_alone_answers_most_questions(
    figures: Figures, language: str, recall: float, mrr: float
) -> None:
    assert figures[language, "weighted"][0] > recall
    assert figures[language, "weighted"][1] > mrr


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_search_beats_words_alone_and_chance(figures: Figures, language: str) -> None:
    assert figures[language, "weighted"][1] > figures[language, "words"][1] + 0.02
    assert figures[language, "words"][0] > figures[language, "chance"][0] + 0.3


def test_words_and_meaning_together_beat_meaning_alone(figures: Figures) -> None:
    assert figures["en", "weighted"][1] > figures["en", "meaning"][1] + 0.01
