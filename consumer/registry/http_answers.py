"""What the HTTP registry's answers say. None of the readers quotes an answer in its error."""

from __future__ import annotations

import re
from typing import Final

from consumer.registry.base import DetectorEntry
from consumer.registry.entries import MalformedError, json_object, read_detector

MAX_COMPONENTS: Final = 256
MAX_ENDPOINTS: Final = 16
_MAX_NAME = 128
_MAX_ADDRESS = 256
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")


def read_key_field(name: str, body: bytes) -> str:
    """The key in one field of an answer, as 64 lower-case hex digits, or "" if there is none.

    Raises:
        MalformedError: not a JSON object with such a field, or not a key.
    """
    value = json_object(body).get(name)
    if not isinstance(value, str):
        raise MalformedError(f"it has no {name}")
    if value and not _HEX_KEY.fullmatch(value):
        raise MalformedError(f"its {name} is not 64 hex digits")
    return value.lower()


def read_components(body: bytes) -> tuple[tuple[str, ...], str | None]:
    """The names of the components, sorted, and what is wrong with a part of them, if anything.

    At most 256 are taken, of at most 128 printable characters each.

    Raises:
        MalformedError: not a JSON object with a list of components.
    """
    listed = json_object(body).get("components")
    if not isinstance(listed, list):
        raise MalformedError("it has no list of components")
    names = [name for name in listed if isinstance(name, str) and _shown(name, _MAX_NAME)]
    unusable = len(listed) - len(names)
    taken = sorted(set(names))
    if unusable:
        return tuple(taken[:MAX_COMPONENTS]), f"{unusable} of its components are not names"
    if len(taken) > MAX_COMPONENTS:
        return tuple(taken[:MAX_COMPONENTS]), f"it has more than {MAX_COMPONENTS} components"
    return tuple(taken), None


def read_config(component: str, body: bytes) -> tuple[DetectorEntry | None, str | None]:
    """A detector's entry from its stored configuration, and what is wrong with a part of it.

    Most configurations say nothing about where the component publishes: then there is no entry,
    and nothing is wrong.

    Raises:
        MalformedError: not a JSON object, or it has endpoints and none of them is usable.
    """
    facts = json_object(body)
    if not facts.get("endpoint") and not facts.get("endpoints"):
        return None, None
    entry, fault = read_detector(component, body)
    usable = tuple(address for address in entry.endpoints if _shown(address, _MAX_ADDRESS))
    if len(usable) > MAX_ENDPOINTS or not usable:
        raise MalformedError(f"it has {len(usable)} usable endpoints, not 1 to {MAX_ENDPOINTS}")
    if usable != entry.endpoints:
        fault = "some of its endpoints are not printable, or too long"
    return DetectorEntry(component, usable, entry.facts), fault


def _shown(text: str, limit: int) -> bool:
    # What is not printable would reach logs and terminals; lone surrogates cannot even be written.
    return 0 < len(text) <= limit and text.isprintable()
