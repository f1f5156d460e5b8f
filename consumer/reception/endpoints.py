"""Addresses of detectors: what can be connected to, and how a wildcard bind is turned into it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from consumer.errors import ConfigurationError

_SCHEME = "tcp://"
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
# Z85 writes 32 bytes as 40 characters of this alphabet (ZeroMQ RFC 32).
_CURVE_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One PUB socket to listen to.

    Attributes:
        detector: instance name of the detector.
        address: where to connect, `tcp://HOST:PORT`; a literal IPv6 host stands in brackets.
        curve_server_key: the detector's CURVE public key in Z85 (40 characters); None for a
            socket without CURVE.
    """

    detector: str
    address: str
    curve_server_key: str | None = None


def connectable(address: str, host: str) -> str:
    """The address to connect to, for a detector on `host` that says it is bound to `address`.

    A wildcard bind (`tcp://*:5572`, `0.0.0.0`, `[::]`) becomes the advertised host; any other
    address keeps its own. The result is in one spelling, so that equal addresses compare equal,
    and giving it back to this function changes nothing.

    Raises:
        ConfigurationError: not `tcp://HOST:PORT`, a port outside 1 to 65535, or a wildcard bind
            whose advertised host is empty or a wildcard itself.
    """
    own_host, port = _split(address)
    if not _is_wildcard(own_host):
        return f"{_SCHEME}{_spell_host(own_host, address)}:{port}"
    advertised = host.strip().removeprefix("[").removesuffix("]")
    if _is_wildcard(advertised):
        raise ConfigurationError(
            f"detector address {address!r} is bound to every interface and its advertised host is "
            f"{host!r}; advertise a host that other machines can reach"
        )
    return f"{_SCHEME}{_spell_host(advertised, address)}:{port}"


def check_endpoint(endpoint: Endpoint) -> None:
    """Refuse an endpoint that cannot be connected to.

    Raises:
        ConfigurationError: no detector name, an address that `connectable` refuses, a wildcard
            address, or a CURVE key that is not Z85.
    """
    if not endpoint.detector:
        raise ConfigurationError(f"detector at {endpoint.address!r} has no name; give it one")
    connectable(endpoint.address, "")
    if endpoint.curve_server_key is not None:
        check_curve_key(endpoint.curve_server_key, f"curve_server_key of {endpoint.detector}")


def check_curve_key(key: str, name: str) -> None:
    """Refuse what is not a Z85 CURVE key. The key itself is never quoted.

    Raises:
        ConfigurationError: naming `name`.
    """
    if _CURVE_KEY.fullmatch(key) is None:
        raise ConfigurationError(
            f"{name} is not a CURVE key: it has {len(key)} characters; "
            "a key is 40 characters of Z85, as `zmq.curve_keypair()` makes them"
        )


def has_literal_ipv6(address: str) -> bool:
    """Whether the host is an IPv6 address, for which a socket must have IPv6 switched on."""
    return ":" in _split(address)[0]


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.removeprefix(_SCHEME).rpartition(":")
    if not address.startswith(_SCHEME) or not colon:
        raise ConfigurationError(
            f"detector address {address!r} is not tcp://HOST:PORT, such as tcp://10.0.0.5:5572"
        )
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigurationError(
            f"detector address {address!r} has port {port!r}; a port is a number from 1 to 65535"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)


def _is_wildcard(host: str) -> bool:
    if host in ("", "*"):
        return True
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _spell_host(host: str, address: str) -> str:
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError as error:
            raise ConfigurationError(
                f"detector address {address!r}: host {host!r} is not an IPv6 address"
            ) from error
    if _HOST_NAME.fullmatch(host) is None:
        raise ConfigurationError(
            f"detector address {address!r}: host {host!r} is neither a name nor an IP address"
        )
    return host.lower()
