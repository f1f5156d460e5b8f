"""The text of the registry: where its keys are and what their JSON values say.

Layout below the prefix of a deployment::

    <prefix>/services/<component>/<instance>      each component, under its own lease
    <prefix>/crypto/<component>/keys/<key_id>     the operator or the detector
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from consumer.errors import ConfigurationError
from consumer.registry.base import JSON, DetectorEntry, KeyEntry
from consumer.wire.keys import DETECTOR_CONTEXT, Scheme

_ADDRESS = re.compile(r"(tcp|ipc)://\S+")
_NAME = re.compile(r"[^/\s]+")
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
# A number is read as seconds, ms, us or ns since 1970 by its size; each bound is the year 5138.
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (2**63, 1))


class MalformedError(Exception):
    """A value of others that cannot be read. The message never quotes the value."""


class Place(NamedTuple):
    """What a registry key names: a service (`name` is the instance) or a crypto key."""

    kind: Literal["service", "key"]
    component: str
    name: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Registry keys below one prefix.

    Raises:
        ConfigurationError: the prefix is not an absolute path.
    """

    prefix: str = "/ml-defender"

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or self.prefix.endswith("/"):
            raise ConfigurationError(
                f"registry prefix {self.prefix!r}: begin with / and end without, "
                "such as /ml-defender"
            )

    def services(self, component: str) -> str:
        """Prefix of every instance of a component."""
        return f"{self.prefix}/services/{component}/"

    def service(self, component: str, instance: str) -> str:
        """Key of one instance."""
        return self.services(component) + instance

    def crypto(self) -> str:
        """Prefix of every key."""
        return f"{self.prefix}/crypto/"

    def crypto_key(self, component: str, key_id: str) -> str:
        """Key of one crypto key."""
        return f"{self.crypto()}{component}/keys/{key_id}"

    def locate(self, key: str) -> Place | None:
        """What a registry key names, or None for one that is not part of the layout."""
        parts = key.removeprefix(self.prefix).split("/")
        match parts:
            case ["", "services", component, instance] if component and instance:
                return Place("service", component, instance)
            case ["", "crypto", component, "keys", key_id] if component and key_id:
                return Place("key", component, key_id)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """What identifies one running component on the registry.

    Raises:
        ConfigurationError: the component or instance name cannot be part of a registry key.
    """

    component: str
    instance: str
    version: str
    host: str
    pid: int
    started_at_ns: int
    endpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, name in (("component", self.component), ("instance", self.instance)):
            check_name(what, name)

    def value(self, status: Mapping[str, JSON], now_ns: int) -> bytes:
        """The JSON to register: `status` beside what identifies us, which wins.

        Numbers that JSON does not know (NaN, infinity) become null.
        """
        identity: dict[str, JSON] = {
            "component": self.component,
            "instance": self.instance,
            "version": self.version,
            "host": self.host,
            "pid": self.pid,
            "started_at": iso_time(self.started_at_ns),
            "updated_at": iso_time(now_ns),
        }
        if self.endpoints:
            identity |= {"endpoint": self.endpoints[0], "endpoints": self.endpoints}
        merged = {"status": "active", **plain(status), **identity}
        return json.dumps(merged, separators=(",", ":")).encode()


def check_name(what: str, name: str) -> None:
    """Refuse a name that would change the meaning of a registry key.

    Raises:
        ConfigurationError: it is empty or has a slash or a space.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{what} {name!r}: give a name without slashes and spaces")


def iso_time(ns: int) -> str:
    """UTC ns since 1970 as ISO 8601 with milliseconds."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns % 10**9 // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_object(value: bytes) -> dict[str, Any]:
    """The JSON object that the bytes hold.

    Raises:
        MalformedError: they hold none.
    """
    try:
        parsed = json.loads(value)
    # A value can be made to nest deeper than the parser's stack.
    except (ValueError, RecursionError):
        # The parser's own error carries the whole text, which may be a key.
        raise MalformedError("it is not JSON") from None
    if not isinstance(parsed, dict):
        raise MalformedError("it is not a JSON object")
    return parsed


def read_detector(instance: str, value: bytes) -> tuple[DetectorEntry, str | None]:
    """A detector's entry, and what is wrong with a part of it, if anything.

    `endpoint` and `endpoints` may each be one address or a list of them.

    Raises:
        MalformedError: the value is not a JSON object with at least one usable address.
    """
    facts = json_object(value)
    addresses: dict[str, None] = {}
    unusable = 0
    for name in ("endpoint", "endpoints"):
        given = facts.get(name, ())
        for address in given if isinstance(given, list) else (given,) if given else ():
            if isinstance(address, str) and _ADDRESS.fullmatch(address):
                addresses[address] = None
            else:
                unusable += 1
    fault = f"{unusable} of its endpoints are not tcp:// or ipc:// addresses" if unusable else None
    if not addresses:
        raise MalformedError(fault or "it has no endpoint")
    return DetectorEntry(instance, tuple(addresses), facts), fault


def read_key(component: str, key_id: str, value: bytes) -> KeyEntry:
    """A key's entry.

    `seed` is material to derive from, `key` is the key itself. Times are ISO 8601, or a number of
    seconds, milliseconds, microseconds or nanoseconds since 1970.

    Raises:
        MalformedError: the value is not a JSON object, or a part of it is unusable.
    """
    facts = json_object(value)
    scheme = _scheme(facts.get("scheme"))
    given = [kind for kind in ("seed", "key") if facts.get(kind) is not None]
    if len(given) != 1:
        raise MalformedError("it must have exactly one of seed and key")
    kind: Literal["seed", "key"] = "seed" if given == ["seed"] else "key"
    if kind == "seed" and scheme == "secretbox-v0":
        raise MalformedError("scheme secretbox-v0 takes a key, not a seed")
    material = facts[kind]
    if not isinstance(material, str) or not _HEX_KEY.fullmatch(material):
        raise MalformedError(f"its {kind} is not 64 hex digits")
    context = facts.get("context")
    if context is None:
        context = DETECTOR_CONTEXT if kind == "seed" else ""
    elif not isinstance(context, str):
        raise MalformedError("its context is not text")
    return KeyEntry(
        key_id=key_id,
        component=component,
        scheme=scheme,
        material=material.lower(),
        kind=kind,
        context=context,
        not_before_ns=_time("not_before", facts.get("not_before")),
        not_after_ns=_time("not_after", facts.get("not_after")),
    )


def write_key(entry: KeyEntry) -> bytes:
    """The JSON of a key, as `read_key` reads it. Times are ns, so they must be after 1973."""
    value: dict[str, JSON] = {"scheme": entry.scheme, entry.kind: entry.material}
    if entry.kind == "seed":
        value["context"] = entry.context
    if entry.not_before_ns is not None:
        value["not_before"] = entry.not_before_ns
    if entry.not_after_ns is not None:
        value["not_after"] = entry.not_after_ns
    return json.dumps(value, separators=(",", ":")).encode()


def plain(value: Mapping[str, JSON]) -> dict[str, JSON]:
    """A deep copy in which numbers that JSON does not know (NaN, infinity) are None."""
    return {str(name): _plain_value(item) for name, item in value.items()}


def _scheme(value: object) -> Scheme:
    match value:
        case "chacha20poly1305-v1" | "secretbox-v0":
            return value
        case _:
            raise MalformedError("its scheme is neither chacha20poly1305-v1 nor secretbox-v0")


def _time(name: str, value: object) -> int | None:
    match value:
        case None:
            return None
        case bool():
            pass
        case int():
            for limit, ns in _UNITS:
                if 0 <= value < limit:
                    return value * ns
        case float() if math.isfinite(value) and 0 <= value < _UNITS[0][0]:
            return int(value * 10**9)
        case str():
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                pass
            else:
                aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                seconds = int(aware.replace(microsecond=0).timestamp())
                return seconds * 10**9 + aware.microsecond * 1000
        case _:
            pass
    raise MalformedError(f"its {name} is not a time")


def _plain_value(value: JSON) -> JSON:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain_value(item) for item in value]
    return value
