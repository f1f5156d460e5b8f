"""Recall: the questions that the indices answer. Reads only.

`similar` compares day rows, `search` compares a text with descriptions, `neighbours` compares an
event's features with those of other events, `novelty` asks how unlike its past a day is.

Every answer says in `missing` which days of which index are not in it, why, and what mends that:
an answer without them must not look like an answer about them.

Rows are compared with rows of the same model only. While an index is made anew by another model its
old rows answer; a query that has to be embedded needs the encoder that made them, which is used as
long as it is on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from consumer.errors import JournalError, UsageError
from consumer.journal import open_chunk
from consumer.journal.folders import day_folders
from consumer.questions.encoders import encoder_files
from consumer.questions.indices import OpenIndices
from consumer.questions.novelty import novelties
from consumer.questions.search import DescriptionSearch, Wanted
from consumer.questions.why import explain
from consumer.settings import INDEX_NAMES, Settings
from embed.attack import AttackEmbedder
from embed.chunk import EventBatch
from embed.flows import assembled
from embed.semantic import SemanticEmbedder
from index.catalogue import Catalogue
from index.chunks import RowKey, StoredRow, rfc3339
from index.errors import RowsReplacedError
from index.fusion import fuse_days
from index.lookup import Found, find_rows
from index.store import VectorStore
from models.store import ModelFiles
from proto.network_security_pb2 import NetworkSecurityEvent

FLOAT = NDArray[np.float32]


class Recall:
    """Open indices and catalogue of one data folder. Not safe for several threads at once.

    Encoders are loaded at the first question that needs them.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._sensors = settings.detector.all_profiles.sensors()
        self._indices = OpenIndices(settings.data.dir, catalogue)
        self._descriptions = DescriptionSearch(catalogue)
        self._semantic: SemanticEmbedder | None = None
        self._attack: AttackEmbedder | None = None

    @classmethod
    def open(cls, settings: Settings) -> Recall:
        """Open a data folder for questions.

        Raises:
            UsageError: nothing has been committed there.
            StoreError: the catalogue cannot be read.
        """
        path = settings.data.dir / "catalogue.sqlite"
        if not path.exists():
            raise UsageError(f"data.dir = {settings.data.dir}: no day has been closed there yet")
        return cls(settings, Catalogue.open(path, read_only=True))

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of files."""
        self.close()

    def close(self) -> None:
        """Let go of files."""
        self._indices.close()
        self._catalogue.close()

    def refresh(self) -> None:
        """See what was committed since the last question."""
        self._indices.refresh()

    def ask(self, question: Callable[[Recall], dict[str, Any]]) -> dict[str, Any]:
        """Put a question, again if a day was committed anew while it was answered.

        Raises:
            StoreError: it was replaced three times in a row, or an index cannot be trusted.
        """
        for _ in range(2):
            try:
                return question(self)
            except RowsReplacedError:
                self.refresh()
        return question(self)

    def similar(self, day: date, *, k: int = 5, index: str | None = None) -> dict[str, Any]:
        """Days like `day`, most alike first, with the likeness per index and the reasons.

        The score is the mean cosine over the indices that hold both days; an index that does not
        is left out and is None in `by_index`.

        Raises:
            UsageError: no such day or index, or the day is in no index yet.
            StoreError: an index cannot be trusted.
        """
        if index is not None and index not in INDEX_NAMES:
            raise UsageError(f"index {index!r}: use one of {', '.join(INDEX_NAMES)}")
        if self._catalogue.chunk(day) is None:
            raise UsageError(f"{day}: no such day")
        likeness: dict[str, dict[date, float] | None] = {}
        for name in (index,) if index else INDEX_NAMES:
            likeness[name] = None
            for days, vectors in self._day_rows(name):
                if day not in days:
                    continue
                cosines = (vectors @ vectors[days.index(day)]).tolist()
                likeness[name] = {
                    other: cosine
                    for other, cosine in zip(days, cosines, strict=True)
                    if other != day
                }
        if all(scores is None for scores in likeness.values()):
            raise UsageError(f"{day}: not committed to any index yet; see `dayfold show {day}`")
        facts = self._day_facts(day)
        return {
            "day": day.isoformat(),
            "results": [
                {
                    "day": fused.day.isoformat(),
                    "score": round(fused.score, 6),
                    "by_index": {
                        name: round(fused.by_index[name], 6) if name in fused.by_index else None
                        for name in INDEX_NAMES
                    },
                    "why": explain(facts, self._day_facts(fused.day)),
                }
                for fused in fuse_days(likeness)[:k]
            ],
            "missing": self._indices.missing(likeness, beside=day),
        }

    def search(
        self,
        text: str,
        *,
        k: int = 10,
        first: date | None = None,
        last: date | None = None,
        where: Sequence[tuple[str, str]] = (),
    ) -> dict[str, Any]:
        """Behaviours like a text, most alike first; see `consumer.questions.search`.

        Rows of a day that tell of one behaviour with several verdicts are one result.

        Args:
            text: English or Spanish, of any length; it is never truncated.
            first: earliest day, included.
            last: latest day, included.
            where: conditions on facts, all of which must hold.

        Raises:
            UsageError: the text is empty.
            StoreError: the index cannot be trusted.
        """
        if not text.strip():
            raise UsageError("an empty text cannot be searched for")
        store = self._indices.served("semantic")
        missing: list[dict[str, str]] = []
        results: list[dict[str, Any]] = []
        if store is not None:
            embedder = self._semantic_embedder(store)
            wanted = Wanted(k, first, last, where)
            results = self._descriptions.find(store, embedder.embed_text, text, wanted)
            missing = self._indices.missing(["semantic"], first=first, last=last)
        return {"query": text, "results": results, "missing": missing}

    def neighbours(self, event_id: str, *, k: int = 10) -> dict[str, Any]:
        """Events whose features are like those of a known event.

        An event that the detector did not flag has no row of its own: its features are then read
        from the journal.

        Raises:
            UsageError: no index and no journal knows the event.
            StoreError: the index cannot be trusted.
        """
        store = self._indices.served("attack")
        if store is None:
            raise UsageError("the attack index is empty: no day has been committed to it yet")
        editions = {edition.name: edition for edition in self._indices.editions("attack")}
        rows = [
            row
            for row in self._catalogue.find_event(event_id)
            if row.index in editions and row.day not in editions[row.index].damaged()
        ]
        if rows:
            row = rows[-1]
            store = editions[row.index]
            vector = store.vectors(row.day, [row.row])
        else:
            vector = self._attack_embedder(store).embed_features(self._features_of(event_id))
        beside = rows[-1].day if rows else None
        return {
            "event": event_id,
            "results": self._alike(store, vector, k, without=event_id),
            "missing": self._indices.missing(["attack"], beside=beside),
        }

    def neighbours_of_file(self, path: Path, *, k: int = 10) -> dict[str, Any]:
        """Events like the one in a file of plain protobuf.

        Raises:
            UsageError: the file cannot be read or is not an event.
        """
        store = self._indices.served("attack")
        if store is None:
            raise UsageError("the attack index is empty: no day has been committed to it yet")
        try:
            payload = path.read_bytes()
            event = NetworkSecurityEvent.FromString(payload)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not an event as plain protobuf: {error}") from error
        features = self._read(event.event_timestamp.ToNanoseconds(), payload).features
        vector = self._attack_embedder(store).embed_features(features)
        return {
            "event": event.event_id or path.name,
            "results": self._alike(store, vector, k, without=event.event_id),
            "missing": self._indices.missing(["attack"]),
        }

    def novelty(self, day: date | None = None) -> dict[str, Any]:
        """How unlike its past each day is, 0 to 1, per index and over all (see `novelty.py`).

        Raises:
            UsageError: no such day.
        """
        if day is not None and self._catalogue.chunk(day) is None:
            raise UsageError(f"{day}: no such day")
        served = {name: self._indices.served(name) for name in INDEX_NAMES}
        rows = {
            name: ([], np.zeros((0, 1), np.float32)) if store is None else store.day_rows()
            for name, store in served.items()
        }
        entries = [
            {
                "day": found.day.isoformat(),
                "novelty": _rounded(found.novelty),
                "by_index": {name: _rounded(value) for name, value in found.by_index.items()},
                "past": found.past,
            }
            for found in novelties(rows)
            if day is None or found.day == day
        ]
        return {"days": entries, "missing": self._indices.missing(INDEX_NAMES, first=day, last=day)}

    def _day_rows(self, name: str) -> list[tuple[list[date], FLOAT]]:
        """The day rows of an index, those of one model together: days, oldest first, and vectors."""
        return [store.day_rows() for store in self._indices.editions(name)]

    def _day_facts(self, day: date) -> dict[str, StoredRow]:
        """The facts of the day's row in each index that holds it."""
        found: dict[str, StoredRow] = {}
        chunk = self._catalogue.chunk(day)
        for name, state in chunk.indices.items() if chunk else ():
            if state.revision is not None:
                key = RowKey(day, state.revision, 0)
                found[name] = self._catalogue.rows(state.edition, [key])[0]
        return found

    def _alike(
        self, store: VectorStore, vector: FLOAT, k: int, *, without: str
    ) -> list[dict[str, Any]]:
        """The k nearest event rows; prototypes and the event itself are passed over."""
        wanted = k + 1
        while True:
            found = find_rows(store, self._catalogue, vector, wanted, members_only=True)[0]
            events = [
                one for one in found if one.facts.kind == "event" and one.facts.label != without
            ]
            if len(events) >= k or len(found) < wanted:
                return [_event(one) for one in events[:k]]
            wanted *= 4

    def _features_of(self, event_id: str) -> NDArray[np.float64]:
        """The features of an event out of the journals, latest day first.

        Raises:
            UsageError: no journal has it.
        """
        root = self._settings.data.dir / "journal"
        zone = ZoneInfo(self._settings.day.timezone)
        wanted = event_id.encode()
        for day, _ in reversed(list(day_folders(root))):
            try:
                chunk = open_chunk(root, day, zone=zone)
            except JournalError:
                continue
            for records in chunk.batches(1000):
                for record in records:
                    # A payload that does not hold the id's bytes need not be parsed.
                    if wanted not in record.payload:
                        continue
                    batch = self._read(record.time_ns, record.payload)
                    if batch.events[0].event_id == event_id:
                        return batch.features
        raise UsageError(f"event {event_id!r}: neither an index nor a closed day's journal has it")

    def _read(self, time_ns: int, payload: bytes) -> EventBatch:
        """One event as a fold reads it; a packet event is a flow of one packet here."""
        batch = EventBatch.parse([time_ns], [payload], sensors=self._sensors)
        return assembled(batch, [payload], self._sensors)[0]

    def _semantic_embedder(self, store: VectorStore) -> SemanticEmbedder:
        if self._semantic is None or self._semantic.model.sha256 != store.model.sha256:
            self._semantic = SemanticEmbedder(self._files(store, "semantic"), threads=1)
        return self._semantic

    def _attack_embedder(self, store: VectorStore) -> AttackEmbedder:
        if self._attack is None or self._attack.model.sha256 != store.model.sha256:
            self._attack = AttackEmbedder(self._files(store, "attack"), threads=1)
        return self._attack

    def _files(self, store: VectorStore, index: str) -> ModelFiles:
        return encoder_files(store, index, self._catalogue, self._settings.models.cache_dir)


def _event(found: Found) -> dict[str, Any]:
    facts = found.facts
    return {
        **facts.detail,
        # The event's own score must not be taken for the likeness.
        "threat_score": facts.detail.get("score"),
        "score": round(found.hit.score, 6),
        "day": facts.day.isoformat(),
        "event_id": facts.label,
        "time": rfc3339(facts.first_ns),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
