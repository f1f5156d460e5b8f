"""Analysts' words and the words of the descriptions: jargon explained, Spanish put into English.

The sentence encoder is an English one and the descriptions are written in plain English. A query
with jargon (`nmap`, `port 445`) gets the meaning added; a Spanish one is translated word by word
and phrase by phrase with `glossary.toml`. Words that are not in there stay as they are. There is
no grammar in it: neither ranking reads much of that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from embed.services import SERVICES
from index.lexical import EMPTY_WORDS, words_of

Words = tuple[str, ...]

_PORT = re.compile(r"\b(?:port|puerto)s?\s+(\d{1,5})\b", re.IGNORECASE)


class Glossary(NamedTuple):
    """The glossary, by folded words (see `fold`).

    Attributes:
        jargon: English terms and what they mean.
        spanish: Spanish terms and their English.
        spanish_words: folded words that show that a query is Spanish.
        english_words: folded words that show that it is English.
        longest: words of the longest term.
    """

    jargon: Mapping[Words, str]
    spanish: Mapping[Words, str]
    spanish_words: frozenset[str]
    english_words: frozenset[str]
    longest: int


def in_words_of_descriptions(text: str) -> str:
    """A query in the words that descriptions use; one that needs nothing comes back as it is."""
    glossary = load_glossary()
    query = _translated(text, glossary) if is_spanish(text) else text
    words = words_of(query)
    meanings = [meaning for _, meaning in _found(words, glossary.jargon, glossary.longest)]
    ports = (SERVICES.get(int(port)) for port in _PORT.findall(text))
    meanings += [service.text for service in ports if service is not None]
    return ". ".join(dict.fromkeys((query, *filter(None, meanings))))


def is_spanish(text: str) -> bool:
    """Whether a query is Spanish, as far as the words of the glossary tell."""
    glossary = load_glossary()
    words = [fold(word) for word in words_of(text)]
    spanish = sum(word in glossary.spanish_words for word in words)
    english = sum(word in glossary.english_words for word in words)
    return spanish > english


def fold(word: str) -> str:
    """A word of `words_of` without what a plural adds: `red` and `redes`, `vez` and `veces` meet.

    What is left need not be a word (`paquete` and `paquetes` give `paquet`); it is only compared.
    """
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "c" if word.endswith("z") else word


@cache
def load_glossary() -> Glossary:
    """The shipped glossary."""
    text = files("consumer.questions").joinpath("glossary.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    jargon, spanish = _terms(tables["jargon"]), _terms(tables["spanish"])
    either = _folded(words_of(tables["either"]["words"]))
    in_spanish = {word for term in spanish for word in term}
    meanings = " ".join((*jargon.values(), *spanish.values())).split()
    # Abbreviations, which are in capitals, are of no language.
    plain = words_of(" ".join(word for word in meanings if word.islower()))
    in_english = _folded((*EMPTY_WORDS, *plain))
    return Glossary(
        jargon,
        spanish,
        frozenset(in_spanish - in_english - either),
        frozenset(in_english - in_spanish - either),
        max(map(len, (*jargon, *spanish))),
    )


def _folded(words: Iterable[str]) -> set[str]:
    return {fold(word) for word in words}


def _terms(table: Mapping[str, str]) -> Mapping[Words, str]:
    """Each spelling of each entry, as its folded words."""
    terms: dict[Words, str] = {}
    for spellings, meaning in table.items():
        for spelling in spellings.split(","):
            terms[tuple(map(fold, words_of(spelling)))] = meaning
    return MappingProxyType(terms)


def _translated(text: str, glossary: Glossary) -> str:
    found = _found(words_of(text), glossary.spanish, glossary.longest)
    english = (word if meaning is None else meaning for word, meaning in found)
    return " ".join(part for part in english if part)


def _found(
    words: Sequence[str], terms: Mapping[Words, str], longest: int
) -> Iterator[tuple[str, str | None]]:
    """The words cut into the longest terms, each with its meaning, and None for other words."""
    folded = tuple(map(fold, words))
    place = 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            term = folded[place : place + length]
            if term in terms:
                yield " ".join(words[place : place + length]), terms[term]
                place += length
                break
        else:
            yield words[place], None
            place += 1
