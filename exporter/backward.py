"""The way back through a model's nodes: from a gradient at its values to the one at its input.

Each kind of node has a rule that turns the gradient at its output into the one at its input, in
standard operations. The rules read the forward nodes, so that there is one description of a
network: what the backward half does follows from what is in the forward one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx
from onnx import TensorProto, helper

from nstrt.exporter.graph import Graph

__all__ = ["Rule", "ScaledGradient", "backward"]

SMALLEST: Mapping[int, float] = {TensorProto.FLOAT: 1e-30, TensorProto.FLOAT16: 2.0**-14}
"""What a largest magnitude is floored at before it divides, by element type."""


@dataclass(frozen=True)
class ScaledGradient:
    """A gradient on its way back: ``value`` times ``scale``."""

    value: str
    """A tensor shaped as what it is the gradient of."""

    kind: int = TensorProto.FLOAT
    """ONNX element type of ``value``."""

    scale: str | None = None
    """One number in single precision, or 1. Gradients of means over a million positions lie below
    half precision's smallest numbers, so there the magnitude travels apart."""


Rule = Callable[[Graph, onnx.NodeProto, ScaledGradient], ScaledGradient]


def backward(graph: Graph, contributions: Mapping[str, str]) -> str:
    """Add the way back to ``graph``, from the gradients that a loss has at the values named in
    ``contributions`` (single precision); gives the gradient at the model's own input.

    Raises :class:`ValueError` for a model that is no chain, or has a node without a rule.
    """
    flow: ScaledGradient | None = None
    value = graph.forward[-1].output[0]
    for node in reversed(graph.forward):
        if list(node.output) != [value]:
            raise ValueError(f"the model is no chain: {value} is not what {node.op_type} makes")
        own = contributions.get(value)
        if own is not None:
            flow = ScaledGradient(
                own if flow is None else graph.add("Add", to_single(graph, flow), own)
            )
        if flow is not None:
            if node.op_type not in RULES:
                raise ValueError(f"there is no way back through a {node.op_type}")
            flow = RULES[node.op_type](graph, node, flow)
        value = node.input[0]
    if flow is None:
        raise ValueError("no contribution is at a value of the model")
    return to_single(graph, flow)


def to_single(graph: Graph, flow: ScaledGradient) -> str:
    """The gradient as one tensor in single precision."""
    value = flow.value
    if flow.kind != TensorProto.FLOAT:
        value = graph.add("Cast", value, to=TensorProto.FLOAT)
    return graph.add("Mul", value, flow.scale) if flow.scale else value


def convolution(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """A convolution with the same weights, turned by half a turn, outputs for inputs.

    ONNX Runtime turns them once, when it loads the model: the file holds each weight once.
    """
    known = _attributes(node)
    if any(known.get(name, [1, 1]) != [1, 1] for name in ("strides", "dilations")):
        raise ValueError("there is no way back through a convolution with steps")
    weight = graph.initializer(node.input[1])
    sides = weight.dims[2:]
    turned = graph.add(
        "Slice",
        node.input[1],
        graph.integers(-1, -1),
        graph.integers(*(-side - 1 for side in sides)),
        graph.integers(2, 3),
        graph.integers(-1, -1),
    )
    exchanged = graph.add("Transpose", turned, perm=[1, 0, 2, 3])
    if weight.data_type != TensorProto.FLOAT:
        flow = _rescale(graph, flow, weight.data_type)
    padding = known.get("pads", [0, 0, 0, 0])
    pads = [side - 1 - pad for side, pad in zip([*sides, *sides], padding, strict=True)]
    value = graph.add("Conv", flow.value, exchanged, kernel_shape=list(sides), pads=pads)
    return replace(flow, value=value)


def _rescale(graph: Graph, flow: ScaledGradient, kind: int) -> ScaledGradient:
    """The same gradient, with magnitudes up to 1 and of another element type."""
    magnitude = graph.add("ReduceMax", graph.add("Abs", flow.value), keepdims=0)
    largest = graph.add("Max", magnitude, graph.floats(SMALLEST[flow.kind], flow.kind))
    value = graph.add("Div", flow.value, largest)
    if flow.kind != kind:
        value = graph.add("Cast", value, to=kind)
    if flow.kind != TensorProto.FLOAT:
        largest = graph.add("Cast", largest, to=TensorProto.FLOAT)
    scale = graph.add("Mul", largest, flow.scale) if flow.scale else largest
    return ScaledGradient(value, kind, scale)


def relu(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """Nothing where the ReLU let nothing through."""
    rectified = node.output[0]
    is_open = graph.add("Greater", rectified, graph.floats(0, _kind_of(graph, rectified)))
    value = graph.add("Where", is_open, flow.value, graph.floats(0, flow.kind))
    return replace(flow, value=value)


def max_pooling(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """All to each window's maximum; among equals to the first, by rows, as torch does.

    Which corner wins is found in the four pictures of a quarter's size that the windows' corners
    make; then it is spread over the windows, and each position looks whether it is meant.
    """
    _check_window(node)
    before, after = node.input[0], node.output[0]
    counts = graph.add("Shape", after, start=2)
    covered = graph.add("Mul", counts, graph.integers(2))
    # Floor pooling leaves out an odd last row and column.
    windows = graph.add("Slice", before, graph.integers(0, 0), covered, graph.integers(2, 3))
    corners = graph.split(graph.add("SpaceToDepth", windows, blocksize=2), 4, axis=1)
    # Not what the pooling gave: a provider may round that differently in half precision.
    largest = graph.add("Max", *corners)
    winner = graph.floats(3, flow.kind)
    for index in (2, 1, 0):
        wins = graph.add("Equal", corners[index], largest)
        winner = graph.add("Where", wins, graph.floats(index, flow.kind), winner)
    tiles = graph.add("Concat", graph.integers(1, 1), counts, axis=0)
    places = graph.add("Tile", graph.floats([[[[0, 1], [2, 3]]]], flow.kind), tiles)
    meant = graph.add("Equal", _repeat_2x2(graph, winner), places)
    value = graph.add("Where", meant, _repeat_2x2(graph, flow.value), graph.floats(0, flow.kind))
    return replace(flow, value=_pad_to_size(graph, value, before))


def average_pooling(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """A quarter to each position of a window."""
    _check_window(node)
    quarter = graph.add("Mul", flow.value, graph.floats(0.25, flow.kind))
    value = _pad_to_size(graph, _repeat_2x2(graph, quarter), node.input[0])
    return replace(flow, value=value)


def _repeat_2x2(graph: Graph, value: str) -> str:
    """Each number four times, over a window of 2 x 2."""
    return graph.add(
        "Resize",
        value,
        "",
        graph.floats([1, 1, 2, 2]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _pad_to_size(graph: Graph, value: str, like: str) -> str:
    """``value`` with zeros in the last row and column that ``like`` may have more."""
    missing = graph.add(
        "Sub", graph.add("Shape", like, start=2), graph.add("Shape", value, start=2)
    )
    pads = graph.add("Concat", graph.integers(0, 0, 0, 0, 0, 0), missing, axis=0)
    return graph.add("Pad", value, pads)


def edge_padding(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """Each border pixel was copied outwards, corners three times: gradients add up."""
    known = _attributes(node)
    pads = onnx.numpy_helper.to_array(graph.initializer(node.input[1])).tolist()
    if known.get("mode") != b"edge" or pads != [0, 0, 1, 1, 0, 0, 1, 1]:
        raise ValueError("there is no way back through this padding")
    value = flow.value
    for axis in (2, 3):
        first = _slice_axis(graph, value, axis, 0, 1)
        second = _slice_axis(graph, value, axis, 1, 2)
        inner = _slice_axis(graph, value, axis, 2, -2)
        last_but_one = _slice_axis(graph, value, axis, -2, -1)
        last = _slice_axis(graph, value, axis, -1, _TO_END)
        start, end = graph.add("Add", first, second), graph.add("Add", last_but_one, last)
        value = graph.add("Concat", start, inner, end, axis=axis)
    return replace(flow, value=value)


def _slice_axis(graph: Graph, value: str, axis: int, start: int, stop: int) -> str:
    ends = (graph.integers(start), graph.integers(stop), graph.integers(axis))
    return graph.add("Slice", value, *ends)


_TO_END = 2**31 - 1
"""Beyond the last position of any side."""


def cast(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """What was turned into half precision was in single before."""
    return ScaledGradient(to_single(graph, flow))


def division(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """Divided by the same constant."""
    return replace(flow, value=graph.add("Div", flow.value, node.input[1]))


def subtraction(graph: Graph, node: onnx.NodeProto, flow: ScaledGradient) -> ScaledGradient:
    """A constant that was taken off changes nothing."""
    return flow


RULES: Mapping[str, Rule] = {
    "AveragePool": average_pooling,
    "Cast": cast,
    "Conv": convolution,
    "Div": division,
    "MaxPool": max_pooling,
    "Pad": edge_padding,
    "Relu": relu,
    "Sub": subtraction,
}


def _check_window(node: onnx.NodeProto) -> None:
    known = _attributes(node)
    wanted = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "ceil_mode": 0}
    if any(known.get(name, value) != value for name, value in wanted.items()):
        raise ValueError("there is a way back through pooling by 2 x 2 alone")


def _kind_of(graph: Graph, value: str) -> int:
    """ONNX element type of a forward value: that of the weights of the convolution before it."""
    kind: int = TensorProto.FLOAT
    for node in graph.forward:
        if node.op_type == "Conv":
            kind = graph.initializer(node.input[1]).data_type
        if value in node.output:
            break
    return kind


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
