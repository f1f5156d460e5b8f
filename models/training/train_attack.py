"""Trains the attack encoder; a run takes a few minutes on one core.

    python -m models.training.train_attack --flows flows.parquet --out checkpoint.pt

Supervised contrastive loss over two changed copies of each flow, plus an instance term (each copy
finds its twin among flows of its own class, which keeps a class from collapsing to a point) and
a linear classifier on the vector. `--split time` trains on the clock blocks that are not held
out, `--leave LABEL` leaves a class out altogether.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.evaluate_attack import (
    BENIGN,
    Encoder,
    Floats,
    LabelledFlows,
    raw_encoder,
    read_flows,
    retrieval,
    unseen_class,
)
from models.training.attack_net import AttackEncoder, columns
from models.training.attack_views import Views


def encoder_of(net: AttackEncoder) -> Encoder:
    """The network as a function of numpy arrays."""

    def encode(features: Floats) -> Floats:
        net.eval()
        with torch.no_grad():
            parts = torch.from_numpy(features).split(4096)
            return torch.cat([net(part) for part in parts]).numpy()

    return encode


def contrastive(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (P. Khosla et al., 2020)."""
    scores = vectors @ vectors.T / temperature
    own = torch.eye(len(vectors), dtype=torch.bool)
    scores = scores.masked_fill(own, -1e4)
    alike = (labels[:, None] == labels[None]) & ~own
    logs = scores - torch.logsumexp(scores, 1, keepdim=True)
    return -((logs * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def twins(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Each copy finds its twin among the copies of its own class (class-conditional InfoNCE)."""
    n = len(vectors) // 2
    scores = vectors @ vectors.T / temperature
    other = labels[:, None] != labels[None]
    scores = scores.masked_fill(other | torch.eye(2 * n, dtype=torch.bool), -1e4)
    target = torch.cat((torch.arange(n, 2 * n), torch.arange(n)))
    return functional.cross_entropy(scores, target)


def chances(labels: Tensor, power: float) -> Tensor:
    """Chance of each flow to be drawn: classes weigh by their size to `power`."""
    counts = torch.bincount(labels).float()
    weights = counts.clamp(min=1) ** (power - 1)
    return weights[labels]


def train(flows: LabelledFlows, chosen: np.ndarray, options: argparse.Namespace) -> AttackEncoder:
    """Trains on the flows of `chosen`; the same seed gives the same weights on one thread."""
    torch.manual_seed(options.seed)
    known = columns()
    features = torch.from_numpy(flows.features[chosen])
    names, numbers = np.unique(flows.labels[chosen], return_inverse=True)
    labels = torch.from_numpy(numbers)
    net = AttackEncoder(known, options.dropout)
    net.prepared.fit(features)
    head = nn.Linear(256, len(names))
    views = Views(known, options.seed, options.strength)
    parameters = [*net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.rate, total_steps=options.steps, pct_start=0.05
    )
    weights = chances(labels, options.power)
    generator = torch.Generator().manual_seed(options.seed)
    sums, began = np.zeros(3), time.monotonic()
    curve = []
    net.train()
    for step in range(options.steps):
        drawn = torch.multinomial(weights, options.batch, replacement=True, generator=generator)
        batch, own = features[drawn], labels[drawn]
        both = torch.cat((views(batch), views(batch) if step % 2 else batch))
        twice = torch.cat((own, own))
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            vectors = net(both).float()
        near = contrastive(vectors, twice, options.temperature)
        twin = twins(vectors, twice, options.temperature)
        told = functional.cross_entropy(head(vectors) * 8, twice)
        loss = near + options.twins * twin + options.classify * told
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimiser.step()
        schedule.step()
        sums += (near.item(), twin.item(), told.item())
        if (step + 1) % 250 == 0:
            values = [round(float(v), 4) for v in sums / 250]
            curve.append(
                dict(zip(("contrast", "twins", "classify"), values, strict=True))
                | {"step": step + 1}
            )
            print(json.dumps(curve[-1]), f"{time.monotonic() - began:.0f} s", flush=True)
            sums[:] = 0
    net.eval()
    net.curve = curve
    return net


def figures(net: AttackEncoder, flows: LabelledFlows, options: argparse.Namespace) -> dict:
    """What this run can show, against the raw features on the same split."""
    held = flows.held_at_random if options.split == "random" else flows.held_by_time
    encode, raw = encoder_of(net), raw_encoder(flows.features[~held])
    if options.leave:
        return {
            "ours": unseen_class(encode, flows, held, options.leave),
            "ours without ports": unseen_class(encode, flows, held, options.leave, ports=False),
            "raw": unseen_class(raw, flows, held, options.leave),
        }
    return {
        "ours": retrieval(encode, flows, held),
        "ours without ports": retrieval(encode, flows, held, ports=False),
        "raw": retrieval(raw, flows, held),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--split", choices=("time", "random", "none"), default="time")
    parser.add_argument("--leave", default="", help="a label to leave out of training")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--power", type=float, default=0.5, help="1: as in the data, 0: all alike")
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--twins", type=float, default=0.2)
    parser.add_argument("--classify", type=float, default=0.5)
    parser.add_argument("--strength", type=float, default=1.0, help="of the changed copies")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=False)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    flows = read_flows(options.flows)
    held = flows.held_at_random if options.split == "random" else flows.held_by_time
    chosen = (~held if options.split != "none" else np.ones(len(held), bool)) & (
        flows.labels != options.leave
    )
    print(
        f"{int(chosen.sum())} flows to learn from, {int((flows.labels == BENIGN)[chosen].sum())} benign"
    )
    net = train(flows, chosen, options)
    found = figures(net, flows, options)
    print(json.dumps(found, indent=1))
    if options.out:
        facts = {"options": {k: str(v) for k, v in vars(options).items()}, "curve": net.curve}
        torch.save({"net": net.state_dict(), "facts": facts | {"figures": found}}, options.out)


if __name__ == "__main__":
    main()
