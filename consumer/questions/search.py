"""Behaviours in words: what `dayfold search` asks of the semantic index.

A query is compared with every description twice: by meaning (cosine of the embeddings) and by
words (BM25 as a share of what the query could score). The score is their mean with weights 2 and
1, which answered the English questions of `consumer/evaluation` better than either alone and than
joining ranks; `docs/search.md` has all figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any

import numpy as np

from consumer.questions.glossary import in_words_of_descriptions
from consumer.questions.texts import Descriptions, Flags, Told
from embed.describe import verdict_of, without_verdict
from embed.groups import EVENT_IDS
from embed.top_counts import SHOW
from index.catalogue import Catalogue
from index.chunks import RowKey, StoredRow, rfc3339
from index.errors import RowsReplacedError
from index.fusion import weighted_mean
from index.lexical import terms
from index.store import RowIds, Vectors, VectorStore, row_id, split_row_id

WEIGHTS: Mapping[str, float] = {"meaning": 2.0, "words": 1.0}
# How many texts each of the two may put forward.
DEPTH = 200
_ATTEMPTS = 3
_COUNTED = ("source_ips", "destination_ips", "destination_ports", "categories", "tags")
_SUMMED = ("bytes", "packets")

# A text to a vector, float32 (d,) of length 1.
Embed = Callable[[str], Vectors]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search is limited to.

    Attributes:
        k: how many results, at least 1.
        first: earliest day, included.
        last: latest day, included.
        where: conditions (field, value) that a row's detail must all meet.
    """

    k: int
    first: date | None = None
    last: date | None = None
    where: Sequence[tuple[str, str]] = ()


class DescriptionSearch:
    """Searches the descriptions of one catalogue. Not safe for several threads at once.

    The texts are held in memory, and read again when a day came, went or was replaced.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._by_day: dict[tuple[date, int], list[tuple[int, str, int]]] = {}
        self._descriptions: Descriptions | None = None
        self._edition = ""
        self._version: tuple[str, int, int] | None = None

    def find(
        self, store: VectorStore, embed: Embed, query: str, wanted: Wanted
    ) -> list[dict[str, Any]]:
        """The results, best first, as `dayfold search --json` prints them.

        Days whose rows are damaged are left out; `store.damaged` names them.

        Args:
            store: the semantic index.
            embed: the encoder that made its rows.
            query: what is looked for, English or Spanish.
            wanted: what the results are limited to.

        Raises:
            StoreError: the index or the catalogue cannot be trusted.
            RowsReplacedError: days were committed anew each time it was tried.
        """
        understood = in_words_of_descriptions(query)
        vector = embed(understood)[None, :]
        for attempt in range(1, _ATTEMPTS + 1):
            store.refresh()
            descriptions = self._refreshed(store.name)
            only = self._matching(store.name, wanted.where)
            rows = descriptions.rows(first=wanted.first, last=wanted.last, only=only)
            for day in store.damaged():
                rows &= ~descriptions.rows(first=day, last=day)
            cosines, scores = _scores(store, descriptions, rows, vector, understood)
            told = descriptions.tell(descriptions.rank(scores), rows, wanted.k)
            try:
                return [
                    _result(
                        one,
                        cosines[one.ranked.text],
                        _shown_first(
                            self._facts(store.name, one),
                            descriptions.texts[one.ranked.text],
                            understood,
                        ),
                    )
                    for one in told
                ]
            except RowsReplacedError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _refreshed(self, edition: str) -> Descriptions:
        version = (edition, *self._catalogue.version())
        if self._descriptions is not None and version == self._version:
            return self._descriptions
        self._version = version
        held = self._catalogue.held_revisions(edition)
        same = edition == self._edition
        if same and self._descriptions is not None and held.items() == self._by_day.keys():
            return self._descriptions
        if not same:
            self._edition, self._by_day = edition, {}
        self._by_day = {
            key: self._by_day.get(key) or self._catalogue.labels(edition, *key, kind="description")
            for key in held.items()
        }
        self._descriptions = Descriptions(
            np.array(
                [
                    row_id(day, revision, row)
                    for (day, revision), labels in self._by_day.items()
                    for row, _, _ in labels
                ],
                dtype=np.int64,
            ),
            [text for labels in self._by_day.values() for _, text, _ in labels],
            [events for labels in self._by_day.values() for _, _, events in labels],
            without_verdict,
        )
        return self._descriptions

    def _matching(self, edition: str, where: Sequence[tuple[str, str]]) -> RowIds | None:
        if not where:
            return None
        sets = [self._catalogue.rows_where(edition, field, value) for field, value in where]
        return reduce(np.intersect1d, sets)

    def _facts(self, edition: str, told: Told) -> list[StoredRow]:
        keys = [RowKey(*split_row_id(row)) for row in told.rows.tolist()]
        return self._catalogue.rows(edition, keys)


def _scores(
    store: VectorStore, descriptions: Descriptions, rows: Flags, vector: Vectors, query: str
) -> tuple[dict[int, float], dict[int, float]]:
    """Cosine and score of the texts that either comparison puts forward, by number."""
    carriers = descriptions.carriers(rows)

    def nearest(only: RowIds) -> Iterator[tuple[int, float]]:
        (hits,) = store.search(vector, min(DEPTH, len(only)), only=only)
        for hit in hits:
            yield descriptions.text_of(row_id(hit.day, hit.revision, hit.row)), hit.score

    cosines: dict[int, float] = {}
    by_words = descriptions.by_words(query, carriers, DEPTH)
    for only in (carriers.ids, np.sort(carriers.of_text[by_words])):
        if len(only):
            cosines.update(nearest(only))
    words = descriptions.wording(query, list(cosines))
    return cosines, weighted_mean({"meaning": cosines, "words": words}, WEIGHTS)


def _shown_first(facts: Sequence[StoredRow], best: str, query: str) -> list[StoredRow]:
    """The rows of a behaviour, first the one whose text is to be shown for all.

    That is the most frequent one, unless the query speaks of the verdict in the best text.
    """
    asked_for = not set(terms(query)).isdisjoint(terms(verdict_of(best)))
    return sorted(facts, key=lambda row: (asked_for and row.label != best, -row.weight, row.row))


def _result(told: Told, cosine: float, facts: Sequence[StoredRow]) -> dict[str, Any]:
    """One behaviour of one day: its rows, which differ in the verdict alone, as one."""
    verdicts: Counter[str] = Counter()
    for row in facts:
        verdicts[verdict_of(row.label)] += row.weight
    details = [row.detail for row in facts]
    event_ids = (name for detail in details for name in detail.get("event_ids", ()))
    return {
        **details[0],
        "event_ids": list(dict.fromkeys(event_ids))[:EVENT_IDS],
        **{name: _added(details, name) for name in _COUNTED},
        **{name: sum(detail.get(name, 0) for detail in details) for name in _SUMMED},
        "flagged": any(detail.get("flagged") for detail in details),
        "behaviour": without_verdict(facts[0].label),
        "verdicts": dict(verdicts.most_common()),
        "score": round(told.ranked.score, 6),
        "cosine": round(cosine, 6),
        "day": told.day.isoformat(),
        "text": facts[0].label,
        "events": told.events,
        "first": rfc3339(min(row.first_ns for row in facts)),
        "last": rfc3339(max(row.last_ns for row in facts)),
    }


def _added(details: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for detail in details:
        counts.update(detail.get(name, {}))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:SHOW])
