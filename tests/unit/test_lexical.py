import math

import numpy as np
import pytest

from index.lexical import Bm25, terms, words_of

TEXTS = ["port scan of a host", "web requests, many web requests", "web page"]


def test_the_score_is_that_of_the_formula() -> None:
    # terms: [port scan host], [web request many web request], [web page]; mean length 10 / 3
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    held_back = 1.2 * (1 - 0.75 + 0.75 * 5 / (10 / 3))
    expected = idf * 2 * 2.2 / (2 + held_back)
    assert Bm25(TEXTS).scores("web") == pytest.approx(
        [0.0, expected, idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / (10 / 3)))]
    )


def test_terms_of_a_query_add_up_and_count_once() -> None:
    ranked = Bm25(TEXTS)
    both = ranked.scores("web page")
    assert both == pytest.approx(ranked.scores("web") + ranked.scores("page"))
    assert both == pytest.approx(ranked.scores("page web web page"))


def test_a_rare_term_counts_more_than_a_frequent_one() -> None:
    assert Bm25(["a1 b1", "a1 c1", "a1 d1"]).scores("a1 b1").argmax() == 0
    ranked = Bm25(["scan web", "web dns", "web smb"])
    assert ranked.scores("scan")[0] > ranked.scores("web")[0] > 0


def test_no_text_scores_more_than_the_ceiling() -> None:
    texts = ["scan " * 1000, "scan", *TEXTS]
    ranked = Bm25(texts)
    for query in ("scan", "scan of web pages", "words that nobody knows", "scan nowhere"):
        assert ranked.scores(query).max() <= ranked.ceiling(query)
    assert ranked.scores("scan").max() == pytest.approx(ranked.ceiling("scan"), rel=0.1)
    assert ranked.ceiling("") == ranked.ceiling("of the") == 0.0


def test_plurals_case_accents_and_empty_words_make_no_difference() -> None:
    assert terms("The Queries of two HOSTS, probed") == ["query", "two", "host", "probed"]
    assert terms("requests probes addresses address bus") == [
        *("request", "probe", "addresse", "address", "bus")
    ]
    assert words_of("Denegación, ÑANDÚ") == ["denegacion", "nandu"]


def test_an_abbreviation_is_no_plural() -> None:
    assert terms("HTTPS SMTPS HTTP") == ["https", "smtps", "http"]


def test_the_best_come_first_and_equals_in_their_order() -> None:
    ranked = Bm25(["dns", "web dns", "dns", "web", "smb"])
    assert ranked.best(ranked.scores("dns"), 10).tolist() == [0, 2, 1]
    assert ranked.best(ranked.scores("dns"), 2).tolist() == [0, 2]
    assert ranked.best(ranked.scores("telnet"), 10).tolist() == []


def test_only_the_texts_asked_for_are_ranked() -> None:
    among = np.array([False, True, True, False, False])
    ranked = Bm25(["dns", "web dns", "dns", "web", "smb"])
    found = ranked.best(ranked.scores("dns web"), 10, among=among)
    assert found.tolist() == [1, 2]


def test_an_index_of_nothing_finds_nothing() -> None:
    for texts in ([], ["", "  "]):
        ranked = Bm25(texts)
        assert ranked.best(ranked.scores("dns"), 5).tolist() == []


def test_a_phrase_that_comes_again_counts_as_it_did() -> None:
    phrases = ["port scan of many hosts", "a scan, a scan", "in the night"]
    texts = [", ".join(phrases[: n + 1]) + ". " + phrases[n % 3] for n in range(3)] * 2
    ranked = Bm25(texts)
    one_by_one = Bm25([text.replace(",", " ").replace(".", " ") for text in texts])
    for query in ("scan", "port scan in the night", "hosts"):
        assert ranked.scores(query).tolist() == one_by_one.scores(query).tolist()


def test_the_best_of_many_are_those_of_a_full_sort_with_equals_in_their_order() -> None:
    ranked = Bm25([f"a{n % 7} b{n % 11} c{n % 5}" for n in range(20_000)])
    for query in ("a3 b4 c1", "a3", "nothing"):
        scores = ranked.scores(query)
        expected = [n for n in np.argsort(-scores, kind="stable").tolist() if scores[n] > 0]
        assert ranked.best(scores, 50).tolist() == expected[:50]
