"""Whether the detail of a row has a value in a field, for `--where FIELD=VALUE`.

A detail holds one value in a field, a list of values, or a map of values to counts. Each value is
a *term* in one spelling: text without regard to the case of ASCII letters, numbers by value.
"""

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "threat_category": ("categories", "category"),
        "category": ("categories", "threat_category"),
    }
)
# Each names one event, so that nearly every row has others: as many as all other terms together.
_UNLISTED = frozenset({"event_id", "event_ids"})
# Longer ones, and what cannot be printed, are no words that anybody asks for.
_LONGEST = 100
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PLAIN_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")


class Spellings(dict[str, str | None]):
    """Texts and their terms, None for one that is not listed; remembers those it was asked for."""

    def __missing__(self, text: str) -> str | None:
        term = _term(text)
        self[text] = found = term if _is_word(term) else None
        return found

    def terms(self, held: Any) -> Iterator[str]:
        """The listed terms of what a detail holds in a field; some may come twice."""
        for candidate in _candidates(held):
            term = self[candidate if isinstance(candidate, str) else _as_text(candidate)]
            if term is not None:
                yield term


def is_listed(field: str) -> bool:
    """Whether the terms in a field are listed by `index.row_terms`."""
    return field not in _UNLISTED and _is_word(field)


class TermMatch:
    """One condition on the detail of a row.

    A field is looked for under its own name and its plural (`source_ip`, `source_ips`), and
    `threat_category` also as `categories`. A map holds only the values that the embedder kept, so a
    rare value of a row that stands for many events may not be found.

    Attributes:
        names: the fields that it is looked for in.
        term: the value in the one spelling.
    """

    def __init__(self, field: str, value: str | float) -> None:
        self.names = (field, f"{field}s", *_OTHER_NAMES.get(field, ()))
        self.term = _term(value)
        self._number = _as_number(self.term)

    @property
    def is_listed(self) -> bool:
        """Whether `Spellings.terms` gives it for every detail that matches."""
        return _is_word(self.term) and all(map(is_listed, self.names))

    @property
    def pattern(self) -> str:
        r"""A LIKE pattern, with ``\`` as escape, that the JSON of every match fits.

        It admits more than `matches` does; it is there so that few rows need parsing.
        """
        inside = json.dumps(self.term)[1:-1]
        if self._number is not None:
            inside = self._number.removeprefix("-")
        for mark in ("\\", "%", "_"):
            inside = inside.replace(mark, "\\" + mark)
        return f"%{inside}%"

    def matches(self, detail: Mapping[str, Any]) -> bool:
        """Whether `detail` has the value under one of the field's names."""
        return any(
            self.term == _term(candidate)
            for name in self.names
            if name in detail
            for candidate in _candidates(detail[name])
        )


def _candidates(held: Any) -> Iterable[Any]:
    # A null is no value: nobody who asks for the text "none" means it.
    if isinstance(held, dict):
        return held
    if isinstance(held, list | tuple):
        return [candidate for candidate in held if candidate is not None]
    return () if held is None else (held,)


def _is_word(text: str) -> bool:
    # The printable ones are those that SQLite can hold, too: a detector may send half a character.
    return len(text) <= _LONGEST and text.isprintable()


def _term(value: Any) -> str:
    text = _as_text(value)
    return _as_number(text) or text


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
