"""Build ONNX graphs of loss and gradient from a network's forward graph.

:mod:`nstrt.runtime.model.step_io` defines their inputs, outputs and formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from onnx import TensorProto

from nstrt.exporter.backward import backward
from nstrt.exporter.graph import Graph
from nstrt.runtime.model import (
    CONTENT_FACTORS,
    CONTENT_SHARES,
    GRADIENT,
    IMAGE,
    STYLE_SHARES,
    TERMS,
    WEIGHTS,
    core_input,
    gram_input,
    pull_input,
    shift_input,
    target_input,
)

__all__ = ["step_graph", "tile_graph"]

PICTURE = (1, 3, "height", "width")


def step_graph(
    forward: onnx.ModelProto, content_layers: Sequence[str], style_layers: Sequence[str]
) -> onnx.ModelProto:
    """Build the graph of a whole picture's loss and gradient.

    ``forward`` is a chain of nodes whose values have the layers' names. Gram matrices, losses and
    sums are in single precision in every variant.
    """
    graph = Graph(forward)
    layers = _Layers(graph)
    gradients: dict[str, str] = {}
    layers.declare(content_layers, style_layers, matrix=gram_input, factors=CONTENT_SHARES)
    if style_layers:
        graph.input(STYLE_SHARES, (len(style_layers),))
    graph.input(WEIGHTS, (3,))
    weights = [_element(graph, WEIGHTS, index) for index in range(3)]

    content = style = graph.floats([0])
    for index, layer in enumerate(content_layers):
        share = _element(graph, CONTENT_SHARES, index)
        difference = graph.add("Sub", layers.features(layer), target_input(layer))
        content = _plus(graph, content, share, _square(graph, difference, 4))
        factor = _product(graph, graph.floats([2]), weights[0], share)
        _accumulate(graph, gradients, layer, graph.add("Mul", difference, factor))
    for index, layer in enumerate(style_layers):
        share = _element(graph, STYLE_SHARES, index)
        flat = layers.flat(layer)
        count = graph.add("Cast", graph.add("Shape", flat, start=1), to=TensorProto.FLOAT)
        square = graph.add("MatMul", flat, graph.add("Transpose", flat, perm=[1, 0]))
        gram = graph.add("Div", square, count)
        difference = graph.add("Sub", gram, gram_input(layer))
        style = _plus(graph, style, share, _square(graph, difference, 2))
        factor = graph.add("Div", _product(graph, graph.floats([4]), weights[1], share), count)
        matrix = graph.add("Mul", difference, factor)
        _accumulate(graph, gradients, layer, layers.style_gradient(layer, matrix))
    variation, variation_gradient = _variation(graph, weights[2])

    parts = [
        graph.add("Mul", *pair) for pair in zip(weights, (content, style, variation), strict=True)
    ]
    loss = graph.add("Add", graph.add("Add", parts[0], parts[1]), parts[2])
    terms = graph.add("Concat", loss, content, style, variation, axis=0)
    gradient = graph.add("Add", backward(graph, gradients), variation_gradient)
    graph.output(terms, TERMS, (4,))
    graph.output(gradient, GRADIENT, PICTURE)
    return graph.model()


def tile_graph(
    forward: onnx.ModelProto, content_layers: Sequence[str], style_layers: Sequence[str]
) -> onnx.ModelProto:
    """Build the graph of a tile's gradient, given statistics of the whole picture."""
    graph = Graph(forward)
    layers = _Layers(graph)
    gradients: dict[str, str] = {}
    layers.declare(content_layers, style_layers, matrix=pull_input, factors=CONTENT_FACTORS)
    for layer in dict.fromkeys([*content_layers, *style_layers]):
        graph.input(core_input(layer), (4,), TensorProto.INT64)

    for index, layer in enumerate(content_layers):
        factor = _element(graph, CONTENT_FACTORS, index)
        difference = graph.add("Sub", layers.features(layer), target_input(layer))
        _accumulate(graph, gradients, layer, graph.add("Mul", difference, factor))
    for layer in style_layers:
        graph.input(shift_input(layer), (1, layers.channels(layer), 1, 1))
        pull = layers.style_gradient(layer, pull_input(layer))
        _accumulate(graph, gradients, layer, graph.add("Add", pull, shift_input(layer)))
    for layer, layer_gradient in gradients.items():
        inside = _core(graph, layer)
        gradients[layer] = graph.add("Where", inside, layer_gradient, graph.floats(0))
    graph.output(backward(graph, gradients), GRADIENT, PICTURE)
    return graph.model()


class _Layers:
    """Loss layers of a forward graph, cast to single precision."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._features: dict[str, str] = {}
        self._flat: dict[str, str] = {}

    def declare(
        self,
        content_layers: Sequence[str],
        style_layers: Sequence[str],
        *,
        matrix: Callable[[str], str],
        factors: str,
    ) -> None:
        """Declare the inputs of both kinds of graph.

        These are the content targets, a square matrix for each style layer, named by ``matrix``,
        and the vector ``factors`` with one value for each content layer.
        """
        for layer in content_layers:
            self._graph.input(target_input(layer), self.shape(layer))
        for layer in style_layers:
            self._graph.input(matrix(layer), (self.channels(layer),) * 2)
        if content_layers:
            self._graph.input(factors, (len(content_layers),))

    def features(self, layer: str) -> str:
        """Return the features, 1 x channels x h x w."""
        if layer not in self._features:
            half = self._weight(layer).data_type != TensorProto.FLOAT
            cast = self._graph.add("Cast", layer, to=TensorProto.FLOAT) if half else layer
            self._features[layer] = cast
        return self._features[layer]

    def flat(self, layer: str) -> str:
        """Return F, channels x positions."""
        if layer not in self._flat:
            shape = self._graph.integers(self.channels(layer), -1)
            self._flat[layer] = self._graph.add("Reshape", self.features(layer), shape)
        return self._flat[layer]

    def style_gradient(self, layer: str, matrix: str) -> str:
        """Return ``matrix`` @ F in the shape of the features."""
        product = self._graph.add("MatMul", matrix, self.flat(layer))
        return self._graph.add("Reshape", product, self._graph.add("Shape", layer))

    def channels(self, layer: str) -> int:
        """Return the number of channels of a layer."""
        return int(self._weight(layer).dims[0])

    def shape(self, layer: str) -> tuple[int | str, ...]:
        """Return the shape of the features, with names for the dynamic axes."""
        return 1, self.channels(layer), f"{layer}_height", f"{layer}_width"

    def _weight(self, layer: str) -> onnx.TensorProto:
        """Return the weights of the last convolution up to a layer."""
        weight: onnx.TensorProto | None = None
        for node in self._graph.forward:
            if node.op_type == "Conv":
                weight = self._graph.initializer(node.input[1])
            if layer in node.output and weight is not None:
                return weight
        raise ValueError(f"the model has no {layer}")


def _accumulate(graph: Graph, gradients: dict[str, str], layer: str, value: str) -> None:
    """Add ``value`` to the gradient with respect to a layer's features."""
    gradients[layer] = graph.add("Add", gradients[layer], value) if layer in gradients else value


def _element(graph: Graph, values: str, index: int) -> str:
    """Return one element of a vector, as a vector of length 1."""
    return graph.add("Gather", values, graph.integers(index), axis=0)


def _product(graph: Graph, first: str, *others: str) -> str:
    for other in others:
        first = graph.add("Mul", first, other)
    return first


def _plus(graph: Graph, total: str, share: str, square: str) -> str:
    """Return total + share * square."""
    return graph.add("Add", total, graph.add("Mul", share, square))


def _square(graph: Graph, value: str, rank: int) -> str:
    """Return sum(value^2), summed axis by axis.

    A single sum over all axes in single precision has a thousand times the rounding error.
    """
    total = graph.add("ReduceSumSquare", value, graph.integers(-1), keepdims=0)
    for _ in range(rank - 1):
        total = graph.add("ReduceSum", total, graph.integers(-1), keepdims=0)
    return total


def _variation(graph: Graph, weight: str) -> tuple[str, str]:
    """Return the total variation, and its gradient times ``weight``."""
    end = graph.integers(2**31 - 1)
    squares, counts, steps = [], [], []
    for axis in (2, 3):
        along = graph.integers(axis)
        later = graph.add("Slice", IMAGE, graph.integers(1), end, along)
        earlier = graph.add("Slice", IMAGE, graph.integers(0), graph.integers(-1), along)
        step = graph.add("Sub", later, earlier)
        squares.append(_square(graph, step, 4))
        counts.append(graph.add("Size", step))
        before, after = [0] * 8, [0] * 8
        before[axis], after[axis + 4] = 1, 1
        arriving = graph.add("Pad", step, graph.integers(*before))
        leaving = graph.add("Pad", step, graph.integers(*after))
        steps.append(graph.add("Sub", arriving, leaving))
    pairs = graph.add("Cast", graph.add("Add", *counts), to=TensorProto.FLOAT)
    one = graph.floats([1])
    each = graph.add("Div", one, pairs)
    factor = _product(graph, graph.floats([2]), weight, each)
    value = graph.add("Mul", graph.add("Add", *squares), each)
    return value, graph.add("Mul", graph.add("Add", *steps), factor)


def _core(graph: Graph, layer: str) -> str:
    """Return a mask of the layer's core that broadcasts to 1 x 1 x h x w."""
    inside = []
    for axis, (first, last) in ((2, (0, 1)), (3, (2, 3))):
        length = graph.add("Gather", graph.add("Shape", layer), graph.integer(axis), axis=0)
        positions = graph.add("Range", graph.integer(0), length, graph.integer(1))
        begins = graph.add("GreaterOrEqual", positions, _element(graph, core_input(layer), first))
        ends = graph.add("Less", positions, _element(graph, core_input(layer), last))
        shape = graph.integers(*(-1 if side == axis else 1 for side in range(4)))
        inside.append(graph.add("Reshape", graph.add("And", begins, ends), shape))
    return graph.add("And", *inside)
