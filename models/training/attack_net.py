"""The attack encoder: 83 raw features to 256 numbers of unit length, every step in the graph.

The features pass a DNN of 512, 512 and 256; one more linear path leads past it, so that what
training had no use for still moves the vector a little and unknown attacks keep their own place.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn import functional

SENTINEL = -9999.0
PROTOCOLS = (1.0, 6.0, 17.0)
INTERFACES = (0.0, 1.0, 2.0, 3.0)
BINS = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One line of features83.csv."""

    name: str
    transform: str
    unit: str
    group: str


def columns() -> list[Column]:
    """The 83 columns in order."""
    with files("models").joinpath("features83.csv").open(encoding="utf-8") as text:
        return [
            Column(row["name"], row["transform"], row["unit"], row["group"])
            for row in csv.DictReader(text)
        ]


class Prepared(nn.Module):
    """Raw features to standardised values and presence; absent values become the mean, 0."""

    def __init__(self, known: list[Column]) -> None:
        super().__init__()
        kinds = [column.transform for column in known]
        self.register_buffer("logged", torch.tensor([kind == "log1p" for kind in kinds]))
        self.register_buffer("port", torch.tensor([kind == "port" for kind in kinds]))
        self.register_buffer("category", torch.tensor([kind == "category" for kind in kinds]))
        middle = torch.zeros(len(known))
        spread = torch.ones(len(known))
        for i, column in enumerate(known):
            if kinds[i] in {"unit", "flag"} and column.group != "time":
                middle[i], spread[i] = 0.5, 0.5
        self.register_buffer("middle", middle)
        self.register_buffer("spread", spread)
        self.register_buffer("protocols", torch.tensor(PROTOCOLS))
        self.register_buffer("interfaces", torch.tensor(INTERFACES))
        self.limit = 4.0
        self.register_buffer("knots", torch.linspace(-1, 1, BINS + 1).repeat(len(known), 1))

    def unscaled(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Values after the transform of their column, and presence."""
        present = torch.isfinite(features) & (features != SENTINEL)
        raw = torch.where(present, features, torch.zeros_like(features))
        logged = torch.sign(raw) * torch.log1p(raw.abs())
        values = torch.where(self.logged, logged, raw)
        return torch.where(self.port, raw / 65535.0, values), present.float()

    def fit(self, features: Tensor) -> None:
        """Takes mean and spread of the transformed flow columns from the training flows."""
        values, present = self.unscaled(features)
        count = present.sum(0)
        mean = (values * present).sum(0) / count.clamp(min=1)
        spread = (((values - mean) * present).pow(2).sum(0) / count.clamp(min=1)).sqrt()
        chosen = (count > 100) & (self.logged | self.port)
        self.middle = torch.where(chosen, mean, self.middle)
        self.spread = torch.where(chosen, spread.clamp(min=0.1), self.spread)
        scaled = (values - self.middle) / self.spread
        levels = torch.linspace(0.01, 0.99, BINS + 1)
        for i in torch.nonzero(chosen).flatten().tolist():
            own = torch.unique(scaled[present[:, i] > 0, i])
            knots = torch.quantile(own[:: max(1, len(own) // 100_000)], levels)
            # Knots closer than a twentieth of a spread would follow noise.
            for k in range(1, BINS + 1):
                knots[k] = torch.maximum(knots[k], knots[k - 1] + 0.05)
            self.knots[i] = knots

    def forward(self, features: Tensor) -> Tensor:
        values, present = self.unscaled(features)
        scaled = ((values - self.middle) / self.spread).clamp(-self.limit, self.limit) * present
        scaled = torch.where(self.category, torch.zeros_like(scaled), scaled)
        low, high = self.knots[:, :-1], self.knots[:, 1:]
        steps = ((scaled[:, :, None] - low) / (high - low)).clamp(0.0, 1.0)
        steps = torch.where((present > 0)[..., None], steps, torch.full_like(steps, 0.5))
        protocol = (features[:, 2:3] == self.protocols).float()
        interface = (features[:, 3:4] == self.interfaces).float()
        return torch.cat((scaled, 1.0 - present, protocol, interface, steps.flatten(1)), 1)


class AttackEncoder(nn.Module):
    """Prepared features, the DNN and the linear path past it."""

    def __init__(self, known: list[Column], dropout: float = 0.1) -> None:
        super().__init__()
        self.prepared = Prepared(known)
        width = (2 + BINS) * len(known) + len(PROTOCOLS) + len(INTERFACES)
        self.first = nn.Linear(width, 512)
        self.second = nn.Linear(512, 512)
        self.third = nn.Linear(512, 256)
        self.past = nn.Linear(width, 256, bias=False)
        self.norm_first, self.norm_second = nn.LayerNorm(512), nn.LayerNorm(512)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        x = self.prepared(features)
        hidden = self.dropout(functional.gelu(self.norm_first(self.first(x))))
        hidden = self.dropout(functional.gelu(self.norm_second(self.second(hidden))))
        return functional.normalize(self.third(hidden) + self.past(x), dim=-1)
