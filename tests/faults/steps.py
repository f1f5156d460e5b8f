"""The steps that a process takes on its disk, each with a name, and the end of the process at one.

A step is a file created, begun (its first write), written, synced, renamed, linked, cut or removed, a folder made or
removed, or an SQL statement that changes the catalogue. Its name says what is done to which kind
of file: ``sync journal/DAY/N.seg``. Names are discovered while a process runs, so a new file of
the product is attacked without being announced.

What the disk would hold after a power cut is kept, too: how much of a file is synced, and which
names its folder does not hold for certain yet. It is the model against which durability is
judged: `on_durable` is told of every file and of how much of it nothing can take any more.

Nothing here is part of the product, and nothing of the product knows of it: `Steps.watch` puts
itself in the place of the functions of `os` and of `sqlite3.connect`, in a process that a test
starts. It imports nothing of the product, which may bind those functions while it is imported.
"""

# pathlib goes through the very functions that are replaced here.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH115, PTH116, PTH120, PTH208
from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["kill", "power", "torn"]

_REAL: dict[str, Callable[..., Any]] = {
    name: getattr(os, name)
    for name in (
        "open", "fdopen", "write", "pwrite", "fsync", "fdatasync", "replace", "rename", "unlink",
        "remove", "link", "truncate", "ftruncate", "mkdir", "rmdir",
    )
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBER = re.compile(r"\d+")
_INDEX = re.compile(r"^index/[a-z]+")
_SQL = re.compile(
    r"\s*(?:(COMMIT|BEGIN)|(INSERT)(?: OR \w+)? INTO (\w+)|(UPDATE) (\w+)|(DELETE) FROM (\w+)|"
    r"(CREATE \w+) (\w+)|(PRAGMA user_version) =)",
    re.IGNORECASE,
)


def kind_of(place: str) -> str:
    """A path below the data folder without its days, numbers and the name of its index."""
    return _INDEX.sub("index/NAME", _NUMBER.sub("N", _DAY.sub("DAY", place)))


@dataclass(slots=True)
class _Name:
    """A change of a folder that a power cut may take back: a file or folder made, renamed, gone."""

    how: Literal["made", "renamed", "gone"]
    path: str
    source: str = ""
    before: bytes | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """What is watched, and what is to happen.

    Attributes:
        root: the folder below which steps are counted.
        fatal: asked before each step, with its name; True ends the process there. Of a write half
            has been done by then.
        mode: what is lost then. ``kill``: nothing that was done. ``power``: half of what was
            written and not synced, and every name whose folder was not synced. ``torn``: the same,
            but the newest rename survives the others, as a file system is free to order it.
        on_durable: told the path below the root and the size of a file that is safe up to there.
        at_the_end: called when all is lost that the mode loses, before the process is gone.
    """

    root: str
    fatal: Callable[[str], bool]
    mode: Mode = "kill"
    on_durable: Callable[[str, int], None] = lambda _path, _size: None
    at_the_end: Callable[[], None] = lambda: None


class Steps:
    """Watches what this process does below one folder; each step happens whole before the next.

    Without orders nothing is watched; they may be given once, before anything happened.
    """

    def __init__(self, orders: Orders | None = None) -> None:
        self.orders = orders
        self._lock = threading.RLock()
        self._synced: dict[str, int] = {}
        self._written: set[str] = set()
        self._names: list[_Name] = []
        self._told: dict[str, int] = {}

    def watch(self) -> None:
        """Take the place of the functions; once for a process, before the product is imported."""
        for name in _REAL:
            setattr(os, name, getattr(self, f"_{name}"))
        real_connect: Callable[..., sqlite3.Connection] = sqlite3.connect

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = real_connect(*arguments, **options)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = connect  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def step(self, name: str) -> None:
        """Take note of a step, and end the process if it is the fatal one."""
        with self._lock:
            if self.orders is not None and self.orders.fatal(name):
                self.end()

    def end(self) -> None:
        """Lose what the mode loses, and be gone."""
        self.cut()
        if self.orders is not None:
            self.orders.at_the_end()
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()

    def cut(self) -> None:
        """Take from the disk what a power cut takes."""
        mode = "kill" if self.orders is None else self.orders.mode
        if mode == "kill":
            return
        for path in self._written:
            if os.path.exists(path):
                size, safe = os.stat(path).st_size, self._synced.get(path, 0)
                _REAL["truncate"](path, safe + max(0, size - safe) // 2)
        kept = next((n for n in reversed(self._names) if n.how == "renamed"), None)
        for name in reversed(self._names):
            if mode == "torn" and name is kept:
                continue
            self._take_back(name)

    def _take_back(self, name: _Name) -> None:
        if name.how == "made" and os.path.isdir(name.path):
            if not os.listdir(name.path):
                _REAL["rmdir"](name.path)
        elif name.how == "made":
            if os.path.exists(name.path):
                _REAL["unlink"](name.path)
        elif name.how == "renamed":
            _REAL["rename"](name.path, name.source)
        if name.before is not None and os.path.isdir(os.path.dirname(name.path)):
            handle = _REAL["open"](name.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            _REAL["write"](handle, name.before)
            os.close(handle)

    # What stands in for os.open, os.write, ...: same arguments, same answers.

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._place(path, dir_fd)
        if place is None or not flags & _WRITING or not flags & (os.O_CREAT | os.O_TRUNC):
            return int(_REAL["open"](path, flags, mode, dir_fd=dir_fd))
        with self._lock:
            new = not os.path.exists(place)
            if new or flags & os.O_TRUNC:
                self.step(f"create {self._kind(place)}")
            handle = int(_REAL["open"](path, flags, mode, dir_fd=dir_fd))
            if new:
                self._names.append(_Name("made", place))
            if new or flags & os.O_TRUNC:
                self._written.add(place)
                self._synced.pop(place, None)
            return handle

    def _fdopen(self, handle: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        place = self._place_of(handle)
        if place is not None and set(mode) & set("wax+"):
            with self._lock:
                self.step(f"write {self._kind(place)}")
                self._written.add(place)
        return _REAL["fdopen"](handle, mode, *arguments, **options)

    def _write(self, handle: int, data: Any) -> int:
        return self._put("write", handle, data)

    def _pwrite(self, handle: int, data: Any, offset: int) -> int:
        return self._put("pwrite", handle, data, offset)

    def _put(self, how: str, handle: int, data: Any, *where: int) -> int:
        place = self._place_of(handle)
        if place is None:
            return int(_REAL[how](handle, data, *where))
        with self._lock:
            if place not in self._written:
                self._synced.setdefault(place, os.fstat(handle).st_size)
                self._written.add(place)
            verb = "write" if os.fstat(handle).st_size else "begin"
            if self.orders is not None and self.orders.fatal(f"{verb} {self._kind(place)}"):
                half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
                _REAL[how](handle, half, *where)
                self.end()
            return int(_REAL[how](handle, data, *where))

    def _fsync(self, handle: int) -> None:
        self._sync("fsync", handle)

    def _fdatasync(self, handle: int) -> None:
        self._sync("fdatasync", handle)

    def _sync(self, how: str, handle: int) -> None:
        place = self._place_of(handle)
        if place is None:
            _REAL[how](handle)
            return
        with self._lock:
            self.step(f"sync {self._kind(place)}")
            _REAL[how](handle)
            facts = os.fstat(handle)
            if stat.S_ISDIR(facts.st_mode):
                self._names = [n for n in self._names if os.path.dirname(n.path) != place]
            else:
                self._synced[place] = facts.st_size
                self._written.discard(place)
            self._tell()

    def _tell(self) -> None:
        if self.orders is None:
            return
        unsure = {name.path for name in self._names}
        for path, size in self._synced.items():
            if self._told.get(path) != size and not any(
                path == name or path.startswith(name + "/") for name in unsure
            ):
                self._told[path] = size
                self.orders.on_durable(path.removeprefix(self.orders.root + "/"), size)

    def _replace(self, source: Any, target: Any, **folders: Any) -> None:
        self._move("replace", source, target, **folders)

    def _rename(self, source: Any, target: Any, **folders: Any) -> None:
        self._move("rename", source, target, **folders)

    def _move(self, how: str, source: Any, target: Any, **folders: Any) -> None:
        place = self._place(target, folders.get("dst_dir_fd"))
        if place is None:
            _REAL[how](source, target, **folders)
            return
        with self._lock:
            self.step(f"rename {self._kind(place)}")
            before = _content(place)
            _REAL[how](source, target, **folders)
            origin = os.path.abspath(os.fspath(source))
            if origin in self._written:
                self._written.discard(origin)
                self._written.add(place)
            self._synced.pop(place, None)
            if origin in self._synced:
                self._synced[place] = self._synced.pop(origin)
            self._names.append(_Name("renamed", place, origin, before))

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._take_away("unlink", path, dir_fd)

    def _remove(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._take_away("remove", path, dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._take_away("rmdir", path, dir_fd)

    def _take_away(self, how: str, path: Any, dir_fd: int | None) -> None:
        place = self._place(path, dir_fd)
        if place is None or not os.path.lexists(place):
            _REAL[how](path, dir_fd=dir_fd)
            return
        with self._lock:
            self.step(f"remove {self._kind(place)}")
            before = _content(place) if place not in self._written else None
            _REAL[how](path, dir_fd=dir_fd)
            self._synced.pop(place, None)
            self._written.discard(place)
            if how != "rmdir":
                self._names.append(_Name("gone", place, before=before))

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        place = self._place(target)
        if place is None:
            _REAL["link"](source, target, **options)
            return
        with self._lock:
            self.step(f"link {self._kind(place)}")
            _REAL["link"](source, target, **options)
            self._names.append(_Name("made", place))

    def _truncate(self, path: Any, size: int) -> None:
        place = self._place_of(path) if isinstance(path, int) else self._place(path)
        if place is None:
            _REAL["truncate"](path, size)
            return
        with self._lock:
            self.step(f"cut {self._kind(place)}")
            _REAL["truncate"](path, size)
            if place in self._synced:
                self._synced[place] = min(size, self._synced[place])

    def _ftruncate(self, handle: int, size: int) -> None:
        self._truncate(handle, size)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = self._place(path, dir_fd)
        if place is None or os.path.isdir(place):
            _REAL["mkdir"](path, mode, dir_fd=dir_fd)
            return
        with self._lock:
            self.step(f"create {self._kind(place)}/")
            _REAL["mkdir"](path, mode, dir_fd=dir_fd)
            self._names.append(_Name("made", place))

    def _statement(self, text: str) -> None:
        found = _SQL.match(text)
        if found is not None:
            self.step("catalogue " + " ".join(part for part in found.groups() if part).upper())

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        # Files that are opened by their name and not through os.open.
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            place = None if isinstance(arguments[0], int) else self._place(arguments[0])
            if place is not None:
                with self._lock:
                    self.step(f"create {self._kind(place)}")

    def _place(self, path: Any, folder: int | None = None) -> str | None:
        """The absolute path, if it lies below the root."""
        name = os.fsdecode(path)
        if folder is not None and not name.startswith("/"):
            name = os.readlink(f"/proc/self/fd/{folder}") + "/" + name
        whole = os.path.abspath(name)
        return whole if self._holds(whole) else None

    def _place_of(self, handle: int) -> str | None:
        try:
            whole = os.readlink(f"/proc/self/fd/{handle}")
        except OSError:
            return None
        return whole if self._holds(whole) else None

    def _holds(self, whole: str) -> bool:
        root = None if self.orders is None else self.orders.root
        return root is not None and (whole == root or whole.startswith(root + "/"))

    def _kind(self, place: str) -> str:
        root = "" if self.orders is None else self.orders.root
        return kind_of(place.removeprefix(root).removeprefix("/") or ".")


def _content(path: str) -> bytes | None:
    """The bytes of a file that is about to lose its name; None if there is none."""
    if not os.path.isfile(path):
        return None
    handle = _REAL["open"](path, os.O_RDONLY)
    try:
        return os.read(handle, os.fstat(handle).st_size)
    finally:
        os.close(handle)
