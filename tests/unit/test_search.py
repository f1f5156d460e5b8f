"""The search over a small catalogue; texts are embedded by their words, into 64 numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from consumer.questions.search import DescriptionSearch, Wanted
from index.catalogue import Catalogue
from index.commit import commit_chunk
from index.faiss_store import FaissStore
from index.lexical import terms
from index.store import Vectors
from tests.index_samples import COVERAGE, MODEL, MONDAY, NOON_NS, TUESDAY, DayCounts, Facts

GUESSING = "Repeated logins, like password guessing. SSH over TCP, in the afternoon."
SCAN = "Port scan: one host probes many ports. TCP probe, at night."
LOOKUP = "DNS over UDP between internal hosts, in the morning."
BENIGN, ALARM = " The detector says benign, low score.", " The detector says malicious, high score."


def embed(text: str) -> Vectors:
    vector = np.zeros(64, np.float32)
    vector[0] = 0.1
    for word in terms(text):
        vector[crc32(word.encode()) % 64] += 1.0
    vector /= np.linalg.norm(vector)
    return vector


@dataclass
class Data:
    """A data folder's semantic index, one writer and one reader."""

    root: Path
    open_parts: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.catalogue = Catalogue.open(self.root / "catalogue.sqlite")
        self.store = FaissStore.open(
            self.root / "index", "semantic", dimension=64, model=MODEL, writable=True
        )
        self.open_parts += [self.catalogue, self.store]

    def commit(self, day: date, texts: dict[str, int], revision: int = 1) -> None:
        facts = [Facts("day", str(day))]
        for place, (text, events) in enumerate(texts.items()):
            detail = {
                "event_ids": [f"{day}-{place}-{number}" for number in range(min(events, 20))],
                "source_ips": {f"10.0.0.{place}": events},
                "destination_ips": {"10.0.9.9": events},
                "destination_ports": {},
                "categories": {},
                "tags": {},
                "flagged": "malicious" in text,
                "bytes": 100 * events,
                "packets": events,
            }
            first = NOON_NS + place
            facts.append(Facts("description", text, events, first, first + events, detail))
        vectors = np.array([embed(fact.label) for fact in facts])
        self.catalogue.seal_chunk(day, revision, DayCounts())
        commit_chunk(
            self.store,
            self.catalogue,
            day=day,
            revision=revision,
            blocks=iter([(vectors, facts)]),
            coverage=COVERAGE,
            model=MODEL,
        )

    def reader(self) -> "Reader":
        catalogue = Catalogue.open(self.root / "catalogue.sqlite", read_only=True)
        store = FaissStore.open(self.root / "index", "semantic")
        self.open_parts += [catalogue, store]
        return Reader(DescriptionSearch(catalogue), store)


@dataclass
class Reader:
    search: DescriptionSearch
    store: FaissStore

    def find(self, query: str, k: int = 10, **limits: Any) -> list[dict[str, Any]]:
        return self.search.find(self.store, embed, query, Wanted(k, **limits))


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Data]:
    data = Data(tmp_path)
    data.commit(MONDAY, {LOOKUP + BENIGN: 50, SCAN + ALARM: 3})
    data.commit(TUESDAY, {GUESSING + BENIGN: 5, GUESSING + ALARM: 30, LOOKUP + BENIGN: 90})
    yield data
    for part in data.open_parts:
        part.close()


def test_the_behaviour_asked_for_comes_first(data: Data) -> None:
    first = data.reader().find("password guessing over ssh")[0]
    assert first["day"] == str(TUESDAY)
    assert first["text"] == GUESSING + ALARM
    assert 0 < first["score"] <= 1


def test_scores_never_rise_and_repeat_for_equal_behaviours(data: Data) -> None:
    scores = [result["score"] for result in data.reader().find("dns lookup in the morning")]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == scores[1] > scores[2]


def test_rows_that_differ_in_the_verdict_alone_are_one_result(data: Data) -> None:
    found = data.reader().find("password guessing")
    assert len([result for result in found if result["text"].startswith(GUESSING)]) == 1
    first = found[0]
    assert first["events"] == 35
    assert first["verdicts"] == {"malicious, high score": 30, "benign, low score": 5}
    assert first["flagged"]
    assert first["source_ips"] == {"10.0.0.1": 30, "10.0.0.0": 5}
    assert first["destination_ips"] == {"10.0.9.9": 35}
    assert (first["bytes"], first["packets"]) == (3500, 35)
    assert len(first["event_ids"]) == 20
    assert first["event_ids"][0] == f"{TUESDAY}-1-0"
    assert first["first"] == "2017-07-04T12:00:00Z"
    assert first["last"] == "2017-07-04T12:00:00.000000031Z"


def test_the_verdict_shown_is_the_one_that_the_query_speaks_of(data: Data) -> None:
    reader = data.reader()
    assert reader.find("guessing that the detector calls benign")[0]["text"] == GUESSING + BENIGN
    assert reader.find("guessing")[0]["text"] == GUESSING + ALARM


def test_the_same_behaviour_on_two_days_is_two_results_the_fuller_day_first(data: Data) -> None:
    found = data.reader().find("dns between internal hosts")[:2]
    assert [(one["day"], one["events"]) for one in found] == [(str(TUESDAY), 90), (str(MONDAY), 50)]


def test_the_row_of_the_day_is_no_behaviour(data: Data) -> None:
    found = data.reader().find(str(TUESDAY), k=100)
    assert all("TCP" in result["text"] or "UDP" in result["text"] for result in found)


def test_days_and_conditions_limit_the_results(data: Data) -> None:
    reader = data.reader()
    assert {one["day"] for one in reader.find("dns", first=TUESDAY)} == {str(TUESDAY)}
    assert {one["day"] for one in reader.find("dns", last=MONDAY)} == {str(MONDAY)}
    assert reader.find("dns", first=date(2018, 1, 1)) == []
    (only,) = reader.find("dns", where=[("source_ip", "10.0.0.1")], first=TUESDAY)
    assert (only["text"], only["events"]) == (GUESSING + ALARM, 30)
    assert reader.find("dns", where=[("source_ip", "10.0.0.1"), ("source_ip", "10.0.0.2")]) == []


def test_no_more_results_than_asked_for(data: Data) -> None:
    assert len(data.reader().find("hosts", k=1)) == 1
    assert len(data.reader().find("hosts", k=100)) == 4


def test_a_query_that_shares_no_word_is_still_answered_by_meaning(data: Data) -> None:
    assert len(data.reader().find("zarzuela")) == 4


def test_a_spanish_query_finds_what_its_translation_finds(data: Data) -> None:
    assert data.reader().find("escaneo de puertos")[0]["text"] == SCAN + ALARM


def test_days_that_come_or_are_replaced_later_are_seen(data: Data) -> None:
    reader = data.reader()
    assert len(reader.find("port scan", k=100)) == 4
    data.commit(date(2017, 7, 5), {SCAN + ALARM: 200})
    assert reader.find("port scan")[0]["events"] == 200
    data.commit(MONDAY, {SCAN + ALARM: 900}, revision=2)
    assert reader.find("port scan")[0]["events"] == 900
    assert {one["day"] for one in reader.find("dns", last=MONDAY)} == {str(MONDAY)}


def test_a_text_that_a_damaged_day_carries_too_is_still_found_on_the_others(data: Data) -> None:
    shard = data.root / "index/semantic/shards" / f"{MONDAY}-r0001.faiss"
    shard.write_bytes(shard.read_bytes()[:-1])
    reader = data.reader()
    found = reader.find("dns between internal hosts")
    assert (found[0]["day"], found[0]["text"]) == (str(TUESDAY), LOOKUP + BENIGN)
    assert {one["day"] for one in found} == {str(TUESDAY)}
    assert list(reader.store.damaged()) == [MONDAY]


def test_an_index_without_rows_finds_nothing(tmp_path: Path) -> None:
    data = Data(tmp_path)
    assert data.reader().find("anything") == []
    for part in data.open_parts:
        part.close()
