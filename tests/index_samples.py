"""Rows, facts and counts that the tests of the index room share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from index.catalogue import Catalogue
from index.commit import commit_chunk
from index.faiss_store import FaissStore
from index.store import ModelIdentity, Vectors, VectorStore

DIMENSION = 16
MODEL = ModelIdentity("small-encoder", "a1" * 32)
OTHER_MODEL = ModelIdentity("other-encoder", "b2" * 32)
MONDAY, TUESDAY, WEDNESDAY = date(2017, 7, 3), date(2017, 7, 4), date(2017, 7, 5)
NOON_NS = 1_499_169_600_000_000_000
COVERAGE: Mapping[str, int] = {"events": 7}


@dataclass(frozen=True, slots=True)
class Facts:
    kind: str
    label: str
    weight: int = 1
    first_ns: int = NOON_NS
    last_ns: int = NOON_NS + 1
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DayCounts:
    events: int = 7
    duplicates: int = 2
    late: int = 1
    first_ns: int | None = NOON_NS
    last_ns: int | None = NOON_NS + 1_500_000_000
    bytes: int = 4096


def unit_rows(rows: int, seed: int, dimension: int = DIMENSION) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    lengths: Vectors = np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.ascontiguousarray(drawn / lengths)


def facts_of(rows: int, tag: str = "event", start: int = 0) -> list[Facts]:
    first = [Facts("day", "day", rows, detail={"total": rows})] if start == 0 else []
    rest = [
        Facts("event", f"{tag}-{row:07d}", detail={"source_ip": f"10.0.0.{row}", "score": 0.5})
        for row in range(max(start, 1), start + rows)
    ]
    return first + rest


def chunk_blocks(
    rows: int, seed: int, block: int = 4, dimension: int = DIMENSION
) -> list[tuple[Vectors, Sequence[Facts]]]:
    vectors, facts = unit_rows(rows, seed, dimension), facts_of(rows, f"s{seed}")
    return [(vectors[at : at + block], facts[at : at + block]) for at in range(0, rows, block)]


def open_store(
    root: Path, name: str = "semantic", *, model: ModelIdentity = MODEL, rebuild: bool = False
) -> FaissStore:
    return FaissStore.open(
        root, name, dimension=DIMENSION, model=model, writable=True, rebuild=rebuild
    )


def commit_sample(
    store: VectorStore,
    catalogue: Catalogue,
    day: date,
    revision: int = 1,
    *,
    rows: int = 10,
    seed: int = 1,
) -> int:
    return commit_chunk(
        store,
        catalogue,
        day=day,
        revision=revision,
        blocks=chunk_blocks(rows, seed),
        coverage=COVERAGE,
        model=MODEL,
    )
