"""Ranking texts by the words they share with a query: Okapi BM25 over an inverted index.

A text scores, summed over the distinct terms of the query that it holds::

    idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length))
    idf = ln(1 + (n - df + 0.5) / (df + 0.5))

with `tf` how often the term is in the text, `df` in how many of the `n` texts it is. Formula,
k1 = 1.2 and b = 0.75 as in S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework:
BM25 and Beyond", Foundations and Trends in Information Retrieval 3(4), 2009; the 1 inside the
logarithm keeps a term of more than half of the texts from counting against them.
"""

import math
import re
import unicodedata
from array import array
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75
# Words that say nothing about what is meant.
EMPTY_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "another",
        "are",
        "as",
        "at",
        "be",
        "been",
        "by",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "one",
        "or",
        "our",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "will",
        "with",
    ]
)

Scores = NDArray[np.float64]
Places = NDArray[np.int64]

# Phrases are remembered up to this number; beyond it new ones are taken apart each time.
MOST_PHRASES = 200_000
# Terms of most texts whose weights are kept for every text, 4 bytes each.
MOST_DENSE = 32
# Scores that are looked at together for the best one of them.
BLOCK = 256

_WORD = re.compile(r"[^\W_]+")
_PHRASE = re.compile(r"[,.;:]\s")
_VOWEL = re.compile("[aeiouy]")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case and without accents, in order."""
    text = text.lower()
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in apart if not unicodedata.combining(c))
    return _WORD.findall(text)


@lru_cache(maxsize=65536)
def singular(word: str) -> str:
    """An English plural as its singular, by the three rules of D. Harman's S stemmer.

    "How Effective Is Suffixing?", Journal of the American Society for Information Science 42(1),
    1991: `queries` becomes `query`, `probes` becomes `probe`, `logins` becomes `login`; `address`
    and `previous` stay. A word without a vowel is an abbreviation and stays too: HTTPS is not the
    plural of HTTP.
    """
    if len(word) < 4 or not word.endswith("s") or not _VOWEL.search(word):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


def terms(text: str) -> list[str]:
    """What a text is indexed and searched by: its words but the empty ones, plurals as singulars."""
    return [singular(word) for word in words_of(text) if word not in EMPTY_WORDS]


class Bm25:
    """An inverted index over texts. Its memory grows with their distinct terms, each text once.

    Texts that are put together from phrases, as descriptions are, are indexed by a look-up for each
    phrase between commas and stops; only a phrase that was not met before is taken apart.

    Args:
        texts: n texts; they are named by their place.
        k1: how soon repeats of a term stop counting.
        b: how much long texts are held back, 0 to 1.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = K1, b: float = B) -> None:
        self._count = len(texts)
        self._most = k1 + 1.0
        self._number: dict[str, int] = {}
        flat, lengths = _term_numbers(texts, self._number)
        mean = lengths.mean() if lengths.any() else 1.0
        held_back = k1 * (1.0 - b + b * lengths / mean)
        # Sorted by term, then text, a pair once with how often it was there.
        pairs = flat * max(1, self._count) + np.repeat(np.arange(self._count), lengths)
        pairs, often = np.unique(pairs, return_counts=True)
        term, where = np.divmod(pairs, max(1, self._count))
        starts = np.searchsorted(term, np.arange(len(self._number) + 1))
        self._holders: Places = np.diff(starts)
        idf = np.log1p((self._count - self._holders + 0.5) / (self._holders + 0.5))
        weight = idf[term] * often * self._most / (often + held_back[where])
        self._where = where.astype(np.int32)
        self._weight = weight.astype(np.float32)
        self._starts: Places = starts
        self._dense: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return self._count

    def scores(self, query: str) -> Scores:
        """The score of every text, float64 (n,); 0 for one that shares no term with the query."""
        found = np.zeros(self._count)
        for number in self._asked(query):
            if number is None:
                continue
            if 2 * self._holders[number] > self._count:
                found += self._of_every_text(number)
            else:
                part = slice(self._starts[number], self._starts[number + 1])
                found[self._where[part]] += self._weight[part]
        return found

    def _of_every_text(self, number: int) -> NDArray[np.float32]:
        """The weight of a term in every text: adding that is ten times as fast as picking texts."""
        if number not in self._dense:
            if len(self._dense) == MOST_DENSE:
                del self._dense[next(iter(self._dense))]
            part = slice(self._starts[number], self._starts[number + 1])
            dense = np.zeros(self._count, dtype=np.float32)
            dense[self._where[part]] = self._weight[part]
            self._dense[number] = dense
        return self._dense[number]

    def ceiling(self, query: str) -> float:
        """What no text can score more than: every term of the query, endlessly repeated.

        A term that is in no text counts like the rarest; 0.0 for a query without terms.
        """
        holders = (0 if n is None else int(self._holders[n]) for n in self._asked(query))
        return sum(self._most * self._idf(count) for count in holders)

    def _asked(self, query: str) -> list[int | None]:
        """The numbers of the distinct terms of a query; None for one that no text holds."""
        return [self._number.get(word) for word in dict.fromkeys(terms(query))]

    def best(self, found: Scores, k: int, *, among: NDArray[np.bool_] | None = None) -> Places:
        """The places of the `k` best texts, best first, equals in order; without those that score 0.

        Args:
            found: the scores of a query.
            k: at least 1.
            among: bool (n,), which texts to consider; all if not given.
        """
        if among is not None and not among.all():
            found = np.where(among, found, 0.0)
        places = _promising(found, k)
        if len(places) > k:
            # Equals of the last place are kept until the order decides among them.
            edge = np.partition(found[places], -k)[-k]
            places = places[found[places] >= edge]
        chosen: Places = places[np.argsort(-found[places], kind="stable")][:k]
        return chosen

    def _idf(self, holders: int) -> float:
        return math.log1p((self._count - holders + 0.5) / (holders + 0.5))


def _term_numbers(texts: Sequence[str], number: dict[str, int]) -> tuple[Places, Places]:
    """The terms of all texts in order, as numbers, and how many each text has.

    Args:
        number: gets the number of each term.
    """
    known: dict[str, array[int]] = {}
    flat = array("q")
    lengths = np.zeros(len(texts), dtype=np.int64)
    for place, text in enumerate(texts):
        before = len(flat)
        for phrase in _PHRASE.split(text):
            found = known.get(phrase)
            if found is None:
                words = terms(phrase)
                found = array("q", [number.setdefault(word, len(number)) for word in words])
                if len(known) < MOST_PHRASES:
                    known[phrase] = found
            flat.extend(found)
        lengths[place] = len(flat) - before
    return np.frombuffer(flat, np.int64) if flat else np.empty(0, np.int64), lengths


def _promising(found: Scores, k: int) -> Places:
    """Places of scores above 0, the `k` best among them; few more of many.

    The k-th best of the best of each block is no better than the k-th best of all.
    """
    blocks = len(found) // BLOCK
    least = 0.0
    if blocks > k:
        tops = found[: blocks * BLOCK].reshape(blocks, BLOCK).max(axis=1)
        least = float(np.partition(tops, -k)[-k])
    places: Places = np.flatnonzero(found >= least) if least > 0.0 else np.flatnonzero(found)
    return places
