"""The same flows as other networks would have measured them, for want of other captures.

A stand-in, and no more: behaviour stays what it was, and only its measures change, for the whole network
alike. It shows what an encoder hangs on; it does not show how it does on another capture.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluate_attack import (
    PORT_COLUMNS,
    Encoder,
    Flags,
    Floats,
    LabelledFlows,
    raw_encoder,
    retrieval,
)
from models.manifest import load_features

_SPECS = load_features()
_BYTE_RATES = {
    "flow_bytes_per_second",
    "forward_average_bulk_rate",
    "backward_average_bulk_rate",
}


def _where(*, unit: str) -> NDArray[np.bool_]:
    return np.array([spec.unit == unit and spec.group == "flow" for spec in _SPECS])


TIMES = _where(unit="us")
RATES = _where(unit="1/s")
SQUARES = _where(unit="B^2")
SIZES = np.array([name in _BYTE_RATES for name in (spec.name for spec in _SPECS)]) | (
    _where(unit="B") & np.array(["header" not in spec.name for spec in _SPECS])
)
# What cheaper sensors do not measure.
RARE = np.array(
    [
        any(part in spec.name for part in ("bulk", "active", "idle", "std", "header"))
        for spec in _SPECS
    ]
)


class Network(NamedTuple):
    """How a made network differs.

    Attributes:
        slower: times are so many times as long, rates so many times as small.
        larger: payloads and byte rates are so many times as large.
        poor: the sensor measures no bulk, activity, deviations and headers.
    """

    slower: float = 1.0
    larger: float = 1.0
    poor: bool = False


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "three times slower": Network(slower=3.0),
        "three times faster": Network(slower=1 / 3),
        "smaller packets": Network(larger=0.7),
        "poor sensor": Network(poor=True),
        "all of it": Network(slower=3.0, larger=0.7, poor=True),
    }
)


def measured_there(features: Floats, network: Network) -> Floats:
    """Flows (n, 83) as that network would have measured them.

    Both ports are missing: which services another network runs is its own affair.
    """
    factors = np.ones(83)
    factors[TIMES] *= network.slower
    factors[RATES] /= network.slower
    factors[SIZES] *= network.larger
    factors[SQUARES] *= network.larger**2
    there = (features * factors).astype(np.float32)
    there[:, PORT_COLUMNS] = np.nan
    if network.poor:
        there[:, RARE] = np.nan
    return there


def other_networks(
    encode: Encoder, flows: LabelledFlows, held: Flags
) -> dict[str, dict[str, float]]:
    """Macro-F1 of labels with 30 flows or more, by made network.

    `within`: known and asked flows are both of that network; `across`: the known ones as recorded.
    `raw_within` and `raw_across` are the same for the standardised features, which are standardised on
    the known flows.
    """
    wanted = "macro_f1_labels_of_30_or_more"
    found = {}
    for name, network in NETWORKS.items():
        there = measured_there(flows.features, network)
        mixed = np.where(held[:, None], there, flows.features)
        figures = {}
        for kind, features in (("within", there), ("across", mixed)):
            moved = LabelledFlows(features, flows.labels, flows.times_us, held, held)
            figures[kind] = retrieval(encode, moved, held, ports=False)[wanted]
            raw = raw_encoder(features[~held])
            figures[f"raw_{kind}"] = retrieval(raw, moved, held, ports=False)[wanted]
        found[name] = figures
    return found
