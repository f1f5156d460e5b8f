"""What the wire lost, read off the counters of counter nonces.

A detector's counter starts at 0 when the detector starts and advances before a send that may drop.
So within one epoch (one run of a detector) a gap is exactly what was lost, and a counter seen
before is a repeat. The first counter ever seen of a detector is the base: what was sent before it
is not counted.

Whether a low counter is a repeat or the start of a new epoch can only be told from what follows.
The rules, for a counter `c` and the highest counter `high` of the current epoch:

1. `c > high` goes on with the epoch; the counters in between are lost.
2. `c` within the last 4,096 counters and not seen: it was late. It no longer counts as lost.
3. Any other `c` is a repeat, for the time being.
4. A repeat that is low for its epoch (below 64, or at least 4,096 behind) may begin a new epoch.
   The new epoch is confirmed when three different such counters have come within a span of 64, the
   newest the highest, and none went on with the old epoch in between. A single old counter,
   however often it comes, is always a repeat.
5. On confirmation the low counters of that span belong to the new epoch, which began at 0: what it
   had sent before we heard it counts as lost.
6. Only a replay of old messages can look like a new epoch, or like a leap of more than 4,096
   counters, and then be followed by what came before it. So both are on probation for 4,096
   messages. When a counter comes that is at most 64 ahead of what was there before, and neither
   behind a new epoch nor at most 64 ahead of what is there now, the new epoch or leap is taken
   back, and all its messages were repeats.

What this cannot see: an epoch of which fewer than three messages arrived; a new epoch whose first
message that we see is beyond the old one's last (it shows as a gap in the old epoch, a lower bound
of the loss), or is 64 or more and less than 4,096 below the old one's last (late or repeats, until
it passes that). Somebody who can inject recorded messages into the connection for longer
than the probation can still distort the figures: CURVE keeps them out.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, Self

from consumer.errors import DayfoldError
from consumer.wire.epochs import EpochLosses, Track

__all__ = ["EpochLosses", "LossLedger", "Losses"]

_COUNTERS: Final = 1 << 64
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Losses:
    """What is known of one detector, over all its epochs.

    Late messages, and epochs or leaps that are taken back, correct `lost` and `epochs` downwards.

    Attributes:
        epoch: number of the current epoch; 0 if nothing was ever seen.
        received, lost, repeats: sums over all epochs; see `EpochLosses`.
        epochs: how many epochs were seen.
        last_counter: highest counter of the current epoch; None if nothing was ever seen.
        history: the last 32 epochs, the current one last.
    """

    epoch: int
    received: int
    lost: int
    repeats: int
    epochs: int
    last_counter: int | None
    history: tuple[EpochLosses, ...]


class LossLedger:
    """Counts losses per detector. Safe to read from another thread than the one that notes.

    Memory is bounded per detector (below 32 KiB), whatever counters come.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tracks: dict[str, Track] = {}

    def note(self, detector: str, counter: int) -> None:
        """Take note of the counter of one message; see `note_all`."""
        self.note_all(detector, [counter])

    def note_all(self, detector: str, counters: list[int]) -> None:
        """Take note of the counters of messages that were opened, in the order of arrival.

        Only counters of authentic messages may come here: one that anyone could have written
        would make any loss appear.

        Raises:
            ValueError: a counter does not fit in 64 bits; none is noted then.
        """
        if not counters:
            return
        for counter in (min(counters), max(counters)):
            if not 0 <= counter < _COUNTERS:
                raise ValueError(
                    f"counter {counter} of {detector} is not an unsigned 64-bit number"
                )
        with self._lock:
            track = self._tracks.get(detector)
            if track is None:
                track = self._tracks[detector] = Track(counters[0])
            track.note_all(counters)

    def facts(self, detector: str) -> Losses:
        """What is known of a detector; all zero if nothing was ever seen of it."""
        with self._lock:
            track = self._tracks.get(detector)
            history = () if track is None else track.history()
            received, lost, repeats = (0, 0, 0) if track is None else track.sums()
        if not history:
            return Losses(0, 0, 0, 0, 0, None, ())
        current = history[-1]
        return Losses(
            epoch=current.epoch,
            received=received,
            lost=lost,
            repeats=repeats,
            epochs=current.epoch,
            last_counter=current.last_counter,
            history=history,
        )

    def detectors(self) -> list[str]:
        """The detectors seen, sorted."""
        with self._lock:
            return sorted(self._tracks)

    def forget(self, detector: str) -> None:
        """Drop what is known of a detector."""
        with self._lock:
            self._tracks.pop(detector, None)

    def to_json(self) -> dict[str, Any]:
        """The whole state, for `from_json` after a restart; 1 to 8 KiB per detector."""
        with self._lock:
            tracks = {name: track.to_json() for name, track in sorted(self._tracks.items())}
        return {"version": _VERSION, "detectors": tracks}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A ledger that goes on where `to_json` left off.

        What detectors sent in between shows as lost, as it should.

        Raises:
            DayfoldError: not a state that `to_json` wrote, or one of another version.
        """
        ledger = cls()
        try:
            if state["version"] != _VERSION:
                raise ValueError(f"version {state['version']!r}, expected {_VERSION}")
            for name, track in state["detectors"].items():
                ledger._tracks[str(name)] = Track.from_json(track)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DayfoldError(
                f"saved loss counts cannot be read ({type(error).__name__}: {error}); "
                "remove them to count from zero"
            ) from error
        return ledger
