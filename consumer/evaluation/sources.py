"""What an evaluation measures on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from consumer.errors import UsageError
from consumer.evaluation.corpus import FLOWS
from models.labels import BENIGN, plain_labels

# What is told apart and counted; every further column of the 83 features that is not there is missing.
NEEDED: Final = (
    "timestamp",
    "label",
    "source_ip",
    "destination_ip",
    "source_port",
    "destination_port",
    "total_forward_bytes",
    "total_backward_bytes",
    "total_forward_packets",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Data and models of one evaluation.

    Attributes:
        flows: Parquet file of labelled flows, ordered by time; the shipped sample unless told.
        ucr: folder of UCR problems, one folder each; None where there is none.
        cache_dir: where models are kept; the default if None.
    """

    flows: Path = FLOWS
    ucr: Path | None = None
    cache_dir: Path | None = None

    @property
    def named(self) -> str:
        """Where the flows came from, to be told beside the figures."""
        return "shipped sample" if self.flows == FLOWS else str(self.flows)


def sources(flows: Path | None, ucr: Path | None, cache_dir: Path | None) -> Sources:
    """The sources asked for; the problems of the package `aeon` where no folder is given.

    Raises:
        UsageError: a file or folder that was named is not there, or the file has no labelled flows.
    """
    if flows is not None:
        _check(flows)
    if ucr is not None and not ucr.is_dir():
        raise UsageError(f"--ucr {ucr}: no such folder")
    return Sources(flows or FLOWS, ucr or _shipped_with_aeon(), cache_dir)


def _check(flows: Path) -> None:
    if not flows.is_file():
        raise UsageError(f"--flows {flows}: no such file")
    try:
        schema = pq.read_schema(flows)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"--flows {flows}: not a readable Parquet file: {error}") from error
    missing = [name for name in NEEDED if name not in schema.names]
    if missing:
        raise UsageError(
            f"--flows {flows}: no column {', '.join(missing)}; labelled flows have {', '.join(NEEDED)}"
        )
    if not pa.types.is_timestamp(schema.field("timestamp").type):
        kind = schema.field("timestamp").type
        raise UsageError(f"--flows {flows}: column timestamp is {kind}, it has to be a timestamp")
    column = pq.read_table(flows, columns=["label"])["label"].to_pylist()
    if not all(label is None or isinstance(label, str) for label in column):
        kind = schema.field("label").type
        raise UsageError(f"--flows {flows}: column label is {kind}, it has to be text")
    labels = set(plain_labels(column))
    if BENIGN not in labels:
        raise UsageError(
            f"--flows {flows}: no flow has the label BENIGN (or Benign, normal), which attacks are "
            f"told apart from; there are {', '.join(sorted(map(str, labels))[:20]) or 'none at all'}"
        )


def _shipped_with_aeon() -> Path | None:
    found = find_spec("aeon")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "data"
    return folder if folder.is_dir() else None
