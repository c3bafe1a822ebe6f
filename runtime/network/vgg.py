"""VGG in PyTorch, built from the nodes and weights of an ONNX model file.

The model file is the only description of the network, so the two cannot differ. A picture is
normalised and padded; then come blocks of a 3x3 convolution, a ReLU and perhaps a 2x2 pooling.
``network.banded`` computes them, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.errors import ModelFileError
from nstrt.runtime.kernels.convolution import Filter
from nstrt.runtime.model import weights_metadata
from nstrt.runtime.system.memory import import_failure

if TYPE_CHECKING:
    import onnx

__all__ = ["ConvBlock", "InputNormalization", "TorchVGG", "read_vgg"]


@dataclass(frozen=True)
class InputNormalization:
    """Normalisation and padding of a picture before the first convolution."""

    mean: Tensor
    """Subtracted first, 1 x 3 x 1 x 1."""

    std: Tensor
    """Divided by afterwards, 1 x 3 x 1 x 1."""

    replicate: bool
    """Pad with one pixel of the picture's own edge; else with zeros."""

    def forward(self, image: Tensor) -> Tensor:
        """Turn a 1 x 3 x height x width image into 3 x (height + 2) x (width + 2)."""
        mode = "replicate" if self.replicate else "constant"
        return functional.pad((image - self.mean) / self.std, (1, 1, 1, 1), mode=mode)[0]

    def backward(self, gradient: Tensor) -> Tensor:
        """The gradient at the image; overwrites ``gradient``, that at the result of
        :meth:`forward`."""
        if self.replicate:
            # Each border pixel was copied outwards, corners three times: gradients add up.
            gradient[:, 1] += gradient[:, 0]
            gradient[:, -2] += gradient[:, -1]
            gradient[..., 1] += gradient[..., 0]
            gradient[..., -2] += gradient[..., -1]
        return gradient[None, :, 1:-1, 1:-1] / self.std


@dataclass(frozen=True)
class ConvBlock:
    """A 3x3 convolution and the ReLU and pooling that follow it."""

    filter: Filter
    """The convolution's weights."""

    conv: str
    """Name of its output."""

    relu: str | None
    """Name of the ReLU's output; None where the network ends before it."""

    pool: str | None
    """Name of the pooling's output; None without a pooling."""

    average: bool
    """True for average pooling, false for max pooling."""

    def through(self, layers: Collection[str | None]) -> ConvBlock:
        """The block without what follows the last of ``layers``."""
        if self.pool in layers:
            return self
        if self.relu in layers:
            return replace(self, pool=None)
        return replace(self, relu=None, pool=None)


class TorchVGG:
    """The blocks of a VGG network; its weights have no gradient."""

    def __init__(
        self,
        normalization: InputNormalization,
        blocks: Sequence[ConvBlock],
        *,
        taps: Sequence[str] = (),
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self.normalization = normalization
        self.blocks = tuple(blocks)
        self.taps = tuple(taps)
        """The model's outputs, in network order."""
        self.weights = dict(weights or {})
        """The file's record of its weights: description, licence, origin, SHA-256."""

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.normalization.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of activations."""
        return self.normalization.mean.dtype

    def blocks_through(
        self, layers: Iterable[str], after: str | None = None
    ) -> tuple[ConvBlock, ...]:
        """The blocks from the picture, or from the pooling ``after``, through the deepest of
        ``layers``; the last one ends with that layer."""
        names: set[str | None] = set(layers)
        blocks: list[ConvBlock] = []
        for block in reversed(self.blocks):
            if after and block.pool == after:
                break
            if blocks:
                blocks.append(block)
            elif names & {block.conv, block.relu, block.pool}:
                blocks.append(block.through(names))
        return tuple(reversed(blocks))


def read_vgg(
    path: Path, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> TorchVGG:
    """Build the network of a plain model file, to be computed in ``dtype``.

    Raises :class:`ModelFileError` if the file is not a chain of VGG's operations, or lacks an
    output for a ReLU or a pooling, which the backward pass of engine ``onnx`` reads.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise import_failure(
            error,
            "Repainting needs the packages torch and onnx; install them with: "
            'pip install "nstrt[full]"',
        ) from error
    model = onnx.load(path)
    graph = model.graph
    # Initializers may be views of read-only bytes, which torch cannot use.
    constants = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy()).to(
            device or torch.device("cpu")
        )
        for item in graph.initializer
    }
    return _NodeReader(path, model, constants, dtype).read()


class _NodeReader:
    """Reads the nodes of a model file one after another."""

    def __init__(
        self, path: Path, model: onnx.ModelProto, constants: dict[str, Tensor], dtype: torch.dtype
    ) -> None:
        self._path = path
        self._model = model
        self._constants = constants
        self._dtype = dtype
        self._nodes = list(model.graph.node)
        self._current = model.graph.input[0].name
        """The tensor that the next node has to read."""
        self._taps = [output.name for output in model.graph.output]

    def read(self) -> TorchVGG:
        mean = self._constant(self._next_node("Sub"))
        std = self._constant(self._next_node("Div"))
        replicate = bool(self._nodes) and self._nodes[0].op_type == "Pad"
        if replicate:
            self._next_node("Pad", mode=b"edge")
        blocks: list[ConvBlock] = []
        while self._nodes:
            blocks.append(self._read_block(padding=int(bool(blocks) or not replicate)))
        metadata = {item.key: item.value for item in self._model.metadata_props}
        normalization = InputNormalization(mean, std, replicate)
        weights = weights_metadata(metadata)
        return TorchVGG(normalization, blocks, taps=self._taps, weights=weights)

    def _read_block(self, padding: int) -> ConvBlock:
        node = self._next_node("Conv", kernel_shape=[3, 3], pads=[padding] * 4)
        weight, bias = (self._constants[name].to(self._dtype) for name in node.input[1:3])
        conv, relu, pool, average = str(self._current), None, None, False
        if self._nodes:
            self._next_node("Relu")
            relu = self._tap_name()
            # A convolution that is no tap has an arbitrary name in the file.
            conv = relu.replace("relu", "conv")
        if self._nodes and self._nodes[0].op_type != "Conv":
            average = self._nodes[0].op_type == "AveragePool"
            self._next_node("AveragePool" if average else "MaxPool", kernel_shape=[2, 2])
            pool = self._tap_name()
        return ConvBlock(Filter(weight, bias), conv, relu, pool, average)

    def _tap_name(self) -> str:
        name = str(self._current)
        if name not in self._taps:
            raise self._error(f"{name} is not among its outputs")
        return name

    def _constant(self, node: onnx.NodeProto) -> Tensor:
        return self._constants[node.input[1]].to(self._dtype)

    def _next_node(self, kind: str, **attributes: Any) -> onnx.NodeProto:
        """Take the next node, which must be of this kind and have these attributes."""
        import onnx

        if not self._nodes:
            raise self._error(f"it ends where a {kind} should come")
        node: onnx.NodeProto = self._nodes.pop(0)
        if node.input[0] != self._current or len(node.output) != 1:
            raise self._error(f"{node.op_type} does not follow the node before it")
        actual = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type != kind or any(actual.get(k) != v for k, v in attributes.items()):
            raise self._error(f"it has a {node.op_type} where VGG19 has a {kind} of its own")
        self._current = node.output[0]
        return node

    def _error(self, reason: str) -> ModelFileError:
        return ModelFileError(
            f"The model {self._path.name} cannot be mirrored: {reason}; export it again."
        )
