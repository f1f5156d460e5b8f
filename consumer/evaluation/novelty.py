"""Measures `dayfold novelty` on many days made out of the flows, with the three real day rows.

An **ordinary** day is made of benign flows of one of the recorded days, as many as chance says, each
at its own time of day, and of up to two familiar nuisances: behaviours that come back on every
fifth day or so. A **planted** day is an ordinary one with a behaviour in it that no other day
has: an attack of another kind, or a change of the ordinary traffic. Which flows were flagged
is what the simulated detector says of them.

Days are embedded once; then pasts are drawn from the ordinary ones again and again, each with one
more day at its end, ordinary or planted, whose novelty is asked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.days import NS_PER_DAY, NS_PER_SECOND
from consumer.evaluation.made_days import Event, MadeDay, day_rows, recorded_events, time_of
from consumer.evaluation.sources import Sources
from consumer.questions.novelty import Distances, standing
from embed.attack import AttackEmbedder
from embed.embedder import Embedder
from embed.rows import Vectors
from embed.semantic import SemanticEmbedder
from embed.timeseries import TimeSeriesEmbedder
from models.evaluate_attack import auroc
from models.labels import BENIGN
from models.store import locate

SEED = 5
THREADS = 2
ORDINARY = 70
EACH = 4
FLOWS_PER_DAY = 60
PASTS = (5, 20, 60)
DRAWS = 400
FIRST = date(2001, 1, 1)
# What is planted: kinds of attack, and changes of the ordinary traffic. Of other flows than the shipped ones, see
# `attack_kinds`.
FAMILIAR = ("FTP-Patator", "DoS Hulk", "Web Attack - Brute Force")
UNSEEN = ("DDoS", "DoS GoldenEye", "DoS Slowloris", "Infiltration - Portscan", "SSH-Patator")
CHANGES = ("three times the volume", "shifted working day", "burst in one minute")
ATTACK_FLOWS = (15, 60)
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
_HOUR_NS = 3600 * NS_PER_SECOND


class DayMaker:
    """Draws days out of recorded flows; see the module.

    Args:
        flows: Parquet file of labelled flows, ordered by time.
        seed: of all that is drawn.

    Attributes:
        kinds: what can be planted.
    """

    def __init__(self, flows: Path, *, seed: int = SEED) -> None:
        self._rng = np.random.default_rng(seed)
        recorded = recorded_events(flows)
        self._by_label, self._benign_of = recorded.by_label, recorded.benign_by_day
        self._familiar, unseen = attack_kinds(recorded.by_label)
        self.kinds = (*unseen, *CHANGES)

    def ordinary(self) -> MadeDay:
        """A day like others: benign flows, and on two in five days a familiar nuisance."""
        events = self._benign(1.0)
        for label in self._familiar:
            if self._rng.random() < 0.2:
                events += self._some(self._by_label[label], self._size())
        return MadeDay("ordinary", sorted(events, key=time_of))

    def planted(self, kind: str) -> MadeDay:
        """An ordinary day with `kind`, one of `kinds`, in it."""
        if kind == "three times the volume":
            events = self._benign(3.0)
        elif kind == "shifted working day":
            shift = int(self._rng.choice((-1, 1)) * self._rng.integers(4, 7)) * _HOUR_NS
            events = [((at + shift) % NS_PER_DAY, event) for at, event in self._benign(1.0)]
        elif kind == "burst in one minute":
            start = int(self._rng.integers(NS_PER_DAY - 60 * NS_PER_SECOND))
            burst = self._some(self._by_label[BENIGN], self._size())
            events = self._benign(1.0) + [
                (start + int(self._rng.integers(60 * NS_PER_SECOND)), event) for _, event in burst
            ]
        else:
            events = self._benign(1.0) + self._some(self._by_label[kind], self._size())
        return MadeDay(kind, sorted(events, key=time_of))

    def _benign(self, volume: float) -> list[Event]:
        day = self._rng.choice(list(self._benign_of))
        mean = volume * FLOWS_PER_DAY * float(np.exp(0.15 * self._rng.standard_normal()))
        return self._some(self._benign_of[int(day)], int(self._rng.poisson(mean)))

    def _size(self) -> int:
        return int(self._rng.integers(*ATTACK_FLOWS))

    def _some(self, events: list[Event], count: int) -> list[Event]:
        """Events in a row, as an attack has them, or drawn anew where there are too few."""
        return [events[place] for place in self._rng.integers(len(events), size=count)]


def attack_kinds(labels: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which attacks are familiar and which are planted: `FAMILIAR` and `UNSEEN` where all are there.

    Of other flows every second label by name is planted, up to five, and up to three of the others are familiar.
    """
    if {*FAMILIAR, *UNSEEN} <= set(labels):
        return FAMILIAR, UNSEEN
    attacks = sorted(set(labels) - {BENIGN})
    return tuple(attacks[1::2][:3]), tuple(attacks[::2][:5])


def asked(gaps: Mapping[str, Distances], places: NDArray[np.int64]) -> dict[str, float]:
    """Novelty of the last of some days after the others, by index and over `all`.

    Args:
        gaps: by index, the distances between all days, infinite between a day and itself.
        places: which days, today's last.
    """
    overall, by_index = standing(
        {name: between[np.ix_(places, places)].min(axis=1) for name, between in gaps.items()}
    )
    # There is a past and every index holds every day, so that none is None.
    return {name: value or 0.0 for name, value in (("all", overall), *by_index.items())}


def gaps_of(rows: Vectors) -> Distances:
    """One minus the cosine of each two of the rows, float64 (n, n); infinite on the diagonal."""
    gaps: Distances = np.maximum(0.0, 1.0 - (rows @ rows.T).astype(np.float64))
    np.fill_diagonal(gaps, np.inf)
    return gaps


def measure_novelty(sources: Sources) -> dict[str, Any]:
    """How well calibrated novelty is, and how well it tells planted days from ordinary ones.

    Returns:
        `by_past`: one entry per length of the past. In it `by_index`, and under `all` over all of
        them: `ordinary` and `planted`, the share of such days with a novelty of at least 0.5, 0.8,
        0.9, 0.95, 0.99; `auroc` of planted against ordinary days; `by_kind`, the share of each kind of
        planted day at 0.9 or more. Calibrated means that `ordinary` is at most one minus the level.

    Raises:
        ModelError: an encoder is not on this machine, or altered.
    """
    started = time.monotonic()
    maker = DayMaker(sources.flows)
    cache_dir = sources.cache_dir
    kinds = [kind for kind in maker.kinds for _ in range(EACH)]
    days = [maker.ordinary() for _ in range(ORDINARY)] + [maker.planted(kind) for kind in kinds]
    with tempfile.TemporaryDirectory(prefix="novelty-") as scratch:
        # The same flows come back on many days, and so do their descriptions.
        known = Path(scratch) / "sentences"
        embedders: tuple[Embedder, ...] = (
            TimeSeriesEmbedder(locate("timeseries", cache_dir), threads=THREADS),
            SemanticEmbedder(locate("semantic", cache_dir), threads=THREADS, cache=known),
            AttackEmbedder(locate("attack", cache_dir), threads=THREADS),
        )
        gaps = {embedder.name: gaps_of(day_rows(embedder, days)) for embedder in embedders}
    return {
        "source": sources.named,
        "days": {"ordinary": ORDINARY, "planted": len(kinds)},
        "flows": sum(len(made.events) for made in days),
        "by_past": [_calibration(gaps, np.array(kinds), past) for past in PASTS],
        "seconds": round(time.monotonic() - started, 1),
    }


def _calibration(
    gaps: Mapping[str, Distances], kinds: NDArray[np.str_], past: int
) -> dict[str, Any]:
    rng = np.random.default_rng((SEED, past))
    ordinary: dict[str, list[float]] = {}
    planted: dict[str, list[float]] = {}
    for number in range(DRAWS):
        drawn = rng.permutation(ORDINARY)[: past + 1]
        today = ORDINARY + number % len(kinds)
        for told, places in ((ordinary, drawn), (planted, np.append(drawn[:-1], today))):
            for name, novelty in asked(gaps, places).items():
                told.setdefault(name, []).append(novelty)
    kind_of = np.resize(kinds, DRAWS)
    found = {}
    for name, values in ordinary.items():
        quiet, strange = np.array(values, np.float32), np.array(planted[name], np.float32)
        found[name] = {
            "ordinary": _at_least(quiet),
            "planted": _at_least(strange),
            "auroc": round(auroc(strange, quiet), 3),
            "by_kind": {
                kind: _at_least(strange[kind_of == kind])["0.9"] for kind in np.unique(kinds)
            },
        }
    return {"past": past, "draws": DRAWS, "by_index": found}


def _at_least(values: NDArray[np.float32]) -> dict[str, float]:
    return {str(level): round(float((values >= level - 1e-6).mean()), 3) for level in LEVELS}
