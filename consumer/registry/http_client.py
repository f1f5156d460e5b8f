"""Calls to one HTTP registry, bounded in time and size. Every error comes out as RegistryError."""

from __future__ import annotations

import errno
import http.client
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from consumer.errors import RegistryError

# Status line, headers and body of one answer together. A key takes 200 bytes, a configuration a few
# thousand.
MAX_ANSWER_BYTES: Final = 256 * 1024

# A call that is called off ends within this time.
_SLICE_S = 0.05


class AnswerError(RegistryError):
    """The registry answered, but not with what it should. The message never quotes the answer.

    Args:
        url: the registry.
        call: method and path.
        reason: what is wrong.
    """

    def __init__(self, url: str, call: str, reason: str) -> None:
        super().__init__(f"registry at {url}: {call}: {reason}")
        self.reason = reason


class _TooLargeError(Exception):
    """An answer has more bytes than one may have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, and the body, which may hold a key."""

    status: int
    body: bytes = field(repr=False)


class _Guard:
    """What is left of one call: seconds and bytes.

    `_GuardedSocket` asks before each wait, so that neither an answer that comes drop by drop nor
    one that never ends can outlast it.
    """

    def __init__(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._cancelled = cancelled
        self._bytes = 0

    def slice_s(self) -> float:
        """How long to wait before asking again.

        Raises:
            TimeoutError: the time is over, or the call was called off.
        """
        left = self._end - time.monotonic()
        if self._cancelled():
            raise TimeoutError("called off")
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self._seconds:g} s")
        return min(left, _SLICE_S)

    def left_s(self) -> float:
        """Seconds left, above 0.

        Raises:
            TimeoutError: the time is over, or the call was called off.
        """
        self.slice_s()
        return max(0.001, self._end - time.monotonic())

    def took(self, count: int) -> None:
        """Count bytes that came in.

        Raises:
            _TooLargeError: more than one answer may have.
        """
        self._bytes += count
        if self._bytes > MAX_ANSWER_BYTES:
            raise _TooLargeError


class _GuardedSocket(socket.socket):
    """A socket whose reads end when its guard says so."""

    guard: _Guard

    def reach(self, address: tuple[Any, ...]) -> None:
        """Connect within the guard's time.

        Raises:
            OSError: it cannot be reached.
        """
        self.setblocking(False)
        code = self.connect_ex(address)
        if code == errno.EINPROGRESS:
            waiter = select.poll()
            waiter.register(self, select.POLLOUT)
            while not waiter.poll(1000 * self.guard.slice_s()):
                pass
            code = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Read what is there, within the guard's time and bytes."""
        while True:
            self.settimeout(self.guard.slice_s())
            try:
                count = super().recv_into(buffer, nbytes, flags)
            except TimeoutError:
                continue
            self.guard.took(count)
            return count


class HttpClient:
    """Makes calls to one registry, each over a connection of its own.

    No proxy is used and no redirect is followed: a registry is a neighbour, and its answers hold
    keys.

    Args:
        url: for messages.
        host: name or address.
        port: its port.
        timeout_s: limit of one whole call, seconds: connect, request and answer.
        cancelled: asked while waiting; once it says yes, the call under way ends.
    """

    def __init__(
        self,
        url: str,
        host: str,
        port: int,
        *,
        timeout_s: float,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.url = url
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._cancelled = cancelled

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One request and its answer, whatever its status.

        Raises:
            AnswerError: what came back is not HTTP, is cut short, or is too large.
            RegistryError: the registry cannot be reached, or took too long.
        """
        call = f"{method} {path}"
        guard = _Guard(self._timeout_s, self._cancelled)
        try:
            with self._connect(guard) as sock:
                return self._exchange(sock, guard, method, path, body)
        except _TooLargeError:
            reason = f"the answer is larger than {MAX_ANSWER_BYTES} bytes"
            raise AnswerError(self.url, call, reason) from None
        except http.client.RemoteDisconnected:
            raise RegistryError(
                f"registry at {self.url}: {call}: closed without an answer"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise RegistryError(f"registry at {self.url}: {call}: {reason}") from None
        # The library's own messages quote what came, which may be a key.
        except (http.client.HTTPException, ValueError) as error:
            reason = f"the answer is not whole HTTP ({type(error).__name__})"
            raise AnswerError(self.url, call, reason) from None

    def _connect(self, guard: _Guard) -> _GuardedSocket:
        failure = OSError(f"{self._host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        ):
            sock = _GuardedSocket(family, kind, protocol)
            sock.guard = guard
            try:
                sock.reach(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _exchange(
        self, sock: _GuardedSocket, guard: _Guard, method: str, path: str, body: bytes | None
    ) -> Answer:
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = sock
        sock.settimeout(guard.left_s())
        headers = {"Connection": "close", "User-Agent": "dayfold"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            # Never `read()` without a limit: it takes as much memory as the header claims.
            content = response.read(MAX_ANSWER_BYTES + 1)
            if response.length:
                raise http.client.IncompleteRead(b"")
            return Answer(response.status, content)
