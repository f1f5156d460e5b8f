"""Synthetic series that repeat: strict periods with noise, drifting ones, and two at once.

A network learns to carry a period on only where most of what it sees has one. Periods are those
that clocks and calendars give in minutes, half-hours, hours and days, and any other. A cycle is a
sum of harmonics, a sequence of independent values, a bell above silence (a working day, the sun) or a
few spikes (timers); the whole may have a trend, a wandering level, a second and longer cycle, and
amplitudes that differ from one cycle to the next. The families have the contract of `series.py`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rng = np.random.Generator
Kind = Callable[[Rng, int], Array]

CLOCK = (4, 5, 7, 10, 12, 15, 20, 24, 30, 48, 52, 60, 96, 120, 144, 168, 240, 288, 360, 480, 720)


def period_of(rng: Rng) -> int:
    """A period of clock or calendar, or any from 3 to 500 steps."""
    if rng.random() < 0.6:
        return int(rng.choice(CLOCK))
    return round(float(np.exp(rng.uniform(np.log(3), np.log(500)))))


def cycle_of(rng: Rng, period: int) -> Array:
    """One cycle (period,) of unit deviation."""
    place = np.arange(period) / period
    shape = rng.choice(["harmonics", "values", "bell", "spikes"], p=[0.45, 0.2, 0.2, 0.15])
    if shape == "harmonics":
        orders = np.arange(1, int(rng.integers(2, 8)))
        weight = rng.normal(0, 1, len(orders)) / orders ** rng.uniform(0, 1.5)
        phases = rng.random(len(orders))[:, None]
        cycle = weight @ np.cos(2 * np.pi * (np.outer(orders, place) + phases))
    elif shape == "values":
        cycle = rng.normal(0, 1, period)
        if rng.random() < 0.5 and period > 8:
            cycle = np.convolve(np.tile(cycle, 3), np.ones(4) / 4, "same")[period : 2 * period]
    elif shape == "bell":
        middle, width = rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.6)
        cycle = np.maximum(0, 1 - ((place - middle) / (width / 2)) ** 2) ** rng.uniform(0.3, 2)
    else:
        cycle = np.zeros(period)
        cycle[rng.integers(0, period, int(rng.integers(1, 4)))] = rng.uniform(0.5, 3)
    return np.asarray(cycle / (cycle.std() + 1e-6))


def seasonal(rng: Rng) -> list[Kind]:  # noqa: C901, one set of hidden parameters
    """Kinds of repeating series; neighbours change the cycle, its period or what lies over it."""
    period = period_of(rng)
    cycle = cycle_of(rng, period)
    longer = period * int(rng.choice([2, 5, 7, 24]))
    second = cycle_of(rng, longer) * rng.uniform(0.2, 1) if rng.random() < 0.25 else None
    noise_level = float(rng.choice([0, 0.02, 0.1, 0.2, 0.4, 0.8], p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.1]))
    trend = float(rng.choice([0, 0, 1, 3])) * rng.normal()
    wander = float(rng.choice([0, 0, 0, 0.02, 0.1]))
    uneven = float(rng.choice([0, 0, 0.1, 0.4]))
    counted = bool(rng.random() < 0.25)
    volume = float(np.exp(rng.uniform(-1, 5)))
    floored = bool(rng.random() < 0.3)
    base = float(rng.choice([0, 3, 10]))

    def kind(change: Rng | None) -> Kind:  # noqa: C901, the ways to be a neighbour
        own, own_period, own_trend = cycle, period, trend
        if change is not None:
            what = change.integers(4)
            if what == 0:
                own = cycle + 0.6 * cycle_of(change, period)
            elif what == 1:
                own_period = max(3, round(period * float(change.choice([0.5, 0.8, 1.25, 2]))))
                own = np.interp(
                    np.arange(own_period) * period / own_period, np.arange(period), cycle
                )
            elif what == 2:
                own_trend = trend + change.normal(0, 2)
            else:
                own = np.roll(cycle[::-1], int(change.integers(period)))

        def draw(noise: Rng, length: int) -> Array:
            start = int(noise.integers(10_000))
            time = np.arange(start, start + length)
            series = own[time % own_period]
            if uneven:
                factors = noise.gamma(1 / uneven**2, uneven**2, length // own_period + 3)
                series = series * factors[time // own_period - start // own_period]
            if second is not None:
                series = series + second[time % longer]
            if wander:
                series = series + np.cumsum(noise.normal(0, wander, length))
            series = series + own_trend * np.linspace(0, 1, length)
            if counted:
                rate = volume * np.maximum(series - series.min() * (not floored), 0)
                return np.asarray(noise.poisson(np.minimum(rate, 1e9)), np.float64)
            if floored:
                series = np.maximum(series, 0)
            series = series + noise_level * noise.normal(0, 1, length) * (series != 0)
            return np.asarray((series + base) * noise.uniform(0.5, 2))

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]
