"""What is peculiar about the sensors of a site, by node: byte order and the word for *missing*.

The journal keeps events as they were received, so this is applied when they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING = -9999.0


@dataclass(frozen=True, slots=True)
class Sensor:
    """One node.

    Attributes:
        turned: it writes the IPv4 addresses of its packet events with their bytes reversed.
        missing: the number that it writes for "not measured", beside -9999.0.
    """

    turned: bool = False
    missing: float = MISSING


@dataclass(frozen=True, slots=True)
class Sensors:
    """Every node of a site.

    Attributes:
        default: nodes that are not listed.
        by_node: by `originating_node_id`.
    """

    default: Sensor = Sensor()
    by_node: Mapping[str, Sensor] = field(default_factory=dict)

    def of(self, node: str) -> Sensor:
        """The sensor of a node."""
        return self.by_node.get(node, self.default)

    @property
    def any_turned(self) -> bool:
        """Whether any node writes addresses reversed."""
        return self.default.turned or any(one.turned for one in self.by_node.values())

    @property
    def one_missing(self) -> float | None:
        """The number for "not measured", if it is the same at every node; else None."""
        alike = all(one.missing == self.default.missing for one in self.by_node.values())
        return self.default.missing if alike else None

    def to_json(self) -> dict[str, Any]:
        """For the embedding process."""
        return {
            "default": _plain(self.default),
            "by_node": {node: _plain(one) for node, one in sorted(self.by_node.items())},
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Sensors:
        """The inverse of `to_json`."""
        by_node = {node: Sensor(**facts) for node, facts in plain["by_node"].items()}
        return cls(Sensor(**plain["default"]), by_node)


def _plain(sensor: Sensor) -> dict[str, Any]:
    return {"turned": sensor.turned, "missing": sensor.missing}


PLAIN = Sensors()
