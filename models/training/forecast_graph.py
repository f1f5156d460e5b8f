"""Writes the forecasting head of a trained checkpoint as a graph of its own, for evaluation.

    python -m models.training.forecast_graph final.pt models/artefacts/timeseries.onnx \
        models/artefacts/forecast.onnx

It takes raw series (n, L), NaN = absent, and `states` (n, 4, width), the encoder's last layer at the 64
absent steps after them; it gives quantiles (n, 64, 9) in the unit of the series. Which encoder it belongs
to, and under which name that one's graph holds the last layer, stand in the graph's own properties.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from torch import Tensor, nn

from models.evaluate_forecast import HORIZON
from models.open_graph import opened
from models.training.export import OPSET, halved, load, series_inputs, tidy, write
from models.training.timeseries_net import PATCH, SeriesEncoder

AHEAD = HORIZON // PATCH
SHORTEST, LONGEST = 64, 1984


class Forecaster(nn.Module):
    """The head with its own normalisation of the past."""

    def __init__(self, net: SeriesEncoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, series: Tensor, states: Tensor) -> Tensor:
        values, present = self.net.patched(series)
        linear, _, location, scale = self.net.normalised(values, present)
        ahead = self.net.ahead_of(states, linear, present, location, scale)
        return self.net.in_units(ahead, location, scale)


def last_layer(encoder: onnx.ModelProto) -> str:
    """The name of the last layer over the patches: the first use of the last norm's weight."""
    return next(node.output[0] for node in encoder.graph.node if "final.weight" in node.input)


def graph_of(net: SeriesEncoder) -> onnx.ModelProto:
    """The graph of the head, with dynamic rows and a dynamic length."""
    rows, length = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        Forecaster(net).eval(),
        (torch.randn(3, 150).cumsum(1), torch.randn(3, AHEAD, net.width)),
        input_names=["series", "states"],
        output_names=["quantiles"],
        dynamic_shapes=({0: rows, 1: length}, {0: rows}),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
    )
    return tidy(program.model_proto)


def compare(net: SeriesEncoder, encoder: Path, head: Path) -> float:
    """Largest difference of a quantile between PyTorch and the two graphs, by the scale of its series.

    Both sides run whole: the graphs' states are their own.
    """
    facts = onnx.load(head).metadata_props
    inner = next(fact.value for fact in facts if fact.key == "states")
    providers = ["CPUExecutionProvider"]
    states = onnxruntime.InferenceSession(
        opened(encoder.read_bytes(), values=[inner]), None, providers
    )
    ahead = onnxruntime.InferenceSession(str(head), providers=providers)
    worst = 0.0
    for series in series_inputs(1):
        if not SHORTEST <= series.shape[1] <= LONGEST:
            continue
        unknown = torch.full((len(series), HORIZON), torch.nan)
        (last,) = states.run([inner], {"series": torch.cat((series, unknown), 1).numpy()})
        feeds = {"series": series.numpy(), "states": last[:, -AHEAD:]}
        (theirs,) = ahead.run(None, feeds)
        with torch.no_grad():
            ours = net.forecast(series, AHEAD).numpy()
            _, scale = net.moments(*net.patched(series))
        size = scale.flatten(1)[..., None].numpy() + np.abs(ours)
        worst = max(worst, float((np.abs(ours - theirs) / size).max()))
    return worst


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("encoder", type=Path, help="the graph of the same checkpoint")
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = load(options.checkpoint)
    model = graph_of(net)
    digest = hashlib.sha256(options.encoder.read_bytes()).hexdigest()
    helper.set_model_props(
        model, {"encoder": digest, "states": last_layer(onnx.load(options.encoder))}
    )
    write(model, options.target)
    worst = compare(net, options.encoder, options.target)
    print(f"float32: largest difference to PyTorch {worst:.2e} of a series' scale")
    if worst > 1e-4:
        raise SystemExit("the head differs from PyTorch by more than 1e-4")
    halved(model)
    write(model, options.target)
    worst = compare(net, options.encoder, options.target)
    print(f"fp16 weights: largest difference {worst:.2e}")
    content = options.target.read_bytes()
    print(f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
