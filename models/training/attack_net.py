"""The network beside the forests of the attack encoder, and how it is trained.

It sees the columns that the forests see, and no port: their values, which of them are absent, and each
as four ramps between its quantiles (Y. Gorishniy et al., "On Embeddings for Numerical Features in
Tabular Deep Learning", 2022). Two hidden layers, and one linear path past them. It is trained by
supervised contrast (P. Khosla et al., 2020), by an instance term within each class, so that no class
falls to a point, and by a linear classifier. Every flow is seen twice, at least once changed
(`attack_views`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.training.attack_graph import LIMIT, Columns, Floats, Network
from models.training.attack_views import changed

RAMPS = 4
HIDDEN = 192
# Weights of the loss: of the instance term and of the classifier, beside the contrast.
TWINS, CLASSIFIER = 0.2, 0.5
TEMPERATURE = 0.1
# Classes are drawn by their size to this power.
POWER = 0.5
TOLD = 200


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a network is trained.

    Attributes:
        steps: of the optimiser.
        batch: flows a step, each of them in two copies.
        rate: highest learning rate.
        dropout: of the hidden layers.
        strength: of the changes.
        seed: of weights, draws and changes.
    """

    steps: int = 1000
    batch: int = 320
    rate: float = 1.5e-3
    dropout: float = 0.1
    strength: float = 1.0
    seed: int = 2017


class AttackNetwork(nn.Module):
    """Columns (n, c) and their absence (n, c) to vectors (n, width) of length 1."""

    def __init__(self, columns: Floats, absent: Floats, width: int, dropout: float) -> None:
        super().__init__()
        slopes, starts = ramps(columns, absent)
        self.register_buffer("slopes", torch.from_numpy(slopes))
        self.register_buffer("starts", torch.from_numpy(starts))
        self.width = width
        inputs = columns.shape[1] * (2 + RAMPS)
        self.first = nn.Linear(inputs, HIDDEN + width)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.third = nn.Linear(HIDDEN, width)
        self.norm_first, self.norm_second = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.dropout = nn.Dropout(dropout)

    def forward(self, columns: Tensor, absent: Tensor) -> Tensor:
        # Ramps side by side, so that one product makes all of them.
        steps = (columns.repeat(1, RAMPS) * self.slopes + self.starts).clamp(0.0, 1.0)
        whole = torch.cat((columns.clamp(-LIMIT, LIMIT), absent, steps), 1)
        hidden, past = self.first(whole).split((HIDDEN, self.width), 1)
        hidden = self.dropout(torch.relu(self.norm_first(hidden)))
        hidden = self.dropout(torch.relu(self.norm_second(self.second(hidden))))
        return functional.normalize(self.third(hidden) + past, dim=-1)

    def weights(self) -> Network:
        """What the graph needs of it."""
        return Network(
            {
                name.replace(".", "_"): tensor.numpy().astype(np.float32)
                for name, tensor in self.state_dict().items()
            }
        )


def ramps(columns: Floats, absent: Floats) -> tuple[Floats, Floats]:
    """Slopes and starts of the ramps, (4 c,) each: ramp k of all columns, then ramp k + 1.

    Knots are quantiles of the different values of a column; closer than a twentieth of its spread they
    would follow noise.
    """
    levels = np.linspace(0.01, 0.99, RAMPS + 1)
    slopes = np.ones((RAMPS, columns.shape[1]), np.float32)
    starts = np.zeros_like(slopes)
    for place, column in enumerate(columns.T):
        own = np.unique(column[absent[:, place] == 0])
        if not len(own):
            continue
        knots = np.quantile(own, levels)
        for k in range(1, len(knots)):
            knots[k] = max(knots[k], knots[k - 1] + 0.05)
        slopes[:, place] = 1 / np.diff(knots)
        starts[:, place] = -knots[:-1] * slopes[:, place]
    return slopes.ravel(), starts.ravel()


def contrast(scores: Tensor, alike: Tensor, own: Tensor) -> Tensor:
    """Supervised contrastive loss of scores (n, n): flows of a class find each other."""
    scores = scores.masked_fill(own, -1e4)
    logs = scores - torch.logsumexp(scores, 1, keepdim=True)
    return -((logs * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def twins(scores: Tensor, alike: Tensor) -> Tensor:
    """Each copy finds its other copy among all copies of its class (InfoNCE within the class)."""
    n = len(scores) // 2
    target = torch.cat((torch.arange(n, 2 * n), torch.arange(n)))
    return functional.cross_entropy(scores.masked_fill(~alike, -1e4), target)


def train_network(
    columns_of: Columns, features: Floats, labels: NDArray[np.str_], width: int, budget: Budget
) -> AttackNetwork:
    """Trains on raw features (n, 83); the same seed gives the same weights on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(budget.seed)
    rng = np.random.default_rng(budget.seed)
    names, numbers = np.unique(labels, return_inverse=True)
    net = AttackNetwork(*columns_of(features), width, budget.dropout)
    head = nn.Linear(width, len(names))
    parameters = [*net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=budget.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, budget.rate, total_steps=budget.steps, pct_start=0.05
    )
    chances = (np.bincount(numbers).astype(float) ** (POWER - 1))[numbers]
    chances = np.cumsum(chances / chances.sum())
    own = torch.eye(2 * budget.batch, dtype=torch.bool)
    sums, began = np.zeros(3), time.process_time()
    net.train()
    for step in range(budget.steps):
        drawn = np.minimum(np.searchsorted(chances, rng.random(budget.batch)), len(labels) - 1)
        flows = features[drawn]
        other = changed(flows, rng, strength=budget.strength) if step % 2 else flows
        both = np.concatenate((changed(flows, rng, strength=budget.strength), other))
        twice = torch.from_numpy(np.tile(numbers[drawn], 2))
        vectors = net(*map(torch.from_numpy, columns_of(both)))
        scores = vectors @ vectors.T / TEMPERATURE
        alike = (twice[:, None] == twice[None]) & ~own
        terms = (
            contrast(scores, alike, own),
            twins(scores, alike),
            functional.cross_entropy(head(vectors) * 8, twice),
        )
        loss = terms[0] + TWINS * terms[1] + CLASSIFIER * terms[2]
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimiser.step()
        schedule.step()
        sums += [term.item() for term in terms]
        if (step + 1) % TOLD == 0:
            told = ", ".join(f"{value:.3f}" for value in sums / TOLD)
            spent = time.process_time() - began
            print(f"step {step + 1}: contrast, twins, classifier {told}; {spent:.0f} s", flush=True)
            sums[:] = 0
    return net.eval()
