"""`dayfold repair`: rebuilds what `verify` found broken, and names what cannot be rebuilt.

The order matters. Journals come first, because all else is made from them: what is valid in a
damaged segment is carried over, and lost events are named before the last trace of them goes. Then
the catalogue. Then, with the data folder open, days whose journal changed are sealed as a new
revision, indices keep what is sound, and what is missing is embedded again. Nothing changes where
nothing is wrong, so repairing twice is repairing once.
"""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from consumer.care.offline import OfflineDays
from consumer.care.repair_account import Account
from consumer.care.repair_catalogue import CatalogueRepair
from consumer.care.repair_journal import JournalsRepaired, repair_journals, set_damaged_seals_aside
from consumer.care.verify import RESTORE, has_header, quarantine_shelves, verify_data
from consumer.clock import Clock
from consumer.errors import ForgetError, JournalError
from consumer.folding.coordinator import CANNOT_BE_MADE_AGAIN
from consumer.folding.executor import FoldExecutor
from consumer.folding.installed import Installed, Models, installed, models_of
from consumer.journal.seal import sealed_revisions
from consumer.journal.segment import DAMAGED_SUFFIX
from consumer.quarantine.shelf import Shelf, ShelfFile
from consumer.settings import INDEX_NAMES, Settings
from index.editions import held_model, tidy
from index.forget import forget_day
from index.repair import repair_index
from index.store import ModelIdentity
from index.verify import verify_index
from index.verify_files import verify_files

BEHIND = "dayfold reconcile, when the cause is gone"


def repair_data(
    settings: Settings,
    *,
    clock: Clock,
    executor: FoldExecutor | None = None,
    models: Installed | None = None,
) -> dict[str, Any]:
    """Repair a data folder that no service uses. Gives what `verify` says then, and the account.

    Args:
        executor: where folds run; a child process unless a test says otherwise.
        models: dimension and model of the rows that `executor` makes for an index; those on this
            machine if not given.

    Raises:
        JournalLockedError: a service runs on the data folder.
        JournalError: the disk does not let it.
        StoreError: likewise; or the catalogue was written by a newer program.
    """
    models = models or partial(installed, cache_dir=settings.models.cache_dir)
    account = Account()
    journals = JournalsRepaired()

    def prepare() -> None:
        nonlocal journals
        root = settings.data.dir / "journal"
        journals = repair_journals(root, settings.day.zone, account)
        CatalogueRepair(settings.data.dir, clock, account).run(journals.emptied)

    ready = models_of(settings.models.cache_dir).ready
    with OfflineDays(
        settings, prepare=prepare, executor=executor, models=Models(models, ready)
    ) as offline:
        behind = _Repair(settings, offline, account, models).run(journals.changed)
    answer = verify_data(settings, deep=True)
    faults = [*answer["faults"], *behind]
    return {
        **answer,
        "ok": not faults and not account.unrecoverable,
        "faults": faults,
        "repaired": account.repaired,
        "unrecoverable": account.unrecoverable,
    }


class _Repair:
    """The steps for which the data folder is open."""

    def __init__(
        self, settings: Settings, offline: OfflineDays, account: Account, models: Installed
    ) -> None:
        self._models = models
        self._settings = settings
        self._offline = offline
        self._account = account
        self._journal_root = settings.data.dir / "journal"
        self._index_root = settings.data.dir / "index"

    def run(self, changed: set[date]) -> list[dict[str, str | None]]:
        """Gives the faults of what is behind and could not be committed now."""
        self._tell_recovered()
        for day in self._offline.journal.days():
            self._seal_again(day, changed)
        for name in INDEX_NAMES:
            self._repair_index(name)
        self._forget()
        before = {name: self._model(name) for name in INDEX_NAMES}
        self._offline.coordinator.fold_what_is_behind(at_once=True)
        for name, model in before.items():
            if model is not None and (now := self._model(name)) != model:
                detail = f"embedded again with {now.name if now else 'nothing'}, where it can be"
                self._account.mended("model of index", f"index {name}", detail)
        try:
            for day in self._offline.journal.days():
                set_damaged_seals_aside(self._journal_root, day, self._account)
            for shelf in quarantine_shelves(self._settings):
                for file in shelf.files:
                    self._repair_shelf(shelf, file)
        except OSError as error:
            raise JournalError(f"{self._settings.data.dir} cannot be repaired: {error}") from error
        return self._behind()

    def _tell_recovered(self) -> None:
        """What the journal itself found when it was opened: torn tails, and worse."""
        for found in self._offline.journal.recovered:
            where = f"{found.day}/{found.name}@{found.offset}"
            if found.kind != "seal":
                self._account.mended("segment", where, found.detail, kept=found.kept)
            if found.synced_bytes:
                detail = f"{found.synced_bytes} bytes that had been synced are lost"
                self._account.lost("events", where, detail, day=str(found.day), kept=found.kept)

    def _seal_again(self, day: date, changed: set[date]) -> None:
        """Close a day once more if what its last seal covered is not what there is now."""
        journal, catalogue = self._offline.journal, self._offline.catalogue
        seal, chunk = journal.latest_seal(day), catalogue.chunk(day)
        sealed = seal.revision if seal else 0
        if chunk is not None and chunk.revision > sealed:
            # A seal is gone. Its number may be given again, so nothing may be held under it.
            catalogue.delete_day(day)
            if seal is not None:
                catalogue.seal_chunk(day, seal.revision, journal.counts(day))
            else:
                changed = changed | {day}
            detail = f"the catalogue had revision {chunk.revision}, the journal has {sealed}"
            self._account.mended("revision", str(day), detail)
        elif chunk is None and journal.unsealed(day):
            catalogue.note_chunk(day, journal.counts(day))
        was_closed = bool(sealed_revisions(self._journal_root / day.isoformat())) or (
            chunk is not None and chunk.revision > 0
        )
        if day in changed and journal.unsealed(day) and was_closed:
            self._offline.coordinator.close(day)
            fresh = journal.latest_seal(day)
            if fresh is not None and fresh is not seal:
                detail = f"sealed again, with {fresh.events} events"
                self._account.mended("day", str(day), detail, revision=fresh.revision)

    def _repair_index(self, name: str) -> None:
        catalogue = self._offline.catalogue
        chunks = catalogue.chunks()
        expected = any(chunk.indices[name].revision is not None for chunk in chunks)
        if not expected and not (self._index_root / name).exists():
            return
        wrong = verify_index(self._index_root, name, catalogue, deep=True).faults
        dimension, model = self._models(name)
        held = held_model(self._index_root, catalogue.serving(name))
        if held is not None and held[1] != model:
            # What is damaged is mended with the model that is there; the next edition follows.
            dimension, model = held
        behind = repair_index(self._index_root, name, catalogue, dimension=dimension, model=model)
        self._give_up_damaged_edition(name)
        for fault in wrong:
            self._account.mended(fault.what, fault.where, fault.detail)
        for day in behind:
            if not self._offline.journal.is_retired(day):
                self._account.mended("rows", f"index {name}, {day}", "embedded again")
        self._give_up_retired(name)

    def _model(self, name: str) -> ModelIdentity | None:
        held = held_model(self._index_root, self._offline.catalogue.serving(name))
        return held[1] if held else None

    def _give_up_damaged_edition(self, name: str) -> None:
        """An edition in the making that is not sound is begun anew: it is served to nobody yet."""
        catalogue = self._offline.catalogue
        upcoming = catalogue.upcoming(name)
        if upcoming is None or not (self._index_root / upcoming.name).exists():
            return
        if verify_files(self._index_root / upcoming.name, upcoming.name, deep=True).faults:
            catalogue.give_up_edition(name)
            tidy(self._index_root, catalogue, name)

    def _give_up_retired(self, name: str) -> None:
        """Rows of a day whose journal was let go cannot be made again: say so, and serve none."""
        catalogue = self._offline.catalogue
        for chunk in catalogue.chunks():
            state = chunk.indices[name]
            given_up = state.state == "failed" and state.next_retry_ns is None
            whole = state.state == "committed" and state.revision == chunk.revision
            if whole or given_up or not self._offline.journal.is_retired(chunk.day):
                continue
            forget_day(self._index_root, state.edition, chunk.day)
            catalogue.mark_pending(chunk.day, name, lost=True)
            error = CANNOT_BE_MADE_AGAIN
            catalogue.mark_failed(chunk.day, name, error=error, attempts=1, next_retry_ns=None)
            self._account.lost("rows", f"index {name}, {chunk.day}", error, day=str(chunk.day))

    def _forget(self) -> None:
        for tombstone in self._offline.forgetting.unfinished():
            try:
                self._offline.forgetting.finish(tombstone)
            except ForgetError:
                continue  # `verify` tells
            self._account.mended("tombstone", str(tombstone.day), "the day is forgotten now")

    def _repair_shelf(self, shelf: Shelf, file: ShelfFile) -> None:
        gaps = list(file.damaged)
        if not gaps and has_header(file.path):
            return
        kept = _free_name(file.path.with_suffix(DAMAGED_SUFFIX))
        kept.hardlink_to(file.path)
        fresh, size, messages = shelf.rewritten(file, ())
        shelf.replace(file, fresh, size, messages)
        self._account.mended(
            "quarantine", str(file.path), f"{messages} messages carried over", kept=kept.name
        )
        for gap in gaps:
            lost = gap.end - gap.start
            detail = f"{lost} bytes of quarantined messages are lost: {gap.reason}"
            self._account.lost(
                "quarantine", f"{file.path}@{gap.start}", detail, bytes=lost, kept=kept.name
            )

    def _behind(self) -> list[dict[str, str | None]]:
        faults: list[dict[str, str | None]] = []
        for chunk in self._offline.catalogue.chunks():
            for name, state in chunk.indices.items():
                if chunk.revision and (state.state, state.revision) != (
                    "committed",
                    chunk.revision,
                ):
                    faults.append(
                        {
                            "what": "index behind",
                            "where": f"index {name}, {chunk.day}",
                            "detail": state.error or "not committed",
                            "repair": BEHIND if state.next_retry_ns else RESTORE,
                            "index": name,
                            "day": chunk.day.isoformat(),
                        }
                    )
        return faults


def _free_name(path: Path) -> Path:
    free, attempt = path, 1
    while free.exists():
        attempt += 1
        free = path.with_name(f"{path.stem}-{attempt}{path.suffix}")
    return free
