"""Room on the disk: reception stops before the journal could fail, and resumes by itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

MIB = 1024 * 1024


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
        self._room = True
        self.measure()

    def measure(self) -> None:
        """Look at the disk. Called once a second by the service."""
        self.free_mb = self._free(self._folder) // MIB
        needed = self.min_free_mb if self._room else self.min_free_mb * 1.1
        room = self.free_mb >= needed
        if self._room and not room:
            self.stops += 1
        self._room = room

    def room(self) -> bool:
        """Whether reception may go on; cheap."""
        return self._room
