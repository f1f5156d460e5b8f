"""The real sentence encoder, as `dayfold models build` puts it together."""

import hashlib
from collections.abc import Callable
from datetime import date

import numpy as np
import pytest
from tokenizers import Tokenizer

from embed.semantic import SemanticEmbedder
from embed.sentences import SentenceEncoder, sentences_of
from models.build import build
from models.errors import ModelAlteredError
from models.manifest import find_entry
from models.store import ModelFiles, locate
from tests.embed_samples import fold, sample_day

FIRST = (0.06766, 0.06350, 0.04871, 0.07930, 0.03745)


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return build("minilm")


@pytest.fixture(scope="module")
def encoder(files: ModelFiles) -> SentenceEncoder:
    return SentenceEncoder(files)


@pytest.fixture(scope="module")
def embed(encoder: SentenceEncoder) -> Callable[[str], np.ndarray]:
    return lambda text: encoder.embed([text])[0]


def test_the_published_example_embeds_to_its_published_numbers(
    embed: Callable[[str], np.ndarray],
) -> None:
    assert embed("This is an example sentence")[:5] == pytest.approx(FIRST, abs=1e-4)


def test_the_graph_in_the_repository_holds_no_weights() -> None:
    assert find_entry("minilm").artefact.stat().st_size < 100_000


def test_nothing_is_cut_off_although_the_shipped_tokenizer_would_cut(
    files: ModelFiles, encoder: SentenceEncoder
) -> None:
    text = "port scan " * 300
    shipped = Tokenizer.from_file(str(files.extra["tokenizer.json"]))
    assert len(shipped.encode(text).ids) == 128
    tokens = encoder.tokenise(text)
    assert len(tokens.ids) == tokens.embedded == 600
    assert max(end - start for start, end in tokens.cuts) == 254


def test_the_last_word_of_a_long_text_matters(embed: Callable[[str], np.ndarray]) -> None:
    text = "ordinary traffic " * 400
    assert float(embed(text + "ransomware") @ embed(text + "lunch")) < 1.0 - 1e-5


def test_a_text_at_the_limit_and_one_token_beyond_agree(encoder: SentenceEncoder) -> None:
    at, beyond = ("scan " * count for count in (254, 255))
    assert [len(encoder.tokenise(text).cuts) for text in (at, beyond)] == [1, 2]
    one, two = encoder.embed([at, beyond])
    assert float(one @ two) > 0.99


def test_padding_and_company_in_a_batch_do_not_change_a_vector(encoder: SentenceEncoder) -> None:
    texts = ["dns lookup " * count for count in range(1, 40)]
    together = encoder.embed(texts)
    alone = np.vstack([encoder.embed([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


def test_a_text_has_the_same_bits_whatever_other_texts_share_its_sentences(
    encoder: SentenceEncoder,
) -> None:
    texts = [
        f"{what}. {when}."
        for what in ("Port scan of an internal host", "DNS over UDP", "Large upload")
        for when in ("At night", "In the morning")
    ]
    alone = np.vstack([encoder.embed([text]) for text in texts])
    assert encoder.embed(texts).tobytes() == alone.tobytes()
    assert encoder.embed(texts[::-1])[::-1].tobytes() == alone.tobytes()


def test_a_text_of_several_sentences_is_the_mean_over_the_tokens_of_them_all(
    encoder: SentenceEncoder,
) -> None:
    sentences = ["SSH over TCP between internal hosts.", "At night."]
    tokens = [encoder.tokenise(sentence) for sentence in sentences]
    # [CLS] and [SEP] are tokens, too.
    weights = np.array([len(one.ids) + 2 for one in tokens])
    expected = weights @ encoder.means(tokens)
    expected /= np.linalg.norm(expected)
    assert encoder.embed([" ".join(sentences)])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", [""]),
        ("port scan", ["port scan"]),
        ("A scan. At night.", ["A scan.", "At night."]),
        ("  What? A scan!  At night ", ["What?", "A scan!", "At night"]),
        ("10.0.0.7 asks for a.example", ["10.0.0.7 asks for a.example"]),
    ],
)
def test_a_sentence_ends_at_a_mark_and_a_space(text: str, sentences: list[str]) -> None:
    assert list(sentences_of(text)) == sentences


def test_an_altered_tokenizer_is_not_loaded(
    files: ModelFiles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / files.graph.parent.name
    folder.mkdir()
    for path in (files.graph, *files.extra.values()):
        (folder / path.name).hardlink_to(path)
    tokenizer = folder / "tokenizer.json"
    data = tokenizer.read_bytes().replace(b'"max_length"', b'"max_lengtH"')
    tokenizer.unlink()
    tokenizer.write_bytes(data)
    with pytest.raises(ModelAlteredError, match=hashlib.sha256(data).hexdigest()):
        locate("minilm", cache)


def test_a_question_about_ssh_brute_force_finds_the_attack_of_its_day(files: ModelFiles) -> None:
    semantic = SemanticEmbedder(files)
    hits: list[tuple[float, str, str]] = []
    for day in (date(2017, 7, 4), date(2017, 7, 7)):
        # A slice of each day keeps the test quick; on 4 July it holds both brute forces.
        events = sample_day(day)
        events = events[:: max(1, len(events) // 300)]
        start = events[0][0] // 86_400_000_000_000 * 86_400_000_000_000
        shift = 1_499_126_400_000_000_000 - start
        vectors, facts, _ = fold(semantic, [(at + shift, message) for at, message in events])
        scores = vectors[1:] @ semantic.embed_text("ssh brute force")
        hits += [
            (float(score), day.isoformat(), fact.label)
            for score, fact in zip(scores, facts[1:], strict=True)
        ]
    best = sorted(hits, reverse=True)[:5]
    assert {day for _, day, _ in best} == {"2017-07-04"}
    assert all("SSH" in text and "brute force" in text for _, _, text in best)
