"""The clock by which things grow old: one that jumped ahead ages nothing until it has proved right.

A wall clock that is a year ahead, for an hour, would let go of every journal and every quarantined
message at once, and setting it right brings nothing back. So what is old is decided by a mark of
time that is kept on the disk and moves as time passes. As long as the wall clock is about where the
mark is, it is right and the mark follows it. If it is further off than `LEAP_S`, the mark goes on by
what passes alone; after `PROOF_S` of running time in which nobody corrected the wall clock, it is
believed.

A machine that was switched off for longer than `LEAP_S` looks the same: what has grown old
meanwhile goes a day later.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from consumer.clock import Clock
from consumer.journal.durable import checked_json, make_folder, parse_checked_json, replace_file

log = structlog.get_logger("clock")

FILE = Path("run") / "age.json"
#: A wall clock that is off the mark by no more than this is followed. Less than any age limit.
LEAP_S = 86_400.0
#: A wall clock that is further off is believed when it has been so for this much running time.
PROOF_S = 86_400.0
#: How often the mark is written.
WRITE_EVERY_S = 600.0

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Mark:
    """UTC ns of the mark, and for how many seconds the wall clock has been in doubt."""

    ns: int
    doubted_s: float = 0.0


class AgeClock:
    """A `Clock` whose time of day is never ahead of the mark. Thread-safe.

    Args:
        clock: the wall clock and the passing of time.
        data_dir: the mark is kept below it; without one the wall clock is believed at first.
    """

    def __init__(self, clock: Clock, data_dir: Path) -> None:
        self._clock = clock
        self._path = data_dir / FILE
        self._lock = threading.Lock()
        self._mark = self._read() or _Mark(clock.now_ns())
        self._looked_at = clock.monotonic()
        self._written_at: float | None = None

    def now_ns(self) -> int:
        """UTC ns since 1970: the wall clock's, or the mark's if that is earlier."""
        with self._lock:
            return min(self._clock.now_ns(), self._moved(self._clock.monotonic()).ns)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return self._clock.monotonic()

    @property
    def doubted_by_s(self) -> float:
        """How far the wall clock is ahead of the mark (or behind it), seconds; 0 if it is believed."""
        with self._lock:
            mark = self._moved(self._clock.monotonic())
            off_s = (self._clock.now_ns() - mark.ns) / _S
        return off_s if abs(off_s) > LEAP_S else 0.0

    def look(self) -> None:
        """Compare the wall clock with the mark; the service does it at each beat."""
        now, wall_ns = self._clock.monotonic(), self._clock.now_ns()
        with self._lock:
            before, mark = self._mark, self._moved(now)
            off_s = (wall_ns - mark.ns) / _S
            if abs(off_s) <= LEAP_S:
                self._mark = _Mark(wall_ns)
            else:
                doubted_s = mark.doubted_s + now - self._looked_at
                self._mark = _Mark(wall_ns) if doubted_s >= PROOF_S else _Mark(mark.ns, doubted_s)
            self._looked_at = now
        turned = bool(before.doubted_s) != bool(self._mark.doubted_s)
        if turned and self._mark.doubted_s:
            log.warning("the clock jumped; nothing grows old by it yet", off_s=round(off_s))
        elif turned:
            log.warning("the clock is believed again")
        if turned or self._written_at is None or now - self._written_at >= WRITE_EVERY_S:
            self._write()
            self._written_at = now

    def _write(self) -> None:
        try:
            make_folder(self._path.parent)
            replace_file(self._path, checked_json(asdict(self._mark)))
        except OSError as error:
            log.warning("the mark of time is not kept", file=str(self._path), error=str(error))

    def _moved(self, now: float) -> _Mark:
        """The mark as it is now; what has passed cannot be wrong."""
        passed_ns = round((now - self._looked_at) * _S)
        return _Mark(self._mark.ns + passed_ns, self._mark.doubted_s)

    def _read(self) -> _Mark | None:
        try:
            kept: dict[str, Any] = parse_checked_json(self._path.read_bytes())
            return _Mark(int(kept["ns"]), float(kept["doubted_s"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the mark of time cannot be read", file=str(self._path), error=str(error))
            return None
