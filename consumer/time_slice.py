"""The time slice of a thread: how long it may keep a core that another one waits for.

Niceness only says whose turn comes oftener. Whoever runs keeps the core to the end of its slice, some
milliseconds, while a thread that needs little waits for it. Since Linux 6.12 each
thread can have a slice of its own, and one that wakes takes the core at once from one whose slice is longer
(the EEVDF scheduler; "Earliest Eligible Virtual Deadline First", I. Stoica and H. Abdel-Wahab, 1995).

The C library has no function for it: `sched_setattr(2)`.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Final

#: The longest that the kernel takes.
LONGEST_NS: Final = 100_000_000
SHORTEST_NS: Final = 100_000

#: System calls `sched_setattr` and `sched_getattr`.
_CALLS: Final = {
    "x86_64": (314, 315),
    "aarch64": (274, 275),
    "riscv64": (274, 275),
    "armv7l": (380, 381),
}


class _Attributes(ctypes.Structure):
    """`struct sched_attr` in its first version, 48 bytes. Times are ns."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def set_slice(slice_ns: int) -> bool:
    """Give the calling thread, and those that it starts, a slice of so many nanoseconds.

    `slice_ns` is from `SHORTEST_NS` to `LONGEST_NS`. False if the kernel does not know of it, before Linux 6.12 or on
    a processor that is not listed here; nothing has changed then.
    """
    found = _attributes(0)
    if found is None:
        return False
    found.runtime = slice_ns
    return _call(0, 0, found) and slice_of() == slice_ns


def slice_of(thread: int = 0) -> int | None:
    """The slice of a thread by its native id, 0 for the calling one, ns; None if the kernel does not say."""
    found = _attributes(thread)
    return None if found is None else int(found.runtime)


def _attributes(thread: int) -> _Attributes | None:
    found = _Attributes()
    return found if _call(1, thread, found, ctypes.sizeof(found)) else None


def _call(which: int, thread: int, attributes: _Attributes, *more: int) -> bool:
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return False
    attributes.size = ctypes.sizeof(attributes)
    libc = ctypes.CDLL(None, use_errno=True)
    # The last argument are flags, of which there are none.
    return bool(libc.syscall(calls[which], thread, ctypes.byref(attributes), *more, 0) == 0)
