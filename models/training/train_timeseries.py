"""Trains the time-series encoder, on a GPU or on two cores; the card holds the command that was run.

    python -m models.training.train_timeseries --flows flows.parquet --out checkpoint.pt
    python -m models.training.train_timeseries --flows flows.parquet --out checkpoint.pt \
        --device cuda --workers 14 --tokens 32768 --steps 12000 --decay 3000

Four terms are added: the quantile loss on the 64 steps after the context, the same on patches that
were hidden within it, a supervised contrastive term whose classes are the kinds of `series.py`, and a linear
read-out from the pooled vector of a coarse profile, spectrum and distribution, which keeps the
pooled vector from forgetting the shape. Then `fit_shape` sets the last layer. No labelled data set
takes part. A run that was stopped goes on with `--resume`.

`--seconds` is for a machine that is lent for a time: once they are over, less what the falling rate needs, the
steps that are left are cut, and the checkpoint says how many there were.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.evaluate_forecast import HORIZON, QUANTILES
from models.training.fit_shape import TRAINING_DAYS, fit
from models.training.series import flow_bank
from models.training.series_views import varied
from models.training.supply import Batch, Plan, supply
from models.training.timeseries_net import PATCH, SUMMARISED, SeriesEncoder

AHEAD = HORIZON // PATCH
EVERY = 100  # steps between checkpoints
WARM_STEPS = 200
TERMS = ("forecast", "hidden", "contrast", "readout")
PROFILE, BINS, RANKS = 96, 24, 16
KEPT = 48  # batches that may be used again


def described(linear: Tensor, length: int) -> Tensor:
    """Coarse profile, log spectrum and quantiles (n, 136) of the last `length` normalised steps."""
    flat = linear.flatten(1)[:, -length:]
    profile, even = (
        functional.adaptive_avg_pool1d(flat[:, None], size)
        if length > size
        else functional.interpolate(flat[:, None], size=size, mode="linear", align_corners=True)
        for size in (PROFILE, 256)
    )
    power = torch.fft.rfft(even[:, 0]).abs()[:, 1:]
    edges = np.unique(np.geomspace(1, 129, BINS + 8).astype(int))[: BINS + 1] - 1
    bins = [power[:, a:b].mean(1) for a, b in itertools.pairwise(edges)]
    spectrum = torch.log1p(torch.stack(bins, 1)) * 0.5
    levels = torch.linspace(0.0, 1.0, RANKS, device=flat.device)
    ranks = torch.quantile(flat, levels, dim=1).T
    return torch.cat((profile[:, 0], spectrum, ranks), 1)


def contrastive(vectors: Tensor, kinds: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (P. Khosla et al., 2020) over one batch of unit vectors."""
    scores = vectors @ vectors.T / temperature
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    scores = scores.masked_fill(own, -1e4)
    alike = (kinds[:, None] == kinds[None]) & ~own
    logs = scores - torch.logsumexp(scores, 1, keepdim=True)
    counted = alike.sum(1)
    per_row = -(logs * alike).sum(1) / counted.clamp(min=1)
    known = (counted > 0).float()
    return (per_row * known).sum() / known.sum().clamp(min=1)


def pinball(predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
    """Quantile loss, twice the usual pinball, over the wanted steps."""
    levels = torch.tensor(QUANTILES, device=predicted.device)
    error = target[..., None] - predicted
    loss = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)
    return (loss * wanted).sum() / wanted.sum().clamp(min=1)


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
    generator: torch.Generator
    rng: np.random.Generator
    step: int
    curve: list[dict[str, float]]

    def save(self, options: argparse.Namespace) -> None:
        """Writes the checkpoint, whole or not at all."""
        saved = {
            "net": self.net.state_dict(),
            "readout": self.readout.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch": self.generator.get_state(),
            "numpy": json.dumps(self.rng.bit_generator.state),
            "facts": {
                "options": {name: str(value) for name, value in vars(options).items()},
                "step": self.step,
                "curve": self.curve,
            },
        }
        partial = options.out.with_suffix(".partial")
        torch.save(saved, partial)
        partial.replace(options.out)

    def load(self, path: Path, device: str) -> None:
        """Goes on from a checkpoint, or with a new optimiser from one that has the network alone."""
        saved = torch.load(path, weights_only=True, map_location=device)
        self.net.load_state_dict(saved["net"])
        if "optimiser" in saved:
            self.readout.load_state_dict(saved["readout"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.generator.set_state(saved["torch"].cpu())
            self.rng.bit_generator.state = json.loads(saved["numpy"])
        self.step, self.curve = saved["facts"]["step"], saved["facts"]["curve"]


def begin(options: argparse.Namespace) -> Run:
    """A run at its first step, or at the one where `--resume` stood."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high")
    net = SeriesEncoder()
    net.pool.requires_grad_(False)
    readout = nn.Linear(SUMMARISED * net.summary_width, PROFILE + BINS + RANKS)
    net.to(options.device)
    readout.to(options.device)
    learned = [p for p in (*net.parameters(), *readout.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(
        learned, lr=options.rate, weight_decay=0.02, betas=(0.9, 0.98), fused=True
    )
    generator = torch.Generator(options.device).manual_seed(options.seed)
    run = Run(net, readout, optimiser, generator, np.random.default_rng(options.seed), 0, [])
    if options.resume:
        run.load(options.resume, options.device)
    return run


def drawn(
    batches: Iterable[Batch], run: Run, options: argparse.Namespace
) -> Iterator[tuple[Tensor, Tensor]]:
    """Series and kinds on the device: each batch when it is new, and `reuse` - 1 times later."""
    kept: list[tuple[Tensor, Tensor]] = []
    for rows, kinds in batches:
        new = (torch.from_numpy(rows), torch.from_numpy(kinds))
        here = tuple(part.to(options.device, non_blocking=True) for part in new)
        batch = (here[0], here[1])
        yield batch
        if options.reuse == 1:
            continue
        kept = [*kept, batch][-KEPT:]
        for _ in range(options.reuse - 1):
            yield kept[int(run.rng.integers(len(kept)))]


def losses(run: Run, whole: Tensor, kinds: Tensor, share: float) -> tuple[Tensor, ...]:
    """The four terms on one batch: forecast, hidden patches, contrast, read-out."""
    net = run.net
    device = whole.device.type
    whole = varied(whole, share, run.generator)
    context = whole.shape[1] - HORIZON
    past, future = whole[:, :context], whole[:, context:]
    values, present = net.patched(past)
    chance = torch.rand(values.shape[:2], generator=run.generator, device=whole.device)
    hidden = chance < float(run.rng.choice([0, 0.1, 0.3]))
    hidden[:, -1] = False
    shown = present * (~hidden).float()[..., None]
    location, scale = net.moments(values, shown)
    ahead = future.reshape(len(whole), AHEAD, PATCH)
    visible = torch.cat((shown, torch.zeros_like(ahead)), 1)
    everything = torch.cat((values, ahead), 1)
    target = torch.asinh((everything - location) / scale).clamp(-12, 12)
    wanted = torch.cat((present - shown, torch.ones_like(ahead)), 1)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        found = net.states(everything * visible, visible, AHEAD)
        carried = net.carry_on(found, AHEAD)
        filled = net.predict(found.last[:, :-AHEAD])
        pooled = net.summaries(net.past(found, AHEAD))
        guessed = run.readout(pooled * pooled.shape[1] ** 0.5)
    pooled = pooled.float()
    vectors = functional.normalize(pooled - pooled.mean(0), dim=-1)
    with torch.no_grad():
        aim = described(net.normalised(values, present)[0], context)
    return (
        pinball(carried.float(), target[:, -AHEAD:], wanted[:, -AHEAD:]),
        pinball(filled.float(), target[:, :-AHEAD], wanted[:, :-AHEAD]),
        contrastive(vectors, kinds, 0.1),
        functional.smooth_l1_loss(guessed.float(), aim),
    )


def train(options: argparse.Namespace) -> None:
    """Trains and saves; on a CPU the same options and seed give the same weights on one thread."""
    bank = tuple(flow_bank(options.flows, TRAINING_DAYS))
    most = max(72, options.tokens // 32)
    plan = Plan(options.seed, options.tokens, 12, most, HORIZON, bank)
    first = 0
    if options.resume:
        first = torch.load(options.resume, weights_only=True)["facts"]["step"]
    with closing(supply(plan, first // options.reuse, options.workers)) as batches:
        ahead = itertools.chain([next(batches)], batches)  # processes begin before a GPU does
        run = begin(options)
        learn(run, drawn(ahead, run, options), options)
    if options.fit:
        fit(run.net.eval().cpu(), options.seed + 1, options.flows)
        run.save(options)


def learn(run: Run, batches: Iterator[tuple[Tensor, Tensor]], options: argparse.Namespace) -> None:
    """The steps."""
    learned = [p for group in run.optimiser.param_groups for p in group["params"]]
    weights = (1.0, 0.5, options.contrast, options.describe)
    sums, began = torch.zeros(4, device=options.device), time.monotonic()
    reported = 0.0
    while run.step < options.steps:
        for group in run.optimiser.param_groups:
            group["lr"] = options.rate * rate_at(run.step, options)
        terms = losses(run, *next(batches), options.vary)
        loss = sum(weight * term for weight, term in zip(weights, terms, strict=True))
        run.optimiser.zero_grad()
        loss.backward()
        for weight in learned:  # one series that overflows must not end a run
            if weight.grad is not None:
                weight.grad.nan_to_num_(0.0, 0.0, 0.0)
        nn.utils.clip_grad_norm_(learned, 1.0)
        run.optimiser.step()
        run.step += 1
        sums += torch.stack([term.detach() for term in terms])
        if run.step % EVERY == 0:
            means = zip(TERMS, (sums / EVERY).tolist(), strict=True)
            run.curve.append({"step": run.step, **{n: round(float(v), 4) for n, v in means}})
            spent = time.monotonic() - began
            print(json.dumps(run.curve[-1]), f"{spent:.0f} s", flush=True)
            sums.zero_()
            if options.seconds:
                # As many steps as there is time for, by the pace since the last report.
                fits = run.step + int(EVERY * (options.seconds - spent) / (spent - reported))
                options.steps = max(run.step, fits)
                reported = spent
            if run.step % (EVERY * 5) == 0 or run.step == options.steps:
                run.save(options)
    run.save(options)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a checkpoint of this program to go on from")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--decay", type=int, default=500, help="steps at the end of falling rate")
    parser.add_argument("--seconds", type=int, help="make fewer steps rather than take longer")
    parser.add_argument("--tokens", type=int, default=640, help="patches per step")
    parser.add_argument("--reuse", type=int, default=1, help="times that a batch is used")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--contrast", type=float, default=0.5)
    parser.add_argument("--describe", type=float, default=1.0)
    parser.add_argument("--vary", type=float, default=0.2, help="share of rows seen otherwise")
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that make series")
    parser.add_argument("--no-fit", dest="fit", action="store_false", help="leave the last layer")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
