"""One whole deployment, streamed and folded once, for the tests that only ask questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from consumer.demo.deployment import SAMPLE, Deployment
from consumer.settings import Settings, load

DAYS = tuple(date(2017, 7, day) for day in range(3, 8))


@dataclass(frozen=True)
class FoldedDays:
    """A running service whose five days are committed."""

    deployment: Deployment
    settings: Settings
    picture: dict[str, Any]
    published: int


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoldedDays]:
    folder = tmp_path_factory.mktemp("deployment")
    with Deployment(folder) as deployment:
        deployment.start_service()
        replay = deployment.start_replay(rate=4000)
        deployment.wait_for("the stream", lambda _: replay.poll() is not None, timeout_s=120)
        published = int(deployment.replay_report()["published"])
        deployment.wait_for(
            "the journal",
            lambda picture: picture["journal"]["durable"] >= published,
            timeout_s=30,
        )
        deployment.close(DAYS[-1])
        picture = deployment.wait_for(
            "five committed days",
            lambda picture: [day["state"] for day in picture["days"]] == ["committed"] * 5,
            timeout_s=240,
        )
        yield FoldedDays(deployment, load(deployment.config), picture, published)


@pytest.fixture(scope="session")
def labels() -> dict[str, str]:
    """The capture's own label of each replayed event; never sent, known to tests only."""
    column = pq.read_table(SAMPLE, columns=["label"]).column("label").to_pylist()
    return {f"detector-01-{row:07d}": label for row, label in enumerate(column)}


@pytest.fixture(scope="session")
def sample_days() -> dict[date, int]:
    """How many flows of each day the sample holds."""
    times = pq.read_table(SAMPLE, columns=["timestamp"]).column("timestamp").to_pylist()
    counts: dict[date, int] = {}
    for time in times:
        counts[time.date()] = counts.get(time.date(), 0) + 1
    return counts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deployment"
