"""The older HTTP registry, as its description has it: a real server, state in memory.

It can also do what no registry should: hang, answer drop by drop, or say anything at all.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

DROP_S = 0.02


@dataclass(frozen=True)
class Call:
    """One request as it came in."""

    method: str
    path: str
    body: Any


@dataclass
class State:
    """Everything that a restart loses."""

    components: dict[str, float] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    configs: dict[str, Any] = field(default_factory=dict)


class HttpRegistryServer:
    """One server on an ephemeral loopback port that it keeps over restarts.

    Args:
        silence_s: a component that is silent for longer is dropped; 90 in the field.
        sweep_s: how often that is checked; 10 in the field.
        keyless: newer servers hand out no key.
    """

    def __init__(
        self, *, silence_s: float = 90.0, sweep_s: float = 10.0, keyless: bool = False
    ) -> None:
        self.silence_s = silence_s
        self.sweep_s = sweep_s
        self.key = "" if keyless else new_key()
        self.seed = self.key
        self.calls: list[Call] = []
        # Path and the bytes that are sent instead of an answer; "*" is every path.
        self.raw: dict[str, bytes] = {}
        self.hanging = False
        self.dripping = False
        self._keyless = keyless
        self._lock = threading.Lock()
        self._state = State()
        self._swept = time.monotonic()
        self._released = threading.Event()
        self._port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Go away; what was known is kept for `start`. Calls that hang are let go."""
        if self._server is None or self._thread is None:
            return
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def restart(self) -> None:
        """Everything is forgotten, and there is a new key."""
        self.stop()
        self.forget()
        if not self._keyless:
            self.key = self.seed = new_key()
        self.start()

    def forget(self) -> None:
        with self._lock:
            self._state = State()

    def hang(self) -> None:
        """Take calls and never answer them."""
        self.hanging = True

    def components(self) -> list[str]:
        with self._lock:
            self._sweep()
            return sorted(self._state.components)

    def capabilities(self, name: str) -> Any:
        with self._lock:
            return self._state.capabilities.get(name)

    def config(self, name: str) -> Any:
        with self._lock:
            return self._state.configs.get(name)

    def put_config(self, name: str, config: Any) -> None:
        """Store a component's configuration, and show the component as alive."""
        with self._lock:
            self._state.components[name] = time.monotonic()
            self._state.configs[name] = config

    def drop(self, name: str) -> None:
        with self._lock:
            self._state.components.pop(name, None)
            self._state.configs.pop(name, None)

    def count(self, method: str, path: str) -> int:
        with self._lock:
            return sum((call.method, call.path) == (method, path) for call in self.calls)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a proper answer."""
        with self._lock:
            try:
                given = json.loads(body) if body else None
            except ValueError:
                return 400, {"status": "error", "message": "Invalid JSON"}
            self.calls.append(Call(method, path, given))
            self._sweep()
            match (method, path.strip("/").split("/")):
                case ("POST", ["register"]):
                    return self._register(given)
                case ("POST", ["v1", "heartbeat", name]):
                    return self._heartbeat(name, given)
                case ("POST", ["unregister"]):
                    return self._unregister(given)
                case ("PUT", ["v1", "config", name]):
                    return self._put_config(name, given)
                case ("GET", ["config", name]) if name in self._state.configs:
                    return 200, self._state.configs[name]
                case ("GET", ["components"]):
                    names = sorted(self._state.components)
                    return 200, {"component_count": len(names), "components": names}
                case ("GET", ["seed"]):
                    return 200, {"status": "success", "seed": self.seed}
                case ("GET", ["health" | "info" | "validate"]):
                    return 200, {"status": "ok"}
                case _:
                    return 404, {"status": "error", "message": "Not found"}

    def _register(self, given: Any) -> tuple[int, Any]:
        wanted = {"component": str, "config_path": str, "timestamp": int, "status": str}
        if not isinstance(given, dict) or not all(
            isinstance(given.get(name), kind) for name, kind in wanted.items()
        ):
            return 400, {"status": "error", "message": "Missing fields"}
        # Milliseconds since 1970, not seconds.
        if given["timestamp"] < 10**11 or not isinstance(given.get("capabilities"), dict):
            return 400, {"status": "error", "message": "Unusable fields"}
        name = given["component"]
        self._state.components[name] = time.monotonic()
        self._state.capabilities[name] = given["capabilities"]
        return 200, {"status": "success", "component": name, "encryption_key": self.key}

    def _heartbeat(self, name: str, given: Any) -> tuple[int, Any]:
        if name not in self._state.components:
            return 404, {"status": "error", "message": "Unknown component"}
        # Seconds since 1970, not milliseconds.
        if not isinstance(given, dict) or not 10**8 < given.get("timestamp", 0) < 10**11:
            return 400, {"status": "error", "message": "Unusable timestamp"}
        self._state.components[name] = time.monotonic()
        return 200, {"status": "ok", "next_heartbeat_expected": given["timestamp"] + 30}

    def _unregister(self, given: Any) -> tuple[int, Any]:
        name = given.get("component") if isinstance(given, dict) else None
        if name not in self._state.components:
            return 404, {"status": "error", "message": "Unknown component"}
        del self._state.components[name]
        return 200, {"status": "success"}

    def _put_config(self, name: str, given: Any) -> tuple[int, Any]:
        if not isinstance(given, dict) or given.get("component") != name:
            return 400, {"status": "error", "message": "Wrong component"}
        self._state.configs[name] = given
        return 200, {"status": "success"}

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept < self.sweep_s:
            return
        self._swept = now
        for name, heard in list(self._state.components.items()):
            if now - heard > self.silence_s:
                del self._state.components[name]

    def raw_answer(self, path: str) -> bytes | None:
        return self.raw.get(path, self.raw.get("*"))

    def wait_until_released(self) -> None:
        self._released.wait()

    def released_within(self, seconds: float) -> bool:
        return self._released.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], owner: HttpRegistryServer) -> None:
        super().__init__(address, _Handler)
        self.owner = owner

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _serve(self) -> None:
        owner = self.server.owner
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if owner.hanging:
            self.close_connection = True
            owner.wait_until_released()
            return
        if (raw := owner.raw_answer(self.path)) is not None:
            self.close_connection = True
            self.wfile.write(raw)
            return
        status, value = owner.answer(self.command, self.path, body)
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not owner.dripping:
            self.wfile.write(content)
            return
        self.close_connection = True
        for place in range(len(content)):
            self.wfile.write(content[place : place + 1])
            if owner.released_within(DROP_S):
                return

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the library looks for these names


def new_key() -> str:
    """A key as the registry writes it: 64 upper-case hex digits."""
    return secrets.token_hex(32).upper()
