"""Sets the last layer of the time-series encoder: 480 principal components of its features, softened.

    python -m models.training.fit_shape checkpoint.pt --flows flows.parquet --out final.pt

The components are those of new synthetic series, so no labelled data set takes part. A layer that was
learned with the contrastive term forgot what the term had no use for and did worse. Each component is divided by a
power of its deviation: a few directions in which synthetic series differ most would else speak for all.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.series import Maker, flow_bank
from models.training.timeseries_net import SHAPE_WIDTH, SUMMARISED, SeriesEncoder

Array = NDArray[np.float64]

HALVED = 4096  # elements from which a weight is stored in half precision

TRAINING_DAYS = ("2017-07-03", "2017-07-04", "2017-07-05")
LENGTHS = (24, 60, 100, 150, 250, 420, 700, 1000, 1440)
BATCHES, ROWS = 50, 32
SUMMARY_WEIGHT = 0.15  # of the summaries beside the patterns
PLACES_WEIGHT = 0.3  # of what a summary says of the places from first to last
WHITENING = 0.4  # power of its deviation by which a component is divided: 0 leaves it, 1 whitens


def sample(net: SeriesEncoder, seed: int, bank: list[Array]) -> Array:
    """Features (1600, d) of new synthetic series."""
    maker = Maker(seed, bank)
    lengths = np.random.default_rng(seed).choice(LENGTHS, BATCHES)
    features = []
    for length in lengths.tolist():
        rows, _ = maker.batch(ROWS, length, draws=1)
        rows = np.where(np.abs(rows) > 1e12, 0, rows).astype(np.float32)
        with torch.no_grad():
            parts = [net.patched(part) for part in torch.from_numpy(rows).split(16)]
            features += [net.features(net.states(*part)).numpy() for part in parts]
    return np.concatenate(features).astype(np.float64)


def components(features: Array) -> tuple[Array, Array]:
    """The first 480 axes (480, d) of the rows, each by its softened deviation, and their mean (d,)."""
    middle = features.mean(0)
    centred = features - middle
    # Fewer rows than columns: the products of the rows are the smaller matrix.
    sizes, mixing = np.linalg.eigh(centred @ centred.T)
    first = np.argsort(-sizes)[:SHAPE_WIDTH]
    axes = (mixing[:, first] / np.sqrt(sizes[first])).T @ centred
    # The sign of a component is arbitrary: fix it, so that a run can be repeated.
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    deviations = np.sqrt(sizes[first] / len(features))
    return axes * signs / (deviations / deviations[0])[:, None] ** WHITENING, middle


def fit(net: SeriesEncoder, seed: int, flows: Path) -> None:
    """Sets the last layer."""
    features = sample(net, seed, flow_bank(flows, TRAINING_DAYS))
    importance = np.ones(features.shape[1])
    summaries = importance[: SUMMARISED * net.summary_width].reshape(SUMMARISED, -1)
    summaries[:] = SUMMARY_WEIGHT
    summaries[:, 3 * net.width :] = PLACES_WEIGHT
    axes, middle = components(features * importance)
    with torch.no_grad():
        net.pool.weight.copy_(torch.from_numpy((axes * importance).astype(np.float32)))
        net.pool.bias.copy_(torch.from_numpy((-axes @ middle).astype(np.float32)))
        # Large weights as the shipped graph stores them: the checkpoint is what is shipped.
        for weight in net.parameters():
            if weight.numel() >= HALVED:
                weight.copy_(weight.half())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=2018)
    options = parser.parse_args()
    torch.set_num_threads(1)
    saved = torch.load(options.checkpoint, weights_only=True)
    net = SeriesEncoder()
    net.load_state_dict(saved["net"])
    fit(net.eval(), options.seed, options.flows)
    torch.save({"net": net.state_dict(), "facts": saved["facts"]}, options.out)


if __name__ == "__main__":
    main()
