"""What the registry's page tells an operator to do, done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from consumer.registry.base import KeyEntry
from consumer.registry.local_etcd import LocalEtcd, etcd_binary
from tests.integration.registry_support import HEX, Operator, at, eventually, options, registry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "registry.md"
ROOT = ("user add root --new-user-password secret", "user grant-role root root", "auth enable")
KEY = KeyEntry("k1", "ml-detector", "secretbox-v0", HEX, "key", "")


def etcdctl(server: LocalEtcd, arguments: str) -> None:
    program = shutil.which("etcdctl") or etcd_binary().with_name("etcdctl")
    subprocess.run(
        [program, *arguments.replace('"$PASSWORD"', "PASSWORD").split()],
        env={**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": server.endpoint},
        check=True,
        capture_output=True,
        timeout=30,
    )


def test_the_documented_permissions_are_enough(tmp_path: Path) -> None:
    commands = re.findall(r"^etcdctl (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) == 4
    with LocalEtcd(tmp_path / "etcd") as server:
        for command in (*commands, *ROOT):
            etcdctl(server, command)
        # Checking a password is slow on purpose.
        reach = replace(options(server), user="dayfold", password="PASSWORD", timeout_s=5.0)
        subject = registry(reach)
        subject.start()
        try:
            with Operator(reach) as operator:
                subject.put_key(KEY)
                operator.announce("d1", at("tcp://a:1"))
                eventually(lambda: subject.keys() == [KEY] and len(subject.detectors()) == 1)
                eventually(lambda: subject.facts().renewals >= 2)
                assert operator.value() is not None
                subject.stop()
                assert operator.value() is None
        finally:
            subject.stop()


def test_every_test_that_the_page_names_exists() -> None:
    tests = {path.name for path in PAGE.parents[1].joinpath("tests").rglob("test_*.py")}
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE.read_text()))
    assert named
    assert named <= tests
