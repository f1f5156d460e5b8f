"""Labelled flows of another network are measured like ours: other days, other names, fewer of them."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from consumer.errors import UsageError
from consumer.evaluation.attack import measure_attack
from consumer.evaluation.corpus import FLOWS
from consumer.evaluation.made_days import recorded_events
from consumer.evaluation.novelty import FAMILIAR, UNSEEN, DayMaker, attack_kinds
from consumer.evaluation.planted_days import planted_days
from consumer.evaluation.sources import NEEDED, Sources, sources
from consumer.replay.flows import FlowRecording
from embed.timeseries import TimeSeriesEmbedder
from models.evaluate_attack import read_flows
from models.evaluate_timeseries import HELD_OUT_DAYS, days_to_ask
from models.labels import BENIGN, plain_labels
from models.store import locate

LATER = timedelta(days=1000)
OURS = pq.read_table(FLOWS)


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def theirs() -> pa.Table:
    """Our sample as another data set would have it: later, with "Benign" and attacks of other names."""
    later = pc.add(OURS["timestamp"], pa.scalar(LATER))
    labels = [
        "Benign " if label == BENIGN else f"{label} of theirs"
        for label in OURS["label"].to_pylist()
    ]
    return with_column(with_column(OURS, "timestamp", later), "label", pa.array(labels))


@pytest.fixture(scope="module")
def their_flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("theirs") / "flows.parquet"
    pq.write_table(theirs(), path)
    return path


@pytest.mark.parametrize("label", ["BENIGN", "Benign", "benign", " Benign ", "Normal", "normal"])
def test_ordinary_traffic_has_one_label_however_it_is_written(label: str) -> None:
    assert plain_labels([label]).tolist() == [BENIGN]


def test_other_labels_stay_what_they_are() -> None:
    assert plain_labels(["DDoS", " Bot ", "abnormal", None]).tolist() == [
        "DDoS",
        "Bot",
        "abnormal",
        "",
    ]


def test_their_benign_flows_are_benign_everywhere(their_flows: Path) -> None:
    benign = OURS["label"].to_pylist().count(BENIGN)
    assert (read_flows(their_flows).labels == BENIGN).sum() == benign
    assert len(recorded_events(their_flows).by_label[BENIGN]) == benign


def test_the_simulated_detector_takes_no_benign_flow_for_an_attack(their_flows: Path) -> None:
    ours, later = (FlowRecording(path, node="a", seed=1) for path in (FLOWS, their_flows))
    flagged = [
        sum(event.final_classification != "BENIGN" for _, event in flows) for flows in (ours, later)
    ]
    # The floods have lost their names, by which some get a higher score.
    assert flagged[1] == pytest.approx(flagged[0], rel=0.02)


def test_days_that_training_left_out_are_asked_and_of_others_all(their_flows: Path) -> None:
    assert days_to_ask(FLOWS) == HELD_OUT_DAYS
    first = date(2017, 7, 3) + LATER
    assert days_to_ask(their_flows) == tuple(str(first + timedelta(days=n)) for n in range(5))


def test_their_attacks_are_planted_and_familiar_by_turns(their_flows: Path) -> None:
    assert attack_kinds({BENIGN, *FAMILIAR, *UNSEEN, "Bot"}) == (FAMILIAR, UNSEEN)
    assert attack_kinds({BENIGN, "b", "d", "a", "c"}) == (("b", "d"), ("a", "c"))
    assert attack_kinds({BENIGN, "a"}) == ((), ("a",))
    assert attack_kinds({BENIGN}) == ((), ())
    maker = DayMaker(their_flows, seed=3)
    assert maker.ordinary().events
    assert all(maker.planted(kind).events for kind in maker.kinds)


def test_what_a_few_flows_cannot_show_is_none_and_says_what_it_needs(tmp_path: Path) -> None:
    few = tmp_path / "few.parquet"
    pq.write_table(OURS.take(list(range(0, len(OURS), 100))), few)
    found = measure_attack(Sources(few))
    assert found["splits"] == {"time": None, "random": None}
    assert found["prevalence"] is None
    assert set(found["not_measured"]) == {
        "time",
        "random",
        "steadiness",
        "other_networks",
        "prevalence",
    }
    assert "30 held-out flows of an attack" in found["not_measured"]["time"]


def test_day_rows_want_two_days(tmp_path: Path) -> None:
    one_day = tmp_path / "one.parquet"
    first = OURS["timestamp"][0].as_py().date()
    pq.write_table(OURS.filter(pc.equal(pc.cast(OURS["timestamp"], pa.date32()), first)), one_day)
    assert planted_days(one_day, TimeSeriesEmbedder(locate("timeseries"), threads=1)) is None


def without_a_column(table: pa.Table) -> pa.Table:
    return table.drop_columns(["source_ip"])


def with_text_for_times(table: pa.Table) -> pa.Table:
    return with_column(table, "timestamp", pc.cast(table["timestamp"], pa.string()))


def with_numbers_for_labels(table: pa.Table) -> pa.Table:
    attack = pc.not_equal(table["label"], BENIGN)
    return with_column(table, "label", pc.cast(attack, pa.int64()))


def with_attacks_alone(table: pa.Table) -> pa.Table:
    return table.filter(pc.not_equal(table["label"], BENIGN))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_a_column, "no column source_ip; labelled flows have timestamp, label"),
        (with_text_for_times, "column timestamp is string, it has to be a timestamp"),
        (with_numbers_for_labels, "column label is int64, it has to be text"),
        (with_attacks_alone, r"no flow has the label BENIGN .* there are DDoS, DoS GoldenEye"),
        (lambda table: table.slice(0, 0), "there are none at all"),
    ],
)
def test_a_file_without_labelled_flows_is_refused_with_what_it_lacks(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    path = tmp_path / "flows.parquet"
    pq.write_table(change(OURS), path)
    with pytest.raises(UsageError, match=rf"--flows {path}: .*{told}"):
        sources(path, None, None)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    path.write_text("timestamp,label\n", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"--flows {path}: not a readable Parquet file"):
        sources(path, None, None)


def test_the_shipped_sample_has_all_that_is_needed() -> None:
    assert set(NEEDED) <= set(OURS.column_names)
    assert sources(FLOWS, None, None).flows == FLOWS
