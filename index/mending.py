"""Finding days whose rows are damaged, and asking for them to be made again."""

from datetime import date
from pathlib import Path

from index.catalogue import Catalogue
from index.errors import StoreCorruptError, StoreMissingError
from index.manifest import read_manifest
from index.shards import read_shard


def mark_damaged(root: Path, name: str, catalogue: Catalogue) -> list[date]:
    """Mark as pending the days whose rows in the index `name` below `root` are damaged.

    Every byte is read. Embedding such a day again gives the same bytes, and these heal its file;
    until then it is left out of answers and named in them. An index whose next edition is being made
    is left alone: its days are embedded again anyway. A manifest that is damaged itself is
    left to `dayfold repair`.

    Raises:
        CatalogueError: the catalogue cannot be read or written.
    """
    if catalogue.upcoming(name) is not None:
        return []
    edition = catalogue.serving(name)
    folder = root / edition
    try:
        manifest = read_manifest(folder, edition)
    except (StoreCorruptError, StoreMissingError):
        return []
    damaged = []
    for day, shard in manifest.shards.items():
        chunk = catalogue.chunk(day)
        state = chunk.indices[name] if chunk else None
        if state is None or (state.state, state.revision) != ("committed", shard.revision):
            continue
        try:
            for _ in read_shard(folder, shard, index=edition, dimension=manifest.dimension):
                pass
        except StoreCorruptError:
            if read_manifest(folder, edition).shards.get(day) == shard:
                catalogue.mark_pending(day, name)
                damaged.append(day)
    return damaged
