"""The time-series index: one row per day series and one for the day, 512 wide.

The day's row is ``normalise(sum_k P_k e_k / sqrt(8) + w (P_l l + P_h h))``: e_k is the row of series k,
P_k an orthonormal transform drawn from the series' name (`pooling.rotate`), l the code of the series'
means and peaks (`pooling.level_code`), h that of their hours (`pooling.hour_code`), and w = 0.5.

Why: a plain mean of the eight rows forgets which series a difference came from, and lets seven
quiet series drown one. Under the transforms the rows are nearly orthogonal, so nothing cancels:
the inner product of two days is about the mean of the inner products of their series, and where
only series k differs the two sums differ by exactly ``P_k (e_k - e'_k)``, which has its full
length. The level code keeps a day of twice the volume apart, which an encoder that scales its
input may not. The code of the hours keeps a working day apart that begins five hours late: a good
encoder of series knows a shape wherever it stands, but a day has a clock.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunk import ChunkSpan, EventBatch
from embed.coverage import covered, window_shares, windows
from embed.embedder import Embedder
from embed.onnx_session import OnnxSession, SessionOptions, model_facts
from embed.pooling import hour_code, level_code, normalise, rotate, weighted_sum
from embed.recipes import RECIPES
from embed.rows import JSON, Embedded, RowBlock, RowFacts, Vectors
from embed.series import SERIES, DaySeries, DayTable
from models.store import ModelFiles

RECIPE = RECIPES["timeseries"]
LEVEL_WEIGHT = 0.5
HOUR_WEIGHT = 0.5
# A score of 1 counts as a thousand, so that levels of scores span about as many doublings as counts.
LEVEL_UNITS = {"mean_score": 1000.0, "max_score": 1000.0}
OVERLAP = 0.125
MINUTES_PER_HOUR = 60


class TimeSeriesEmbedder(Embedder):
    """See the module and `Embedder`.

    Args:
        files: the encoder, from `models.store.locate("timeseries")`.
        threads: threads of the encoder.
        scratch: folder for temporary files.
    """

    name = "timeseries"

    def __init__(self, files: ModelFiles, *, threads: int = 2, scratch: Path | None = None) -> None:
        super().__init__()
        self.dimension = files.entry.dimension
        self.model = model_facts(files, recipe=RECIPE)
        self._context = files.entry.context
        self._scratch = scratch
        self._series: DaySeries | None = None
        self._session = OnnxSession(
            files,
            inputs=("series",),
            output="embedding",
            width=self.dimension,
            options=SessionOptions(threads=threads),
        )

    def embed_series(self, values: NDArray[np.floating]) -> Vectors:
        """Embed series of equal length, (n, minutes) to float32 (n, 512) of length 1.

        Series longer than the encoder's context go through in overlapping windows, weighted by
        how much of the day each stands for.
        """
        length = values.shape[1]
        cuts = windows(length, self._context, int(self._context * OVERLAP))
        shares = window_shares(length, cuts)
        pooled = np.zeros((len(values), self.dimension))
        for (start, end), share in zip(cuts, shares, strict=True):
            feed = np.ascontiguousarray(values[:, start:end], dtype=np.float32)
            pooled += share * self._session.run({"series": feed})
        return normalise(pooled)

    def _reset(self, span: ChunkSpan) -> None:
        if self._series is not None:
            self._series.close()
        self._series = DaySeries(span, scratch=self._scratch)

    def _add(self, batch: EventBatch) -> None:
        self._begun().add(batch)

    def _finish(self, span: ChunkSpan) -> Embedded:
        table = self._begun().finish()
        self._series = None
        rows = self.embed_series(table.values)
        vectors = np.vstack((day_row(rows, table.values), rows))
        facts = [_day_facts(span, table)]
        facts += [_series_facts(name, table, span) for name in SERIES]
        cuts = windows(table.minutes, self._context, int(self._context * OVERLAP))
        coverage = {"events": table.events, "minutes": covered(table.minutes, cuts)}
        return Embedded(iter([RowBlock(vectors, facts)]), coverage)

    def _begun(self) -> DaySeries:
        if self._series is None:
            raise self._out_of_order()
        return self._series


def day_row(rows: NDArray[np.floating], values: NDArray[np.floating]) -> Vectors:
    """The row of a day, float32 (1, d), from its series' rows (8, d) and values (8, minutes)."""
    dimension = rows.shape[1]
    turned = np.stack(
        [rotate(row, f"series/{name}") for name, row in zip(SERIES, rows, strict=True)]
    )
    voice = weighted_sum(turned, np.full(len(SERIES), 1.0 / np.sqrt(len(SERIES))))
    levels: list[float] = []
    for name, series in zip(SERIES, values, strict=True):
        unit = LEVEL_UNITS.get(name, 1.0)
        levels += [unit * float(series.mean()), unit * float(series.max(initial=0.0))]
    voice += LEVEL_WEIGHT * rotate(level_code(levels, dimension), "levels")
    voice += HOUR_WEIGHT * rotate(hour_code(values, dimension), "hours")
    return normalise(voice)


def _day_facts(span: ChunkSpan, table: DayTable) -> RowFacts:
    series: dict[str, JSON] = {
        name: _summary(name, values) for name, values in zip(SERIES, table.values, strict=True)
    }
    return RowFacts(
        "day",
        span.day.isoformat(),
        table.events,
        table.first_ns,
        table.last_ns,
        {"minutes": table.minutes, "series": series, "fingerprint": table.fingerprint},
    )


def _series_facts(name: str, table: DayTable, span: ChunkSpan) -> RowFacts:
    values = table.values[SERIES.index(name)]
    detail: dict[str, JSON] = {"day": span.day.isoformat(), **_summary(name, values)}
    return RowFacts("series", name, table.events, table.first_ns, table.last_ns, detail)


def _summary(name: str, values: NDArray[np.float64]) -> dict[str, JSON]:
    """Total, peak, its minute, minutes with anything, and the day by hours."""
    peak = int(values.argmax())
    hours = [
        values[start : start + MINUTES_PER_HOUR]
        for start in range(0, len(values), MINUTES_PER_HOUR)
    ]
    score = name in LEVEL_UNITS
    by_hour = [round(float(h.max() if score else h.sum()), 9) for h in hours]
    return {
        "total": round(float(values.sum()), 9),
        "peak": round(float(values[peak]), 9),
        "peak_minute": peak,
        "active_minutes": int((values > 0).sum()),
        "hours": by_hour,
    }
