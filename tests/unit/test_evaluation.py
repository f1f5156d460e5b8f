from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from consumer.errors import UsageError
from consumer.evaluation.choice import MEASURES, evaluate
from consumer.evaluation.corpus import FLOWS, Corpus, described
from consumer.evaluation.questions import Predicate, Question, read_flows
from consumer.evaluation.ranking import Judged, Measured, _by_chance, _measured
from consumer.evaluation.sources import Sources, sources
from embed.describe import verdict_of, without_verdict
from embed.rows import Vectors
from index.store import split_row_id
from models.errors import ModelError


@pytest.fixture(scope="module")
def kept() -> Corpus:
    return described(FLOWS, verdicts=True)


@pytest.fixture(scope="module")
def blanked() -> Corpus:
    return described(FLOWS, verdicts=False)


def by_words(texts: Sequence[str]) -> Vectors:
    """Every text its own direction; the words alone then decide what is found."""
    return np.eye(len(texts), 2048, dtype=np.float32)


def test_every_flow_has_its_row(kept: Corpus) -> None:
    flows = read_flows(FLOWS)
    assert len(kept.row_of_flow) == len(flows.label) == 8017
    assert set(kept.row_of_flow.tolist()) == set(range(len(kept.ids)))
    assert (np.diff(kept.ids) > 0).all()
    day, revision, row = split_row_id(int(kept.ids[0]))
    assert (str(day), revision, row) == ("2017-07-03", 1, 1)


def test_without_verdicts_nothing_of_the_detector_is_left_and_nothing_else_is_gone(
    kept: Corpus, blanked: Corpus
) -> None:
    assert not any(verdict_of(text) or "detector" in text for text in blanked.texts)
    assert all(verdict_of(text) for text in kept.texts)
    told = [without_verdict(kept.texts[row]) for row in kept.row_of_flow]
    assert told == [blanked.texts[row] for row in blanked.row_of_flow]


@pytest.mark.parametrize(
    ("flags", "right", "measured"),
    [
        ([1, 1, 1, 1, 1, 0], 9, Measured(1.0, 1.0, 1.0)),
        ([0, 1, 0, 0, 0, 1], 9, Measured(1.0, 0.2, 0.5)),
        ([0, 1, 0, 0, 0, 1], 2, Measured(1.0, 0.5, 0.5)),
        ([0, 0, 0, 0, 0, 0, 0, 1], 1, Measured(0.0, 0.0, 0.125)),
        ([0, 0], 1, Measured(0.0, 0.0, 0.0)),
    ],
)
def test_the_measures_are_what_they_say(flags: list[int], right: int, measured: Measured) -> None:
    assert _measured(np.array(flags, dtype=np.bool_), right) == measured


def test_chance_is_the_mean_over_every_order() -> None:
    orders = [_measured(np.array(one, np.bool_), 2) for one in permutations([1, 1, 0, 0, 0, 0, 0])]
    expected = [np.mean(column) for column in zip(*map(_fields, orders), strict=True)]
    assert _fields(_by_chance(7, 2)) == pytest.approx(expected)


def _fields(one: Measured) -> tuple[float, float, float]:
    return one.recall, one.precision, one.reciprocal


def test_a_result_is_right_when_most_of_its_events_are(blanked: Corpus) -> None:
    judged = Judged(blanked, read_flows(FLOWS), by_words)
    guessing = Predicate(label=("SSH-Patator",))
    question = Question("x", "en", "attack", "held", guessing)
    vector = by_words([""])[0]
    found = judged.ask(question, "repeated logins password guessing SSH", vector)
    assert found["words"].recall == 1.0
    assert found["words"].reciprocal == 1.0
    assert found["chance"].recall < 0.1
    wrong = judged.ask(question, "DNS name lookup", vector)
    assert wrong["words"].recall == 0.0


def test_an_encoder_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'bert'.*timeseries, semantic, attack, novelty, minilm"):
        evaluate("bert", Sources())


def test_an_encoder_that_is_not_there_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures = {
        name: measure if name == "semantic" else (lambda _sources, name=name: {"model": name})
        for name, measure in MEASURES.items()
    }
    monkeypatch.setattr("consumer.evaluation.choice.MEASURES", measures)
    found = evaluate(None, Sources(cache_dir=tmp_path))
    assert "dayfold models build minilm" in found["semantic"]["error"]
    assert found["attack"] == {"model": "attack"}
    with pytest.raises(ModelError):
        evaluate("minilm", Sources(cache_dir=tmp_path))


def test_sources_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--flows .*flows.parquet: no such file"):
        sources(tmp_path / "flows.parquet", None, None)
    with pytest.raises(UsageError, match=r"--ucr .*ucr: no such folder"):
        sources(None, tmp_path / "ucr", None)


def test_figures_say_what_they_were_measured_on(tmp_path: Path) -> None:
    other = tmp_path / "flows.parquet"
    other.write_bytes(FLOWS.read_bytes())
    assert sources(None, None, None).named == "shipped sample"
    assert sources(other, None, None).named == str(other)
