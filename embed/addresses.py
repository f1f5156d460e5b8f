"""What kind of host an address is: inside, outside, everyone."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal, TypeAlias

HostKind: TypeAlias = Literal[
    "internal", "external", "broadcast", "multicast", "loopback", "unknown"
]

# Written out, because Python's `is_private` changes between its releases: RFC 1918, RFC 6598,
# RFC 3927, RFC 4193, RFC 4291.
_INTERNAL = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)


@lru_cache(maxsize=65536)
def host_kind(address: str) -> HostKind:
    """Which kind of host an IPv4 or IPv6 address names; `unknown` for what is none.

    The netmask is not on the wire. An internal IPv4 address that ends in 255 is taken for a
    broadcast, which is right on every network of the usual /24 size.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_unspecified:
        return "unknown"
    if parsed.is_loopback:
        return "loopback"
    if parsed.is_multicast:
        return "multicast"
    return _by_range(parsed)


def _by_range(address: IPv4Address | IPv6Address) -> HostKind:
    # ip_network.__contains__ is false for the other version.
    inside = any(address in network for network in _INTERNAL)
    if isinstance(address, IPv4Address):
        value = int(address)
        if value == 0xFFFFFFFF or (inside and value & 0xFF == 0xFF):
            return "broadcast"
    return "internal" if inside else "external"
