"""The quarantine: messages that could not be accepted, kept with the reason.

Each reason has a folder of its own and a limit of its own, so a flood of one kind pushes out only
its own kind. A message is written at once: a crash of the process loses none. `sync` makes them
safe from a power cut; what came since the last one is at risk.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from consumer.clock import Clock
from consumer.days import NS_PER_DAY
from consumer.errors import QuarantineError
from consumer.quarantine.shelf import LONGEST_MESSAGE, Quarantined, Shelf, ShelfFile, encode

__all__ = ["Messages", "Quarantine", "Quarantined"]

log = structlog.get_logger("quarantine")

#: How often the age of messages is looked at, seconds.
EXPIRE_EVERY_S = 60.0

_REASON = re.compile(r"[a-z][a-z0-9_]*")

Messages = list[Quarantined]


@dataclass(slots=True)
class Round:
    """How far a round has come. Belongs to the quarantine that began it.

    Attributes:
        files: those not read to their end yet; the first one is being read.
        done: offsets in it of messages that were taken and are not removed yet.
        taken: messages removed so far.
    """

    shelf: Shelf
    files: list[ShelfFile]
    done: set[int] = field(default_factory=set)
    taken: int = 0
    reading: Iterator[tuple[int, Quarantined]] | None = None
    rewrites: int = 0


class Quarantine:
    """Thread-safe. One process writes; others may list.

    Args:
        root: the quarantine's own folder; it is made with the first message.
        max_bytes: limit of each reason, bytes on the disk. At the limit the oldest messages of the
            same reason go, an eighth of the limit at a time, and are counted in `dropped`.
        max_age_days: messages older than this go, too, once all in their file are.
        keep_bytes: at least so much of each reason stays, whatever its age; the oldest go first.

    Raises QuarantineError if what is there cannot be read.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        max_bytes: int,
        max_age_days: float,
        keep_bytes: int = 0,
    ) -> None:
        self._root = root
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_age_ns = round(max_age_days * NS_PER_DAY)
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        # One retry at a time. Taken before the other lock.
        self._taking = threading.Lock()
        self._expired_at: float | None = None
        self._shelves: dict[str, Shelf] = {}
        try:
            if root.is_dir():
                for folder in sorted(root.iterdir()):
                    if folder.is_dir() and _REASON.fullmatch(folder.name):
                        self._shelves[folder.name] = Shelf(folder, folder.name, max_bytes)
        except OSError as error:
            raise QuarantineError(f"the quarantine at {root} cannot be read: {error}") from error
        self._report_damage()

    def _report_damage(self) -> None:
        for shelf in self._shelves.values():
            for file in shelf.files:
                lost = sum(gap.end - gap.start for gap in file.damaged)
                if lost:
                    log.warning("quarantine damaged", file=str(file.path), bytes=lost)

    def cut_torn_tails(self) -> None:
        """Cut off what a kill or a power cut left of a message that was being put.

        Only for the process that owns the data folder. Raises QuarantineError.
        """
        with self._lock:
            for shelf in self._shelves.values():
                try:
                    cut = shelf.cut_torn_tail()
                except OSError as error:
                    raise QuarantineError(
                        f"the torn end of the quarantine {shelf.reason} cannot be cut: {error}"
                    ) from error
                if cut:
                    log.warning("quarantine recovered", reason=shelf.reason, torn_bytes=cut)

    def put(
        self,
        reason: str,
        message: bytes,
        *,
        detector: str,
        arrival_ns: int,
        detail: str,
        sealed: bool,
    ) -> None:
        """Keep a message. Costs one write; never waits for a sync.

        Never raises for want of room: the oldest messages of the same reason are dropped and
        counted, or this one if it is larger than the limit or the disk is full. Raises ValueError
        for a reason that is not a plain lower-case word.
        """
        with self._lock:
            shelf = self._shelf(reason)
            if len(message) > min(LONGEST_MESSAGE, self._max_bytes):
                shelf.dropped += 1
            else:
                data = encode(detector, arrival_ns, detail, sealed=sealed, message=message)
                shelf.put(data, arrival_ns)
        self.expire()

    def _shelf(self, reason: str) -> Shelf:
        shelf = self._shelves.get(reason)
        if shelf is None:
            if not _REASON.fullmatch(reason):
                raise ValueError(f"reason = {reason!r}: a plain lower-case word is needed")
            shelf = self._shelves[reason] = Shelf(self._root / reason, reason, self._max_bytes)
        return shelf

    def expire(self) -> None:
        """Drop what is too old. Looks once a minute however often it is called."""
        now = self._clock.monotonic()
        if self._expired_at is not None and now - self._expired_at < EXPIRE_EVERY_S:
            return
        self._expired_at = now
        oldest_ns = self._clock.now_ns() - self._max_age_ns
        with self._lock:
            for shelf in self._shelves.values():
                shelf.drop_older(oldest_ns, keep_bytes=self._keep_bytes)

    def sync(self) -> None:
        """Make everything that was put before durable.

        Raises QuarantineError; nothing is added to the files that failed, and they are not synced
        again, because a second sync would prove nothing about the first.
        """
        for shelf in list(self._shelves.values()):
            with self._lock:
                files, folder_changed = shelf.pending_sync()
            try:
                shelf.sync(files, folder_changed=folder_changed)
            except OSError as error:
                with self._lock:
                    shelf.end_file()
                raise QuarantineError(f"the quarantine cannot be synced: {error}") from error

    def close(self) -> None:
        """Sync, and close the files. The next `put` opens new ones. Raises QuarantineError."""
        try:
            self.sync()
        finally:
            with self._lock:
                for shelf in self._shelves.values():
                    shelf.end_file()

    @property
    def dropped(self) -> dict[str, int]:
        """Messages dropped since the start, by reason: for want of room, or too old."""
        with self._lock:
            return {reason: shelf.dropped for reason, shelf in self._shelves.items()}

    def counts(self) -> dict[str, int]:
        """Return how many messages are kept, by reason; reasons without any are left out."""
        with self._lock:
            held = {reason: shelf.messages for reason, shelf in self._shelves.items()}
        return {reason: messages for reason, messages in held.items() if messages}

    def list(self, reason: str | None = None, limit: int = 100) -> Messages:
        """Return the latest `limit` messages, of one reason or of all, the newest first.

        Raises QuarantineError if a file cannot be read.
        """
        with self._lock:
            shelves = [
                (shelf, list(shelf.files))
                for name, shelf in self._shelves.items()
                if reason is None or name == reason
            ]
        found: Messages = []
        for shelf, files in shelves:
            of_shelf: Messages = []
            for file in reversed(files):
                if len(of_shelf) >= limit:
                    break
                of_shelf += reversed([message for _, message in self._read(shelf, file)])
            found += of_shelf[:limit]
        found.sort(key=lambda message: message.arrival_ns, reverse=True)
        return found[:limit]

    def take(
        self,
        reason: str,
        handle: Callable[[Quarantined], bool],
        *,
        settle: Callable[[], None] = lambda: None,
    ) -> int:
        """Hand every message of a reason to `handle`, oldest first; return how many were taken.

        A message for which it returned True is removed; until then it stays, so after a crash it
        may be handed over again. No lock of `put` is held meanwhile: `handle` may put messages, and
        those are not handed over in the same round. `settle` is called before any is removed: there
        the caller makes durable what it took. If `handle` raises, what was taken before is
        removed and the error goes on. Raises QuarantineError if a file cannot be read.
        """
        round_ = self.begin(reason)
        while self.go_on(round_, handle, settle=settle):
            pass
        return round_.taken

    def begin(self, reason: str) -> Round:
        """Begin a round through the messages of a reason that are there now, for `go_on`."""
        self.expire()
        with self._lock:
            shelf = self._shelf(reason)
            shelf.end_file()
            return Round(shelf, list(shelf.files))

    def go_on(
        self,
        round_: Round,
        handle: Callable[[Quarantined], bool],
        *,
        settle: Callable[[], None],
        messages: int | None = None,
        size: int | None = None,
    ) -> bool:
        """Do the next slice of a round, as `take` does all of it; True while there is more.

        A slice ends with its file at the latest, and after so many messages or bytes of them.
        Between two slices messages may be put, taken, dropped or purged.
        """
        with self._taking:
            reading = self._reading(round_)
            if reading is None:
                return False
            handed = 0
            try:
                for offset, message in reading:
                    if handle(message):
                        round_.done.add(offset)
                    handed += len(message.message)
                    if messages is not None:
                        messages -= 1
                    if messages == 0 or (size is not None and handed >= size):
                        return True
            except BaseException:
                self._end_file(round_, settle)
                raise
            self._end_file(round_, settle)
            return bool(round_.files)

    def _reading(self, round_: Round) -> Iterator[tuple[int, Quarantined]] | None:
        """The messages of the round's file from where it was; None if there is no file left."""
        with self._lock:
            held = round_.files[:1]
            round_.files = [file for file in round_.files if file in round_.shelf.files]
            if not round_.files:
                return None
            file = round_.files[0]
            if round_.reading is None or held != [file] or round_.rewrites != file.rewrites:
                round_.reading = self._read(round_.shelf, file)
                round_.rewrites = file.rewrites
                round_.done = set()
            return round_.reading

    def _end_file(self, round_: Round, settle: Callable[[], None]) -> None:
        """Remove what was taken of the round's file, and leave it behind."""
        file, done = round_.files.pop(0), round_.done
        round_.reading, round_.done = None, set()
        if done:
            settle()
            self._remove(round_.shelf, file, done)
        round_.taken += len(done)

    def purge(self, reason: str | None = None) -> int:
        """Remove all messages of a reason, or of all, for good; return how many there were."""
        removed = 0
        with self._taking, self._lock:
            for name, shelf in self._shelves.items():
                if reason is None or name == reason:
                    removed += sum(shelf.remove(file) for file in list(shelf.files))
        return removed

    def _read(self, shelf: Shelf, file: ShelfFile) -> Iterator[tuple[int, Quarantined]]:
        try:
            yield from shelf.read(file)
        except FileNotFoundError:  # dropped meanwhile
            return
        except OSError as error:
            raise QuarantineError(f"{file.path} cannot be read: {error}") from error

    def _remove(self, shelf: Shelf, file: ShelfFile, done: set[int]) -> None:
        """Replace a file by one without the messages that were taken."""
        try:
            fresh, size, kept = shelf.rewritten(file, done)
            with self._lock:
                if file not in shelf.files:  # dropped meanwhile, with all that was in it
                    fresh.unlink()
                elif kept:
                    shelf.replace(file, fresh, size, kept)
                else:
                    fresh.unlink()
                    shelf.remove(file)
        except OSError as error:
            # They stay and are handed over again, which a journal without repeats forgives.
            log.warning("taken messages not removed", file=str(file.path), error=str(error))
