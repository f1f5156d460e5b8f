"""A day as eight series, one number per minute.

| series | per minute |
|---|---|
| events | events |
| bytes, packets | of both directions, as the flows report them |
| sources | different source addresses |
| ports | different destination ports |
| mean_score, max_score | overall threat score; 0 in a minute without a score |
| alerts | events that the detector flagged (`embed.flags`) |

A flow that was assembled from packet events (`embed.flows`) counts in the minute of its first packet:
as so many events, and as one source, one port, one score and at most one alert.

The length is the day's own: 1,440 minutes, or 1,380 and 1,500 when the clock changes. Sums are
integers (scores in units of 1e-9), so neither the order of the events nor the way they are cut
into batches changes a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunk import MINUTE_NS, ChunkSpan, EventBatch
from embed.distinct import MOST_KEYS, DistinctPerMinute
from embed.features import COLUMN
from embed.fingerprint import Fingerprint

SERIES = (
    "events",
    "bytes",
    "packets",
    "sources",
    "ports",
    "mean_score",
    "max_score",
    "alerts",
)
SCORE_UNIT = 1e-9


@dataclass(frozen=True, slots=True)
class DayTable:
    """A finished day.

    Attributes:
        values: float64 (8, minutes), in the order of `SERIES`.
        events: how many events are in it.
        minutes: its minutes.
        fingerprint: of what each event gave to the series; see `embed.fingerprint`.
        first_ns: time of the earliest event, the day's start if there is none.
        last_ns: time of the latest event, the day's end if there is none.
    """

    values: NDArray[np.float64]
    events: int
    minutes: int
    fingerprint: str
    first_ns: int
    last_ns: int


class DaySeries:
    """Collects the series of one day; memory depends on the day's length only.

    Args:
        span: the day.
        scratch: folder for a temporary file, should a minute see very many sources.
        most_keys: see `DistinctPerMinute`.
    """

    def __init__(
        self, span: ChunkSpan, *, scratch: Path | None = None, most_keys: int = MOST_KEYS
    ) -> None:
        self._span = span
        minutes = span.minutes
        self._sums = {
            name: np.zeros(minutes, dtype=np.int64)
            for name in ("events", "bytes", "packets", "alerts", "scores", "scored")
        }
        self._highest = np.zeros(minutes, dtype=np.int64)
        self._sources = DistinctPerMinute(minutes, most_keys=most_keys, scratch=scratch)
        self._ports = DistinctPerMinute(minutes, most_keys=most_keys, scratch=scratch)
        self._fingerprint = Fingerprint()
        self._first: int | None = None
        self._last: int | None = None

    def add(self, batch: EventBatch) -> None:
        """Count a batch. A time outside the day counts in the nearest minute."""
        minute = np.clip(
            (batch.times - self._span.start_ns) // MINUTE_NS, 0, self._span.minutes - 1
        )
        first, last = int(batch.times.min()), int(batch.ends.max())
        self._first = first if self._first is None else min(self._first, first)
        self._last = last if self._last is None else max(self._last, last)

        sizes, packets = batch.volumes
        self._count("events", minute, batch.counts)
        self._count("bytes", minute, sizes)
        self._count("packets", minute, packets)
        self._count("alerts", minute, batch.flagged.astype(np.int64))

        score = batch.features[:, COLUMN["overall_threat_score"]]
        known = ~np.isnan(score)
        units = np.full(len(batch), -1, dtype=np.int64)
        units[known] = np.rint(np.clip(score[known], 0.0, 1.0) / SCORE_UNIT)
        self._count("scores", minute[known], units[known])
        self._count("scored", minute[known], np.ones(int(known.sum()), dtype=np.int64))
        np.maximum.at(self._highest, minute[known], units[known])

        sources, ports = batch.sources, batch.ports
        present = sources >= 0
        self._sources.add(minute[present], sources[present])
        self._ports.add(minute[present], ports[present])
        fed = (minute, sizes, packets, units, batch.flagged.astype(np.int64), sources, ports)
        self._fingerprint.add(np.stack(fed, axis=1).astype(np.uint64))
        self._fingerprint.add(batch.origin_numbers)

    def finish(self) -> DayTable:
        """The whole day. The collector is spent."""
        sums = self._sums
        scored = np.maximum(sums["scored"], 1)
        series = {
            **{name: sums[name].astype(np.float64) for name in SERIES if name in sums},
            "sources": self._sources.counts().astype(np.float64),
            "ports": self._ports.counts().astype(np.float64),
            "mean_score": sums["scores"] * SCORE_UNIT / scored,
            "max_score": self._highest * SCORE_UNIT,
        }
        self.close()
        return DayTable(
            values=np.stack([series[name] for name in SERIES]),
            events=int(sums["events"].sum()),
            minutes=self._span.minutes,
            fingerprint=str(self._fingerprint),
            first_ns=self._span.start_ns if self._first is None else self._first,
            last_ns=self._span.end_ns if self._last is None else self._last,
        )

    def close(self) -> None:
        """Give temporary files back."""
        self._sources.close()
        self._ports.close()

    def _count(self, name: str, minute: NDArray[np.int64], amount: NDArray[np.int64]) -> None:
        np.add.at(self._sums[name], minute, amount)
