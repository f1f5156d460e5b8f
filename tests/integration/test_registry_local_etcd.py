"""The etcd server that the demo and the tests run."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.errors import RegistryError
from consumer.registry import local_etcd
from consumer.registry.local_etcd import LocalEtcd, etcd_binary
from tests.integration.registry_support import Operator, eventually, options


def stored(server: LocalEtcd) -> list[bytes | None]:
    with Operator(options(server)) as operator:
        return [item.value for item in operator.connection.read("/kept").items]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_restart_keeps_ports_and_data_and_a_wipe_loses_the_data(tmp_path: Path) -> None:
    with LocalEtcd(tmp_path / "etcd") as server:
        endpoint = server.endpoint
        with Operator(options(server)) as operator:
            operator.connection.put("/kept", b"x")
        server.restart()
        assert server.endpoint == endpoint
        assert stored(server) == [b"x"]
        server.kill()
        server.wipe()
        server.start()
        assert server.endpoint == endpoint
        assert stored(server) == []


def test_a_frozen_server_can_be_stopped(tmp_path: Path) -> None:
    server = LocalEtcd(tmp_path / "etcd")
    server.start()
    pid = server.pid
    assert pid is not None
    server.pause()
    server.stop()
    assert not running(pid)
    assert server.pid is None


def test_starting_and_stopping_twice_is_fine(tmp_path: Path) -> None:
    with LocalEtcd(tmp_path / "etcd") as server:
        pid = server.pid
        server.start()
        assert server.pid == pid
        server.stop()
        server.stop()


def test_a_server_that_runs_is_not_wiped(tmp_path: Path) -> None:
    with (
        LocalEtcd(tmp_path / "etcd") as server,
        pytest.raises(RegistryError, match="stop it before"),
    ):
        server.wipe()


def test_before_its_first_start_there_is_no_endpoint(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="start it"):
        _ = LocalEtcd(tmp_path / "etcd").endpoint


def test_a_signal_to_a_server_that_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="does not run"):
        LocalEtcd(tmp_path / "etcd").pause()


def test_a_server_that_cannot_run_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    server = LocalEtcd(tmp_path)
    with pytest.raises(RegistryError, match=r"(?s)etcd ended with code \d+: .*data"):
        server.start()
    assert server.pid is None


def test_a_port_taken_before_the_first_start_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = local_etcd._free_ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        draws = iter([(port, *draw()[1:]), draw()])
        monkeypatch.setattr(local_etcd, "_free_ports", lambda: next(draws))
        with LocalEtcd(tmp_path / "etcd") as server:
            assert server.endpoint != f"127.0.0.1:{port}"


def test_the_machines_own_etcd_settings_are_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_MAX_REQUEST_BYTES", "not a number")
    with LocalEtcd(tmp_path / "etcd") as server:
        assert server.pid is not None


def test_an_etcd_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "etcd"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert etcd_binary() == own


def test_without_any_etcd_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RegistryError, match="demo extra"):
        etcd_binary()


def test_the_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from consumer.registry.local_etcd import LocalEtcd\n"
        f"server = LocalEtcd(Path({str(tmp_path)!r})); server.start()\n"
        "print(server.pid, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert running(pid)
        owner.kill()
    eventually(lambda: not running(pid))


def test_the_data_folder_is_ours_alone(tmp_path: Path) -> None:
    with LocalEtcd(tmp_path / "etcd"):
        assert (tmp_path / "etcd").stat().st_mode & 0o777 == 0o700
