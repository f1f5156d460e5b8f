"""The attack encoder as an ONNX graph: 83 raw features to 256 numbers of unit length.

The vector has five parts. The **geometric** part (130 numbers) has no weights: each of the 65
traffic columns becomes an angle of up to a right angle to either side of its mean, given by cosine
and sine. Its squared distances are those of the standardised features, bent at the far ends so that
one absurd value cannot outweigh all others; what training never saw is as far away as it is in the
features. The **forests'** part (4 x 15 numbers) is what random forests say of the flow: the
square roots of their class probabilities, so that flows of a kind lie together whatever the
columns that the kind does not care about. The **network's** part (44 numbers) draws flows of a kind
together too (`attack_net`). The **source port's** part (16 numbers) says how near two source ports are as numbers,
from the same one to the other end of the range; nothing of it is learnt. A scanner sends its probes from
one port or from neighbouring ones, so that of probes that are equal otherwise those of one run lie nearest.
The last six numbers hold what detector, place and clock say, weighted so
little that they decide between flows that are equal otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier

from models.evaluate_attack import FLOW_COLUMNS, PORT_COLUMNS

Floats = NDArray[np.float32]
# From raw features (n, 83): what is learnt from, (n, 63), and 1 where a column is absent, else 0.
Columns = Callable[[Floats], tuple[Floats, Floats]]

OPSET, ML_OPSET, IR = 18, 3, 9
SENTINEL = -9999.0
# How many standard deviations the arc of the geometric part stretches over, and each part's share of
# the squared length; chosen on flows that the figures do not rest on.
SPREADS = 4.0
SHARE, FORESTS_SHARE, NETWORK_SHARE = 0.8, 0.1, 0.1
# How many columns each of the two ports counts for in the geometric part.
PORT_WEIGHT = 4.0
# Of the squared length, beside the shares above: enough to decide between flows that are equal otherwise, and no
# more (five times as much makes ports weigh where they say nothing). A port of frequency f comes round f times.
SOURCE_SHARE = 0.004
FREQUENCIES = (1, 5, 25, 125, 625, 3_125, 15_625, 31_250)
PORTS = 65_536
# Forests and network see protocol and measures of the flow, and no port.
FIRST_LEARNT = len(PORT_COLUMNS)
# The network sees no more than so many standard deviations.
LIMIT = 4.0
SIDE_WEIGHT = 0.03
GEOMETRIC = 2 * len(FLOW_COLUMNS)
SCORES, FLAGS, PLACE = (67, 68, 69, 71, 73, 75, 76), (70, 72, 74, 77), (78, 79, 80)
SITE, CLOCK = (3, 4), (81, 82)
SIDE = 6
PARTS = ("weight", "bias")


TREE_COLUMNS = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_values",
    "nodes_modes",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "target_treeids",
    "target_nodeids",
    "target_ids",
    "target_weights",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and spread of the 65 traffic columns after the logarithm, float32 (65,) each."""

    middle: Floats
    spread: Floats


def scale_of(features: Floats) -> Scale:
    """The scale of some raw features (n, 83), NaN = missing."""
    columns = features[:, FLOW_COLUMNS]
    values = np.sign(columns) * np.log1p(np.abs(columns))
    return Scale(
        np.nanmean(values, axis=0).astype(np.float32),
        np.maximum(np.nanstd(values, axis=0), 0.01).astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class Network:
    """Weights of an `attack_net.AttackNetwork`, float32 by name, in the shapes that torch gives them."""

    weights: Mapping[str, Floats]

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return len(self.weights["third_bias"])


@dataclass(slots=True)
class Graph:
    """Nodes and constants as they are written down."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: object, kind: type = np.float32) -> str:
        """A named constant."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """A node with one output, whose name it returns."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def model(self, output: str, width: int) -> onnx.ModelProto:
        """The whole model from `features` (n, 83) to `output` (n, width)."""
        graph = helper.make_graph(
            self.nodes,
            "attack",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 83])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", width])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
        onnx.checker.check_model(model)
        return model


def _present(graph: Graph, prefix: str, columns: Sequence[int]) -> tuple[str, str]:
    """Columns with 0 where the value is missing, not finite or the sentinel; and where it is."""
    chosen = graph.constant(f"{prefix}_columns", columns, np.int64)
    raw = graph.add("Gather", ["features", chosen], f"{prefix}_raw", axis=1)
    nan = graph.add("IsNaN", [raw], f"{prefix}_nan")
    infinite = graph.add("IsInf", [raw], f"{prefix}_infinite")
    sentinel = graph.add(
        "Equal", [raw, graph.constant(f"{prefix}_sentinel", SENTINEL)], f"{prefix}_is_sentinel"
    )
    either = graph.add("Or", [nan, infinite], f"{prefix}_not_finite")
    absent = graph.add("Or", [either, sentinel], f"{prefix}_absent")
    zero = graph.constant(f"{prefix}_zero", 0.0)
    return graph.add("Where", [absent, zero, raw], f"{prefix}_known"), absent


def scaled(graph: Graph, scale: Scale) -> tuple[str, str]:
    """The 65 traffic columns, logged and standardised, a missing one at its mean, 0; which are absent."""
    known, absent = _present(graph, "traffic", FLOW_COLUMNS)
    size = graph.add("Abs", [known], "traffic_size")
    more = graph.add("Add", [size, graph.constant("one", 1.0)], "traffic_more")
    logged = graph.add(
        "Mul", [graph.add("Sign", [known], "sign"), graph.add("Log", [more], "log")], "logged"
    )
    centred = graph.add("Sub", [logged, graph.constant("middle", scale.middle)], "centred")
    divided = graph.add("Div", [centred, graph.constant("spread", scale.spread)], "divided")
    return graph.add("Where", [absent, graph.constant("mean", 0.0), divided], "scaled"), absent


def learnt_columns(scale: Scale) -> Columns:
    """What forests and network are trained on: computed by the graph itself, to the last bit."""
    graph = Graph()
    columns, absent = scaled(graph, scale)
    flags = graph.add("Cast", [absent], "flags", to=TensorProto.FLOAT)
    both = graph.add("Concat", [columns, flags], "both", axis=1)
    width = len(FLOW_COLUMNS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = graph.model(both, 2 * width).SerializeToString()
    session = onnxruntime.InferenceSession(content, options)

    def columns_of(features: Floats) -> tuple[Floats, Floats]:
        found: Floats = session.run(None, {"features": features})[0]
        return found[:, FIRST_LEARNT:width].copy(), found[:, width + FIRST_LEARNT :].copy()

    return columns_of


def _geometric(graph: Graph, columns: str) -> list[str]:
    narrow = graph.add("Div", [columns, graph.constant("spreads", SPREADS)], "narrow")
    bent = graph.add("Tanh", [narrow], "bent")
    angles = graph.add("Mul", [bent, graph.constant("right_angle", np.pi / 2)], "angles")
    weights = np.ones(len(FLOW_COLUMNS))
    weights[: len(PORT_COLUMNS)] = PORT_WEIGHT
    weight = graph.constant("geometric_weight", np.sqrt(SHARE * weights / weights.sum()))
    return [
        graph.add(
            "Mul", [graph.add(name, [angles], name.lower()), weight], f"geometric_{name.lower()}"
        )
        for name in ("Cos", "Sin")
    ]


def _source_port(graph: Graph) -> str:
    """Cosine and sine of the source port at every frequency; zeros if it is missing."""
    known, absent = _present(graph, "source", PORT_COLUMNS[:1])
    limits = [
        graph.constant(f"source_{name}", float(n))
        for name, n in (("least", 0), ("most", PORTS - 1))
    ]
    held = graph.add("Clip", [known, *limits], "source_held")
    # Whole numbers, because a float32 holds no angle of 31,250 turns to a hundredth.
    whole = graph.add("Cast", [held], "source_whole", to=TensorProto.INT64)
    frequencies = graph.constant("frequencies", FREQUENCIES, np.int64)
    turned = graph.add("Mul", [whole, frequencies], "source_turned")
    left = graph.add("Mod", [turned, graph.constant("ports", PORTS, np.int64)], "source_left")
    turns = graph.add("Cast", [left], "source_turns", to=TensorProto.FLOAT)
    angles = graph.add(
        "Mul", [turns, graph.constant("source_circle", 2 * np.pi / PORTS)], "source_angles"
    )
    both = [graph.add(name, [angles], f"source_{name.lower()}") for name in ("Cos", "Sin")]
    circles = graph.add("Concat", both, "source_circles", axis=1)
    weight = graph.constant("source_weight", np.sqrt(SOURCE_SHARE / len(FREQUENCIES)))
    kept = graph.add("Where", [absent, graph.constant("source_none", 0.0), weight], "source_kept")
    return graph.add("Mul", [circles, kept], "source")


def _behaviour(graph: Graph, columns: str, name: str) -> str:
    """The columns without the ports."""
    cut = [
        graph.constant(f"{name}_{bound}", [value], np.int64)
        for bound, value in (("first", FIRST_LEARNT), ("end", len(FLOW_COLUMNS)), ("axis", 1))
    ]
    return graph.add("Slice", [columns, *cut], name)


def _forests(graph: Graph, behaviour: str, forests: Sequence[RandomForestClassifier]) -> str:
    graph.nodes.append(
        helper.make_node(
            "TreeEnsembleRegressor",
            [behaviour],
            ["chances"],
            name="chances",
            domain="ai.onnx.ml",
            **trees(forests),
        )
    )
    zero = graph.constant("no_chance", 0.0)
    roots = graph.add("Sqrt", [graph.add("Max", ["chances", zero], "chances_kept")], "roots")
    weight = graph.constant("forests_weight", np.sqrt(FORESTS_SHARE / len(forests)))
    return graph.add("Mul", [roots, weight], "forests")


def _network(graph: Graph, behaviour: str, absent: str, network: Network) -> str:
    weights = network.weights

    def layer(inputs: str, name: str) -> str:
        """Gemm of torch's weights, (outputs, inputs)."""
        both = [graph.constant(f"{name}_{part}", weights[f"{name}_{part}"]) for part in PARTS]
        return graph.add("Gemm", [inputs, *both], name, transB=1)

    def normed(inputs: str, name: str) -> str:
        both = [graph.constant(f"{name}_{part}", weights[f"{name}_{part}"]) for part in PARTS]
        return graph.add(
            "Relu", [graph.add("LayerNormalization", [inputs, *both], name)], f"{name}_kept"
        )

    # One product of a sparse matrix is quicker than a product over a third axis.
    columns = len(FLOW_COLUMNS) - FIRST_LEARNT
    slopes = weights["slopes"].reshape(-1, columns)
    spread = np.concatenate([np.diag(slope) for slope in slopes], axis=1)
    risen = graph.add(
        "Gemm",
        [behaviour, graph.constant("slopes", spread), graph.constant("starts", weights["starts"])],
        "risen",
    )
    limits = [graph.constant(f"ramp_{n}", float(n)) for n in (0, 1)]
    ramps = graph.add("Clip", [risen, *limits], "ramps")
    limits = [graph.constant(name, value) for name, value in (("least", -LIMIT), ("most", LIMIT))]
    values = graph.add("Clip", [behaviour, *limits], "values")
    flags = graph.add("Cast", [_behaviour(graph, absent, "unknown")], "flags", to=TensorProto.FLOAT)
    first = layer(graph.add("Concat", [values, flags, ramps], "seen", axis=1), "first")
    hidden = len(weights["second_bias"])
    sizes = graph.constant("first_sizes", [hidden, network.width], np.int64)
    graph.nodes.append(helper.make_node("Split", [first, sizes], ["hidden", "past"], axis=1))
    second = layer(normed("hidden", "norm_first"), "second")
    third = layer(normed(second, "norm_second"), "third")
    whole = graph.add("Add", [third, "past"], "told")
    weight = graph.constant("network_weight", np.sqrt(NETWORK_SHARE))
    return graph.add("Mul", [_of_length_one(graph, whole, "network_one"), weight], "network")


def trees(forests: Sequence[RandomForestClassifier]) -> dict[str, object]:
    """Attributes of a TreeEnsembleRegressor that gives each forest's class probabilities in turn."""
    nodes: dict[str, list[object]] = {name: [] for name in TREE_COLUMNS}
    classes = len(forests[0].classes_)
    number = 0
    for place, forest in enumerate(forests):
        for estimator in forest.estimators_:
            tree = estimator.tree_
            leaf = tree.children_left < 0
            # The largest float32 that is not above: then x <= it is what it was in float64.
            limits = tree.threshold.astype(np.float32)
            limits = np.where(
                limits > tree.threshold, np.nextafter(limits, -np.inf, dtype=np.float32), limits
            )
            nodes["nodes_treeids"] += [number] * tree.node_count
            nodes["nodes_nodeids"] += range(tree.node_count)
            nodes["nodes_featureids"] += np.where(leaf, 0, tree.feature).tolist()
            nodes["nodes_values"] += np.where(leaf, 0, limits).astype(float).tolist()
            nodes["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
            nodes["nodes_truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
            nodes["nodes_falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
            chances = tree.value[:, 0, :] / tree.value[:, 0, :].sum(1, keepdims=True)
            where, label = np.nonzero(np.where(leaf[:, None], chances, 0))
            nodes["target_treeids"] += [number] * len(where)
            nodes["target_nodeids"] += where.tolist()
            nodes["target_ids"] += (place * classes + label).tolist()
            weights = chances[where, label] / len(forest.estimators_)
            nodes["target_weights"] += weights.tolist()
            number += 1
    return {**nodes, "n_targets": classes * len(forests), "aggregate_function": "SUM"}


def _side(graph: Graph) -> str:
    columns = (*SITE, *range(67, 83))
    known, absent = _present(graph, "side", columns)
    scale, offset = np.ones(len(columns)), np.full(len(columns), -0.5)
    scale[columns.index(3)] = 1 / 3  # interface mode: 0 to 3
    scale[columns.index(80)] = 1 / 20_000  # km
    for column in CLOCK:
        scale[columns.index(column)], offset[columns.index(column)] = 0.5, 0.0
    moved = graph.add("Mul", [known, graph.constant("side_scale", scale)], "side_moved")
    centred = graph.add("Add", [moved, graph.constant("side_offset", offset)], "side_centred")
    whole = graph.add(
        "Clip",
        [centred, graph.constant("side_least", -1.0), graph.constant("side_most", 1.0)],
        "side_whole",
    )
    kept = graph.add("Where", [absent, graph.constant("side_none", 0.0), whole], "side_kept")
    mix = np.zeros((len(columns), SIDE))
    for place, group in enumerate((SCORES, FLAGS, PLACE, SITE, CLOCK[:1], CLOCK[1:])):
        for column in group:
            mix[columns.index(column), place] = SIDE_WEIGHT / len(group)
    return graph.add("MatMul", [kept, graph.constant("side_mix", mix)], "side")


def _of_length_one(graph: Graph, rows: str, name: str) -> str:
    axis = graph.constant(f"{name}_axis", [1], np.int64)
    length = graph.add("ReduceL2", [rows, axis], f"{name}_length", keepdims=1)
    return graph.add("Div", [rows, length], name)


def encoder(
    scale: Scale, forests: Sequence[RandomForestClassifier], network: Network
) -> onnx.ModelProto:
    """The whole encoder: `features` (n, 83) to `embedding` (n, 256), given forests of 15 labels."""
    graph = Graph()
    columns, absent = scaled(graph, scale)
    behaviour = _behaviour(graph, columns, "behaviour")
    parts = [
        *_geometric(graph, columns),
        _forests(graph, behaviour, forests),
        _network(graph, behaviour, absent, network),
        _source_port(graph),
        _side(graph),
    ]
    whole = graph.add("Concat", parts, "whole", axis=1)
    learnt = len(forests) * len(forests[0].classes_) + network.width
    width = GEOMETRIC + learnt + 2 * len(FREQUENCIES) + SIDE
    return graph.model(_of_length_one(graph, whole, "embedding"), width)
