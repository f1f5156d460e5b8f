"""Starts a service in a few milliseconds: a fork of a process that has imported all of it.

Most of a start is importing, and a campaign starts the service some hundred times. What is forked
is the command itself, `dayfold run`, with nothing opened and no thread begun before.

`python -m tests.faults.nursery` reads orders as lines of JSON on standard input, and writes
``PID`` for each process that it starts and ``PID CODE`` when that has ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.arming import TOP, orders, use_models
from tests.faults.steps import Steps


class Ward:
    """A process that a nursery started; what the tests need of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        self._nursery.listen()
        self.returncode = self._nursery.ended.get(self.pid)
        return self.returncode

    def wait(self, timeout_s: float) -> int:
        """Wait for the end. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} runs on after {timeout_s:g} s")
            time.sleep(0.005)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """Owns the process that forks. Use as a context manager; leaving it ends all of its wards.

    Args:
        models: the encoders that the service takes for its own, see `arming.write_models`.
    """

    def __init__(self, models: Path) -> None:
        self.ended: dict[int, int] = {}
        self._wards: list[Ward] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TOP,
            env={**os.environ, "PYTHONPATH": str(TOP), "STEPS_MODELS": str(models)},
        )
        self._answers: list[int] = []
        self._rest = b""

    def start(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> Ward:
        """Start `dayfold ARGUMENTS`, armed as the environment says, with its output in a file."""
        order = {"arguments": arguments, "environment": dict(environment), "log": str(log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        while not self._answers:
            self.listen(60.0)
        ward = Ward(self, self._answers.pop(0))
        self._wards.append(ward)
        return ward

    def listen(self, wait_s: float = 0.0) -> None:
        """Take in what the process has written."""
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        if not select.select([handle], [], [], wait_s)[0]:
            return
        said = os.read(handle, 65536)
        assert said, "the nursery has ended"
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            pid, *code = (int(word) for word in line.split())
            if code:
                self.ended[pid] = code[0]
            else:
                self._answers.append(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for ward in self._wards:
            ward.send_signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def main() -> None:
    """Import the service under the eyes of `Steps`, then fork it as often as it is asked for."""
    steps = Steps()
    steps.watch()
    use_models(Path(os.environ["STEPS_MODELS"]))
    import consumer.commands.app
    import consumer.service  # noqa: F401 - the command imports it, and finds it here

    rest, children = b"", set[int]()
    while True:
        ready = select.select([0], [], [], 0.01)[0]
        pid, status = _reaped()
        if pid:
            children.discard(pid)
            sys.stdout.write(f"{pid} {os.waitstatus_to_exitcode(status)}\n")
            sys.stdout.flush()
        if not ready:
            continue
        said = os.read(0, 65536)
        if not said:
            for child in children:
                os.kill(child, signal.SIGKILL)
            return
        *lines, rest = (rest + said).split(b"\n")
        for line in lines:
            child = os.fork()
            if child == 0:
                _serve(json.loads(line), steps)
            children.add(child)
            sys.stdout.write(f"{child}\n")
            sys.stdout.flush()


def _reaped() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _serve(order: dict[str, Any], steps: Steps) -> None:
    from consumer.commands.app import main as dayfold

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for output in (1, 2):
        os.dup2(log, output)
    os.environ.update(order["environment"])
    steps.orders = orders(os.environ, "service")
    sys.argv = ["dayfold", *order["arguments"]]
    code = 1
    try:
        dayfold()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
