"""Disks that are full, slow or broken, under a real service; and what others see of it."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumer.demo.deployment import Deployment
from consumer.registry.client import EtcdConnection
from consumer.registry.options import EtcdOptions

HERE = Path(__file__).parent
MIB = 1024 * 1024


def bad_syncs(folder: Path, switch: Path) -> dict[str, str]:
    """Environment of a process whose syncs obey the file `switch`.

    Below Python where there is a C compiler to make the library, else by a seam in Python.
    """
    if shutil.which("cc") is None:
        return {"PYTHONPATH": str(HERE / "planted"), "BAD_DISK_SEAM": str(switch)}
    library = folder / "bad_disk.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "bad_disk.c", "-ldl"], check=True
    )
    return {"LD_PRELOAD": str(library), "BAD_DISK": str(switch)}


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own on `folder`; skips where this user may not mount."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here: a limit on file size stands for it in another test")
    if done.returncode:
        pytest.skip(f"may not mount ({done.stderr.strip()}): a limit on file size stands for it")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leave_mb: float) -> Path:
    """Take the room of a file system but for so much; the file that took it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(folder).free - int(leave_mb * MIB)) > 0:
            try:
                file.write(bytes(min(free, MIB)))
            except OSError:
                break
    return ballast


def limit_files(pid: int, size: int) -> None:
    """No file of a running process may grow beyond `size`; -1 lifts the limit."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def readyz(picture: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body of `/readyz` of the service whose picture this is."""
    try:
        with urllib.request.urlopen(picture["service"]["api"] + "/readyz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def registered(deployment: Deployment) -> list[dict[str, Any]]:
    """The values of this component on the registry."""
    endpoint = deployment.etcd.endpoint
    with EtcdConnection(endpoint, EtcdOptions((endpoint,))) as connection:
        found = connection.read("/ml-defender/services/dayfold/").items
    return [json.loads(item.value) for item in found if item.value is not None]
