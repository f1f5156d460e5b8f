"""Making one ranking of several.

`reciprocal_rank` joins rankings whose scores cannot be compared. `weighted_mean` joins scores that
run over the same range. `fuse_days` joins similarities of days from the three indices.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)
RANK_CONSTANT = 60


@dataclass(frozen=True, slots=True)
class Fused(Generic[Item]):
    """One item of a joined ranking.

    Attributes:
        item: the item.
        score: sum over the rankings that have it.
        ranks: its place in each of those, from 1.
    """

    item: Item
    score: float
    ranks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DayScore:
    """How like a day is.

    Attributes:
        day: the day.
        score: weighted mean over the indices in `by_index`.
        by_index: its similarity by index; an index that cannot say is left out.
        missing: the indices left out.
    """

    day: date
    score: float
    by_index: Mapping[str, float]
    missing: tuple[str, ...]


def reciprocal_rank(
    rankings: Mapping[str, Sequence[Item]],
    *,
    constant: int = RANK_CONSTANT,
    weights: Mapping[str, float] | None = None,
) -> list[Fused[Item]]:
    """Reciprocal rank fusion: an item scores weight / (constant + rank) in each ranking.

    The formula and the constant 60 are of Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion
    outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009.

    Args:
        rankings: items by name of the ranking, best first. Of a repeated item the best counts.
        constant: how much the first places are evened out.
        weights: by name of the ranking; 1 where none is given.

    Returns:
        Every item once, best first; equals in the order in which the rankings first show them.
    """
    scores: dict[Item, float] = {}
    ranks: dict[Item, dict[str, int]] = {}
    for name, items in rankings.items():
        weight = 1.0 if weights is None else weights.get(name, 1.0)
        for rank, item in enumerate(items, 1):
            places = ranks.setdefault(item, {})
            if name not in places:
                places[name] = rank
                scores[item] = scores.get(item, 0.0) + weight / (constant + rank)
    ordered = sorted(scores, key=lambda item: -scores[item])
    return [Fused(item, scores[item], MappingProxyType(ranks[item])) for item in ordered]


def weighted_mean(
    scores: Mapping[str, Mapping[Item, float]], weights: Mapping[str, float]
) -> dict[Item, float]:
    """A convex combination of scores; an item that a scoring does not name scores 0 there.

    On joining words and meaning this way rather than by ranks: Bruch, Gai and Ingber, "An Analysis
    of Fusion Functions for Hybrid Retrieval", ACM Transactions on Information Systems 42(1), 2023.

    Args:
        scores: score of each item, by name of the scoring.
        weights: by name of the scoring, not negative, not all 0.

    Returns:
        Every item, in the order in which the scorings first name them.
    """
    total = sum(weights[name] for name in scores)
    mean: dict[Item, float] = {}
    for name, scored in scores.items():
        share = weights[name] / total
        for item, score in scored.items():
            mean[item] = mean.get(item, 0.0) + share * score
    return mean


def fuse_days(
    by_index: Mapping[str, Mapping[date, float] | None],
    *,
    weights: Mapping[str, float] | None = None,
) -> list[DayScore]:
    """One similarity per day out of those by index: their weighted mean.

    An index that is missing as a whole (None), or that lacks a day, is left out of the mean of
    that day and named in `missing`; the weights of the others then share the whole.

    Args:
        by_index: similarity of each day, by name of the index; cosines, so -1 to 1.
        weights: by name of the index, not negative; 1 where none is given. Weight 0 leaves the
            index out of the mean but shows its similarity.

    Returns:
        Every day that some index with a weight knows, most alike first; equals oldest first.

    Raises:
        ValueError: a negative weight.
    """
    share = {name: 1.0 if weights is None else weights.get(name, 1.0) for name in by_index}
    negative = next((name for name, weight in share.items() if weight < 0), None)
    if negative is not None:
        raise ValueError(f"the weight of index {negative} is {share[negative]}; it is below 0.")
    days = sorted({day for scores in by_index.values() if scores for day in scores})
    fused = []
    for day in days:
        known = {name: scores[day] for name, scores in by_index.items() if scores and day in scores}
        total = sum(share[name] for name in known)
        if total > 0:
            score = sum(share[name] * known[name] for name in known) / total
            missing = tuple(name for name in by_index if name not in known)
            fused.append(DayScore(day, score, MappingProxyType(known), missing))
    return sorted(fused, key=lambda entry: (-entry.score, entry.day))
