"""The network of the shipped time-series encoder, used as only an evaluation wants it.

`random_encoder` gives it random weights; `forecaster` reads the states inside it and hands them to the
forecasting head that was trained with it. Both open the shipped graph (`models.open_graph`), so that
neither PyTorch nor a second copy of 20 MB is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.onnx_session import SessionOptions, runtime_session
from models.errors import ModelRunError
from models.evaluate_forecast import HORIZON, Forecast, Values
from models.evaluate_timeseries import ROWS, Encoder, Series, in_parts
from models.open_graph import opened

LAYERS = 6
LINEAR = (
    *(f"patch_in.{part}" for part in ("up", "down", "skip")),
    *(f"blocks.{layer}.{part}" for layer in range(LAYERS) for part in ("qkv", "out", "up", "down")),
    "pool",
)
BIASED = ("patch_in.up", "patch_in.down", "patch_in.skip", "pool")
NORMS = (
    *(f"blocks.{layer}.before_{part}" for layer in range(LAYERS) for part in ("attention", "mlp")),
    "final",
)
OFFSET = "of_whole"
HALF = "_half"  # a linear weight is stored in half precision, behind a cast
LEARNED = (
    *(f"{name}.weight{HALF}" for name in LINEAR),
    *(f"{name}.bias" for name in BIASED),
    *(f"{name}.weight" for name in NORMS),
    OFFSET,
)
AHEAD = HORIZON // 16  # patches that are foretold

Weights = dict[str, NDArray[Any]]


def random_weights(like: Weights, seed: int) -> Weights:
    """Weights of the shapes and types of `like`, drawn as PyTorch does before any training.

    Weight and bias of a linear layer are uniform within 1/sqrt(inputs) of 0 (`torch.nn.Linear`), norms
    are 1, the offset of the resampled series is 0.
    """
    rng = np.random.default_rng(seed)
    made: Weights = {OFFSET: np.zeros_like(like[OFFSET])}
    made.update({f"{name}.weight": np.ones_like(like[f"{name}.weight"]) for name in NORMS})
    for name in LINEAR:
        weight = f"{name}.weight{HALF}"
        bound = 1 / np.sqrt(like[weight].shape[1])
        for part in (weight, f"{name}.bias") if name in BIASED else (weight,):
            drawn = rng.uniform(-bound, bound, like[part].shape)
            made[part] = drawn.astype(like[part].dtype)
    return made


def random_encoder(graph: Path, seed: int, *, threads: int) -> Encoder:
    """The network of the encoder in `graph` with random weights.

    Raises:
        ModelRunError: the graph is not of that network.
    """
    content = opened(graph.read_bytes(), weights=LEARNED, values=LEARNED)
    session = _session(content, graph, threads)
    stored = session.run(list(LEARNED), {"series": np.zeros((1, 16), np.float32)})
    weights = random_weights(dict(zip(LEARNED, stored, strict=True)), seed)

    def encode(series: Series) -> NDArray[np.float32]:
        (vectors,) = session.run(["embedding"], {**weights, "series": series})
        return np.asarray(vectors, dtype=np.float32)

    return in_parts(encode)


def forecaster(graph: Path, digest: str, head: Path, *, threads: int) -> Forecast:
    """The encoder in `graph`, whose SHA-256 is `digest`, with the head that was trained with it.

    Raises:
        ModelRunError: the head belongs to another encoder.
    """
    ahead = _session(head.read_bytes(), head, threads)
    facts = ahead.get_modelmeta().custom_metadata_map
    if facts.get("encoder") != digest:
        raise ModelRunError(
            f"{head} belongs to the encoder with SHA-256 {facts.get('encoder')}, not {digest}"
        )
    inner = facts["states"]
    states = _session(opened(graph.read_bytes(), values=[inner]), graph, threads)

    def forecast(past: Values) -> NDArray[np.float32]:
        found = []
        for start in range(0, len(past), ROWS):
            series = past[start : start + ROWS].astype(np.float32)
            unknown = np.full((len(series), HORIZON), np.nan, np.float32)
            (last,) = states.run([inner], {"series": np.concatenate((series, unknown), 1)})
            feeds = {"series": series, "states": last[:, -AHEAD:]}
            found.append(ahead.run(["quantiles"], feeds)[0])
        return np.concatenate(found)

    return forecast


def _session(content: bytes, path: Path, threads: int) -> Any:
    try:
        return runtime_session(content, SessionOptions(threads=threads))
    except Exception as error:
        # The runtime raises a family of unrelated types; all mean the same here.
        raise ModelRunError(f"{path} cannot be opened for evaluation: {error}") from error
