"""Random changes of a flow that leave its behaviour the same, on raw features.

Another network is slower, its packets are cut at other sizes, its sensor samples, its detector
scores differently or not at all. What survives all that is what the encoder should hold on to.
"""

import math

import torch
from torch import Tensor

from models.training.attack_net import SENTINEL, Column

BACKWARD = "backward"
FAMILIES = ("backward", "forward", "bulk", "flag", "inter_arrival", "per_second", "header", "std")


class Views:
    """Draws a changed copy of a batch (n, 83) from its own generator."""

    def __init__(self, known: list[Column], seed: int, strength: float = 1.0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.strength = strength
        unit = [column.unit for column in known]
        name = [column.name for column in known]
        flow = [column.group == "flow" for column in known]
        self.times = torch.tensor([u == "us" for u in unit])
        self.rates = torch.tensor([u == "1/s" for u in unit])
        byte_rates = {
            "flow_bytes_per_second",
            "forward_average_bulk_rate",
            "backward_average_bulk_rate",
        }
        self.byte_rates = torch.tensor([n in byte_rates for n in name])
        header = ["header" in n for n in name]
        self.sizes = torch.tensor([u == "B" and not h for u, h in zip(unit, header, strict=True)])
        self.squares = torch.tensor([u == "B^2" for u in unit])
        self.smooth = self.times | self.rates | self.sizes | self.squares
        self.flags = torch.tensor([c.transform == "flag" for c in known])
        self.waves = torch.tensor([c.group == "time" for c in known])
        self.extra = torch.tensor([not f for f in flow])
        self.extra[3:5] = True  # interface mode and WAN side: facts of a site, not of an attack
        self.families = [
            torch.tensor([part in n and f for n, f in zip(name, flow, strict=True)])
            for part in FAMILIES
        ]

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def _some(self, n: int, chance: float) -> Tensor:
        return (self._uniform(n, 1) < chance).float()

    def __call__(self, flows: Tensor) -> Tensor:
        n, width = flows.shape
        view = flows.clone()
        slower = torch.exp(0.5 * self.strength * self._normal(n, 1) * self._some(n, 0.5))
        larger = torch.exp(0.15 * self.strength * self._normal(n, 1) * self._some(n, 0.4))
        view = torch.where(self.times, view * slower, view)
        view = torch.where(self.rates, view / slower, view)
        view = torch.where(self.sizes | self.byte_rates, view * larger, view)
        view = torch.where(self.squares, view * larger**2, view)
        jitter = torch.exp(0.05 * self.strength * self._normal(n, width) * self._some(n, 0.5))
        view = torch.where(self.smooth, view * jitter, view)
        self._ports(view)
        self._extras(view)
        missing = self._uniform(n, width) < self._uniform(n, 1) ** 3 * 0.7 * self._some(n, 0.6)
        for family in self.families:
            missing |= family & (self._uniform(n, 1) < 0.04)
        view[missing] = math.nan
        sentinel = missing & (self._uniform(n, 1) < 0.1)
        view[sentinel] = SENTINEL
        return view

    def _ports(self, view: Tensor) -> None:
        n = len(view)
        view[:, 0] = torch.where(
            self._uniform(n) < 0.97,
            torch.tensor(math.nan),
            (self._uniform(n) * 64511 + 1024).floor(),
        )
        chance = self._uniform(n)
        anything = (self._uniform(n) ** 2 * 65535).floor()
        view[:, 1] = torch.where(chance < 0.25, anything, view[:, 1])
        view[:, 1] = torch.where(chance > 0.45, torch.tensor(math.nan), view[:, 1])

    def _extras(self, view: Tensor) -> None:
        """Detector, place and time: absent in most copies, noise in the others."""
        n, width = view.shape
        noise = self._uniform(n, width)
        noise = torch.where(self._uniform(n, 1) < 0.5, noise, noise**4)
        noise = torch.where(self.flags, (noise > 0.5).float(), noise)
        noise[:, 3] = (self._uniform(n) * 4).floor()
        noise[:, 80] = torch.exp(noise[:, 80] * 10) - 1
        angle = self._uniform(n, 1) * 2 * math.pi
        noise = torch.where(
            self.waves,
            torch.cat((angle.sin(), angle.cos()), 1).repeat(1, width // 2 + 1)[:, 1 : width + 1],
            noise,
        )
        gone = (self._uniform(n, 1) < 0.6) | (self._uniform(n, width) < 0.3)
        noise[gone] = math.nan
        view[:, self.extra] = noise[:, self.extra]
