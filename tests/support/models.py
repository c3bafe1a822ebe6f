"""Comparison of features and deliberate damage of exported models."""

from __future__ import annotations

import onnx

__all__ = ["break_the_graph", "change_a_weight", "remove_an_output"]


def change_a_weight(model: onnx.ModelProto) -> None:
    """Scale one output channel of conv2_1 by 1.05."""
    item = next(item for item in model.graph.initializer if list(item.dims) == [128, 64, 3, 3])
    values = onnx.numpy_helper.to_array(item).copy()
    values[7] *= 1.05
    item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))


def remove_an_output(model: onnx.ModelProto) -> None:
    """Remove the first output."""
    del model.graph.output[0]


def break_the_graph(model: onnx.ModelProto) -> None:
    """Connect the first node to a value that does not exist."""
    model.graph.node[0].input[0] = "nowhere"
