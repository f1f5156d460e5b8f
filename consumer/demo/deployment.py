"""Starts and stops the processes of a small deployment on loopback.

The demo uses it to show the product, and the tests use it to hurt the product: every process is a
real one, and can be killed, frozen and started again.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from consumer.errors import DayfoldError
from consumer.folding.requests import Requests
from consumer.health.status import is_live, read_status
from consumer.registry.local_etcd import LocalEtcd

DETECTOR = "detector-01"
SAMPLE = Path(__file__).resolve().parent.parent / "replay" / "sample_flows.parquet"
STOP_S = 40.0

CONFIG = """\
# Written by the demo. The recording is from the past, so its own event times close the days.
[data]
dir = "data"
min_free_mb = 64

[registry]
kind = "etcd"
[registry.etcd]
endpoints = ["{etcd}"]
lease_ttl_s = {ttl}
heartbeat_s = {heartbeat}

[day]
clock = "event"
settle_s = 2.0

[subscriber]
disconnect_grace_s = 2.0

[api]
port = 0

[log]
level = "info"
format = "json"
"""


class DeploymentError(DayfoldError):
    """A part of the deployment did not do what was waited for."""


class Deployment:
    """A registry, a service and detector stand-ins below one folder.

    Use as a context manager: leaving it ends every process that it started.

    Args:
        folder: where configuration, data and logs go.
        lease_ttl_s: lease of the service; tests use a short one.
        settings: environment variables on top of the written configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease_ttl_s: int = 60,
        heartbeat_s: float = 20.0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "dayfold.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self.etcd = LocalEtcd(folder / "etcd")
        self.service: subprocess.Popen[bytes] | None = None
        self.replays: list[subprocess.Popen[bytes]] = []
        self._ttl = lease_ttl_s
        self._heartbeat = heartbeat_s
        self._settings = dict(settings or {})
        self._seed = folder / "seed.bin"

    def __enter__(self) -> Self:
        """Start the registry and write the configuration."""
        self.etcd.start()
        self.config.write_text(
            CONFIG.format(etcd=self.etcd.endpoint, ttl=self._ttl, heartbeat=self._heartbeat),
            encoding="utf-8",
        )
        if not self._seed.exists():
            self._seed.touch(mode=0o600)
            self._seed.write_bytes(secrets.token_bytes(32))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End stand-ins, service and registry, in this order."""
        for replay in self.replays:
            _end(replay)
        self.stop_service()
        self.etcd.stop()

    def start_service(self) -> None:
        """Start `dayfold run` and wait until it is ready.

        Raises:
            DeploymentError: it ended, or is not ready after 30 seconds.
        """
        began = time.time_ns()
        with (self.folder / "service.log").open("ab") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._settings},
            )
        self.wait_for(
            "the service to be ready",
            lambda picture: (
                picture["service"]["state"] == "running"
                and picture["service"]["started_ns"] >= began
            ),
            timeout_s=30,
        )

    def stop_service(self) -> int | None:
        """SIGTERM, and the exit code; None if it was not running."""
        if self.service is None:
            return None
        code = _end(self.service)
        self.service = None
        return code

    def kill_service(self) -> None:
        """SIGKILL: no goodbye, no sync."""
        if self.service is not None:
            self.service.kill()
            self.service.wait()
            self.service = None

    def signal_service(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        if self.service is not None:
            self.service.send_signal(number)

    def start_replay(
        self,
        *,
        rate: float,
        scheme: str = "chacha20poly1305-v1",
        source: Path = SAMPLE,
        node: str = DETECTOR,
        days: str | None = None,
        limit: int | None = None,
        bind: str = "tcp://127.0.0.1:0",
        name: str = "replay",
    ) -> subprocess.Popen[bytes]:
        """Start a detector stand-in, registered in etcd, that waits for one subscriber."""
        material = "--seed-file" if scheme == "chacha20poly1305-v1" else "--key-file"
        command = [
            sys.executable, "-m", "consumer", "replay", str(source),
            "--bind", bind, "--scheme", scheme, material, str(self._seed),
            "--rate", str(rate), "--node", node, "--etcd", self.etcd.endpoint,
            "--wait-for", "1", "--json",
        ]  # fmt: skip
        if days is not None:
            command += ["--days", days]
        if limit is not None:
            command += ["--limit", str(limit)]
        with (
            (self.folder / f"{name}.json").open("wb") as output,
            (self.folder / f"{name}.log").open("ab") as log,
        ):
            replay = subprocess.Popen(command, stdout=output, stderr=log)
        self.replays.append(replay)
        return replay

    def replay_report(self, name: str = "replay") -> dict[str, Any]:
        """What an ended stand-in said: published, seconds, rate.

        Raises:
            DeploymentError: it said nothing.
        """
        try:
            report: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        except ValueError as error:
            log = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
            raise DeploymentError(f"the detector stand-in failed: {log}") from error
        return report

    def picture(self) -> dict[str, Any] | None:
        """The service's picture."""
        return read_status(self.data_dir)

    def close(self, day: date) -> None:
        """Ask the service to close a day."""
        Requests(self.data_dir).ask_close(day)

    def wait_for(
        self,
        what: str,
        reached: Callable[[dict[str, Any]], bool],
        *,
        timeout_s: float,
        tick: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Poll the picture until `reached` says so; `tick` sees every picture on the way.

        Raises:
            DeploymentError: it was not reached in time, or the service ended.
        """
        end = time.monotonic() + timeout_s
        while True:
            picture = self.picture()
            if picture is not None:
                if tick is not None:
                    tick(picture)
                if is_live(picture, time.time_ns()) and reached(picture):
                    return picture
            if self.service is not None and self.service.poll() is not None:
                log = (self.folder / "service.log").read_text(errors="replace")[-2000:]
                raise DeploymentError(
                    f"the service ended with code {self.service.returncode}: {log}"
                )
            if time.monotonic() > end:
                raise DeploymentError(f"waited {timeout_s:g} s for {what}; logs: {self.folder}")
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode
