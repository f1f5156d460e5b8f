"""Opens a stored ONNX graph: weights that can be given at each run, inner values that can be read.

Needs no ONNX library. A protobuf message that is followed by another of its type reads as one message
in which the repeated fields of both are joined (protobuf's encoding guide, "Last One Wins"). So what a
graph shall have besides is written after it. A name that is both a weight and an input of a graph is a
weight that a run may replace (ONNX IR specification, "Initializers"); its type is the weight's.

Field numbers are those of `onnx.proto`.
"""

from collections.abc import Iterable

MODEL_GRAPH = 7
GRAPH_INPUT = 11
GRAPH_OUTPUT = 12
VALUE_NAME = 1
LENGTH_DELIMITED = 2


def opened(graph: bytes, *, weights: Iterable[str] = (), values: Iterable[str] = ()) -> bytes:
    """The graph with `weights` as inputs that may be left out and `values` as further outputs.

    Promises nothing about names that the graph does not have: the runtime refuses to load it, or
    wants the input at each run.
    """
    wanted = [(GRAPH_INPUT, name) for name in weights] + [(GRAPH_OUTPUT, name) for name in values]
    more = b"".join(_field(number, _field(VALUE_NAME, name.encode())) for number, name in wanted)
    return graph + _field(MODEL_GRAPH, more)


def _field(number: int, content: bytes) -> bytes:
    """One length-delimited field: tag, length as a base-128 varint, content."""
    length, rest = bytearray(), len(content)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes([number << 3 | LENGTH_DELIMITED]) + bytes(length) + content
