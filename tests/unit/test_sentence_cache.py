"""Vectors across days: found again bit for bit, never believed when damaged, never in the way."""

from pathlib import Path

import numpy as np
import pytest

from embed.rows import ModelFacts
from embed.semantic import SemanticEmbedder
from embed.sentence_cache import SentenceCache
from tests import standin_models
from tests.embed_samples import DAY, fold, sample_day

MODEL = ModelFacts("minilm", "a" * 64, 2)
WIDTH = 8
TEXTS = [f"description {number}" for number in range(20)]
VECTORS = np.random.default_rng(0).standard_normal((20, WIDTH)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept = tmp_path / "sentences"
    cache = SentenceCache(kept, MODEL, WIDTH)
    cache.put(TEXTS, VECTORS)
    cache.close()
    return kept


def held(path: Path, model: ModelFacts = MODEL, **options: int) -> int:
    cache = SentenceCache(path, model, WIDTH, **options)
    cache.close()
    return len(cache)


def test_a_text_has_the_same_bits_on_the_next_day(path: Path) -> None:
    cache = SentenceCache(path, MODEL, WIDTH)
    for text, vector in zip(TEXTS, VECTORS, strict=True):
        found = cache.get(text)
        assert found is not None
        assert found.tobytes() == vector.tobytes()
    assert cache.get("something else") is None
    cache.close()


def test_it_holds_no_text_and_belongs_to_the_user_alone(path: Path) -> None:
    assert b"description" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "other", [ModelFacts("minilm", "b" * 64, 2), ModelFacts("minilm", "a" * 64, 3)]
)
def test_vectors_of_another_model_or_recipe_are_dropped(path: Path, other: ModelFacts) -> None:
    assert held(path, other) == 0
    assert held(path) == 0


def test_any_flipped_bit_drops_it(path: Path) -> None:
    whole = path.read_bytes()
    draw = np.random.default_rng(1)
    for place in draw.choice(len(whole), 60, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        assert held(path) == 0, place
        assert path.stat().st_size < 64


def test_a_record_that_a_kill_cut_short_is_taken_off_and_the_others_stay(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert held(path) == 19
    cache = SentenceCache(path, MODEL, WIDTH)
    cache.put(TEXTS[19:], VECTORS[19:])
    cache.close()
    assert path.read_bytes() == whole


def test_it_takes_no_more_than_its_limit_and_begins_anew_when_full(path: Path) -> None:
    limit = path.stat().st_size + 100
    cache = SentenceCache(path, MODEL, WIDTH, most_bytes=limit)
    cache.put([f"more {number}" for number in range(20)], VECTORS)
    cache.close()
    assert path.stat().st_size <= limit
    assert held(path, most_bytes=limit) == 0


def test_a_second_process_works_without_it(path: Path) -> None:
    first = SentenceCache(path, MODEL, WIDTH)
    second = SentenceCache(path, MODEL, WIDTH)
    second.put(["of the second"], VECTORS[:1])
    assert second.get(TEXTS[0]) is None
    assert first.get(TEXTS[0]) is not None
    first.close()
    assert held(path) == 20


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    cache = SentenceCache(tmp_path / "nowhere" / "sentences", MODEL, WIDTH)
    cache.put(TEXTS, VECTORS)
    assert cache.get(TEXTS[0]) is None


def test_a_day_from_the_cache_is_the_day_bit_for_bit_and_runs_the_encoder_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = standin_models.semantic(tmp_path)
    events = sample_day(DAY)[:300]
    without = fold(SemanticEmbedder(files), events)
    first = fold(SemanticEmbedder(files, cache=tmp_path / "kept"), events)
    again = SemanticEmbedder(files, cache=tmp_path / "kept")
    monkeypatch.setattr(again._encoder, "embed", lambda _: pytest.fail("embedded again"))
    second = fold(again, events)
    assert without[0].tobytes() == first[0].tobytes() == second[0].tobytes()
    assert without[1:] == first[1:] == second[1:]
