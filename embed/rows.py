"""What an embedder gives: rows of vectors, and the facts about each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
RowKind: TypeAlias = Literal["day", "series", "description", "event", "prototype"]
Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which encoder made a row.

    Attributes:
        name: name of the model in the manifest.
        sha256: digest of its files, as 64 hex digits.
        recipe: version of what happens around the encoder (descriptions, pooling). It grows when
            the same events and the same weights would give other rows.
    """

    name: str
    sha256: str
    recipe: int = 1

    @property
    def identity(self) -> str:
        """One string that differs whenever rows of the two models may not be mixed."""
        return f"{self.name}/{self.recipe}:{self.sha256}"


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The meaning of one row.

    Attributes:
        kind: what the row stands for.
        label: the day, the series name, the description, the event id or the prototype's name.
        weight: how many events stand behind the row.
        first_ns: time of the earliest of them, UTC ns since 1970; the day's bounds for a day
            without events.
        last_ns: time of the latest of them, UTC ns.
        detail: everything else, as JSON.
    """

    kind: RowKind
    label: str
    weight: int
    first_ns: int
    last_ns: int
    detail: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Some rows in order: `vectors[i]` belongs to `facts[i]`.

    Attributes:
        vectors: float32 (n, d), C-contiguous, each row of length 1.
        facts: n facts.

    Raises:
        ValueError: the two do not have the same number of rows.
    """

    vectors: Vectors
    facts: list[RowFacts]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.facts):
            raise ValueError(
                f"a row block needs one vector per fact: {self.vectors.shape} vectors, "
                f"{len(self.facts)} facts"
            )


@dataclass(frozen=True, slots=True)
class Embedded:
    """The rows of a chunk and the proof that all of it is in them.

    Attributes:
        blocks: the rows, row 0 being the day's; can be read once.
        coverage: counts of what reached the encoder, to be held against the chunk with
            `embed.coverage.check_coverage`.
    """

    blocks: Iterator[RowBlock]
    coverage: dict[str, int]
