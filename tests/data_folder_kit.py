"""A data folder with closed days, made without encoders, for tests of what lies around them.

Everything but the vectors is the real thing: journal, seals, catalogue, indices and their commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Event
from zoneinfo import ZoneInfo

import numpy as np

from consumer.care.offline import OfflineDays
from consumer.clock import ManualClock
from consumer.folding.executor import FoldExecutor, FoldJob, FoldReport, IndexOutcome
from consumer.journal import open_chunk
from consumer.quarantine.quarantine import Quarantine
from consumer.questions.why import SERIES_IN_WORDS
from consumer.settings import Settings
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from embed.rows import JSON, RowFacts
from index.catalogue import Catalogue
from index.chunks import Chunk
from index.commit import commit_chunk
from index.editions import open_edition
from index.store import ModelIdentity
from proto.network_security_pb2 import NetworkSecurityEvent

UTC = ZoneInfo("UTC")
INDICES = ("timeseries", "semantic", "attack")
MODEL = ModelIdentity("given", "0" * 64)
DIMENSION = 8
NOW = 1_500_000_000_000_000_000
# As much of a real day row as the comparison of two days reads.
DAY_DETAIL: dict[str, JSON] = {
    "series": {name: {"total": 20, "hours": [20] + [0] * 23} for name in SERIES_IN_WORDS}
}


@dataclass(frozen=True)
class EventRows(FoldExecutor):
    """Commits a day row and one row for each event, drawn from the event's own bytes."""

    model: ModelIdentity = MODEL

    def run(self, job: FoldJob, stop: Event) -> FoldReport:
        chunk = open_chunk(job.data_dir / "journal", job.day, job.revision, zone=UTC)
        payloads = [record.payload for batch in chunk.batches(64) for record in batch]
        vectors = np.stack([_vector(payload) for payload in [b"day", *payloads]])
        facts = [RowFacts("day", str(job.day), len(payloads), 0, 1, DAY_DETAIL)]
        events = map(NetworkSecurityEvent.FromString, payloads)
        facts += [
            RowFacts("event", event.event_id, 1, 0, 1, {"node": event.originating_node_id})
            for event in events
        ]
        outcomes = {}
        with Catalogue.open(job.data_dir / "catalogue.sqlite") as catalogue:
            for name in job.indices:
                root = job.data_dir / "index"
                with open_edition(
                    root, catalogue, name, dimension=DIMENSION, model=self.model
                ) as store:
                    rows = commit_chunk(
                        store,
                        catalogue,
                        day=job.day,
                        revision=job.revision,
                        blocks=[(vectors, facts)],
                        coverage={"events": len(payloads)},
                        model=self.model,
                    )
                    catalogue.make_terms(store.name)
                outcomes[name] = IndexOutcome(rows=rows)
        return FoldReport(outcomes, 0.0)


def _vector(payload: bytes) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "little")
    drawn = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    vector: np.ndarray = drawn / np.linalg.norm(drawn)
    return vector


def given_model(_index: str) -> tuple[int, ModelIdentity]:
    """What `EventRows` makes its rows with."""
    return DIMENSION, MODEL


def event(day: date, number: int) -> Admitted:
    """Event `number` of a day, one a second."""
    made = NetworkSecurityEvent(event_id=f"{day}-{number:05d}", originating_node_id="node-01")
    made.event_timestamp.FromSeconds(int(day_start(day)) + number)
    arrival_ns = (day_start(day) + number) * 1_000_000_000 + 5
    admitted = Admission(UTC, event_clock=True).admit(made.SerializeToString(), None, arrival_ns)
    assert isinstance(admitted, Admitted)
    return admitted


def day_start(day: date) -> int:
    return (day - date(1970, 1, 1)).days * 86_400


def settings_of(folder: Path, **sections: object) -> Settings:
    """Settings of `folder/data`, by default without the encoder whose weights take long to check.

    `models={}` gives the encoders of this machine.
    """
    # The events are of 2017, and so are the quarantined messages.
    old = {"max_age_days": 100_000}
    given = {
        "data": {"dir": folder / "data"},
        "quarantine": old,
        "models": {"cache_dir": folder / "no-models"},
        **sections,
    }
    return Settings.model_validate(given)


def open_days(settings: Settings) -> OfflineDays:
    return OfflineDays(settings, executor=EventRows())


def add_days(settings: Settings, days: Iterable[date], *, events: int = 20) -> None:
    """Fill days with events, close them and commit them."""
    settings.data.dir.mkdir(mode=0o700, exist_ok=True)
    with open_days(settings) as offline:
        for day in days:
            for start in range(0, events, 5):
                offline.journal.append([event(day, n) for n in range(start, start + 5)])
            offline.close(day)


def chunk_of(settings: Settings, day: date) -> Chunk | None:
    with Catalogue.open(settings.data.dir / "catalogue.sqlite", read_only=True) as catalogue:
        return catalogue.chunk(day)


def ids_in_journal(settings: Settings, day: date) -> list[str]:
    chunk = open_chunk(settings.data.dir / "journal", day, zone=UTC)
    return [
        NetworkSecurityEvent.FromString(record.payload).event_id
        for batch in chunk.batches(100)
        for record in batch
    ]


def quarantine_of(settings: Settings) -> Quarantine:
    root = settings.data.dir / "quarantine"
    return Quarantine(root, ManualClock(NOW), max_bytes=1 << 20, max_age_days=10_000)


def day_folder(settings: Settings, day: date) -> Path:
    return settings.data.dir / "journal" / day.isoformat()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
