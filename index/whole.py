"""Whether every index really holds a day: looked at, not looked up."""

from datetime import date
from pathlib import Path

from index.catalogue import Catalogue
from index.errors import CatalogueCorruptError, StoreCorruptError, StoreMissingError
from index.manifest import read_manifest
from index.shards import read_shard


def why_not_whole(root: Path, catalogue: Catalogue, day: date) -> str | None:
    """Why the rows of a day below `root` cannot be relied on, or None if they can.

    Every byte of its shards and every fact of its rows is read and compared with its checksum. For
    the moment before the journal of a day is let go, after which nothing brings its rows back.

    Raises:
        CatalogueError: the catalogue cannot be read at all.
    """
    chunk = catalogue.chunk(day)
    if chunk is None or chunk.state != "committed":
        return f"it is {'not in the catalogue' if chunk is None else chunk.state}"
    for name, state in chunk.indices.items():
        folder = root / state.edition
        try:
            manifest = read_manifest(folder, state.edition)
            shard = manifest.shards.get(day)
            if shard is None or (shard.revision, shard.rows) != (state.revision, state.rows):
                return f"index {name} does not hold what the catalogue says"
            for _ in read_shard(folder, shard, index=state.edition, dimension=manifest.dimension):
                pass
            if len(catalogue.facts_of(name, day)) != shard.rows:
                return f"facts of its rows in index {name} are missing"
        except (StoreCorruptError, StoreMissingError, CatalogueCorruptError) as error:
            return str(error)
    return None
