"""A PUB socket to test reception against: in this process, or in one of its own.

Messages are what `message` makes: a v1 nonce with its counter, then filler. As a program it takes
its options as one JSON argument, prints its port, and obeys a command per line of standard input
(`wait N`, `send N SIZE`, `flood SIZE`), answering each but the last with a line.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

_NONCE = struct.Struct("<4xQ")
_ROOT = Path(__file__).resolve().parents[2]
_WAIT_MS = 10_000


def message(counter: int, size: int = 64) -> bytes:
    return _NONCE.pack(counter) + b"." * (size - _NONCE.size)


def counter_of(received: bytes) -> int:
    return int(_NONCE.unpack_from(received)[0])


class Publisher:
    """An XPUB socket, so that it can wait for subscribers; drops like the detector's PUB."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        hwm: int = 1_000,
        curve_secret: str | None = None,
        zap_domain: str | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self._own_context = None if context is not None else zmq.Context()
        self.socket = (context or self._own_context or zmq.Context()).socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, hwm)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.setsockopt(zmq.IPV6, int(":" in host))
        if curve_secret is not None:
            self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.socket.setsockopt_string(zmq.CURVE_SECRETKEY, curve_secret)
        if zap_domain is not None:
            self.socket.setsockopt_string(zmq.ZAP_DOMAIN, zap_domain)
        spelled = f"[{host}]" if ":" in host else host
        self.socket.bind(f"tcp://{spelled}:{port or '*'}")
        bound = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.port = int(bound.rpartition(":")[2])
        self.address = f"tcp://{spelled}:{self.port}"
        self.sent = 0

    def wait_for_subscribers(self, count: int = 1) -> None:
        while count:
            assert self.socket.poll(_WAIT_MS), "no subscriber came"
            count -= self.socket.recv()[:1] == b"\1"

    def send(self, count: int, size: int = 64) -> None:
        for _ in range(count):
            self.socket.send(message(self.sent, size))
            self.sent += 1

    def close(self) -> None:
        self.socket.close(linger=0)
        if self._own_context is not None:
            self._own_context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class PublisherProcess:
    """A publisher in a process of its own, to be frozen, killed and started again."""

    def __init__(self, *, port: int = 0, hwm: int = 1_000) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps({"port": port, "hwm": hwm})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        self.port = int(self._answer())
        self.address = f"tcp://127.0.0.1:{self.port}"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the publisher process ended"
        return answer

    def tell(self, command: str) -> None:
        """Give a command without waiting for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def do(self, command: str) -> None:
        self.tell(command)
        self._answer()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def main() -> None:
    publisher = Publisher(**json.loads(sys.argv[1]))
    print(publisher.port, flush=True)  # noqa: T201 - the answer to the parent
    for line in sys.stdin:
        command, *figures = line.split()
        numbers = [int(figure) for figure in figures]
        if command == "wait":
            publisher.wait_for_subscribers(*numbers)
        elif command == "send":
            publisher.send(*numbers)
        elif command == "flood":
            parent = os.getppid()
            # A test that was killed cannot end its flood: it ends by itself.
            while os.getppid() == parent:
                publisher.send(1_000, *numbers)
        print("done", flush=True)  # noqa: T201 - the answer to the parent


if __name__ == "__main__":
    main()
