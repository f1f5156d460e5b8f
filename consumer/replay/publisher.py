"""The detector's socket: binds, counts its subscribers, and sends without waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import zmq

from consumer.clock import Clock
from consumer.errors import UnreachableError, UsageError

DETECTOR_SNDHWM: Final = 1000
_NAP_S: Final = 0.02
_FULL_NAP_S: Final = 0.0005


class Publisher:
    """A PUB socket, in the form that also tells who subscribes (XPUB); the wire is the same.

    `start`, then `publish` as often as needed, then `stop`. All from one thread.

    Args:
        clock: for the time limit of `wait_for_subscribers`.
        bind: endpoint, such as ``tcp://*:5572``; port 0 or ``*`` picks a free one.
        high_water_mark: messages queued for each subscriber. A detector has 1000.
        lossy: at the high-water mark of any one subscriber, True drops the message for that
            subscriber without a word, as a detector does; False waits until all have room.
        sleep: how to wait.
    """

    def __init__(
        self,
        clock: Clock,
        bind: str,
        *,
        high_water_mark: int = DETECTOR_SNDHWM,
        lossy: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._bind = bind
        self._high_water_mark = high_water_mark
        self._lossy = lossy
        self._sleep = sleep
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._subscribers = 0

    def start(self) -> str:
        """Bind. Returns the endpoint, with the port that was picked.

        Raises:
            UsageError: the endpoint is malformed, or its address is not this machine's.
            UnreachableError: the port is taken.
        """
        self._context = zmq.Context(io_threads=1)
        socket = self._context.socket(zmq.XPUB)
        socket.setsockopt(zmq.SNDHWM, self._high_water_mark)
        # Without this only the first of several equal subscriptions is told.
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 0 if self._lossy else 1)
        self._socket = socket
        try:
            socket.bind(self._bind)
        except zmq.ZMQError as error:
            self.stop(0.0)
            if error.errno == zmq.EADDRINUSE:
                raise UnreachableError(f"{self._bind}: taken by another process") from error
            raise UsageError(
                f"{self._bind}: cannot bind here: {error.strerror}; "
                "an endpoint looks like tcp://127.0.0.1:5572"
            ) from error
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open now."""
        if self._socket is not None:
            while self._socket.poll(0):
                joined = self._socket.recv(zmq.NOBLOCK)[:1] == b"\x01"
                self._subscribers += 1 if joined else -1
        return self._subscribers

    def wait_for_subscribers(
        self, count: int, timeout_s: float, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until ``count`` subscriptions are open, or ``stopping`` says so.

        Raises:
            UnreachableError: they did not come within the time.
        """
        until = self._clock.monotonic() + timeout_s
        while (joined := self.subscribers) < count and not stopping():
            if self._clock.monotonic() >= until:
                raise UnreachableError(
                    f"{joined} of {count} subscribers joined {self._bind} within {timeout_s:g} s"
                )
            self._sleep(_NAP_S)

    def publish(self, message: bytes, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Send one message to whoever subscribes. False if ``stopping`` ended a wait for room."""
        socket = self._socket
        if socket is None:
            raise RuntimeError("publish before start")
        if self._lossy:
            socket.send(message, zmq.NOBLOCK, copy=True)
            return True
        while not stopping():
            try:
                socket.send(message, zmq.NOBLOCK, copy=True)
            except zmq.Again:
                self._sleep(_FULL_NAP_S)
            else:
                return True
        return False

    def stop(self, linger_s: float) -> None:
        """Send what is queued, for at most ``linger_s``, and close. May be called twice."""
        if self._socket is not None:
            self._socket.close(linger=int(linger_s * 1000))
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None
