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

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from consumer.days import NS_PER_DAY, NS_PER_SECOND, day_bounds_ns
from consumer.evaluation.questions import read_flows
from consumer.evaluation.sources import Sources
from consumer.questions.novelty import novelties
from consumer.replay.flows import FlowRecording
from embed.attack import AttackEmbedder
from embed.chunk import ChunkSpan, EventBatch
from embed.embedder import Embedder
from embed.rows import Vectors
from embed.semantic import SemanticEmbedder
from embed.timeseries import TimeSeriesEmbedder
from models.evaluate_attack import BENIGN, auroc
from models.store import locate
from proto.network_security_pb2 import NetworkSecurityEvent

SEED = 5
THREADS = 2
ORDINARY = 70
EACH = 4
FLOWS_PER_DAY = 60
PASTS = (5, 20, 60)
DRAWS = 400
FIRST = date(2001, 1, 1)
FAMILIAR = ("FTP-Patator", "DoS Hulk", "Web Attack - Brute Force")
# What is planted: kinds of attack, and changes of the ordinary traffic.
UNSEEN = ("DDoS", "DoS GoldenEye", "DoS Slowloris", "Infiltration - Portscan", "SSH-Patator")
CHANGES = ("three times the volume", "shifted working day", "burst in one minute")
ATTACK_FLOWS = (15, 60)
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
_HOUR_NS = 3600 * NS_PER_SECOND

Event = tuple[int, NetworkSecurityEvent]


@dataclass(frozen=True, slots=True)
class MadeDay:
    """A day to embed.

    Attributes:
        kind: "ordinary", or what was planted in it.
        events: time of the day (ns since its start) and event, in the order of time.
    """

    kind: str
    events: list[Event]


class DayMaker:
    """Draws days out of recorded flows; see the module.

    Args:
        flows: Parquet file of labelled flows, ordered by time.
        seed: of all that is drawn.
    """

    def __init__(self, flows: Path, *, seed: int = SEED) -> None:
        self._rng = np.random.default_rng(seed)
        recorded = list(FlowRecording(flows, node="evaluation", seed=0))
        labels = read_flows(flows).label
        self._by_label: dict[str, list[Event]] = {}
        self._benign_of: dict[int, list[Event]] = {}
        for (time_ns, event), label in zip(recorded, labels.tolist(), strict=True):
            day, of_day = divmod(time_ns, NS_PER_DAY)
            self._by_label.setdefault(label, []).append((of_day, event))
            if label == BENIGN:
                self._benign_of.setdefault(day, []).append((of_day, event))

    def ordinary(self) -> MadeDay:
        """A day like others: benign flows, and on two in five days a familiar nuisance."""
        events = self._benign(1.0)
        for label in FAMILIAR:
            if self._rng.random() < 0.2:
                events += self._some(self._by_label[label], self._size())
        return MadeDay("ordinary", sorted(events, key=_time))

    def planted(self, kind: str) -> MadeDay:
        """An ordinary day with `kind`, one of `UNSEEN` or `CHANGES`, in it."""
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
        return MadeDay(kind, sorted(events, key=_time))

    def _benign(self, volume: float) -> list[Event]:
        day = self._rng.choice(sorted(self._benign_of))
        mean = volume * FLOWS_PER_DAY * float(np.exp(0.15 * self._rng.standard_normal()))
        return self._some(self._benign_of[int(day)], int(self._rng.poisson(mean)))

    def _size(self) -> int:
        return int(self._rng.integers(*ATTACK_FLOWS))

    def _some(self, events: list[Event], count: int) -> list[Event]:
        """Events in a row, as an attack has them, or drawn anew where there are too few."""
        return [events[place] for place in self._rng.integers(len(events), size=count)]


def _time(event: Event) -> int:
    return event[0]


def day_rows(embedder: Embedder, days: Sequence[MadeDay]) -> Vectors:
    """The day's row of each day, float32 (days, d)."""
    rows = []
    for number, made in enumerate(days):
        day = FIRST + timedelta(days=number)
        start_ns, end_ns = day_bounds_ns(day, ZoneInfo("UTC"))
        embedder.begin(ChunkSpan(day, 1, start_ns, end_ns, len(made.events)))
        times = [start_ns + at for at, _ in made.events]
        embedder.add(EventBatch(times, [event for _, event in made.events]))
        rows.append(next(embedder.finish().blocks).vectors[0])
    return np.stack(rows)


def asked(rows: Mapping[str, Vectors], past: NDArray[np.int64], today: int) -> dict[str, float]:
    """Novelty of one day after these past ones, by index and over `all`."""
    places = [*past.tolist(), today]
    days = [FIRST + timedelta(days=number) for number in range(len(places))]
    last = novelties({name: (days, vectors[places]) for name, vectors in rows.items()})[-1]
    # There is a past and every index holds every day, so that none is None.
    return {name: value or 0.0 for name, value in (("all", last.novelty), *last.by_index.items())}


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
    kinds = [kind for kind in (*UNSEEN, *CHANGES) for _ in range(EACH)]
    days = [maker.ordinary() for _ in range(ORDINARY)] + [maker.planted(kind) for kind in kinds]
    rows = {
        name: day_rows(embedder, days)
        for name, embedder in (
            ("timeseries", TimeSeriesEmbedder(locate("timeseries", cache_dir), threads=THREADS)),
            ("semantic", SemanticEmbedder(locate("semantic", cache_dir), threads=THREADS)),
            ("attack", AttackEmbedder(locate("attack", cache_dir), threads=THREADS)),
        )
    }
    return {
        "source": sources.named,
        "days": {"ordinary": ORDINARY, "planted": len(kinds)},
        "flows": sum(len(made.events) for made in days),
        "by_past": [_calibration(rows, np.array(kinds), past) for past in PASTS],
        "seconds": round(time.monotonic() - started, 1),
    }


def _calibration(rows: Mapping[str, Vectors], kinds: NDArray[np.str_], past: int) -> dict[str, Any]:
    rng = np.random.default_rng((SEED, past))
    ordinary: dict[str, list[float]] = {}
    planted: dict[str, list[float]] = {}
    for number in range(DRAWS):
        drawn = rng.permutation(ORDINARY)[: past + 1]
        today = ORDINARY + number % len(kinds)
        for told, last in ((ordinary, int(drawn[-1])), (planted, today)):
            for name, novelty in asked(rows, drawn[:-1], last).items():
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
