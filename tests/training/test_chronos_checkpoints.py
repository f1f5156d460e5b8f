"""Real Chronos checkpoints, made tiny by the real library, as encoders of the time-series index."""

from pathlib import Path

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from transformers import T5Config, T5ForConditionalGeneration

from embed.coverage import covered, windows
from embed.timeseries import OVERLAP, TimeSeriesEmbedder
from models.checkpoint import build_checkpoint
from models.errors import ModelBuildError
from models.store import installed_models, locate
from models.training.chronos_export import T5Series, load, projection

QUANTILES = [0.1, 0.5, 0.9]
SIZES = {
    "d_ff": 64,
    "d_kv": 8,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "feed_forward_proj": "relu",
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def bolt(folder: Path, width: int) -> Path:
    """A Chronos-Bolt checkpoint: patches of 16, context 2,048, as Amazon's are."""
    torch.manual_seed(width)
    config = T5Config(d_model=width, vocab_size=2, **SIZES)
    config.architectures = ["ChronosBoltModelForForecasting"]
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.chronos_config = {
        "context_length": 2048,
        "prediction_length": 16,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "quantiles": QUANTILES,
        "use_reg_token": True,
    }
    ChronosBoltModelForForecasting(config).save_pretrained(folder)
    return folder


def t5(folder: Path, width: int) -> Path:
    """A Chronos-T5 checkpoint: 4,096 tokens, context 512, as Amazon's are."""
    torch.manual_seed(width)
    config = T5Config(d_model=width, vocab_size=4096, **SIZES)
    config.chronos_pipeline_class = "ChronosPipeline"
    config.chronos_config = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "context_length": 512,
        "prediction_length": 16,
        "n_tokens": 4096,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "num_samples": 2,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """By name: a checkpoint's folder, and the cache with the encoder that was built from it."""
    made = {}
    for name, make, width in (("bolt", bolt, 48), ("t5", t5, 48)):
        root = tmp_path_factory.mktemp(name)
        checkpoint = make(root / f"tiny-{name}", width)
        build_checkpoint(str(checkpoint), cache_dir=root / "cache")
        made[name] = (checkpoint, root / "cache")
    return made


def embedder(cache: Path) -> TimeSeriesEmbedder:
    return TimeSeriesEmbedder(locate("timeseries", cache), threads=1)


def series(length: int) -> np.ndarray:
    rng = np.random.default_rng(length)
    rows = np.stack((rng.normal(0, 1, length).cumsum() * 5 + 30, rng.poisson(2.0, length)))
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "length"), [("bolt", 1440), ("bolt", 97), ("t5", 512), ("t5", 60)]
)
def test_a_vector_is_the_mean_of_what_the_library_itself_embeds(
    name: str, length: int, caches: dict[str, tuple[Path, Path]]
) -> None:
    checkpoint, cache = caches[name]
    pipeline = BaseChronosPipeline.from_pretrained(
        str(checkpoint), device_map="cpu", dtype=torch.float32
    )
    rows = series(length)
    states, _ = pipeline.embed(torch.from_numpy(rows))
    mean = states[:, :-1].double().mean(1).numpy()  # the last state is of no value: EOS or REG
    theirs = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    ours = embedder(cache).embed_series(rows)
    assert np.abs(ours[:, :48] - theirs).max() < 1e-6
    assert (ours[:, 48:] == 0).all()


@pytest.mark.parametrize("name", ["bolt", "t5"])
def test_every_stretch_of_a_day_moves_its_vector(
    name: str, caches: dict[str, tuple[Path, Path]]
) -> None:
    encoder = embedder(caches[name][1])
    rng = np.random.default_rng(1)
    day = rng.poisson(20.0, (1, 1500)).astype(np.float32)
    places = np.arange(0, 1500, 50)
    moved = np.repeat(day, len(places), axis=0)
    moved[np.arange(len(places)), places] += 100
    change = np.abs(encoder.embed_series(moved) - encoder.embed_series(day)).max(1)
    assert (change > 0).all()


def test_a_day_is_longer_than_the_context_of_t5_and_its_windows_cover_it(
    caches: dict[str, tuple[Path, Path]],
) -> None:
    context = locate("timeseries", caches["t5"][1]).entry.context
    assert context == 512
    cuts = windows(1440, context, int(context * OVERLAP))
    assert len(cuts) > 2
    assert covered(1440, cuts) == 1440


def test_binning_in_the_graph_is_that_of_the_tokenizer_for_every_value(
    caches: dict[str, tuple[Path, Path]],
) -> None:
    net = load(str(caches["t5"][0]))[0]
    assert isinstance(net, T5Series)
    edges = net.boundaries
    below = torch.nextafter(edges, torch.tensor(-torch.inf))
    above = torch.nextafter(edges, torch.tensor(torch.inf))
    spread = torch.linspace(-40, 40, 200_001)
    values = torch.cat((edges[1:-1], below[1:-1], above[1:-1], spread, torch.tensor([-1e19, 1e19])))
    assert torch.equal(net.bins(values), torch.bucketize(values, edges, right=True))


def test_wider_states_keep_their_distances_to_a_few_per_cent() -> None:
    rng = np.random.default_rng(2)
    wide = rng.normal(0, 1, (60, 1024))
    short = wide @ projection(1024).numpy()
    before = np.linalg.norm(wide[:, None] - wide[None], axis=-1)[np.triu_indices(60, 1)]
    after = np.linalg.norm(short[:, None] - short[None], axis=-1)[np.triu_indices(60, 1)]
    ratio = after / before
    assert ratio.std() / ratio.mean() < 0.05


def test_a_wider_checkpoint_becomes_512_numbers(tmp_path: Path) -> None:
    checkpoint = bolt(tmp_path / "wide", 576)
    files = build_checkpoint(str(checkpoint), cache_dir=tmp_path / "cache")
    assert "projection" in files.entry.pooling
    vectors = embedder(tmp_path / "cache").embed_series(series(1440))
    assert vectors.shape == (2, 512)
    assert np.allclose((vectors**2).sum(1), 1, atol=1e-5)


def test_the_manifest_says_where_the_encoder_came_from(
    caches: dict[str, tuple[Path, Path]],
) -> None:
    checkpoint, cache = caches["bolt"]
    entry = next(one for one in installed_models(cache) if one.index == "timeseries")
    assert entry.name == "tiny-bolt"
    assert entry.context == 2048
    assert entry.source == str(checkpoint.resolve())


def test_a_name_that_cannot_be_fetched_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelBuildError, match=r"amazon/chronos-bolt-small.*give a folder"):
        build_checkpoint("amazon/chronos-bolt-small", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    config = T5Config(d_model=48, vocab_size=32, **SIZES)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "plain")
    with pytest.raises(ModelBuildError, match="plain cannot be used"):
        build_checkpoint(str(tmp_path / "plain"), cache_dir=tmp_path / "cache")
