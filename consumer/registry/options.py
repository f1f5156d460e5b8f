"""How to reach etcd: endpoints, TLS, user and password, time limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from consumer.errors import ConfigurationError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


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
