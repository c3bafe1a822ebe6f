"""Adding nodes to an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph"]


class Graph:
    """A copy of a model that grows: its nodes stay, its outputs are chosen anew."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        del self._model.graph.output[:]
        self._initializers = {item.name: item for item in self._model.graph.initializer}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.forward: tuple[onnx.NodeProto, ...] = tuple(model.graph.node)
        """The nodes that the model had."""

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; gives the output's name."""
        name = f"step_{len(self._model.graph.node)}_{kind.lower()}"
        node = helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self._model.graph.node.append(node)
        return name

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Equal parts of a value along an axis."""
        name = f"step_{len(self._model.graph.node)}_split"
        names = [f"{name}_{index}" for index in range(count)]
        node = helper.make_node("Split", [value], names, name=name, axis=axis, num_outputs=count)
        self._model.graph.node.append(node)
        return names

    def floats(self, values: ArrayLike, kind: int = TensorProto.FLOAT) -> str:
        """A constant of numbers of an ONNX element type, single precision by default."""
        return self._constant(np.asarray(values, helper.tensor_dtype_to_np_dtype(kind)))

    def integers(self, *values: int) -> str:
        """A one-dimensional constant of 64-bit integers."""
        return self._constant(np.asarray(values, np.int64))

    def integer(self, value: int) -> str:
        """A 64-bit integer that is no list."""
        return self._constant(np.asarray(value, np.int64))

    def initializer(self, name: str) -> onnx.TensorProto:
        """The constant that the model has under a name."""
        found: onnx.TensorProto = self._initializers[name]
        return found

    def input(self, name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> str:
        """Declare an input; sides that are words may have any length."""
        self._model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Give a value of single precision out under a name."""
        for node in self._model.graph.node:
            for index, made in enumerate(node.output):
                if made == value:
                    node.output[index] = name
            for index, used in enumerate(node.input):
                if used == value:
                    node.input[index] = name
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        self._model.graph.output.append(info)

    def model(self) -> onnx.ModelProto:
        """The model as it has become."""
        return self._model

    def _constant(self, values: NDArray[Any]) -> str:
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = f"step_constant_{len(self._constants)}"
            self._constants[key] = name
            self._model.graph.initializer.append(numpy_helper.from_array(values, name))
        return self._constants[key]
