"""How to reach a registry: endpoints, TLS, user and password, times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from consumer.errors import ConfigurationError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# The HTTP registry drops a component that is silent for longer.
_SILENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """How to reach etcd.

    Attributes:
        endpoints: ``host:port`` of every member, tried in turn; ``http://`` or ``https://`` may
            stand before it and must then agree with `ca_cert`. Kept without it.
        ca_cert: PEM file of the certificate authority; switches TLS on.
        client_cert: PEM file of our certificate, for servers that ask for one.
        client_key: PEM file of its key.
        user: user name.
        password: password; it needs TLS, except when every endpoint is loopback.
        timeout_s: limit of one call, seconds.

    Raises:
        ConfigurationError: options that cannot work, or files that cannot be read; one line per
            fault.
    """

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    ca_cert: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        faults = [*self._endpoint_faults(), *self._tls_faults(), *self._password_faults()]
        if self.timeout_s <= 0:
            faults.append(f"timeout_s = {self.timeout_s:g}: must be above 0")
        if faults:
            raise ConfigurationError("\n".join(f"registry.etcd: {fault}" for fault in faults))
        bare = tuple(endpoint.split("://")[-1] for endpoint in self.endpoints)
        object.__setattr__(self, "endpoints", bare)

    def _endpoint_faults(self) -> Iterator[str]:
        if not self.endpoints:
            yield "endpoints is empty: give host:port of at least one member"
        for endpoint in self.endpoints:
            scheme, _, bare = endpoint.rpartition("://")
            host, _, port = bare.rpartition(":")
            if scheme not in {"", "http", "https"} or not host or not port.isdigit():
                yield f"endpoint {endpoint!r} is not host:port, such as 127.0.0.1:2379"
            elif scheme == "https" and self.ca_cert is None:
                yield f"endpoint {endpoint!r} asks for TLS: set ca_cert"
            elif scheme == "http" and self.ca_cert is not None:
                yield f"endpoint {endpoint!r} is without TLS, but ca_cert is set: use https://"

    def _tls_faults(self) -> Iterator[str]:
        if (self.client_cert is None) != (self.client_key is None):
            yield "client_cert and client_key belong together: set both or neither"
        if self.client_cert is not None and self.ca_cert is None:
            yield "client_cert needs ca_cert: set it"
        for name in ("ca_cert", "client_cert", "client_key"):
            path: Path | None = getattr(self, name)
            if path is None:
                continue
            try:
                path.read_bytes()
            except OSError as error:
                yield f"{name} = {path}: {error.strerror}"

    def _password_faults(self) -> Iterator[str]:
        if (self.user is None) != (self.password is None):
            yield "user and password belong together: set both or neither"
        elif self.user is not None and self.ca_cert is None:
            hosts = [endpoint.split("://")[-1].rpartition(":")[0] for endpoint in self.endpoints]
            if not all(host in _LOOPBACK for host in hosts):
                yield "user and password would be sent in clear: set ca_cert"


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to reach the HTTP registry.

    Attributes:
        urls: ``http://host:port`` of every server, tried in turn. Kept without a final slash.
        heartbeat_s: seconds between two heartbeats.
        timeout_s: limit of one call, seconds.

    Raises:
        ConfigurationError: options that cannot work; one line per fault.
    """

    urls: tuple[str, ...] = ("http://127.0.0.1:2379",)
    heartbeat_s: float = 30.0
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        faults = list(self._url_faults())
        if not 0 < self.heartbeat_s <= _SILENCE_S / 2:
            faults.append(
                f"heartbeat_s = {self.heartbeat_s:g} must be above 0 and at most "
                f"{_SILENCE_S / 2:g}: the registry drops who is silent for {_SILENCE_S:g} s, and "
                "one missed heartbeat must not be enough"
            )
        if self.timeout_s <= 0:
            faults.append(f"timeout_s = {self.timeout_s:g}: must be above 0")
        if faults:
            raise ConfigurationError("\n".join(f"registry.http: {fault}" for fault in faults))
        object.__setattr__(self, "urls", tuple(url.rstrip("/") for url in self.urls))

    def _url_faults(self) -> Iterator[str]:
        if not self.urls:
            yield "urls is empty: give http://host:port of at least one server"
        for place, url in enumerate(self.urls):
            if "@" in url:
                # Not quoted: a password may stand before it.
                yield f"urls.{place} has a user or password: this registry knows neither"
            elif url.startswith("https://"):
                yield f"url {url!r} asks for TLS: this registry has none; use http://"
            elif not _is_plain_url(url):
                yield f"url {url!r} is not http://host:port, such as http://127.0.0.1:2379"


def host_and_port(url: str) -> tuple[str, int]:
    """Host and port of one of the `urls` of HttpOptions."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        # What the resolver would be asked for.
        (host or "").encode("idna")
    except ValueError:
        return False
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment)
    return parts.scheme == "http" and bool(host) and bool(port) and not any(rest)
