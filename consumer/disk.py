"""Room on the disk: reception stops before the journal could fail, and resumes by itself.

Quotas do not show in the free space: a write that found no room stops reception, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

MIB = 1024 * 1024
#: Measures without a refused write after which there is room again.
QUIET_MEASURES = 2


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the folder's file system."""
    return shutil.disk_usage(folder).free


class DiskRoom:
    """Remembers whether there is room; asked often, measured when told.

    Reception stops below `min_free_mb` and resumes above it by a tenth, so that it does not
    flicker at the limit.
    """

    def __init__(
        self, folder: Path, *, min_free_mb: int, free: Callable[[Path], int] = free_bytes
    ) -> None:
        self._folder = folder
        self._free = free
        self.min_free_mb = min_free_mb
        self.free_mb = 0
        self.stops = 0
        #: What the last write said that found no room; None once writes are done again.
        self.refused: str | None = None
        self._room = self._had_room = True
        self._quiet = 0
        self.measure()

    def measure(self) -> bool:
        """Look at the disk, and whether writes still find no room. Called once a second.

        True if there is room now and was none the last time, or the other way round.
        """
        self._quiet += 1
        if self._quiet >= QUIET_MEASURES:
            self.refused = None
        self.free_mb = self._free(self._folder) // MIB
        needed = self.min_free_mb if self._room else self.min_free_mb * 1.1
        room = self.free_mb >= needed
        if self._room and not room:
            self.stops += 1
        self._room = room
        turned = self.room() != self._had_room
        self._had_room = self.room()
        return turned

    def refuse(self, why: str) -> None:
        """A write found no room, whatever the file system says; its writer tries it again.

        From the thread that writes. It is over when two measures in a row heard of no such write.
        """
        if self.refused is None:
            self.stops += 1
        self.refused = why
        self._quiet = 0

    def room(self) -> bool:
        """Whether reception may go on; cheap."""
        return self._room and self.refused is None

    def to_json(self) -> dict[str, object]:
        """How it stands, for the status."""
        return {
            "room": self.room(),
            "free_mb": self.free_mb,
            "min_free_mb": self.min_free_mb,
            "stops": self.stops,
            "refused": self.refused,
        }
