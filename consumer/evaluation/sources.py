"""What an evaluation measures on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from consumer.errors import UsageError
from consumer.evaluation.corpus import FLOWS


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
        UsageError: a file or folder that was named is not there.
    """
    if flows is not None and not flows.is_file():
        raise UsageError(f"--flows {flows}: no such file")
    if ucr is not None and not ucr.is_dir():
        raise UsageError(f"--ucr {ucr}: no such folder")
    return Sources(flows or FLOWS, ucr or _shipped_with_aeon(), cache_dir)


def _shipped_with_aeon() -> Path | None:
    found = find_spec("aeon")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "data"
    return folder if folder.is_dir() else None
