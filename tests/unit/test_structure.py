"""Data flows one way: nothing imports what stands above it, and there are no circles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MAY_IMPORT: dict[str, set[str]] = {
    "proto": set(),
    "models": set(),
    "index": set(),
    "embed": {"models", "proto"},
    "consumer": {"embed", "index", "models", "proto"},
}

# The service's own rooms, from the bottom up: each may know those named before it.
FLOORS = (
    "columns",
    "wire",
    "health",
    "journal",
    "quarantine",
    "retention",
    "folding",
    "registry",
    "reception",
    "care",
    "replay",
    "backfill",
    "questions",
    "evaluation",
    "web",
    "demo",
    "commands",
)


def modules(room: str) -> list[Path]:
    return [
        path
        for path in (TOP / room).rglob("*.py")
        if not path.name.endswith("_pb2.py") and "training" not in path.parts
    ]


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_stands_below_it(room: str) -> None:
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[room] - {room}
    for path in modules(room):
        used = {name.split(".")[0] for name in imports(path)}
        assert not used & forbidden, f"{path.relative_to(TOP)} imports {used & forbidden}"


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_of_the_service_knows_only_the_floors_below_it(floor: str) -> None:
    above = FLOORS[FLOORS.index(floor) + 1 :]
    for path in (TOP / "consumer" / floor).rglob("*.py"):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("consumer.")}
        assert not used & set(above), f"{path.relative_to(TOP)} imports {used & set(above)}"


def test_every_folder_of_the_service_has_its_floor() -> None:
    folders = {path.parent.name for path in (TOP / "consumer").glob("*/__init__.py")}
    assert folders == set(FLOORS)


def test_no_circle_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    known = {
        ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__"): path
        for room in MAY_IMPORT
        for path in modules(room)
    }
    for name, path in known.items():
        graph[name] = {used for used in imports(path) if used in known and used != name}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for used in sorted(graph[name]):
            # A package's __init__ gathers its own modules' names: reaching the package from one of
            # its modules is the same circle only if the module needs a name from there.
            walk(used, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        walk(name, ())


def test_no_module_is_longer_than_its_job() -> None:
    for room in MAY_IMPORT:
        for path in modules(room):
            lines = len(path.read_text().splitlines())
            assert lines <= 420, f"{path.relative_to(TOP)} has {lines} lines: find the two in it"


def test_the_service_starts_without_the_libraries_of_its_child_and_of_questions() -> None:
    """FAISS, ONNX Runtime, Arrow and etcd3 cost a start 0.2 s, and memory that a small box lacks."""
    told = "import sys, consumer.commands.app, consumer.service; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"faiss", "onnxruntime", "pyarrow", "etcd3", "grpc"} == set()
