"""Tiny encoders with the graph contracts of the real ones, for tests of what lies around them.

Their weights are drawn from a fixed seed. They are made where a test runs and never shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.manifest import ModelEntry
from models.store import ModelFiles, sha256_file

OPSET = 20


def entry(name: str, index: str, dimension: int, context: int, sha256: str) -> ModelEntry:
    return ModelEntry(
        name=name,
        version="0",
        index=index,
        dimension=dimension,
        pooling="mean",
        context=context,
        file=f"{name}.onnx",
        sha256=sha256,
        source="made by the tests",
        licence="Apache-2.0",
        card="",
    )


def _save(
    folder: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
) -> Path:
    constants = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, [output], constants)
    opsets = [helper.make_opsetid("", OPSET)]
    path = folder / f"{name}.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    )
    return path


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], output, **attributes)


def _cleaned(source: str) -> list[onnx.NodeProto]:
    """Missing becomes 0, then sign(x) log(1 + |x|)."""
    return [
        _node("IsNaN", [source], "absent"),
        _node("Where", ["absent", "zero", source], "filled"),
        _node("Abs", ["filled"], "size"),
        _node("Add", ["size", "one"], "more"),
        _node("Log", ["more"], "logged"),
        _node("Sign", ["filled"], "sign"),
        _node("Mul", ["sign", "logged"], "x"),
    ]


def _scalars() -> dict[str, np.ndarray]:
    return {"zero": np.array(0, np.float32), "one": np.array(1, np.float32)}


def attack(folder: Path) -> ModelFiles:
    weights = np.random.default_rng(1).standard_normal((83, 256)).astype(np.float32)
    nodes = [*_cleaned("features"), _node("MatMul", ["x", "w"], "embedding")]
    path = _save(
        folder,
        "attack",
        nodes,
        {**_scalars(), "w": weights},
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 83])],
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 256]),
    )
    return ModelFiles(entry("attack", "attack", 256, 83, sha256_file(path)), path, {})


def timeseries(folder: Path, *, context: int = 2048) -> ModelFiles:
    basis = np.random.default_rng(2).standard_normal((context, 512)).astype(np.float32)
    nodes = [
        *_cleaned("series"),
        _node("Shape", ["series"], "length", start=1, end=2),
        _node("Slice", ["basis", "from", "length", "axis"], "rows"),
        _node("MatMul", ["x", "rows"], "mixed"),
        _node("Add", ["mixed", "one"], "embedding"),
    ]
    origin = np.zeros(1, dtype=np.int64)
    path = _save(
        folder,
        "timeseries",
        nodes,
        {**_scalars(), "basis": basis, "from": origin, "axis": origin},
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ["n", "length"])],
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 512]),
    )
    return ModelFiles(entry("timeseries", "timeseries", 512, context, sha256_file(path)), path, {})


def semantic(folder: Path, *, context: int = 256) -> ModelFiles:
    """A bag of word pieces. Its tokenizer is set to cut at 128, as the real one is shipped."""
    tokenizer = _tokenizer()
    extra = folder / "tokenizer.json"
    tokenizer.save(str(extra))
    size = tokenizer.get_vocab_size()
    table = np.random.default_rng(3).standard_normal((size, 384)).astype(np.float32)
    nodes = [
        _node("Gather", ["table", "input_ids"], "words"),
        _node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["mask", "last"], "column"),
        _node("Mul", ["words", "column"], "kept"),
        _node("ReduceSum", ["kept", "tokens"], "total", keepdims=0),
        _node("ReduceSum", ["mask", "tokens"], "count", keepdims=1),
        _node("Div", ["total", "count"], "mean"),
    ]
    path = _save(
        folder,
        "semantic",
        nodes,
        {
            "table": table,
            "last": np.array([2], dtype=np.int64),
            "tokens": np.array([1], dtype=np.int64),
        },
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "t"]),
        ],
        helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 384]),
    )
    facts = entry("semantic", "semantic", 384, context, sha256_file(path))
    return ModelFiles(facts, path, {"tokenizer.json": extra})


def _tokenizer() -> Tokenizer:
    characters = [chr(code) for code in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces += characters + [f"##{c}" for c in characters]
    pieces += ["the", "host", "data", "web", "login", "port", "scan", "internal"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    return tokenizer
