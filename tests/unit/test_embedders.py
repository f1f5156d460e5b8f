"""What holds for each embedder, with tiny stand-in encoders."""

import math
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from embed.attack import AttackEmbedder
from embed.coverage import check_coverage
from embed.embedder import Embedder
from embed.errors import EmbedderStateError, EmbedError
from embed.prototypes import PROTOTYPES
from embed.rooms import open_embedder
from embed.semantic import SemanticEmbedder
from embed.series import SERIES
from embed.timeseries import TimeSeriesEmbedder
from tests import standin_models
from tests.embed_samples import DAY, Timed, batches, event, fold, sample_day, span

INDICES = ("timeseries", "semantic", "attack")


@pytest.fixture(params=INDICES)
def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> Embedder:
    if request.param == "timeseries":
        return TimeSeriesEmbedder(standin_models.timeseries(tmp_path))
    if request.param == "semantic":
        return SemanticEmbedder(standin_models.semantic(tmp_path))
    return AttackEmbedder(standin_models.attack(tmp_path))


@pytest.fixture
def timeseries(tmp_path: Path) -> TimeSeriesEmbedder:
    return TimeSeriesEmbedder(standin_models.timeseries(tmp_path))


@pytest.fixture
def semantic(tmp_path: Path) -> SemanticEmbedder:
    return SemanticEmbedder(standin_models.semantic(tmp_path))


@pytest.fixture
def attack(tmp_path: Path) -> AttackEmbedder:
    return AttackEmbedder(standin_models.attack(tmp_path))


def test_a_real_day_is_embedded_whole(embedder: Embedder) -> None:
    events = sample_day(DAY)
    vectors, facts, coverage = fold(embedder, events)
    check_coverage(span(len(events)), coverage, index=embedder.name)
    assert len(vectors) == len(facts) > 1
    assert vectors.dtype == np.float32
    assert vectors.shape[1] == embedder.dimension
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_the_first_row_and_only_the_first_is_the_day(embedder: Embedder) -> None:
    events = sample_day(DAY)[:300]
    _, facts, _ = fold(embedder, events)
    assert facts[0].kind == "day"
    assert facts[0].label == "2017-07-04"
    assert facts[0].weight == 300
    assert (facts[0].first_ns, facts[0].last_ns) == (events[0][0], events[-1][0])
    assert "day" not in {fact.kind for fact in facts[1:]}


def test_the_same_records_give_the_same_rows_however_they_are_cut(embedder: Embedder) -> None:
    events = sample_day(DAY)
    one = fold(embedder, events, size=1000)
    other = fold(embedder, events, size=173)
    assert one[0].tobytes() == other[0].tobytes()
    assert one[1:] == other[1:]


def test_a_day_without_events_has_a_day_row_and_whole_coverage(embedder: Embedder) -> None:
    vectors, facts, coverage = fold(embedder, [])
    check_coverage(span(0), coverage, index=embedder.name)
    assert facts[0].kind == "day"
    assert np.linalg.norm(vectors[0]) == pytest.approx(1.0, abs=1e-5)


def test_days_of_23_and_25_hours_are_embedded_whole(embedder: Embedder) -> None:
    for hours in (23, 25):
        events = [event(3600 * hour + 1800) for hour in range(hours)]
        _, _, coverage = fold(embedder, events, hours=hours)
        check_coverage(span(hours, hours=hours), coverage, index=embedder.name)


def test_events_full_of_nonsense_are_embedded_and_counted(embedder: Embedder) -> None:
    nonsense: list[Timed] = [
        event(1, network_flow_bytes_per_second=math.nan, overall_threat_score=math.inf),
        event(2, network_total_forward_bytes=2**64 - 1, network_destination_port=2**32 - 1),
        event(3, network_source_ip="\x00\u202e not an address", event_id=""),
        event(4, network_protocol_number=250, final_classification="\n" * 50),
        event(5, fast_detector_reason="\u0007\ufffd" * 300, threat_category="'; DROP TABLE"),
    ]
    nonsense[0][1].ClearField("network_features")
    vectors, _, coverage = fold(embedder, nonsense)
    check_coverage(span(5), coverage, index=embedder.name)
    assert np.isfinite(vectors).all()


def test_an_embedder_begins_again_after_a_chunk_that_was_given_up(embedder: Embedder) -> None:
    events = sample_day(DAY)[:200]
    expected = fold(embedder, events)
    embedder.begin(span(5))
    for batch in batches([event(1), event(2)]):
        embedder.add(batch)
    again = fold(embedder, events)
    assert expected[0].tobytes() == again[0].tobytes()
    assert expected[1] == again[1]


def test_an_embedder_that_was_not_begun_says_so(embedder: Embedder) -> None:
    with pytest.raises(EmbedderStateError, match="call begin"):
        embedder.finish()
    with pytest.raises(EmbedderStateError, match="call begin"):
        embedder.add(next(batches([event()])))


def test_the_model_of_a_row_names_weights_and_recipe(embedder: Embedder) -> None:
    identity = embedder.model.identity
    assert embedder.model.sha256 in identity
    assert identity.startswith(f"{embedder.model.name}/{embedder.model.recipe}:")


def test_an_unknown_index_has_no_embedder() -> None:
    with pytest.raises(EmbedError, match="no index is called 'chronos'"):
        open_embedder("chronos")


def test_a_day_has_one_row_per_series_with_its_peak(timeseries: TimeSeriesEmbedder) -> None:
    _, facts, _ = fold(timeseries, [event(7200 + i) for i in range(5)] + [event(10)])
    assert [fact.label for fact in facts[1:]] == list(SERIES)
    events = facts[1].detail
    assert (events["total"], events["peak"], events["peak_minute"]) == (6.0, 5.0, 120)
    assert events["active_minutes"] == 2
    assert facts[0].detail["minutes"] == 1440


def test_a_series_beyond_the_context_goes_through_in_windows(tmp_path: Path) -> None:
    short = TimeSeriesEmbedder(standin_models.timeseries(tmp_path, context=512))
    events = [event(60 * minute) for minute in range(0, 1440, 7)]
    base, _, coverage = fold(short, events)
    assert coverage["minutes"] == 1440
    for minute in (1, 700, 1439):
        changed, _, _ = fold(short, [*events, event(60 * minute)])
        assert base[1].tobytes() != changed[1].tobytes(), minute


def test_one_series_that_differs_moves_the_day_by_its_share(timeseries: TimeSeriesEmbedder) -> None:
    events = [event(60 * minute) for minute in range(0, 1440, 3)]
    base, _, _ = fold(timeseries, events)
    ports = [
        event(60 * minute, network_destination_port=1000 + minute) for minute in range(0, 1440, 3)
    ]
    burst = [*events, *(event(60, network_destination_port=port) for port in range(1, 400))]
    assert fold(timeseries, ports)[0][0] @ base[0] == pytest.approx(1.0, abs=1e-6)
    assert fold(timeseries, burst)[0][0] @ base[0] < 0.95


def test_equal_descriptions_are_one_row_with_their_count(semantic: SemanticEmbedder) -> None:
    events = [event(i, event_id=f"e{i}", network_source_ip=f"10.0.0.{i}") for i in range(30)]
    events.append(event(40, network_destination_port=53, network_protocol_number=17))
    _, facts, coverage = fold(semantic, events)
    rows = {fact.label: fact for fact in facts[1:]}
    assert coverage["descriptions"] == len(rows) == 2
    ssh = next(fact for label, fact in rows.items() if "SSH" in label)
    assert ssh.weight == 30
    assert ssh.detail["event_ids"] == [f"e{i}" for i in range(20)]
    assert ssh.detail["source_ips"] == {f"10.0.0.{i}": 1 for i in sorted(range(30), key=str)}
    assert ssh.detail["destination_ports"] == {"22": 30}
    assert ssh.detail["bytes"] == 30 * 4700
    assert (ssh.first_ns, ssh.last_ns) == (events[0][0], events[29][0])


def test_a_description_beyond_the_token_limit_is_read_to_its_end(
    semantic: SemanticEmbedder,
) -> None:
    words = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}q" for i in range(400))
    base, facts, coverage = fold(semantic, [event(fast_detector_reason=words)])
    assert coverage["tokens_in"] == coverage["tokens_embedded"] > 1000
    windows = facts[1].detail["windows"]
    assert isinstance(windows, int)
    assert windows > 3
    for part in ("first", "last"):
        other = f"zz {words[3:]}" if part == "first" else f"{words[:-3]}zzz"
        changed, _, _ = fold(semantic, [event(fast_detector_reason=other)])
        assert base[1].tobytes() != changed[1].tobytes(), part


def test_tokens_are_counted_for_every_event(semantic: SemanticEmbedder) -> None:
    _, facts, one = fold(semantic, [event(1)])
    _, _, many = fold(semantic, [event(i * 900) for i in range(20)])
    assert one["tokens_in"] == facts[1].detail["tokens"]
    assert many["tokens_in"] == 20 * one["tokens_in"]


def test_a_text_and_the_row_of_the_same_text_are_the_same_vector(
    semantic: SemanticEmbedder,
) -> None:
    vectors, facts, _ = fold(semantic, [event(1)])
    assert semantic.embed_text(facts[1].label) @ vectors[1] == pytest.approx(1.0, abs=1e-6)


def test_an_empty_question_still_has_a_vector(semantic: SemanticEmbedder) -> None:
    assert np.linalg.norm(semantic.embed_text("")) == pytest.approx(1.0, abs=1e-6)


def test_a_flagged_event_is_a_row_of_its_own_and_the_rest_is_prototypes(
    attack: AttackEmbedder,
) -> None:
    events = list(sample_day(DAY))
    vectors, facts, coverage = fold(attack, events)
    flagged = [fact for fact in facts if fact.kind == "event"]
    prototypes = [fact for fact in facts if fact.kind == "prototype"]
    assert coverage["flagged"] == len(flagged) > 100
    assert 0 < len(prototypes) <= PROTOTYPES
    assert len(flagged) + sum(fact.weight for fact in prototypes) == len(events)
    by_id = {message.event_id: message for _, message in events}
    first = by_id[flagged[0].label]
    place = facts.index(flagged[0])
    batch = next(batches([timed for timed in events if timed[1] is first]))
    assert attack.embed_features(batch.features)[0] @ vectors[place] == pytest.approx(1.0, abs=1e-5)


def test_the_facts_of_a_flagged_event_say_what_it_is(attack: AttackEmbedder) -> None:
    _, facts, _ = fold(attack, [event(5, event_id="x", overall_threat_score=0.8)])
    assert facts[1].detail == {
        "event_id": "x",
        "node": "node",
        "source_ip": "10.0.0.7",
        "destination_ip": "10.0.0.9",
        "destination_port": 22,
        "protocol": 6,
        "classification": "BENIGN",
        "threat_category": "NORMAL",
        "score": 0.8,
    }


def test_benign_traffic_does_not_crowd_out_attacks(attack: AttackEmbedder) -> None:
    hits = [event(i, event_id=f"hit {i}", overall_threat_score=0.9) for i in range(3)]
    rng = np.random.default_rng(0)
    noise = [
        event(i / 10, network_total_forward_bytes=int(size), network_flow_duration_microseconds=7)
        for i, size in enumerate(rng.integers(1, 10**6, 3000))
    ]
    vectors, facts, _ = fold(attack, [*hits, *noise])
    assert len(facts) <= 1 + PROTOTYPES + 3
    place = next(i for i, fact in enumerate(facts) if fact.label == "hit 0")
    nearest = np.argsort(-(vectors[1:] @ vectors[place]))[:3] + 1
    assert {facts[i].label for i in nearest} == {"hit 0", "hit 1", "hit 2"}


@pytest.mark.parametrize("index", ["semantic", "attack"])
def test_one_attack_among_ten_thousand_benign_events_moves_the_day(
    index: str, tmp_path: Path
) -> None:
    embedder: Embedder = (
        SemanticEmbedder(standin_models.semantic(tmp_path))
        if index == "semantic"
        else AttackEmbedder(standin_models.attack(tmp_path))
    )
    quiet = sample_day(date(2017, 7, 3))
    start = span(0).start_ns - quiet[0][0] // 86_400_000_000_000 * 86_400_000_000_000
    calm = [
        (at + start, message)
        for at, message in quiet
        if message.final_classification == "BENIGN" and not message.fast_detector_triggered
    ]
    calm = [timed for timed in calm * 10 if timed[1].overall_threat_score < 0.7][:10_000]
    base, _, _ = fold(embedder, calm)
    hit = event(
        50_000,
        overall_threat_score=0.95,
        final_classification="MALICIOUS",
        threat_category="RANSOMWARE",
        network_destination_port=445,
    )
    one_more, _, _ = fold(embedder, [*calm, calm[0]])
    attacked, _, _ = fold(embedder, [*calm, hit])
    ordinary = float(np.linalg.norm(one_more[0] - base[0]))
    assert float(np.linalg.norm(attacked[0] - base[0])) > max(0.05, 20 * ordinary)
