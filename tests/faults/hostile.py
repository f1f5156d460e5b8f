"""A deployment with detectors that mean harm: endpoints and keys from the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from consumer.demo.deployment import Deployment

SEED = bytes(range(32))  # a test key


def facing(folder: Path, addresses: dict[str, str], **settings: str) -> Deployment:
    """A deployment that listens to these detectors too, and knows the test key."""
    return Deployment(
        folder,
        settings={
            "DAYFOLD_DETECTOR__ENDPOINTS": json.dumps(
                [{"name": name, "address": address} for name, address in addresses.items()]
            ),
            "DAYFOLD_DETECTOR__KEYS": json.dumps(
                [{"id": "test", "scheme": "chacha20poly1305-v1", "hex": SEED.hex()}]
            ),
            **{f"DAYFOLD_{name}": value for name, value in settings.items()},
        },
    )


def rss_peak_mb(pid: int) -> float:
    """The most memory that a running process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run_python(program: str) -> str:
    """What a program says that runs in a process of its own, so that its memory can be measured."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
