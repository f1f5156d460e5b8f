"""Faults that a test plants in a real process of the product, which finds this by PYTHONPATH.

What `bad_disk.c` does below Python, for machines without a compiler; and a fold that eats memory.
"""

import errno
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


def _worse(sync: Callable[[Any], None], said: Path) -> Callable[[Any], None]:
    def synced(fd: Any) -> None:
        fault = said.read_text() if said.exists() else "0"
        if fault == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        time.sleep(int(fault) / 1000)
        sync(fd)

    return synced


def _eat(told: Path) -> None:
    """Once the fold has limited itself, take memory until there is none left, and keep it."""
    while resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY:
        time.sleep(0.001)
    eaten: list[bytearray] = []
    try:
        while True:
            eaten.append(bytearray(b"\1") * (8 * MIB))  # written, so that it is really there
    except MemoryError:
        told.write_text(str(8 * len(eaten)))
    time.sleep(3600)


if disk := os.environ.get("BAD_DISK_SEAM"):
    os.fsync = _worse(os.fsync, Path(disk))  # type: ignore[assignment]
    os.fdatasync = _worse(os.fdatasync, Path(disk))  # type: ignore[assignment]
if (
    (hungry := os.environ.get("HUNGRY"))
    and "consumer.folding.fold" in sys.orig_argv
    and Path(hungry).exists()
):
    threading.Thread(target=_eat, args=(Path(f"{hungry}.ate"),), daemon=True).start()
