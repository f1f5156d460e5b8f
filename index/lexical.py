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
from collections import Counter, defaultdict
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

_WORD = re.compile(r"[^\W_]+")
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

    Args:
        texts: n texts; they are named by their place.
        k1: how soon repeats of a term stop counting.
        b: how much long texts are held back, 0 to 1.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = K1, b: float = B) -> None:
        self._count = len(texts)
        lengths = np.zeros(self._count)
        # Pairs of place and count, by term.
        found: defaultdict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for place, text in enumerate(texts):
            words = terms(text)
            lengths[place] = len(words)
            for word, count in Counter(words).items():
                places, counts = found[word]
                places.append(place)
                counts.append(count)
        mean = lengths.mean() if lengths.any() else 1.0
        held_back = k1 * (1.0 - b + b * lengths / mean)
        self._most = k1 + 1.0
        self._postings: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]] = {}
        for word, (places, counts) in found.items():
            where = np.array(places, dtype=np.int32)
            often = np.array(counts, dtype=np.float64)
            weight = self._idf(len(places)) * often * self._most / (often + held_back[where])
            self._postings[word] = (where, weight.astype(np.float32))

    def __len__(self) -> int:
        return self._count

    def scores(self, query: str) -> Scores:
        """The score of every text, float64 (n,); 0 for one that shares no term with the query."""
        found = np.zeros(self._count)
        for word in dict.fromkeys(terms(query)):
            if word in self._postings:
                where, weight = self._postings[word]
                found[where] += weight
        return found

    def ceiling(self, query: str) -> float:
        """What no text can score more than: every term of the query, endlessly repeated.

        A term that is in no text counts like the rarest; 0.0 for a query without terms.
        """
        return sum(
            self._most * self._idf(len(self._postings[word][0]) if word in self._postings else 0)
            for word in dict.fromkeys(terms(query))
        )

    def best(self, query: str, k: int, *, among: NDArray[np.bool_] | None = None) -> Places:
        """The places of the `k` best texts, best first, equals in order; without those that score 0.

        Args:
            query: any text.
            k: at least 1.
            among: bool (n,), which texts to consider; all if not given.
        """
        found = self.scores(query)
        if among is not None:
            found[~among] = 0.0
        places = np.flatnonzero(found)
        if len(places) > k:
            # Equals of the last place are kept until the order decides among them.
            edge = np.partition(found[places], -k)[-k]
            places = places[found[places] >= edge]
        chosen: Places = places[np.argsort(-found[places], kind="stable")][:k]
        return chosen

    def _idf(self, holders: int) -> float:
        return math.log1p((self._count - holders + 0.5) / (holders + 0.5))
