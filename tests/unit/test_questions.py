from collections import Counter
from functools import cache

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from consumer.evaluation.corpus import FLOWS
from consumer.evaluation.questions import (
    Flows,
    Predicate,
    Question,
    load_questions,
    read_flows,
)


@cache
def flows() -> Flows:
    return read_flows(FLOWS)


def test_there_are_enough_questions_of_both_languages_and_parts() -> None:
    counts = Counter((question.language, question.part) for question in load_questions())
    assert counts["en", "tune"] + counts["en", "held"] >= 60
    assert counts["es", "tune"] + counts["es", "held"] >= 20
    assert min(counts.values()) >= 20


def test_no_question_is_asked_twice() -> None:
    texts = [question.text for question in load_questions()]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("question", load_questions(), ids=lambda question: question.text)
def test_every_question_has_an_answer_and_is_not_answered_by_most_flows(
    question: Question,
) -> None:
    share = question.flows.holds(flows()).mean()
    assert 0 < share < 0.5


@pytest.mark.parametrize(
    ("predicate", "right"),
    [
        (Predicate(label=("SSH-Patator",)), 300),
        (Predicate(label=("SSH-Patator", "FTP-Patator")), 600),
        (Predicate(label=("SSH-Patator",), port=(21,)), 0),
        (Predicate(label=("Heartbleed",), hours=(18, 24)), 8),
        (Predicate(label=("Heartbleed",), hours=(0, 18)), 0),
        (Predicate(protocol=(0, 1)), 8),
        (Predicate(received_over=1_000_000), 14),
        (Predicate(source="external", destination="external"), 4),
    ],
)
def test_a_predicate_holds_for_the_flows_that_the_data_says(
    predicate: Predicate, right: int
) -> None:
    assert predicate.holds(flows()).sum() == right


def test_bounds_are_exclusive_and_conditions_add_up() -> None:
    some = flows()
    between = Predicate(sent_over=0, sent_under=2).holds(some)
    assert np.array_equal(between, some.sent == 1)
    answered = Predicate(answered=True).holds(some)
    assert np.array_equal(answered, ~Predicate(answered=False).holds(some))


def test_a_question_with_an_unknown_condition_is_refused() -> None:
    entry = {
        "text": "x",
        "language": "en",
        "kind": "attack",
        "part": "held",
        "flows": {"colour": "blue"},
    }
    with pytest.raises(ValidationError, match="colour"):
        TypeAdapter(Question).validate_python(entry)
