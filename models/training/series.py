"""Synthetic series for training the time-series encoder.

Every family is a *kind*: a set of hidden parameters from which any number of series can be
drawn. Two draws of one kind share their behaviour, not their noise; a neighbouring kind is a
small change of the parameters. That gives forecasting targets and, without any label of a real
data set, the pairs and near misses that a contrastive term needs.

`smooth` follows the idea of KernelSynth (A. F. Ansari et al., "Chronos: Learning the Language of
Time Series", 2024): sums and products of periodic, smooth, linear and noise components. The
Gaussian processes are drawn with random Fourier features (A. Rahimi, B. Recht, 2007) and not
from an exact covariance, which is far cheaper at 2,000 steps. `mix` follows its TSMixup.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.labels import BENIGN, plain_labels
from models.training.calendar_series import calendar, daylight, sparse
from models.training.seasonal_series import seasonal

Array = NDArray[np.float64]
Rng = np.random.Generator
Kind = Callable[[Rng, int], Array]  # (noise, length) -> series


def _features(rng: Rng, scale: float, count: int = 24) -> tuple[Array, Array, Array]:
    return (
        rng.normal(0, 1 / scale, count),
        rng.uniform(0, 2 * np.pi, count),
        rng.normal(0, 1, count) * np.sqrt(2 / count),
    )


def _gaussian_process(parts: tuple[Array, Array, Array], time: Array) -> Array:
    frequency, phase, weight = parts
    return np.asarray(weight @ np.cos(2 * np.pi * np.outer(frequency, time) + phase[:, None]))


def _harmonics(amplitudes: Array, phases: Array, cycles: float, time: Array) -> Array:
    orders = np.arange(1, len(amplitudes) + 1)
    angle = 2 * np.pi * cycles * np.outer(orders, time) + phases[:, None]
    return np.asarray(amplitudes @ np.cos(angle))


def _warped(rng: Rng, length: int, strength: float) -> Array:
    """Time from 0 to 1 with a smooth, monotonic distortion and a small shift."""
    time = np.linspace(0, 1, length, endpoint=False)
    bend = strength * rng.normal(0, 1, 3)
    for order, weight in enumerate(bend, start=1):
        time = time + weight / (2 * np.pi * order) * np.sin(2 * np.pi * order * time)
    return time + strength * rng.normal(0, 0.3)


CURVES: dict[str, Callable[[Any, Array], Array]] = {
    "gp": _gaussian_process,
    "periodic": lambda value, time: _harmonics(value[0], value[1], value[2], time),
    "trend": lambda value, time: value[0] * time + value[1] * time**2,
}


def _neighbour(part: tuple[str, Any], change: Rng | None) -> tuple[str, Any]:
    """The part itself, or one that differs a little."""
    name, value = part
    if change is None or change.random() < 0.4:
        return part
    if name == "gp":
        frequency, phase, weight = value
        return name, (frequency, phase, weight + change.normal(0, 0.15, 24))
    if name == "periodic":
        amplitude, phases, cycles = value
        amplitude = amplitude + change.normal(0, 0.35, len(amplitude))
        return name, (amplitude, phases, cycles * float(change.choice([1, 1, 1, 1.25, 2, 0.5])))
    return name, (value[0] + change.normal(0, 1.5), value[1])


def smooth(rng: Rng) -> list[Kind]:
    """Kinds of kernel-like curves: one to four components, added or multiplied."""
    count = int(rng.integers(1, 5))
    base: list[tuple[str, Any]] = []
    for _ in range(count):
        which = rng.choice(["gp", "periodic", "trend"], p=[0.45, 0.4, 0.15])
        if which == "gp":
            base.append(("gp", _features(rng, float(np.exp(rng.uniform(-4.5, 0.5))))))
        elif which == "periodic":
            orders = int(rng.integers(1, 7))
            decay = rng.uniform(0.3, 1.5)
            amplitude = rng.normal(0, 1, orders) / np.arange(1, orders + 1) ** decay
            cycles = float(np.exp(rng.uniform(0, 4)))
            base.append(("periodic", (amplitude, rng.uniform(0, 6.3, orders), cycles)))
        else:
            base.append(("trend", (rng.normal(0, 2), rng.normal(0, 1))))
    products = rng.random(count) < 0.25
    noise_level = float(rng.choice([0, 0.02, 0.1, 0.3, 0.8]))
    strength = float(rng.choice([0, 0.01, 0.03]))

    def kind(change: Rng | None) -> Kind:
        parts = [_neighbour(part, change) for part in base]
        bump_at, bump_width = (change or rng).uniform(0.1, 0.9), (change or rng).uniform(0.01, 0.08)
        bump = 0.0 if change is None else float(change.choice([0, 0, 0.7, -0.7, 2]))

        def draw(noise: Rng, length: int) -> Array:
            time = _warped(noise, length, strength)
            total = np.zeros(length)
            for (name, value), product in zip(parts, products, strict=True):
                curve = CURVES[name](value, time)
                total = total * (1 + curve) if product else total + curve
            spread = total.std() + 1e-6
            total = total + bump * spread * np.exp(-(((time - bump_at) / bump_width) ** 2) / 2)
            noisy = total + noise_level * spread * noise.normal(0, 1, length)
            return np.asarray(noisy * noise.uniform(0.8, 1.25))

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def contour(rng: Rng) -> list[Kind]:
    """Kinds of closed outlines: one turn of a Fourier series, few sharp details apart."""
    orders = int(rng.integers(4, 24))
    decay = rng.uniform(0.7, 1.8)
    base = rng.normal(0, 1, orders) / np.arange(1, orders + 1) ** decay
    phases = rng.uniform(0, 2 * np.pi, orders)
    noise_level = float(rng.choice([0, 0.01, 0.05]))
    shifted = rng.random() < 0.3

    def kind(change: Rng | None) -> Kind:
        # A neighbour differs all round, or by a notch at one place.
        local = change is not None and change.random() < 0.4
        extra = 0.0 if change is None or local else change.normal(0, 0.35, orders)
        amplitude = base * (1 + extra) + np.asarray(extra) * 0.05
        at, width = (change or rng).uniform(0, 1), (change or rng).uniform(0.01, 0.08)
        depth = float((change or rng).normal(0, 0.8)) if local else 0.0

        def draw(noise: Rng, length: int) -> Array:
            time = _warped(noise, length, 0.015) + (noise.random() if shifted else 0.0)
            jitter = amplitude * (1 + noise.normal(0, 0.12, orders))
            series = _harmonics(jitter, phases, 1.0, time)
            if depth:
                away = (time - at + 0.5) % 1 - 0.5
                series = series + depth * series.std() * np.exp(-((away / width) ** 2) / 2)
            return np.asarray(series + noise_level * series.std() * noise.normal(0, 1, length))

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def switching(rng: Rng) -> list[Kind]:
    """Kinds of appliances: states with levels, dwell times, ripple and a decay at switch-on."""
    states = int(rng.integers(2, 5))
    levels = np.exp(rng.normal(0, 1.2, states))
    dwell = np.exp(rng.uniform(0.5, 4.5, states))
    ripple, decay = rng.choice([0, 0.01, 0.05, 0.2]), rng.choice([0, 0, 0.5, 2])
    regular = rng.random() < 0.5

    def kind(change: Rng | None) -> Kind:
        moved = change.normal(0, 0.5, states) if change is not None else np.zeros(states)
        slower = change.normal(0, 0.6, states) if change is not None else np.zeros(states)
        own_levels, own_dwell = levels * np.exp(moved), dwell * np.exp(slower)

        def draw(noise: Rng, length: int) -> Array:
            series = np.empty(length)
            at, state = 0, int(noise.integers(states))
            while at < length:
                spread = 1.0 + 0.05 * noise.normal() if regular else noise.exponential(1.0)
                stay = max(1, round(own_dwell[state] * abs(spread)))
                end = min(length, at + stay)
                steps = np.arange(end - at)
                series[at:end] = own_levels[state] * (1 + decay * np.exp(-steps / 3.0))
                at, state = end, (state + 1) % states
            return np.asarray(series * (1 + ripple * noise.normal(0, 1, length)))

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def counts(rng: Rng) -> list[Kind]:
    """Kinds of counts per minute: a working day, night work, beacons, bursts, scans, silence."""
    volume = float(np.exp(rng.uniform(-3, 7)))
    quiet = float(rng.choice([0.0, 0.02, 0.2, 1.0]))
    start, hours, sharp = rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.45), rng.uniform(15, 120)
    lunch, dispersion = rng.uniform(0, 0.7), float(rng.choice([0.0, 0.1, 0.5, 2.0]))
    beacon, heavy = int(rng.choice([0, 0, 5, 15, 60])), bool(rng.random() < 0.3)

    def kind(change: Rng | None) -> Kind:
        who = change or rng
        shift = 0.0 if change is None else float(who.choice([0, 0, 0.08, -0.1, 0.25]))
        factor = 1.0 if change is None else float(who.choice([1, 1, 2, 4, 0.25]))
        bursts = 0 if change is None else int(who.choice([0, 1, 1, 3, 10]))
        width, strength = float(np.exp(who.uniform(0, 4))), float(np.exp(who.uniform(1, 5)))
        every = beacon if change is None else int(who.choice([beacon, 0, 5, 30]))

        def draw(noise: Rng, length: int) -> Array:
            time = np.linspace(0, 1, length, endpoint=False) - shift + 0.01 * noise.normal()
            edge = 1 / (1 + np.exp(-sharp * (time - start)))
            fall = 1 / (1 + np.exp(sharp * (time - start - hours)))
            middle = np.exp(-(((time - start - hours / 2) * 25) ** 2))
            rate = volume * factor * (quiet + edge * fall * (1 - lunch * middle))
            if every:
                rate = rate + (np.arange(length) % every == 0) * volume * 3
            for at in noise.integers(0, length, bursts):
                rate[at : at + max(1, int(width))] += strength * max(volume, 1.0)
            if dispersion:
                rate = rate * noise.gamma(1 / dispersion, dispersion, length)
            series = noise.poisson(np.minimum(rate, 1e9)).astype(np.float64)
            return series * np.exp(noise.normal(6, 1.5, length)) if heavy else series

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def walks(rng: Rng) -> list[Kind]:
    """Kinds of autoregressive noise, random walks and changes of regime."""
    first, second = rng.uniform(-0.6, 1.0), rng.uniform(-0.6, 0.3)
    walk, jumps = bool(rng.random() < 0.4), float(rng.choice([0, 0, 0.004, 0.02]))
    tails = float(rng.choice([0, 3]))

    def kind(change: Rng | None) -> Kind:
        lag1 = first if change is None else float(np.clip(first + change.normal(0, 0.3), -0.8, 1))
        lag2 = min(second, 0.98 - abs(lag1))

        def draw(noise: Rng, length: int) -> Array:
            steps = noise.standard_t(tails, length) if tails else noise.normal(0, 1, length)
            steps = steps + (noise.random(length) < jumps) * noise.normal(0, 15, length)
            if walk:
                return np.asarray(np.cumsum(steps + lag1 * 0.05))
            # The response to a shock is short enough to convolve with its first 64 steps.
            response = np.zeros(64)
            response[0], response[1] = 1.0, lag1
            for i in range(2, 64):
                response[i] = lag1 * response[i - 1] + lag2 * response[i - 2]
            return np.asarray(np.convolve(steps, response)[:length])

        return draw

    return [kind(None), *(kind(rng) for _ in range(3))]


def flow_bank(flows: Path, days: tuple[str, ...]) -> list[Array]:
    """Per-minute series of the real flows of `days`: groups by day, label, host and quantity."""
    table = pq.read_table(flows)
    stamp = table["timestamp"].to_numpy().astype("datetime64[us]")
    minute = ((stamp - stamp.astype("datetime64[D]")).astype(np.int64) // 60_000_000).astype(int)
    day = stamp.astype("datetime64[D]").astype(str)
    hosts = np.array(table["source_ip"].to_pylist())
    targets = np.array(table["destination_ip"].to_pylist())
    labels = plain_labels(table["label"].to_pylist())
    port = table["destination_port"].to_numpy()
    weights = {
        "events": np.ones(len(minute)),
        "bytes": table["total_forward_bytes"].to_numpy() + table["total_backward_bytes"].to_numpy(),
        "packets": table["total_forward_packets"].to_numpy() * 1.0,
        "low ports": (port < 1024) * 1.0,
    }
    bank: list[Array] = []
    for name in days:
        today = day == name
        groups = [today, today & (labels == BENIGN), today & (labels != BENIGN)]
        groups += [today & (labels == label) for label in np.unique(labels[today])]
        for column in (hosts, targets):
            names, sizes = np.unique(column[today], return_counts=True)
            groups += [today & (column == names[i]) for i in np.argsort(-sizes)[:15]]
        for chosen in groups:
            if chosen.sum() >= 30:
                bank.extend(
                    np.bincount(minute[chosen], weight[chosen], minlength=1440).astype(np.float64)
                    for weight in weights.values()
                )
    return bank


class Maker:
    """Draws batches of series; the same seed and calls give the same series."""

    def __init__(self, seed: int, bank: list[Array]) -> None:
        self.rng = np.random.default_rng(seed)
        self.bank = bank
        self.families = [smooth, contour, switching, counts, walks, seasonal]
        self.families += [calendar, daylight, sparse]
        self.chances = np.array([0.20, 0.16, 0.11, 0.13, 0.05, 0.15, 0.13, 0.05, 0.02])

    def _flows(self) -> list[Kind]:
        rng = self.rng
        base = [self.bank[i] for i in rng.integers(0, len(self.bank), 3)]
        quiet, as_found = rng.uniform(0, 2), bool(rng.random() < 0.4)

        def kind(choice: int) -> Kind:
            def draw(noise: Rng, length: int) -> Array:
                series = np.tile(base[choice], 3 + length // 1440)
                if as_found:  # a window of the day as it was, to forecast from
                    at = int(noise.integers(0, 1440))
                    return series[at : at + length]
                at = int(noise.integers(0, 40))
                series = series[at : at + length] if length >= 700 else series[600 + at :][:length]
                thinned = noise.binomial(series.astype(np.int64).clip(0), noise.uniform(0.6, 1.0))
                return (thinned + noise.poisson(quiet, length)).astype(np.float64)

            return draw

        return [kind(0), kind(1), kind(2)]

    def batch(self, size: int, length: int, draws: int = 2) -> tuple[Array, NDArray[np.int64]]:
        """`size` series of `length`, and the number of the kind that each one was drawn from."""
        rows: list[Array] = []
        numbers: list[int] = []
        number = 0
        while len(rows) < size:
            if self.rng.random() < 0.1:
                kinds = self._flows()
            else:
                kinds = self.families[self.rng.choice(len(self.families), p=self.chances)](self.rng)
            mixed = self.rng.random() < 0.15
            second = self.families[self.rng.choice(len(self.families), p=self.chances)](self.rng)[0]
            share = self.rng.uniform(0.15, 0.5)
            for kind in kinds[: int(self.rng.integers(2, 5))]:
                for _ in range(draws):
                    series = kind(self.rng, length)
                    if mixed:
                        other = second(self.rng, length)
                        other = (other - other.mean()) / (other.std() + 1e-6)
                        series = series + share * (series.std() + 1e-6) * other
                    rows.append(np.nan_to_num(series, posinf=0, neginf=0))
                    numbers.append(number)
                number += 1
        return np.stack(rows[:size]), np.array(numbers[:size], np.int64)
