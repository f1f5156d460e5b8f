"""The descriptions that can be searched for, each text once, and the rows that carry each.

Many rows read the same: the same behaviour on another day. They have the same vector and the same
words, so texts are ranked, not rows. Texts that tell of the same behaviour with another verdict of
the detector are one result, and so are ranked as one: by the best of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from index.lexical import Bm25
from index.store import DAY_SHIFT, RowIds, day_range

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A behaviour in its place in a ranking.

    Attributes:
        behaviour: its number.
        text: number of its best text.
        score: of that text.
    """

    behaviour: int
    text: int
    score: float


@dataclass(frozen=True, slots=True)
class Told:
    """A behaviour on one day.

    Attributes:
        day: the day.
        rows: identifiers of the rows that tell of it, ascending.
        events: how many events stand behind them.
        ranked: the behaviour.
    """

    day: date
    rows: RowIds
    events: int
    ranked: Ranked


@dataclass(frozen=True, slots=True, eq=False)
class Carriers:
    """One row for each text that chosen rows carry.

    Attributes:
        of_text: by number of the text its row's identifier; -1 for a text that none carries.
        ids: the identifiers, ascending.
    """

    of_text: RowIds
    ids: RowIds


class Descriptions:
    """Rows and their texts, held in memory: each distinct text once, 24 bytes a row besides.

    Args:
        ids: identifiers of n rows, ascending.
        texts: their n descriptions.
        events: how many events stand behind each.
        behaviour_of: what a text says without the verdict.
    """

    def __init__(
        self,
        ids: RowIds,
        texts: Sequence[str],
        events: Sequence[int],
        behaviour_of: Callable[[str], str],
    ) -> None:
        self._ids = ids
        self._events: Numbers = np.array(events, dtype=np.int64)
        numbers: dict[str, int] = {}
        places = (numbers.setdefault(text, len(numbers)) for text in texts)
        self._text_of_row: Numbers = np.fromiter(places, np.int64, len(texts))
        self.texts = list(numbers)
        behaviours: dict[str, int] = {}
        told = (behaviours.setdefault(behaviour_of(text), len(behaviours)) for text in self.texts)
        self._behaviour_of_text: Numbers = np.fromiter(told, np.int64, len(self.texts))
        # Rows by behaviour: those of number b are order[starts[b]:starts[b + 1]], ascending.
        of_row = self._behaviour_of_text[self._text_of_row]
        self._order: Numbers = np.argsort(of_row, kind="stable")
        self._starts: Numbers = np.searchsorted(of_row[self._order], np.arange(len(behaviours) + 1))
        self._last_carriers: tuple[Flags, Carriers] | None = None
        self._last_scores: tuple[str, NDArray[np.float64]] | None = None

    @cached_property
    def lexical(self) -> Bm25:
        """The words of the texts; indexed at first use."""
        return Bm25(self.texts)

    def rows(
        self, *, first: date | None = None, last: date | None = None, only: RowIds | None = None
    ) -> Flags:
        """Which rows lie in a range of days and, if given, among `only`: bool (n,)."""
        start, end = day_range(first, last)
        chosen: Flags = (self._ids >= start) & (self._ids < end)
        if only is not None:
            chosen &= np.isin(self._ids, only)
        return chosen

    def carriers(self, rows: Flags) -> Carriers:
        """For each text that chosen rows carry, the identifier of the first of them.

        The last answer is kept, for it is the same as long as nothing is chosen.
        """
        if self._last_carriers is not None and np.array_equal(self._last_carriers[0], rows):
            return self._last_carriers[1]
        first: RowIds = np.full(len(self.texts), -1, dtype=np.int64)
        places = np.flatnonzero(rows)[::-1]
        first[self._text_of_row[places]] = self._ids[places]
        carriers = Carriers(first, np.sort(first[first >= 0]))
        self._last_carriers = (rows, carriers)
        return carriers

    def text_of(self, identifier: int) -> int:
        """Number of the text that a row carries.

        Raises:
            KeyError: no such row.
        """
        place = int(np.searchsorted(self._ids, identifier))
        if place == len(self._ids) or self._ids[place] != identifier:
            raise KeyError(identifier)
        return int(self._text_of_row[place])

    def by_words(self, query: str, carriers: Carriers, k: int) -> list[int]:
        """Numbers of the `k` carried texts that share most with the query, best first."""
        best = self.lexical.best(self._word_scores(query), k, among=carriers.of_text >= 0)
        found: list[int] = best.tolist()
        return found

    def wording(self, query: str, texts: Sequence[int]) -> dict[int, float]:
        """How much of a query each text says, 0 to 1: its BM25 score as a part of the ceiling."""
        ceiling = self.lexical.ceiling(query)
        if not texts or ceiling == 0.0:
            return dict.fromkeys(texts, 0.0)
        shares = self._word_scores(query)[list(texts)] / ceiling
        return dict(zip(texts, shares.tolist(), strict=True))

    def _word_scores(self, query: str) -> NDArray[np.float64]:
        if self._last_scores is None or self._last_scores[0] != query:
            self._last_scores = (query, self.lexical.scores(query))
        return self._last_scores[1]

    def rank(self, scores: Mapping[int, float]) -> list[Ranked]:
        """Behaviours by the best of their texts, best first.

        Args:
            scores: by number of the text.
        """
        found: dict[int, Ranked] = {}
        for text in sorted(scores, key=lambda text: (-scores[text], text)):
            behaviour = int(self._behaviour_of_text[text])
            found.setdefault(behaviour, Ranked(behaviour, text, scores[text]))
        return list(found.values())

    def tell(self, ranking: Sequence[Ranked], rows: Flags, k: int) -> list[Told]:
        """The first `k` results: each behaviour on each day of the chosen rows.

        Behaviours come in their order, the days of one with most events first.
        """
        found: list[Told] = []
        for ranked in ranking:
            if len(found) >= k:
                break
            start, end = self._starts[ranked.behaviour : ranked.behaviour + 2]
            places = self._order[start:end]
            places = places[rows[places]]
            if not len(places):
                continue
            days, starts = np.unique(self._ids[places] >> DAY_SHIFT, return_index=True)
            told = [
                Told(date.fromordinal(day), self._ids[part], int(self._events[part].sum()), ranked)
                for day, part in zip(days.tolist(), np.split(places, starts[1:]), strict=True)
            ]
            found += sorted(told, key=lambda one: (-one.events, one.day))
        return found[:k]
