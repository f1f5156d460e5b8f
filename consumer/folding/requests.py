"""What an operator asks of a running service, as files in the data folder.

`dayfold close DATE` leaves an empty file `run/requests/close-DATE`, `dayfold reconcile` one named
`reconcile`; the coordinator takes them at its next round. While a snapshot is taken a file `hold`
there keeps days as they are. The folder is 0700, so that only who may write the data may ask.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

CLOSE = "close-"
RECONCILE = "reconcile"
HOLD = "hold"
#: A hold that is not asked for again ends after this time, whatever became of who asked.
HOLD_S = 120.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked since the last look: days to close, and whether to retry at once."""

    close: frozenset[date]
    reconcile: bool


class Requests:
    """The folder of requests below a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "run" / "requests"

    def ask_close(self, day: date) -> None:
        """Ask the service to close a day now. Asking twice is asking once."""
        self._ask(f"{CLOSE}{day.isoformat()}")

    def ask_reconcile(self) -> None:
        """Ask the service to commit now what is behind, without waiting for the next try."""
        self._ask(RECONCILE)

    def ask_to_hold(self) -> None:
        """Ask the service to begin nothing that changes days, for `HOLD_S` or until released."""
        self._ask(HOLD)

    def release(self) -> None:
        """End the hold."""
        (self._folder / HOLD).unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether days are to stay as they are."""
        try:
            asked = (self._folder / HOLD).stat().st_mtime
        except FileNotFoundError:
            return False
        return abs(time.time() - asked) < HOLD_S

    def _ask(self, name: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / name).touch(mode=0o600)

    def take(self) -> Asked:
        """What was asked since the last call. A name that means nothing is removed."""
        days: set[date] = set()
        reconcile = False
        entries = list(self._folder.iterdir()) if self._folder.is_dir() else []
        for entry in entries:
            if entry.name == HOLD:
                continue
            entry.unlink(missing_ok=True)
            if entry.name == RECONCILE:
                reconcile = True
                continue
            try:
                days.add(date.fromisoformat(entry.name.removeprefix(CLOSE)))
            except ValueError:
                continue
        return Asked(frozenset(days), reconcile)
