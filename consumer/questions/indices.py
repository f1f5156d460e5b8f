"""The editions of the three indices that answer questions, and which days an answer lacks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

from consumer.settings import INDEX_NAMES
from index.catalogue import Catalogue
from index.errors import StoreMissingError
from index.faiss_store import FaissStore
from index.store import VectorStore

MENDED_BY = "the running service embeds the day again; or `dayfold repair`"
KEPT = "its journal was let go, so that it cannot be embedded again; restore a snapshot that has it"


class OpenIndices:
    """Opens what is asked for, once. Not safe for several threads at once."""

    def __init__(self, data_dir: Path, catalogue: Catalogue) -> None:
        self._root = data_dir / "index"
        self._catalogue = catalogue
        self._stores: dict[str, VectorStore] = {}

    def close(self) -> None:
        """Let go of files and memory."""
        for store in self._stores.values():
            store.close()

    def refresh(self) -> None:
        """See what was committed since, and which editions are served now."""
        known = {edition.name for edition in self._catalogue.editions()}
        known |= {self._catalogue.serving(name) for name in INDEX_NAMES}
        for edition, store in list(self._stores.items()):
            if edition in known:
                store.refresh()
            else:  # the rows of another model are served instead
                store.close()
                del self._stores[edition]

    def served(self, name: str) -> VectorStore | None:
        """The edition of an index that is served, or None if nothing was ever committed to it.

        Raises:
            StoreError: something was committed, but the index is not there or not whole.
        """
        try:
            return self._opened(self._catalogue.serving(name))
        except StoreMissingError:
            if any(chunk.indices[name].rows for chunk in self._catalogue.chunks()):
                raise
            return None

    def editions(self, name: str) -> list[VectorStore]:
        """Every edition of an index that may answer: the one served, then those that are kept."""
        served = self.served(name)
        kept = [
            self._opened(edition.name)
            for edition in self._catalogue.editions()
            if (edition.index, edition.role) == (name, "kept")
        ]
        return [served, *kept] if served is not None else kept

    def missing(
        self,
        names: Iterable[str],
        *,
        first: date | None = None,
        last: date | None = None,
        beside: date | None = None,
    ) -> list[dict[str, str]]:
        """The days from `first` to `last`, both included, that an answer by these indices lacks.

        Those whose rows are damaged, and those whose rows another model made than the others'.

        Args:
            beside: the day whose edition was compared with; the served one if not given.
        """
        found = []
        for name in names:
            stores = self.editions(name)
            asked = next(
                (one for one in stores if beside in one.shards()), stores[0] if stores else None
            )
            for store in stores:
                damaged = store.damaged()
                for day in store.shards():
                    if not (first or day) <= day <= (last or day):
                        continue
                    if day in damaged:
                        error = damaged[day]
                        found.append(_gone(name, day, f"{error.file} {error.detail}", MENDED_BY))
                    elif store is not asked:
                        detail = f"its rows were made by {store.model.name}, another model"
                        found.append(_gone(name, day, detail, KEPT))
        return found

    def _opened(self, edition: str) -> VectorStore:
        store = self._stores.get(edition)
        if store is None:
            store = self._stores[edition] = FaissStore.open(self._root, edition)
        return store


def _gone(index: str, day: date, detail: str, repair: str) -> dict[str, str]:
    return {"index": index, "day": day.isoformat(), "detail": detail, "repair": repair}
