"""Backward pass of an ONNX model as further nodes of its graph.

A rule for each operator computes the gradient with respect to the node's input from the gradient
with respect to its output, in standard ONNX operators. The rules read the forward nodes, so the
network is described only once.
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
"""Lower bound, by element type, of the largest magnitude that a gradient is divided by."""


@dataclass(frozen=True)
class ScaledGradient:
    """Gradient as the product of ``value`` and ``scale``."""

    value: str
    """Name of a tensor of the shape of the differentiated value."""

    kind: int = TensorProto.FLOAT
    """ONNX element type of ``value``."""

    scale: str | None = None
    """Name of a single-precision scalar; ``None`` for 1.

    Half precision cannot hold gradients of means over a million positions, so their magnitude is
    kept separately."""


Rule = Callable[[Graph, onnx.NodeProto, ScaledGradient], ScaledGradient]


def backward(graph: Graph, contributions: Mapping[str, str]) -> str:
    """Add the backward pass to ``graph`` and return the gradient with respect to its input.

    ``contributions`` maps values of the model to the loss's gradient with respect to them, in
    single precision. Raises :class:`ValueError` for a model that is not a chain or has a node
    without a rule.
    """
    gradient: ScaledGradient | None = None
    value = graph.forward[-1].output[0]
    for node in reversed(graph.forward):
        if list(node.output) != [value]:
            raise ValueError(f"the model is no chain: {value} is not what {node.op_type} makes")
        contribution = contributions.get(value)
        if contribution is not None:
            gradient = ScaledGradient(
                contribution
                if gradient is None
                else graph.add("Add", to_single(graph, gradient), contribution)
            )
        if gradient is not None:
            if node.op_type not in RULES:
                raise ValueError(f"there is no way back through a {node.op_type}")
            gradient = RULES[node.op_type](graph, node, gradient)
        value = node.input[0]
    if gradient is None:
        raise ValueError("no contribution is at a value of the model")
    return to_single(graph, gradient)


def to_single(graph: Graph, gradient: ScaledGradient) -> str:
    """Return the gradient as one single-precision tensor."""
    value = gradient.value
    if gradient.kind != TensorProto.FLOAT:
        value = graph.add("Cast", value, to=TensorProto.FLOAT)
    return graph.add("Mul", value, gradient.scale) if gradient.scale else value


def convolution(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Convolve with the weights rotated by 180 degrees and with channels transposed.

    The file holds each weight once; ONNX Runtime rotates them when it loads the model.
    """
    attributes = _attributes(node)
    if any(attributes.get(name, [1, 1]) != [1, 1] for name in ("strides", "dilations")):
        raise ValueError("there is no way back through a convolution with steps")
    weight = graph.initializer(node.input[1])
    sides = weight.dims[2:]
    rotated = graph.add(
        "Slice",
        node.input[1],
        graph.integers(-1, -1),
        graph.integers(*(-side - 1 for side in sides)),
        graph.integers(2, 3),
        graph.integers(-1, -1),
    )
    transposed = graph.add("Transpose", rotated, perm=[1, 0, 2, 3])
    if weight.data_type != TensorProto.FLOAT:
        gradient = _rescale(graph, gradient, weight.data_type)
    padding = attributes.get("pads", [0, 0, 0, 0])
    pads = [side - 1 - pad for side, pad in zip([*sides, *sides], padding, strict=True)]
    value = graph.add("Conv", gradient.value, transposed, kernel_shape=list(sides), pads=pads)
    return replace(gradient, value=value)


def _rescale(graph: Graph, gradient: ScaledGradient, kind: int) -> ScaledGradient:
    """Scale the gradient to magnitudes up to 1 and cast it to another element type."""
    magnitude = graph.add("ReduceMax", graph.add("Abs", gradient.value), keepdims=0)
    largest = graph.add("Max", magnitude, graph.floats(SMALLEST[gradient.kind], gradient.kind))
    value = graph.add("Div", gradient.value, largest)
    if gradient.kind != kind:
        value = graph.add("Cast", value, to=kind)
    if gradient.kind != TensorProto.FLOAT:
        largest = graph.add("Cast", largest, to=TensorProto.FLOAT)
    scale = graph.add("Mul", largest, gradient.scale) if gradient.scale else largest
    return ScaledGradient(value, kind, scale)


def relu(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Zero the gradient where the ReLU's output is zero."""
    rectified = node.output[0]
    positive = graph.add("Greater", rectified, graph.floats(0, _kind_of(graph, rectified)))
    value = graph.add("Where", positive, gradient.value, graph.floats(0, gradient.kind))
    return replace(gradient, value=value)


def max_pooling(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Pass the gradient to each window's maximum; among equals to the first by rows, as torch does.

    ``SpaceToDepth`` yields the four values of each window as four tensors. Their comparison gives
    the index of the maximum, which is repeated over the window and compared with each position's
    own index.
    """
    _check_window(node)
    before, after = node.input[0], node.output[0]
    counts = graph.add("Shape", after, start=2)
    ends = graph.add("Mul", counts, graph.integers(2))
    # Pooling drops an odd last row and column.
    windows = graph.add("Slice", before, graph.integers(0, 0), ends, graph.integers(2, 3))
    corners = graph.split(graph.add("SpaceToDepth", windows, blocksize=2), 4, axis=1)
    # Recomputed, because a provider may round the pooling's output differently in half precision.
    largest = graph.add("Max", *corners)
    winner = graph.floats(3, gradient.kind)
    for index in (2, 1, 0):
        wins = graph.add("Equal", corners[index], largest)
        winner = graph.add("Where", wins, graph.floats(index, gradient.kind), winner)
    tiles = graph.add("Concat", graph.integers(1, 1), counts, axis=0)
    indices = graph.add("Tile", graph.floats([[[[0, 1], [2, 3]]]], gradient.kind), tiles)
    selected = graph.add("Equal", _repeat_2x2(graph, winner), indices)
    value = graph.add(
        "Where", selected, _repeat_2x2(graph, gradient.value), graph.floats(0, gradient.kind)
    )
    return replace(gradient, value=_pad_to_size(graph, value, before))


def average_pooling(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Pass a quarter of the gradient to each position of a window."""
    _check_window(node)
    quarter = graph.add("Mul", gradient.value, graph.floats(0.25, gradient.kind))
    value = _pad_to_size(graph, _repeat_2x2(graph, quarter), node.input[0])
    return replace(gradient, value=value)


def _repeat_2x2(graph: Graph, value: str) -> str:
    """Repeat each value over a window of 2 x 2."""
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
    """Pad ``value`` with zeros at the bottom and right to the height and width of ``like``."""
    missing = graph.add(
        "Sub", graph.add("Shape", like, start=2), graph.add("Shape", value, start=2)
    )
    pads = graph.add("Concat", graph.integers(0, 0, 0, 0, 0, 0), missing, axis=0)
    return graph.add("Pad", value, pads)


def edge_padding(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Add the gradients of the copies to the border pixels; each corner has three copies."""
    attributes = _attributes(node)
    pads = onnx.numpy_helper.to_array(graph.initializer(node.input[1])).tolist()
    if attributes.get("mode") != b"edge" or pads != [0, 0, 1, 1, 0, 0, 1, 1]:
        raise ValueError("there is no way back through this padding")
    value = gradient.value
    for axis in (2, 3):
        first = _slice_axis(graph, value, axis, 0, 1)
        second = _slice_axis(graph, value, axis, 1, 2)
        inner = _slice_axis(graph, value, axis, 2, -2)
        last_but_one = _slice_axis(graph, value, axis, -2, -1)
        last = _slice_axis(graph, value, axis, -1, _TO_END)
        start, end = graph.add("Add", first, second), graph.add("Add", last_but_one, last)
        value = graph.add("Concat", start, inner, end, axis=axis)
    return replace(gradient, value=value)


def _slice_axis(graph: Graph, value: str, axis: int, start: int, stop: int) -> str:
    ends = (graph.integers(start), graph.integers(stop), graph.integers(axis))
    return graph.add("Slice", value, *ends)


_TO_END = 2**31 - 1
"""End of a slice up to the last position."""


def cast(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Return to single precision, the type before the cast."""
    return ScaledGradient(to_single(graph, gradient))


def division(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Divide by the same constant."""
    return replace(gradient, value=graph.add("Div", gradient.value, node.input[1]))


def subtraction(graph: Graph, node: onnx.NodeProto, gradient: ScaledGradient) -> ScaledGradient:
    """Keep the gradient: the subtrahend is constant."""
    return gradient


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
    attributes = _attributes(node)
    expected = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "ceil_mode": 0}
    if any(attributes.get(name, value) != value for name, value in expected.items()):
        raise ValueError("there is a way back through pooling by 2 x 2 alone")


def _kind_of(graph: Graph, value: str) -> int:
    """Return a forward value's element type, that of the preceding convolution's weights."""
    kind: int = TensorProto.FLOAT
    for node in graph.forward:
        if node.op_type == "Conv":
            kind = graph.initializer(node.input[1]).data_type
        if value in node.output:
            break
    return kind


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
