"""The encoder for a question: the one that made the rows it is compared with, or none."""

from __future__ import annotations

from pathlib import Path

from consumer.folding.installed import installed
from index.catalogue import Catalogue
from index.editions import progress
from index.errors import ModelMismatchError
from index.store import VectorStore
from models.store import ModelFiles, earlier, locate


def encoder_files(
    store: VectorStore, index: str, catalogue: Catalogue, cache_dir: Path | None
) -> ModelFiles:
    """The files of the model that made the rows of `store`, an edition of `index`.

    While an index is made anew, its old rows answer as long as their encoder is still in the cache.

    Raises:
        ModelMismatchError: that model is not on this machine any more.
        ModelError: it is the installed one, and missing or altered.
    """
    wanted, current = store.model, installed(index, cache_dir)[1]
    if current.sha256 == wanted.sha256:
        return locate(index, cache_dir)
    files = earlier(index, wanted.sha256, cache_dir)
    if files is not None:
        return files
    made = progress(catalogue, index)
    remedy = (
        f"{made.done} of {made.days} days are embedded again, it can be asked when all are"
        if made
        else "start the service, or `dayfold reconcile`: every day is embedded again"
    )
    raise ModelMismatchError(
        f"index {index} holds rows of {wanted.name} ({wanted.sha256[:12]}), which is not on this "
        f"machine any more; installed is {current.name} ({current.sha256[:12]}): {remedy}"
    )
