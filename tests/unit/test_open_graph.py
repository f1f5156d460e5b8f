"""Inner values and weights of a stored graph, reached without an ONNX library."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.open_graph import opened

# Longer than 127 bytes, so that its length takes two bytes of a varint.
INNER = "inner/" + "n" * 200
WEIGHT = np.array([[2.0, -3.0]], dtype=np.float16)
ROWS = np.array([[1.0], [-1.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def graph() -> bytes:
    """`out` = relu(x w), w stored in half precision behind a cast, as ours are."""
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "wide"], [INNER]),
        helper.make_node("Relu", [INNER], ["out"]),
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])
    given = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2])
    made = helper.make_graph(nodes, "g", [taken], [given], [numpy_helper.from_array(WEIGHT, "w")])
    content: bytes = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    return content


def run(
    graph: bytes, wanted: list[str], **feeds: NDArray[np.floating]
) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(wanted, {"x": ROWS, **feeds}))


def test_an_inner_value_is_given_beside_the_output(graph: bytes) -> None:
    out, inner = run(opened(graph, values=[INNER]), ["out", INNER])
    assert inner.tolist() == [[2, -3], [-2, 3]]
    assert out.tolist() == [[2, 0], [0, 3]]


def test_a_weight_can_be_given_and_is_the_stored_one_where_it_is_not(graph: bytes) -> None:
    open_graph = opened(graph, weights=["w"])
    assert run(open_graph, ["out"], w=-WEIGHT)[0].tolist() == [[0, 3], [2, 0]]
    assert run(open_graph, ["out"])[0].tolist() == [[2, 0], [0, 3]]


def test_a_weight_can_be_read(graph: bytes) -> None:
    (weight,) = run(opened(graph, weights=["w"], values=["w"]), ["w"])
    assert weight.dtype == np.float16
    assert np.array_equal(weight, WEIGHT)


def test_an_opened_graph_is_a_graph_to_onnx_itself(graph: bytes) -> None:
    read = onnx.load_from_string(opened(graph, weights=["w"], values=[INNER]))
    assert [value.name for value in read.graph.input] == ["x", "w"]
    assert [value.name for value in read.graph.output] == ["out", INNER]
    assert len(read.graph.node) == 3


def test_a_value_that_the_graph_does_not_have_is_refused_by_the_runtime(graph: bytes) -> None:
    with pytest.raises(Exception, match="elsewhere"):
        run(opened(graph, values=["elsewhere"]), ["out"])
