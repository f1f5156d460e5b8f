"""The 83 features of an event, as `models/features83.csv` lays them down.

Raw values, untransformed: the transforms are inside the encoder. NaN says *missing*, which is not
zero. Missing is: a value in a sub-message that is absent, the sentinel -9999.0 (and the sensor's own,
if the site says that it has another), a value that is not finite, and one that cannot be (a port of
70,000, a score of 12). A proto3 scalar of zero inside a sub-message that is present is a zero.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import FeatureContractError
from embed.sensors import MISSING
from models.manifest import FeatureSpec, load_features
from proto.network_security_pb2 import NetworkSecurityEvent

WIDTH = 83
DAY_NS = 86_400_000_000_000

# What a value can be at all, by its transform. The widest bound is about a petabyte, or thirty
# years in microseconds; what a broken sensor writes (2**64 - 1 for -1) lies far beyond it.
BOUNDS: dict[str, tuple[float, float]] = {
    "log1p": (-1e15, 1e15),
    "port": (0.0, 65535.0),
    "flag": (0.0, 1.0),
    "unit": (-1e-6, 1.0 + 1e-6),
    "category": (0.0, 255.0),
}

Getter = Callable[[Any], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features of some events.

    Attributes:
        values: float64 (n, 83), raw, NaN = missing.
        sentinels: how many values were the sentinel.
        refused: how many values were there but not finite, or impossible.
    """

    values: NDArray[np.float64]
    sentinels: int
    refused: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Features that lie side by side in one message."""

    message: str
    start: int
    stop: int
    get: Getter
    pack: struct.Struct


def extract(
    events: Sequence[NetworkSecurityEvent],
    times: NDArray[np.int64],
    missing: float | NDArray[np.float64] = MISSING,
) -> FeatureTable:
    """The features of some events.

    Args:
        events: n events.
        times: int64 (n,), their effective times, UTC ns; the time of day comes from here.
        missing: the sensors' own sentinel beside -9999.0: one for all, or float64 (n, 1).

    Never raises for what an event holds.
    """
    count = len(events)
    buffer = np.full((count, WIDTH), np.nan)
    raw = buffer.data.cast("B") if count else memoryview(b"")
    absent = _fill(events, raw)
    _time_of_day(buffer, times)

    with np.errstate(invalid="ignore"):
        sentinel = buffer == MISSING
        if isinstance(missing, np.ndarray) or missing != MISSING:
            sentinel |= buffer == missing
        # NaN compares false with everything, so what is not finite is not possible either.
        possible = (buffer >= _LOW) & (buffer <= _HIGH)
    kept = possible & ~sentinel
    sentinels = int(sentinel.sum())
    refused = buffer.size - int(kept.sum()) - sentinels - absent
    buffer[~kept] = np.nan
    return FeatureTable(buffer, sentinels, refused)


def whole_sums(values: NDArray[np.float64], columns: tuple[int, ...]) -> NDArray[np.int64]:
    """Sum of some count columns per event, int64 (n,); missing and negative values count 0."""
    counts = np.nan_to_num(np.maximum(values[:, columns], 0.0)).astype(np.int64)
    total: NDArray[np.int64] = counts.sum(axis=1)
    return total


def _fill(events: Sequence[NetworkSecurityEvent], raw: memoryview) -> int:
    """Write every present value to its place; returns how many cells an absent message leaves."""
    absent = 0
    stride = WIDTH * 8
    for group in _GROUPS:
        get, pack_into = group.get, group.pack.pack_into
        name, place, cells = group.message, group.start * 8, group.stop - group.start
        if not name:
            for event in events:
                pack_into(raw, place, *get(event))
                place += stride
            continue
        inner = attrgetter(name)
        for event in events:
            if event.HasField(name):
                pack_into(raw, place, *get(inner(event)))
            else:
                absent += cells
            place += stride
    return absent


def _time_of_day(buffer: NDArray[np.float64], times: NDArray[np.int64]) -> None:
    # Modulo before the division: ns since 1970 do not fit a double.
    angle = (times % DAY_NS) * (2.0 * np.pi / DAY_NS)
    buffer[:, _SIN] = np.sin(angle)
    buffer[:, _COS] = np.cos(angle)


def _groups(specs: Sequence[FeatureSpec]) -> tuple[_Group, ...]:
    """Neighbouring features of the same message become one bulk read."""
    runs: list[tuple[str, int, list[str]]] = []
    for spec in specs:
        if spec.path.startswith("("):
            continue
        message, _, name = spec.path.rpartition(".")
        if runs and runs[-1][0] == message and runs[-1][1] + len(runs[-1][2]) == spec.index:
            runs[-1][2].append(name)
        else:
            runs.append((message, spec.index, [name]))
    return tuple(_group(message, start, names) for message, start, names in runs)


def _group(message: str, start: int, names: list[str]) -> _Group:
    descriptor = NetworkSecurityEvent.DESCRIPTOR
    if message:
        outer = descriptor.fields_by_name.get(message)
        inner = None if outer is None else outer.message_type
        if inner is None:
            raise FeatureContractError(f"features83.csv: {message} is not a message of an event")
        descriptor = inner
    unknown = [name for name in names if name not in descriptor.fields_by_name]
    if unknown:
        raise FeatureContractError(
            f"features83.csv: {', '.join(unknown)} not in {descriptor.full_name}"
        )
    # attrgetter gives a bare value for one name and a tuple for more.
    single = attrgetter(names[0])
    get: Getter = attrgetter(*names) if len(names) > 1 else lambda found: (single(found),)
    return _Group(message, start, start + len(names), get, struct.Struct(f"={len(names)}d"))


_SPECS = load_features()
_GROUPS = _groups(_SPECS)
_LOW = np.array([BOUNDS[spec.transform][0] for spec in _SPECS])
_HIGH = np.array([BOUNDS[spec.transform][1] for spec in _SPECS])
COLUMN: dict[str, int] = {spec.name: spec.index for spec in _SPECS}
BYTES = (COLUMN["total_forward_bytes"], COLUMN["total_backward_bytes"])
PACKETS = (COLUMN["total_forward_packets"], COLUMN["total_backward_packets"])
_SIN, _COS = COLUMN["time_of_day_sin"], COLUMN["time_of_day_cos"]
# The two that are derived run from -1 to 1.
_LOW[[_SIN, _COS]] = -1.0
