"""Build the shipped sample of flows: ``python -m consumer.replay.build_sample FLOWS [TARGET]``.

The sample keeps every benign flow and every flow of a rare class, and of each common attack class
a number of flows spread evenly over its duration, so that an attack keeps its shape in time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.labels import BENIGN

SAMPLE: Final = Path(__file__).with_name("sample_flows.parquet")
PER_CLASS: Final = 300


def choose_rows(labels: NDArray[np.str_], per_class: int) -> NDArray[np.int64]:
    """The rows to keep, ascending: all benign ones, at most ``per_class`` of each other label."""
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if label != BENIGN and len(rows) > per_class:
            rows = rows[np.linspace(0, len(rows) - 1, per_class).round().astype(np.int64)]
        kept.append(rows)
    return np.sort(np.concatenate(kept))


def build_sample(source: Path, target: Path, *, per_class: int = PER_CLASS) -> int:
    """Write the sample of ``source`` to ``target``, ordered by time. Returns its rows."""
    flows = pq.read_table(source).sort_by("timestamp").replace_schema_metadata(None)
    labels = np.asarray(flows["label"].to_pylist(), dtype=np.str_)
    sample = flows.take(pa.array(choose_rows(labels, per_class)))
    pq.write_table(sample, target, compression="zstd", compression_level=22, store_schema=False)
    rows: int = sample.num_rows
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the sample. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m consumer.replay.build_sample")
    parser.add_argument("source", type=Path, help="Parquet file of labelled flows")
    parser.add_argument("target", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="attack flows per class")
    asked = parser.parse_args(arguments)
    rows = build_sample(asked.source, asked.target, per_class=asked.per_class)
    sys.stdout.write(f"{asked.target}: {rows} flows, {asked.target.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
