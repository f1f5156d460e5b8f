"""How refused settings are told: one line per fault, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError


def unknown_key(key: object) -> str:
    """That there is no such key, in one line whatever the key is."""
    return f"{_plain(key)}: unknown key; see `dayfold config reference`"


def faults_of(error: ValidationError) -> Iterator[str]:
    """One line for each fault: the key, what is wrong, and the value unless it may be a secret."""
    for fault in error.errors():
        key = ".".join(_plain(part) for part in fault["loc"]) or "settings"
        if fault["type"] == "extra_forbidden":
            yield unknown_key(key)
            continue
        # The value of a key that may be a secret is never repeated.
        value = fault.get("input")
        shown = (
            "" if _may_be_secret(key) or isinstance(value, dict) else f" (value: {_short(value)})"
        )
        yield f"{key}: {_plain(fault['msg'].removeprefix('Value error, '))}{shown}"


def _plain(part: object) -> str:
    """A part of a key, or a message, on one line whatever is in it."""
    text = str(part)
    return text if text.isprintable() else repr(text)


def _short(value: object) -> str:
    # Python does not write a number of thousands of digits.
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _may_be_secret(key: str) -> bool:
    return any(word in key for word in ("hex", "password", "token", "secret"))
