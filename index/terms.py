"""Whether the detail of a row has a value in a field, for `--where FIELD=VALUE`."""

import json
import re
import string
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "threat_category": ("categories", "category"),
        "category": ("categories", "threat_category"),
    }
)
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PLAIN_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")


class TermMatch:
    """One condition on the detail of a row.

    A field is looked for under its own name and its plural (`source_ip`, `source_ips`), and
    `threat_category` also as `categories`. A detail holds one value, a list of values, or a map
    of values to counts. Text is compared without regard to the case of ASCII letters, numbers
    by value. A map holds only the values that the embedder kept, so a rare value of a row that
    stands for many events may not be found.
    """

    def __init__(self, field: str, value: str | float) -> None:
        self._names = (field, f"{field}s", *_OTHER_NAMES.get(field, ()))
        self._text = _as_text(value)
        self._number = _as_number(self._text)

    @property
    def pattern(self) -> str:
        r"""A LIKE pattern, with ``\`` as escape, that the JSON of every match fits.

        It admits more than `matches` does; it is there so that few rows need parsing.
        """
        inside = json.dumps(self._text)[1:-1]
        if self._number is not None:
            inside = self._number.removeprefix("-")
        for mark in ("\\", "%", "_"):
            inside = inside.replace(mark, "\\" + mark)
        return f"%{inside}%"

    def matches(self, detail: Mapping[str, Any]) -> bool:
        """Whether `detail` has the value under one of the field's names."""
        return any(self._has(detail[name]) for name in self._names if name in detail)

    def _has(self, held: Any) -> bool:
        candidates: Iterable[Any] = held if isinstance(held, dict | list | tuple) else (held,)
        return any(self._equals(candidate) for candidate in candidates)

    def _equals(self, candidate: Any) -> bool:
        if self._number is None:
            return _as_text(candidate) == self._text
        if isinstance(candidate, bool):
            return False
        return _as_number(str(candidate)) == self._number


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).translate(_LOWER)


def _as_number(text: str) -> str | None:
    """A plain decimal number in one spelling (`443` of `443.0` and `0443`), or None.

    A spelling rather than a float, so that what is equal here also looks alike to LIKE.
    """
    found = _PLAIN_NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, fraction = found[1], found[2].lstrip("0") or "0", (found[3] or "").rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if sign and number != "0" else number
