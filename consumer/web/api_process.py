"""Owns the HTTP process: questions, health and metrics are answered beside the service.

A slow client, a heavy search or a crash there takes nothing from reception.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import structlog

from consumer.settings import Settings

log = structlog.get_logger("api")

STOP_S = 3.0
RESTART_PAUSE_S = 5.0


class ApiProcess:
    """Starts, restarts and stops `python -m consumer.web.api`.

    The listening socket belongs to the service and is handed to the child, so that the address
    stays the same when the child has to be started again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self.address: str | None = None

    def start(self) -> None:
        """Listen and start the child. An address in use is logged; the service goes on without."""
        api = self._settings.api
        family = socket.AF_INET6 if ":" in api.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((api.host, api.port))
        except OSError as error:
            listener.close()
            log.error(
                "HTTP is off: cannot listen", host=api.host, port=api.port, error=error.strerror
            )
            return
        listener.listen(64)
        self._socket = listener
        host = f"[{api.host}]" if family == socket.AF_INET6 else api.host
        self.address = f"http://{host}:{listener.getsockname()[1]}"
        self._spawn()

    def _spawn(self) -> None:
        assert self._socket is not None  # noqa: S101 - start() set it
        descriptor = self._socket.fileno()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "consumer.web.api", str(descriptor), str(os.getpid())],
            stdin=subprocess.PIPE,
            pass_fds=[descriptor],
        )
        assert self._child.stdin is not None  # noqa: S101 - a pipe was asked for
        self._child.stdin.write(settings_as_json(self._settings))
        self._child.stdin.close()
        self._started = time.monotonic()

    def keep_alive(self) -> None:
        """Start the child again if it died. Called once a second."""
        if self._child is None or self._child.poll() is None:
            return
        if time.monotonic() - self._started < RESTART_PAUSE_S:
            return
        log.warning("HTTP process ended; starting it again", code=self._child.returncode)
        self._spawn()

    def stop(self) -> None:
        """End the child and close the address."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def settings_as_json(settings: Settings) -> bytes:
    """The settings with the API token in clear, for the child's standard input only."""
    plain = settings.model_dump_json(include={"data", "models", "api", "day", "fold", "log"})
    token = settings.api.token
    if token is None:
        return plain.encode()
    values = json.loads(plain)
    values["api"]["token"] = token.get_secret_value()
    return json.dumps(values).encode()
