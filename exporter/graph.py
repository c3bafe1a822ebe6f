"""Add nodes, inputs and outputs to an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph"]


class Graph:
    """Copy of a model with its nodes but without its outputs, open for additions."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        del self._model.graph.output[:]
        self._initializers = {item.name: item for item in self._model.graph.initializer}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.forward: tuple[onnx.NodeProto, ...] = tuple(model.graph.node)
        """Nodes of the original model."""

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = f"step_{len(self._model.graph.node)}_{kind.lower()}"
        node = helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self._model.graph.node.append(node)
        return name

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Split a value into equal parts along an axis and return their names."""
        name = f"step_{len(self._model.graph.node)}_split"
        names = [f"{name}_{index}" for index in range(count)]
        node = helper.make_node("Split", [value], names, name=name, axis=axis, num_outputs=count)
        self._model.graph.node.append(node)
        return names

    def floats(self, values: ArrayLike, kind: int = TensorProto.FLOAT) -> str:
        """Add a constant of an ONNX element type, single precision by default; return its name."""
        return self._constant(np.asarray(values, helper.tensor_dtype_to_np_dtype(kind)))

    def integers(self, *values: int) -> str:
        """Add a one-dimensional int64 constant and return its name."""
        return self._constant(np.asarray(values, np.int64))

    def integer(self, value: int) -> str:
        """Add a scalar int64 constant and return its name."""
        return self._constant(np.asarray(value, np.int64))

    def initializer(self, name: str) -> onnx.TensorProto:
        """Return an initializer of the original model."""
        tensor: onnx.TensorProto = self._initializers[name]
        return tensor

    def input(self, name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> str:
        """Declare an input and return its name; text in ``shape`` stands for a dynamic axis."""
        self._model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare a single-precision value as an output and rename it."""
        for node in self._model.graph.node:
            for index, output in enumerate(node.output):
                if output == value:
                    node.output[index] = name
            for index, source in enumerate(node.input):
                if source == value:
                    node.input[index] = name
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        self._model.graph.output.append(info)

    def model(self) -> onnx.ModelProto:
        """Return the extended model."""
        return self._model

    def _constant(self, values: NDArray[Any]) -> str:
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = f"step_constant_{len(self._constants)}"
            self._constants[key] = name
            self._model.graph.initializer.append(numpy_helper.from_array(values, name))
        return self._constants[key]
