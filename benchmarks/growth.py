"""How cost grows: closing a day against its events, searching an index against its rows, as one PNG.

Calls `benchmarks.close` and `benchmarks.search`, each size several times, so that the noise shows. Every
run is a process of its own and leaves a line in the file of points, so that a long measurement can
be broken off, gone on with, and drawn again:

    python -m benchmarks.growth --events 1000 3000 10000 --rows 10000 100000 --runs 3
    python -m benchmarks.growth --runs 0     # draws what there is
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")


def run(benchmark: str, *arguments: str) -> dict[str, Any]:
    """One run of a benchmark, in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {"benchmark": benchmark, **found, "load": round(os.getloadavg()[0], 1)}


def measure(events: Sequence[int], rows: Sequence[int], runs: int) -> Iterator[dict[str, Any]]:
    """Every size `runs` times, sizes in turn, so that a slow minute does not fall on one of them."""
    for _ in range(runs):
        for count in rows:
            yield run("search", "--rows", str(count), "--queries", "100")
        for count in events:
            yield run("close", "--events", str(count))


def machine() -> str:
    """What it ran on, for the caption."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.machine()}"


def draw(points: Sequence[dict[str, Any]], png: Path) -> None:
    """Three panels, all axes but that of memory logarithmic: a dot a run, a line through the medians."""
    figure = Figure(figsize=(11, 4), dpi=100, layout="constrained")
    panels = figure.subplots(1, 3)
    close = [point for point in points if point["benchmark"] == "close"]
    search = [point for point in points if point["benchmark"] == "search"]
    _panel(panels[0], close, "events", {"seconds": "whole day"}, "events of the day", "seconds")
    panels[0].set_title("closing a day")
    _panel(
        panels[1],
        close,
        "events",
        {"rss_peak_mb": "service and child"},
        "events of the day",
        "MB, peak",
    )
    panels[1].set(title="memory of closing", yscale="linear", ylim=(0, None))
    percentiles = {"p50_ms": "half of the searches", "p99_ms": "99 of 100"}
    _panel(panels[2], search, "rows", percentiles, "rows of the index", "milliseconds")
    panels[2].set_title("one search by meaning")
    loads = [point["load"] for point in points]
    figure.supxlabel(
        f"{machine()}, shared with other work: load {min(loads):g} to {max(loads):g}. One dot a run, "
        "the line through the medians",
        fontsize=8,
    )
    figure.savefig(png, metadata={"Software": None})


def _panel(
    axes: Axes,
    points: Sequence[dict[str, Any]],
    size: str,
    values: dict[str, str],
    across: str,
    up: str,
) -> None:
    for name, label in values.items():
        sizes = sorted({point[size] for point in points})
        medians = [median(p[name] for p in points if p[size] == one) for one in sizes]
        (line,) = axes.plot(sizes, medians, label=label)
        axes.plot(
            [point[size] for point in points],
            [point[name] for point in points],
            linestyle="none",
            marker="o",
            markersize=4,
            alpha=0.6,
            color=line.get_color(),
        )
    axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
    axes.xaxis.set_major_formatter(_short)
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_formatter(_some_plain)
    axes.grid(visible=True, which="both", alpha=0.25)
    if len(values) > 1:
        axes.legend()


def _plain(value: float, _: float) -> str:
    return f"{value:,.10g}"


def _short(value: float, _: float) -> str:
    """Up to 999 as it is, then 10 k and 10 M, so that labels have room beside each other."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _some_plain(value: float, _: float) -> str:
    """Labels between powers of ten, few enough to stand beside each other."""
    return _plain(value, 0) if f"{value:e}"[0] in "235" else ""


def main() -> None:
    """Command line: see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[1_000, 3_000, 10_000])
    parser.add_argument("--rows", type=int, nargs="*", default=[5_000, 20_000, 50_000, 100_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--png", type=Path, default=Path("docs/growth.png"))
    parser.add_argument("--points", type=Path, default=Path("growth.jsonl"))
    asked = parser.parse_args()
    with asked.points.open("a", encoding="utf-8") as file:
        for point in measure(asked.events, asked.rows, asked.runs):
            file.write(json.dumps(point) + "\n")
            file.flush()
    lines = asked.points.read_text(encoding="utf-8").splitlines()
    draw([json.loads(line) for line in lines], asked.png)


if __name__ == "__main__":
    main()
