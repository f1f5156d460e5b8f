"""Arms the real service and its folding child: at which step they die, and what they tell.

A test starts `python -m consumer run` with the environment that `armed` makes. Python then runs
`armed/sitecustomize.py` before anything else, in the service and in each of its children, and that
calls `arm`. The service itself knows nothing of it.

A plan is ``each``: the process dies at the first step whose name nobody has died at; or two numbers
and steps, ``7:2:fold: rename index/NAME/CURRENT|service: sync journal``: the process that comes to one of
them for the second time dies there, once for the plan, whose own number the first one is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.faults.steps import Mode, Orders, Steps

TOP = Path(__file__).resolve().parents[2]
FOLD = "consumer.folding.fold"
NOTES = ("tried", "seen", "durable")


def armed(
    root: Path,
    notes: Path,
    *,
    plan: str,
    mode: Mode = "kill",
    models: Path | None = None,
) -> dict[str, str]:
    """The environment of an armed process.

    Args:
        root: the data folder that is watched.
        notes: folder outside of it for what the processes tell: ``tried``, a line for each step
            that one died at, ``NUMBER:STEP`` if the plan has a number; ``seen``, a line for each
            name of a step; ``durable``, a line ``SIZE PATH`` for each file that is safe up to a size.
        plan: ``each``, ``NUMBER:COUNT:STEP|STEP|...`` or ``none``.
        mode: what is lost at that step, see `Steps`.
        models: a folder of `write_models`; the encoders of this machine if none is given.
    """
    given = {
        "PYTHONPATH": f"{TOP / 'tests' / 'faults' / 'armed'}:{TOP}",
        "STEPS_ROOT": str(root),
        "STEPS_NOTES": str(notes),
        "STEPS_PLAN": plan,
        "STEPS_MODE": mode,
    }
    if models is not None:
        given["STEPS_MODELS"] = str(models)
    return given


class _Notes:
    """Lines that outlive the process that wrote them, whatever becomes of it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._write = os.write
        self._handles = {
            name: os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for name in NOTES
        }

    def tell(self, name: str, line: str) -> None:
        self._write(self._handles[name], (line + "\n").encode())

    def lines(self, name: str) -> set[str]:
        return set(Path(f"{self._folder}/{name}").read_text().splitlines())


def arm(environment: Mapping[str, str]) -> None:
    """Arm this process as the environment says; before it imports anything of the product."""
    role = "fold" if FOLD in sys.orig_argv else "service"
    Steps(orders(environment, role)).watch()
    if role == "fold" and "STEPS_MODELS" in environment:
        use_models(Path(environment["STEPS_MODELS"]))


def orders(environment: Mapping[str, str], role: str) -> Orders:
    """What the environment asks of a process of this role."""
    # Opened outside of the folder that is watched: what is told is no step.
    notes = _Notes(environment["STEPS_NOTES"])
    mode: Mode = environment["STEPS_MODE"]  # type: ignore[assignment]  # `armed` wrote it
    return Orders(
        environment["STEPS_ROOT"],
        _fatal(environment["STEPS_PLAN"], role, notes),
        mode,
        lambda path, size: notes.tell("durable", f"{size} {path}"),
        # A power cut ends both.
        _end_parent if role == "fold" and mode != "kill" else lambda: None,
    )


def _end_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def _fatal(plan: str, role: str, notes: _Notes) -> Callable[[str], bool]:
    tried, seen = notes.lines("tried"), set[str]()
    number, left = "", dict[str, int]()
    if plan not in {"each", "none"}:
        number, count, steps = plan.split(":", 2)
        number += ":"
        if not any(line.startswith(number) for line in tried):
            left = dict.fromkeys(steps.split("|"), int(count))

    def fatal(name: str) -> bool:
        if "scratch" in name:  # nothing that anybody reads again
            return False
        step = f"{role}: {name}"
        if step not in seen:
            seen.add(step)
            notes.tell("seen", step)
        if plan == "each":
            due = step not in tried
        elif due := step in left:
            left[step] -= 1
            due = left[step] == 0
        if due:
            notes.tell("tried", number + step)
        return due

    return fatal


def write_models(folder: Path) -> None:
    """Write the tiny encoders of the tests to a folder, for `armed`."""
    from tests import standin_models

    listed = {}
    for make in (standin_models.attack, standin_models.timeseries, standin_models.semantic):
        files = make(folder)
        fields = set(files.entry.__slots__) - {"folder"}
        facts = {field: getattr(files.entry, field) for field in sorted(fields)}
        listed[files.entry.index] = {"entry": facts, "extra": sorted(files.extra)}
    (folder / "models.json").write_text(json.dumps(listed))


def use_models(folder: Path) -> None:
    """Let the product have the encoders of a folder; before it imports `models.store`.

    One whose graph is gone is missing; one with a file ``NAME.deadly`` beside it kills the child
    that opens it.
    """
    from models import store
    from models.errors import ModelMissingError
    from models.manifest import ModelEntry

    listed: dict[str, Any] = json.loads((folder / "models.json").read_text())
    entries = {
        index: ModelEntry(**facts["entry"], folder=folder) for index, facts in listed.items()
    }

    def locate(model: str | ModelEntry, cache_dir: Path | None = None) -> store.ModelFiles:
        entry = entries[model if isinstance(model, str) else model.index]
        if FOLD in sys.orig_argv and (folder / f"{entry.name}.deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        graph = folder / entry.file
        if not graph.exists():
            raise ModelMissingError(f"model {entry.name}: {graph} is not there")
        extra = {name: folder / name for name in listed[entry.index]["extra"]}
        return store.ModelFiles(entry, graph, MappingProxyType(extra))

    vars(store).update(locate=locate, load_manifest=lambda: tuple(entries.values()))
