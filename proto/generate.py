"""Regenerate the protobuf modules: ``python -m proto.generate [--check]``.

The generated ``*_pb2.py`` and ``*_pb2.pyi`` are checked in, so that running the service needs no
compiler. The compiler is the one inside ``grpcio-tools`` (extra ``dev``). ``--check`` writes
nothing and says which files differ.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SCHEMAS = ("admission", "network_security")

# The compiler writes the bare generic in its stubs, which a strict type checker refuses.
_BARE_MAPPING = re.compile(rb"(?<!as )\b_Mapping\b(?!\[)")


class GenerationError(RuntimeError):
    """The compiler is missing or refused a schema."""


def generate(root: Path) -> dict[str, bytes]:
    """Compile every schema below ``root``/proto.

    Returns the generated files, by name relative to the proto folder. Promises: writes nothing
    below ``root``, and the same schemas and compiler give the same bytes.

    Raises:
        GenerationError: grpcio-tools is not installed, or the compiler refused a schema.
    """
    try:
        from grpc_tools import protoc
    except ImportError as missing:
        raise GenerationError(
            "grpcio-tools is not installed; install the extra: pip install 'dayfold[dev]'"
        ) from missing
    # Compiling from the root, not from the folder, makes the file's registered name and any import
    # between our schemas start with the package: proto.
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as out:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={root}",
                f"--proto_path={well_known}",
                f"--python_out={out}",
                f"--pyi_out={out}",
                *(f"proto/{name}.proto" for name in SCHEMAS),
            ]
        )
        if status != 0:
            raise GenerationError(f"protoc ended with status {status}; its message is above")
        produced = sorted((Path(out) / "proto").iterdir())
        return {
            file.name: _BARE_MAPPING.sub(b"_Mapping[str, object]", file.read_bytes())
            for file in produced
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated modules, or with ``--check`` compare them. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m proto.generate", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    check: bool = parser.parse_args(arguments).check

    folder = Path(__file__).resolve().parent
    try:
        files = generate(folder.parent)
    except GenerationError as error:
        print(f"proto.generate: {error}", file=sys.stderr)
        return 2
    differing = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    for name in differing:
        if not check:
            (folder / name).write_bytes(files[name])
        print(f"{name}: {'differs from its schema' if check else 'written'}")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
