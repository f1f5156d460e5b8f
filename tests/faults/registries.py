"""Registries that are cut off: a cluster that loses members, and two kinds of partition."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from consumer.registry.local_etcd import LocalEtcd, etcd_binary, etcd_environment

READY_S = 30.0
TICK_MS = 50


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def launch(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """An etcd that dies with this process's thread where setpriv is installed."""
    wrap = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*wrap, *arguments], stdout=output, stderr=output, env=etcd_environment()
        )


def asked(endpoint: str, path: str) -> dict[str, Any]:
    """What etcd's own JSON gateway answers."""
    request = urllib.request.Request(f"http://{endpoint}{path}", b"{}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        said: dict[str, Any] = json.load(answer)
        return said


def wait_ready(endpoint: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while True:
        with suppress(OSError, ValueError):
            if int(asked(endpoint, "/v3/maintenance/status").get("leader", 0)):
                return
        assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
        time.sleep(0.05)


class Cluster:
    """Three etcd members on loopback. `endpoint` is that of the first one."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(6)
        self.endpoints = [f"127.0.0.1:{port}" for port in ports[:3]]
        self._peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        self._folder = folder
        self._members: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            self.start_member(number)
        for endpoint in self.endpoints:
            wait_ready(endpoint, self._folder / "etcd.log")

    def start_member(self, number: int) -> None:
        client, peer = f"http://{self.endpoints[number]}", self._peers[number]
        cluster = ",".join(f"m{at}={url}" for at, url in enumerate(self._peers))
        self._members[number] = launch(
            [
                str(etcd_binary()), "--name", f"m{number}",
                "--data-dir", str(self._folder / f"m{number}"),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster, "--initial-cluster-state", "new",
                "--heartbeat-interval", str(TICK_MS), "--election-timeout", str(10 * TICK_MS),
            ],
            self._folder / "etcd.log",
        )  # fmt: skip

    def leader(self) -> int:
        """Number of the member that leads, as the members that run see it."""
        for number in self._members:
            status = asked(self.endpoints[number], "/v3/maintenance/status")
            if status["leader"] == status["header"]["member_id"]:
                return number
        raise AssertionError("no member leads")

    def kill_member(self, number: int) -> None:
        member = self._members.pop(number)
        member.kill()
        member.wait()

    def stop(self) -> None:
        for number in list(self._members):
            self.kill_member(number)


class NamespacedEtcd:
    """An etcd in a network namespace of its own; `cut` takes the link to it down.

    Skips where this user may not make one.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("ip") is None:
            pytest.skip("no ip command: the other form stands for it")
        self._name = f"dayfold{os.getpid()}"
        self._folder = folder
        self._inside = "10.213.77.2"
        self.endpoint = f"{self._inside}:2379"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        name = self._name
        try:
            subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(
                f"no network namespaces here ({error.stderr!r}): the other form stands for it"
            )
        for line in (
            f"link add {name[:12]}o type veth peer name inside netns {name}",
            f"addr add 10.213.77.1/30 dev {name[:12]}o",
            f"link set {name[:12]}o up",
            f"-n {name} addr add {self._inside}/30 dev inside",
            f"-n {name} link set inside up",
            f"-n {name} link set lo up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        url = f"http://{self.endpoint}"
        self._process = launch(
            [
                "ip", "netns", "exec", name, str(etcd_binary()),
                "--data-dir", str(self._folder / "data"),
                "--listen-client-urls", url, "--advertise-client-urls", url,
                "--listen-peer-urls", "http://127.0.0.1:0",
            ],
            self._folder / "etcd.log",
        )  # fmt: skip
        wait_ready(self.endpoint, self._folder / "etcd.log")

    def cut(self) -> None:
        self._link("down")

    def heal(self) -> None:
        self._link("up")

    def _link(self, state: str) -> None:
        subprocess.run(["ip", "-n", self._name, "link", "set", "inside", state], check=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)


class ProxiedEtcd:
    """A local etcd behind a forwarder; `cut` has the forwarder pass nothing on, in either way.

    Connections stay open and new ones are accepted, as behind a firewall that drops packets.
    """

    def __init__(self, folder: Path) -> None:
        self._etcd = LocalEtcd(folder)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._passing = threading.Event()
        self._passing.set()
        self._ending = threading.Event()
        self._open: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        self._etcd.start()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._thread.start()

    def cut(self) -> None:
        self._passing.clear()

    def heal(self) -> None:
        self._passing.set()

    def stop(self) -> None:
        self._ending.set()
        self._passing.set()
        self._thread.join()
        for one in self._open:
            one.close()
        self._selector.close()
        self._etcd.stop()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._passing.wait()
            for key, _ in self._selector.select(0.05):
                if key.data is None:
                    self._accept()
                elif self._passing.is_set():
                    self._forward(key.fileobj, key.data)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        host, _, port = self._etcd.endpoint.rpartition(":")
        far = socket.create_connection((host, int(port)))
        self._open += [near, far]
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)

    def _forward(self, source: Any, target: socket.socket) -> None:
        try:
            data = source.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            with suppress(OSError):
                target.sendall(data)
                return
        for one in (source, target):
            with suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()
