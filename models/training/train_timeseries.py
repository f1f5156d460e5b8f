"""Trains the time-series encoder on two cores; the card holds the command that was run.

    python -m models.training.train_timeseries --flows flows.parquet --out checkpoint.pt

Four terms are added: the quantile loss on the 64 steps after the context, the same on patches that
were hidden within it, a supervised contrastive term whose classes are the kinds of `series.py`, and a linear
read-out from the pooled vector of a coarse profile, spectrum and distribution, which keeps the
pooled vector from forgetting the shape. Then `fit_shape` sets the last layer. No labelled data set
takes part. A run that was stopped goes on with `--resume` and ends with the same weights.
"""

import argparse
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.fit_shape import TRAINING_DAYS, fit
from models.training.series import Maker, flow_bank
from models.training.timeseries_net import PATCH, QUANTILES, SUMMARISED, SeriesEncoder

HORIZON = 64
AHEAD = HORIZON // PATCH
EVERY = 100  # steps between checkpoints
SHORT_STEPS, WARM_STEPS = 300, 100
TERMS = ("forecast", "hidden", "contrast", "readout")
PROFILE, BINS, RANKS = 96, 24, 16


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


def lengths_at(step: int, rng: np.random.Generator) -> int:
    """Context of a step: short at first, days and more later."""
    if step < SHORT_STEPS:
        ranges = ((24, 96, 0.25), (96, 320, 0.45), (320, 640, 0.3))
    else:
        ranges = (
            (24, 96, 0.2),
            (96, 320, 0.3),
            (320, 640, 0.25),
            (640, 1200, 0.1),
            (1440, 1472, 0.12),
            (1472, 1984, 0.03),
        )
    low, high, _ = ranges[rng.choice(len(ranges), p=[r[2] for r in ranges])]
    return int(rng.integers(low, high))


def rate_at(step: int, options: argparse.Namespace) -> float:
    """Share of the learning rate: up, even, and down to nothing over the last `decay` steps."""
    left = options.steps - step
    return min(1.0, (step + 1) / WARM_STEPS, left / max(1, options.decay))


@dataclass
class Run:
    """Everything that a training needs to go on where it stood."""

    net: SeriesEncoder
    readout: nn.Linear
    optimiser: torch.optim.Optimizer
    maker: Maker
    rng: np.random.Generator
    step: int
    curve: list[dict[str, float]]

    def save(self, options: argparse.Namespace) -> None:
        """Writes the checkpoint, whole or not at all."""
        states = [generator.bit_generator.state for generator in (self.rng, self.maker.rng)]
        saved = {
            "net": self.net.state_dict(),
            "readout": self.readout.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": json.dumps(states),
            "facts": {
                "options": {name: str(value) for name, value in vars(options).items()},
                "step": self.step,
                "curve": self.curve,
            },
        }
        partial = options.out.with_suffix(".partial")
        torch.save(saved, partial)
        partial.replace(options.out)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint, as if it had never stopped."""
        saved = torch.load(path, weights_only=True)
        self.net.load_state_dict(saved["net"])
        self.readout.load_state_dict(saved["readout"])
        self.optimiser.load_state_dict(saved["optimiser"])
        torch.set_rng_state(saved["torch"])
        states = json.loads(saved["numpy"])
        for generator, state in zip((self.rng, self.maker.rng), states, strict=True):
            generator.bit_generator.state = state
        self.step, self.curve = saved["facts"]["step"], saved["facts"]["curve"]


def begin(options: argparse.Namespace) -> Run:
    """A run at its first step, or at the one where `--resume` stood."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    maker = Maker(options.seed, flow_bank(options.flows, TRAINING_DAYS))
    net = SeriesEncoder()
    net.pool.requires_grad_(False)
    readout = nn.Linear(SUMMARISED * net.summary_width, PROFILE + BINS + RANKS)
    learned = [p for p in (*net.parameters(), *readout.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=options.rate, weight_decay=0.02, betas=(0.9, 0.98))
    rng = np.random.default_rng(options.seed)
    run = Run(net, readout, optimiser, maker, rng, 0, [])
    if options.resume:
        run.load(options.resume)
    return run


def losses(run: Run, options: argparse.Namespace) -> tuple[Tensor, ...]:
    """The four terms on one new batch: forecast, hidden patches, contrast, read-out."""
    net, rng = run.net, run.rng
    context = lengths_at(run.step, rng)
    size = int(np.clip(options.tokens // (context // PATCH + 5), 12, 72))
    rows, kinds = run.maker.batch(size, context + HORIZON)
    rows = np.where(np.abs(rows) > 1e12, 0, rows)
    whole = torch.from_numpy(rows.astype(np.float32))
    past, future = whole[:, :context], whole[:, context:]
    values, present = net.patched(past)
    hidden = torch.rand(values.shape[:2]) < float(rng.choice([0, 0.1, 0.3]))
    hidden[:, -1] = False
    shown = present * (~hidden).float()[..., None]
    location, scale = net.moments(values, shown)
    ahead = future.reshape(len(whole), AHEAD, PATCH)
    visible = torch.cat((shown, torch.zeros_like(ahead)), 1)
    everything = torch.cat((values, ahead), 1)
    target = torch.asinh((everything - location) / scale).clamp(-12, 12)
    wanted = torch.cat((present - shown, torch.ones_like(ahead)), 1)
    found = net.states(everything * visible, visible)
    carried = net.carry_on(found, AHEAD)
    filled = net.predict(found.last[:, :-AHEAD])
    pooled = net.summaries(net.past(found, AHEAD))
    vectors = functional.normalize(pooled - pooled.mean(0), dim=-1)
    with torch.no_grad():
        aim = described(net.normalised(values, present)[0], present)
    return (
        pinball(carried, target[:, -AHEAD:], wanted[:, -AHEAD:]),
        pinball(filled, target[:, :-AHEAD], wanted[:, :-AHEAD]),
        contrastive(vectors, torch.from_numpy(kinds), 0.1),
        functional.smooth_l1_loss(run.readout(pooled * pooled.shape[1] ** 0.5), aim),
    )


def train(options: argparse.Namespace) -> None:
    """Trains and saves; the same options and seed give the same weights on one thread."""
    run = begin(options)
    learned = [p for group in run.optimiser.param_groups for p in group["params"]]
    weights = (1.0, 0.5, options.contrast, options.describe)
    sums, began = np.zeros(4), time.monotonic()
    while run.step < options.steps:
        for group in run.optimiser.param_groups:
            group["lr"] = options.rate * rate_at(run.step, options)
        terms = losses(run, options)
        loss = sum(weight * term for weight, term in zip(weights, terms, strict=True))
        run.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        run.optimiser.step()
        run.step += 1
        sums += [term.item() for term in terms]
        if run.step % EVERY == 0:
            means = zip(TERMS, sums / EVERY, strict=True)
            run.curve.append({"step": run.step, **{n: round(float(v), 4) for n, v in means}})
            print(json.dumps(run.curve[-1]), f"{time.monotonic() - began:.0f} s", flush=True)
            sums[:] = 0
            run.save(options)
    fit(run.net.eval(), options.seed + 1, options.flows)
    run.save(options)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a checkpoint of this program to go on from")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--decay", type=int, default=200, help="steps at the end of falling rate")
    parser.add_argument("--tokens", type=int, default=640, help="patches per step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--contrast", type=float, default=0.5)
    parser.add_argument("--describe", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--threads", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
