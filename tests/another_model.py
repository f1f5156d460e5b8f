"""A data folder whose next version has another model, and what it shows meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

from consumer.care.offline import OfflineDays
from consumer.care.verify import verify_data
from consumer.folding.executor import FoldExecutor, FoldJob, FoldReport
from consumer.folding.installed import Models
from consumer.questions.recall import Recall
from consumer.settings import Settings
from index.catalogue import Catalogue
from index.chunks import Chunk
from index.faiss_store import FaissStore
from index.store import ModelIdentity
from tests.data_folder_kit import (
    DIMENSION,
    EventRows,
    add_days,
    chunk_of,
    settings_of,
)

FOURTH, FIFTH, SIXTH = (date(2017, 7, day) for day in (4, 5, 6))
NEW = ModelIdentity("other/1", "1" * 64)
NEWER = ModelIdentity("other/2", "1" * 64)


@dataclass
class Failing(FoldExecutor):
    """Folds with the new model, except for the days that are told to fail."""

    days: set[date]
    inner: EventRows = field(default_factory=lambda: EventRows(NEW))

    def run(self, job: FoldJob, stop: Event) -> FoldReport:
        if job.day in self.days:
            return FoldReport({}, 0.0, failure="the embedding process was killed")
        return self.inner.run(job, stop)


def three_days(folder: Path) -> Settings:
    """Three committed days of the old model in a new data folder."""
    settings = settings_of(folder)
    add_days(settings, [FOURTH, FIFTH, SIXTH])
    return settings


@contextmanager
def upgraded(
    settings: Settings, model: ModelIdentity = NEW, executor: FoldExecutor | None = None
) -> Iterator[OfflineDays]:
    """The data folder in the hands of a version with another model."""
    models = Models(lambda _: (DIMENSION, model), lambda _: True)
    with OfflineDays(settings, executor=executor or EventRows(model), models=models) as offline:
        yield offline


def served(settings: Settings, name: str = "semantic") -> tuple[ModelIdentity, list[date]]:
    """Model and days of the rows that answer now."""
    with Catalogue.open(settings.data.dir / "catalogue.sqlite", read_only=True) as catalogue:
        edition = catalogue.serving(name)
    with FaissStore.open(settings.data.dir / "index", edition) as store:
        return store.model, list(store.shards())


def the_chunk(settings: Settings, day: date) -> Chunk:
    chunk = chunk_of(settings, day)
    assert chunk is not None
    return chunk


def folders(settings: Settings) -> int:
    return len(list((settings.data.dir / "index").iterdir()))


def faults(settings: Settings) -> set[str]:
    # What this version has installed is not what the test pretends.
    found = {fault["what"] for fault in verify_data(settings, deep=True)["faults"]}
    return found - {"model", "model of index"}


def similar_days(settings: Settings) -> list[str]:
    with Recall.open(settings) as recall:
        return [result["day"] for result in recall.similar(FOURTH)["results"]]
