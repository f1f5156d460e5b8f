"""Writes a trained checkpoint as ONNX and checks it against PyTorch.

    python -m models.training.export timeseries checkpoint.pt models/artefacts/timeseries.onnx --fp16

With `--fp16` large weights are stored in half precision and widened when the graph is loaded;
all arithmetic stays in float32.
"""

import argparse
import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models.training.fit_shape import HALVED
from models.training.timeseries_net import SeriesEncoder

OPSET = 18


def series_inputs(seed: int) -> list[Tensor]:
    """Series of many lengths, with holes, constants, nothing at all and very large values."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for n, length in ((1, 1), (3, 24), (2, 150), (8, 1440), (2, 2048), (4, 497)):
        series = torch.randn(n, length, generator=generator).cumsum(1) * 10 + 50
        hole = torch.rand(n, length, generator=generator) < 0.05
        batches.append(torch.where(hole, torch.tensor(math.nan), series))
    quiet = torch.zeros(4, 1440)
    quiet[1, 700], quiet[2], quiet[3] = 5.0, 3.0, math.nan
    return [*batches, quiet, torch.rand(2, 1440, generator=generator) * 1e9]


def halved(model: onnx.ModelProto) -> None:
    """Stores large float32 weights as float16, each behind a Cast that is folded at load."""
    kept, casts = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < HALVED:
            kept.append(weight)
            continue
        small = numpy_helper.from_array(values.astype(np.float16), weight.name + "_half")
        kept.append(small)
        casts.append(helper.make_node("Cast", [small.name], [weight.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def load(checkpoint: Path) -> nn.Module:
    """The network of a checkpoint, ready to run."""
    saved = torch.load(checkpoint, weights_only=True)
    net = SeriesEncoder()
    net.load_state_dict(saved["net"])
    return net.eval()


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes the traces of the machine that exported it out of a graph."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    return model


def write(model: onnx.ModelProto, target: Path) -> None:
    """Writes a graph that is one, with the same bytes each time."""
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


def graph_of(net: nn.Module) -> onnx.ModelProto:
    """The graph of the network, with dynamic rows and a dynamic length."""
    dynamic = {0: torch.export.Dim("n"), 1: torch.export.Dim("length", min=2, max=2048)}
    program = torch.onnx.export(
        net,
        (series_inputs(0)[1],),
        input_names=["series"],
        output_names=["embedding"],
        dynamic_shapes=(dynamic,),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
    )
    return tidy(program.model_proto)


def compare(net: nn.Module, target: Path) -> tuple[float, float]:
    """Largest difference of any number, and smallest cosine, between PyTorch and the artefact."""
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    worst, least = 0.0, 1.0
    for batch in series_inputs(1):
        with torch.no_grad():
            ours = net(batch).numpy()
        theirs = session.run(None, {name: batch.numpy()})[0]
        if not np.isfinite(theirs).all():
            message = f"the artefact gives non-finite numbers for {tuple(batch.shape)}"
            raise ArithmeticError(message)
        worst = max(worst, float(np.abs(ours - theirs).max()))
        least = min(least, float((ours * theirs).sum(1).min()))
    return worst, least


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("timeseries",))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--fp16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = load(options.checkpoint)
    model = graph_of(net)
    write(model, options.target)
    worst, _ = compare(net, options.target)
    print(f"float32: largest difference to PyTorch {worst:.2e}")
    if worst > 1e-4:
        raise SystemExit("the artefact differs from PyTorch by more than 1e-4")
    if options.fp16:
        halved(model)
        write(model, options.target)
        worst, least = compare(net, options.target)
        print(f"fp16 weights: largest difference {worst:.2e}, smallest cosine {least:.6f}")
    content = options.target.read_bytes()
    print(f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
