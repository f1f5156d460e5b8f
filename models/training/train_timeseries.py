"""Trains the time-series encoder on two cores; the card holds the command that was run.

    python -m models.training.train_timeseries --flows flows.parquet --out checkpoint.pt

Three terms are added: the quantile loss on absent patches (half of them the last 64 steps, a
forecast), a supervised contrastive term whose classes are the kinds of `series.py`, and a linear
read-out from the pooled vector of a coarse profile, spectrum and distribution, which keeps the
pooled vector from forgetting the shape. No labelled data set takes part.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.series import Maker, flow_bank
from models.training.timeseries_net import PATCH, QUANTILES, SHAPE_WIDTH, SeriesEncoder

HORIZON = 64
TRAINING_DAYS = ("2017-07-03", "2017-07-04", "2017-07-05")
PROFILE, BINS, RANKS = 96, 24, 16
WIDE = 4608  # of the summaries, before the principal components


def described(linear: Tensor, present: Tensor) -> Tensor:
    """Coarse profile, log spectrum and quantiles (n, 136) of normalised patches."""
    flat = linear.flatten(1)
    first = int(present.flatten(1).sum(1).min().item())
    flat = flat[:, -first:]  # series of one batch are equally long
    profile = functional.interpolate(flat[:, None], size=PROFILE, mode="linear", align_corners=True)
    if first > PROFILE:
        profile = functional.adaptive_avg_pool1d(flat[:, None], PROFILE)
    even = functional.interpolate(flat[:, None], size=256, mode="linear", align_corners=True)
    if first > 256:
        even = functional.adaptive_avg_pool1d(flat[:, None], 256)
    power = torch.fft.rfft(even[:, 0]).abs()[:, 1:]
    edges = np.unique(np.geomspace(1, 129, BINS + 8).astype(int))[: BINS + 1] - 1
    bins = [power[:, a:b].mean(1) for a, b in itertools.pairwise(edges)]
    spectrum = torch.log1p(torch.stack(bins, 1)) * 0.5
    levels = torch.linspace(0.0, 1.0, RANKS)
    ranks = torch.quantile(flat, levels, dim=1).T
    return torch.cat((profile[:, 0], spectrum, ranks), 1)


def contrastive(vectors: Tensor, kinds: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (P. Khosla et al., 2020) over one batch of unit vectors."""
    scores = vectors @ vectors.T / temperature
    own = torch.eye(len(vectors), dtype=torch.bool)
    scores = scores.masked_fill(own, -1e4)
    alike = (kinds[:, None] == kinds[None]) & ~own
    logs = scores - torch.logsumexp(scores, 1, keepdim=True)
    counted = alike.sum(1)
    per_row = -(logs * alike).sum(1) / counted.clamp(min=1)
    return per_row[counted > 0].mean()


def pinball(predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
    """Quantile loss, twice the usual pinball, over the wanted steps."""
    levels = torch.tensor(QUANTILES)
    error = target[..., None] - predicted
    loss = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)
    return (loss * wanted).sum() / wanted.sum().clamp(min=1)


def lengths_at(share: float, rng: np.random.Generator) -> int:
    """Context of a step: short at first, days and more towards the end."""
    if share < 0.5:
        ranges = ((24, 96, 0.25), (96, 320, 0.45), (320, 640, 0.3))
    else:
        ranges = (
            (24, 96, 0.2),
            (96, 512, 0.4),
            (512, 1200, 0.2),
            (1440, 1472, 0.15),
            (1472, 1984, 0.05),
        )
    low, high, _ = ranges[rng.choice(len(ranges), p=[r[2] for r in ranges])]
    return int(rng.integers(low, high))


def fit_pool(net: SeriesEncoder, seed: int, bank: list[np.ndarray]) -> None:
    """Sets the pooling layer to the first 480 principal components of summaries.

    A layer learned with the contrastive term forgot what the term had no use for, and did worse
    than no learning at all; the components keep nearly all of the variance.
    """
    maker = Maker(seed, bank)
    lengths = np.random.default_rng(seed).choice((24, 60, 100, 150, 250, 420, 700, 1000, 1440), 90)
    parts = []
    with torch.no_grad():
        for length in lengths.tolist():
            rows, _ = maker.batch(48, length, draws=1)
            values, present = net.patched(torch.from_numpy(rows.astype(np.float32)))
            parts.append(net.summaries(net.states(values, present)))
        pooled = torch.cat(parts).double()
        middle = pooled.mean(0)
        _, _, rows = torch.linalg.svd(pooled - middle, full_matrices=False)
        axes = rows[:SHAPE_WIDTH]
        # The sign of a component is arbitrary: fix it, so that a run can be repeated.
        axes = axes * torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
        net.pool.weight.copy_(axes.float())
        net.pool.bias.copy_(-(axes @ middle).float())


def keep(net: SeriesEncoder, options: argparse.Namespace, curve: list[dict[str, float]]) -> None:
    """Fits the pooling layer and writes the checkpoint."""
    fit_pool(net, options.seed + 1, flow_bank(options.flows, TRAINING_DAYS))
    facts = {"options": {k: str(v) for k, v in vars(options).items()}, "curve": curve}
    torch.save({"net": net.state_dict(), "facts": facts}, options.out)


def train(options: argparse.Namespace) -> None:
    """Trains and saves; the same options and seed give the same weights on one thread."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    maker = Maker(options.seed, flow_bank(options.flows, TRAINING_DAYS))
    net = SeriesEncoder(layers=options.layers)
    if options.start:
        net.load_state_dict(torch.load(options.start, weights_only=True)["net"], strict=False)
    net.pool.requires_grad_(False)
    readout = nn.Linear(WIDE, PROFILE + BINS + RANKS)
    parameters = [p for p in (*net.parameters(), *readout.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        options.rate,
        total_steps=max(1, options.steps),
        pct_start=0.06,
        anneal_strategy="cos",
    )
    curve: list[dict[str, float]] = []
    sums, began = np.zeros(3), time.monotonic()
    for step in range(options.steps):
        context = lengths_at(step / options.steps, rng)
        size = int(np.clip(options.tokens // (context // PATCH + 5), 12, 96))
        rows, kinds = maker.batch(size, context + HORIZON)
        rows = np.where(np.abs(rows) > 1e12, 0, rows)
        whole = torch.from_numpy(rows.astype(np.float32))
        past, future = whole[:, :context], whole[:, context:]
        values, present = net.patched(past)
        hidden = torch.rand(values.shape[:2]) < float(rng.choice([0, 0.1, 0.3]))
        hidden[:, -1] = False
        shown = present * (~hidden).float()[..., None]
        location, scale = net.moments(values, shown)
        ahead = future.reshape(len(whole), HORIZON // PATCH, PATCH)
        everything = torch.cat((values, ahead), 1)
        visible = torch.cat((shown, torch.zeros_like(ahead)), 1)
        target = torch.asinh((everything - location) / scale).clamp(-12, 12)
        wanted = torch.cat((present, torch.ones_like(ahead)), 1) - visible
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            found = net.states(everything * visible, visible)
            predicted = net.predict(found.last).float()
        pooled = net.summaries(found, last_weight=1.0)
        vectors = functional.normalize(pooled - pooled.mean(0), dim=-1)
        forecast = pinball(predicted, target, wanted)
        alike = contrastive(vectors, torch.from_numpy(kinds), 0.1)
        with torch.no_grad():
            linear, _, _, _ = net.normalised(values, present)
            aim = described(linear, present)
        shape = functional.smooth_l1_loss(readout(pooled * WIDE**0.5), aim)
        loss = forecast + options.contrast * alike + options.describe * shape
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        sums += (forecast.item(), alike.item(), shape.item())
        if (step + 1) % 100 == 0:
            mean = sums / 100
            entry = {"step": step + 1, "quantile": mean[0], "contrast": mean[1], "shape": mean[2]}
            curve.append({name: round(float(value), 4) for name, value in entry.items()})
            print(json.dumps(curve[-1]), f"{time.monotonic() - began:.0f} s", flush=True)
            sums[:] = 0
        if (step + 1) % 800 == 0:
            keep(net, options, curve)
    keep(net, options, curve)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--steps", type=int, default=5000, help="0: only fit the pooling layer")
    parser.add_argument("--tokens", type=int, default=1200, help="patches per step")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--contrast", type=float, default=0.25)
    parser.add_argument("--describe", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
