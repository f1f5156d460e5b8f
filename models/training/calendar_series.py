"""Synthetic series that people keep by the calendar: sales, visitors, load, the sun, rare counts.

What `seasonal_series.py` lacks: a level that grows and carries its season with it (monthly sales), a
cycle that is nothing for half of its length and differs from day to day (solar power), two calendars
multiplied (hours of a day by days of a week), and counts about a rate of that kind. Steps are
half-hours, hours, quarters of an hour, days, weeks, months or quarters. The families have the
contract of `series.py`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rng = np.random.Generator
Kind = Callable[[Rng, int], Array]  # (noise, length) -> series

# Steps of the short cycle, and of the long one if there is one.
CALENDARS = (
    (48, 336),
    (24, 168),
    (96, 672),
    (288, None),
    (7, 364),
    (7, None),
    (5, None),
    (52, None),
    (12, None),
    (12, None),
    (4, None),
    (60, 1440),
    (1440, None),
)


def _profile(rng: Rng, period: int, roughness: float) -> Array:
    """One cycle (period,) of unit deviation and mean 0: few harmonics and independent values."""
    place = np.arange(period) / period
    orders = np.arange(1, min(6, period // 2) + 1)
    weight = rng.normal(0, 1, len(orders)) / orders ** rng.uniform(0.5, 1.5)
    phases = rng.random(len(orders))[:, None]
    cycle = weight @ np.cos(2 * np.pi * (np.outer(orders, place) + phases))
    cycle = cycle / (cycle.std() + 1e-6) + roughness * rng.normal(0, 1, period)
    return np.asarray((cycle - cycle.mean()) / (cycle.std() + 1e-6))


def _level(
    noise: Rng, length: int, growth: float, curved: float, wander: float, straight: bool
) -> Array:
    """The level (length,) about 1: growth over 100 steps, straight or as a logarithm, and drift."""
    time = np.arange(length) / 100.0
    path = np.clip(growth * time + curved * time**2 / 10, -3, 4)
    if wander:
        path = path + np.cumsum(noise.normal(0, wander, length))
    return np.asarray(np.maximum(1 + path, 0.02) if straight else np.exp(np.clip(path, -6, 6)))


def calendar(rng: Rng) -> list[Kind]:
    """Kinds of levels times seasons: neighbours differ in season, growth, noise or counting."""
    short, long = CALENDARS[int(rng.integers(len(CALENDARS)))]
    roughness = float(rng.choice([0, 0.1, 0.4]))
    season = _profile(rng, short, roughness)
    weekly = _profile(rng, long // short, 1.0) if long and rng.random() < 0.7 else None
    yearly = _profile(rng, long, 0.0) if long and weekly is None else None
    depth = float(rng.uniform(0.05, 0.7))
    growth = float(rng.choice([0, 0.15, 0.6, 1.5])) * float(rng.normal(0.4, 1))
    curved = float(rng.choice([0, 0, 0.3])) * float(rng.normal())
    wander = float(rng.choice([0, 0, 0.005, 0.02]))
    spread = float(rng.choice([0, 0.02, 0.05, 0.15, 0.4]))
    counted = bool(rng.random() < 0.35)
    size = float(np.exp(rng.uniform(-1.5, 5) if counted else rng.uniform(0, 12)))
    additive, straight = bool(rng.random() < 0.3), bool(rng.random() < 0.5)

    def kind(change: Rng | None) -> Kind:
        own, own_depth, own_growth, own_spread = season, depth, growth, spread
        if change is not None:
            what = int(change.integers(4))
            own = season + 0.7 * _profile(change, short, 0.2) if what == 0 else season
            own_depth = depth * float(change.choice([0.4, 2.0])) if what == 1 else depth
            own_growth = growth + float(change.normal(0, 1)) if what == 2 else growth
            own_spread = spread + 0.2 if what == 3 else spread

        def draw(noise: Rng, length: int) -> Array:
            time = np.arange(length) + int(noise.integers(20_000))
            factor = 1 + own_depth * own[time % short]
            if weekly is not None:
                factor = factor * (1 + 0.5 * own_depth * weekly[time // short % len(weekly)])
            if yearly is not None:
                factor = factor * (1 + 0.5 * own_depth * yearly[time % len(yearly)])
            level = _level(noise, length, own_growth, curved, wander, straight)
            series = level + factor if additive else level * np.maximum(factor, 0)
            series = series * np.exp(own_spread * noise.normal(0, 1, length))
            series = series * size * noise.uniform(0.7, 1.4)
            if counted:
                return noise.poisson(np.clip(series, 0, 1e9)).astype(np.float64)
            return np.asarray(series)

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def daylight(rng: Rng) -> list[Kind]:
    """Kinds of days with a night of nothing: sun behind clouds, opening hours, commuting."""
    period = int(rng.choice([24, 48, 48, 96, 144, 288]))
    span = float(rng.uniform(0.25, 0.7))
    sharp = float(rng.choice([0.5, 1, 1, 1.5, 2.5]))
    cloudy = float(rng.uniform(0, 1))
    memory = float(rng.uniform(0, 0.9))
    flicker = float(rng.choice([0, 0.02, 0.1, 0.3]))
    middle = float(rng.uniform(0.35, 0.65))
    size = float(np.exp(rng.uniform(-1, 9)))
    counted = bool(rng.random() < 0.2)

    def kind(change: Rng | None) -> Kind:
        own_span, own_middle, own_cloudy, own_sharp = span, middle, cloudy, sharp
        if change is not None:
            what = int(change.integers(4))
            own_span = span * 0.7 if what == 0 else span
            own_middle = middle + float(change.choice([-0.12, 0.12])) if what == 1 else middle
            own_cloudy = 1 - cloudy if what == 2 else cloudy
            own_sharp = sharp * float(change.choice([0.4, 2.5])) if what == 3 else sharp

        def draw(noise: Rng, length: int) -> Array:
            time = np.arange(length) + int(noise.integers(period))
            place = (time % period) / period - own_middle
            up = np.abs(place) < own_span / 2
            clear = np.where(up, np.abs(np.cos(np.pi * place / own_span)), 0) ** own_sharp
            days = length // period + 2
            shocks = noise.normal(0, 1, days)
            weather = np.empty(days)
            weather[0] = shocks[0]
            for day in range(1, days):
                weather[day] = memory * weather[day - 1] + shocks[day] * np.sqrt(1 - memory**2)
            share = 1 - own_cloudy * 0.9 / (1 + np.exp(-2 * weather))
            series = clear * share[time // period]
            if flicker:
                wave = np.convolve(noise.normal(0, 1, length + 2), np.ones(3) / 3, "valid")
                series = series * np.clip(1 + flicker * own_cloudy * 2 * wave, 0, 2)
            series = series * size * noise.uniform(0.8, 1.25)
            return noise.poisson(series).astype(np.float64) if counted else np.asarray(series)

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def sparse(rng: Rng) -> list[Kind]:
    """Kinds of rare events: mostly nothing, then a size; the chance may follow a cycle."""
    chance = float(np.exp(rng.uniform(-5, -0.5)))
    period = int(rng.choice([7, 12, 24, 60, 144]))
    wave = np.clip(1 + rng.uniform(0, 1) * _profile(rng, period, 0.3), 0, None)
    heavy, unit = bool(rng.random() < 0.4), float(np.exp(rng.uniform(0, 6)))
    clustered = float(rng.choice([0, 0, 0.5, 0.9]))

    def kind(change: Rng | None) -> Kind:
        factor = 1.0 if change is None else float(change.choice([0.3, 1, 3]))
        turn = 0 if change is None else int(change.integers(period))
        own_heavy = heavy if change is None else bool(change.random() < 0.5)

        def draw(noise: Rng, length: int) -> Array:
            time = np.arange(length) + int(noise.integers(period)) * (clustered == 0)
            rate = np.clip(chance * factor * wave[(time + turn) % period], 0, 1)
            happens = noise.random(length) < rate
            if clustered:
                again = noise.random(length) < clustered
                happens[1:] |= happens[:-1] & again[1:]
            sizes = noise.pareto(1.5, length) + 1 if own_heavy else noise.poisson(2, length) + 1.0
            return np.asarray(happens * np.minimum(sizes, 1e4) * unit)

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]
