"""The model file's network in PyTorch, built from its nodes and weights.

There is one description of the network, the ONNX file: the mirror reads it node by node, so the
two cannot drift apart. What it reads is VGG: the picture is normalised and padded, then come
stages of a 3x3 convolution, a ReLU and, at a block's end, a 2x2 pooling. How they are computed,
forwards and back, is the matter of ``network.banded``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.errors import ModelFileError, PackageMissingError
from nstrt.runtime.kernels.convolution import Filter
from nstrt.runtime.model import weights_of

if TYPE_CHECKING:
    import onnx

__all__ = ["ConvBlock", "InputNormalization", "TorchVGG", "read_vgg"]


@dataclass(frozen=True)
class InputNormalization:
    """What happens to a picture before the first convolution."""

    mean: Tensor
    """Subtracted first."""

    std: Tensor
    """Divided by then."""

    replicate: bool
    """Whether one pixel of the picture's own edge is put around it, or zeros."""

    def forward(self, image: Tensor) -> Tensor:
        """3 x (height + 2) x (width + 2) of a 1 x 3 x height x width image."""
        mode = "replicate" if self.replicate else "constant"
        return functional.pad((image - self.mean) / self.std, (1, 1, 1, 1), mode=mode)[0]

    def backward(self, gradient: Tensor) -> Tensor:
        """The gradient at the image from the one at what :meth:`forward` gives, which may be
        overwritten."""
        if self.replicate:
            # Each border pixel was copied outwards, corners three times: gradients add up.
            gradient[:, 1] += gradient[:, 0]
            gradient[:, -2] += gradient[:, -1]
            gradient[..., 1] += gradient[..., 0]
            gradient[..., -2] += gradient[..., -1]
        return gradient[None, :, 1:-1, 1:-1] / self.std


@dataclass(frozen=True)
class ConvBlock:
    """A 3x3 convolution with the ReLU and the pooling that follow it."""

    filter: Filter
    """The convolution's weights."""

    conv: str
    """Name of its output."""

    relu: str | None
    """Name of the ReLU's output; None where the network ends before it."""

    pool: str | None
    """Name of the pooling's output, if there is one."""

    average: bool
    """Whether the pooling takes means, not maxima."""

    def until(self, layers: Collection[str | None]) -> ConvBlock:
        """As much of it as leads to the last one of ``layers``."""
        if self.pool in layers:
            return self
        if self.relu in layers:
            return replace(self, pool=None)
        return replace(self, relu=None, pool=None)


class TorchVGG:
    """The stages of a network; weights have no gradient."""

    def __init__(
        self,
        head: InputNormalization,
        stages: Sequence[ConvBlock],
        *,
        taps: Sequence[str] = (),
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self.head = head
        self.stages = tuple(stages)
        self.taps = tuple(taps)
        """The model's outputs, in network order."""
        self.weights = dict(weights or {})
        """What the file says of its weights: description, licence, origin, SHA-256."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """What activations are computed in."""
        return self.head.mean.dtype

    def until(self, layers: Iterable[str], after: str | None = None) -> tuple[ConvBlock, ...]:
        """The stages that lead from the picture, or from the pooling ``after``, to the deepest one
        of ``layers``; what comes after is left out."""
        wanted: set[str | None] = set(layers)
        found: list[ConvBlock] = []
        for stage in reversed(self.stages):
            if after and stage.pool == after:
                break
            if found:
                found.append(stage)
            elif wanted & {stage.conv, stage.relu, stage.pool}:
                found.append(stage.until(wanted))
        return tuple(reversed(found))


def read_vgg(
    path: Path, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> TorchVGG:
    """Build the mirror of a plain model file, computing in ``dtype``.

    Raises :class:`ModelFileError` if the file is not a chain of the operations that VGG is made
    of, or does not give out every ReLU and pooling (which the way back starts from where ONNX
    Runtime went forwards).
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise PackageMissingError(
            "Repainting needs the packages torch and onnx; install them with: "
            'pip install "nstrt[full]"'
        ) from error
    model = onnx.load(path)
    graph = model.graph
    # Initializers may be views of read-only bytes: torch wants memory of its own.
    constants = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy()).to(
            device or torch.device("cpu")
        )
        for item in graph.initializer
    }
    return _Reader(path, model, constants, dtype).vgg()


class _Reader:
    """Reads the nodes of a file one after another."""

    def __init__(
        self, path: Path, model: onnx.ModelProto, constants: dict[str, Tensor], dtype: torch.dtype
    ) -> None:
        self._path = path
        self._model = model
        self._constants = constants
        self._dtype = dtype
        self._nodes = list(model.graph.node)
        self._value = model.graph.input[0].name
        self._taps = [output.name for output in model.graph.output]

    def vgg(self) -> TorchVGG:
        mean = self._constant(self._take("Sub"))
        std = self._constant(self._take("Div"))
        replicate = bool(self._nodes) and self._nodes[0].op_type == "Pad"
        if replicate:
            self._take("Pad", mode=b"edge")
        stages: list[ConvBlock] = []
        while self._nodes:
            stages.append(self._stage(padding=int(bool(stages) or not replicate)))
        facts = {item.key: item.value for item in self._model.metadata_props}
        head = InputNormalization(mean, std, replicate)
        return TorchVGG(head, stages, taps=self._taps, weights=weights_of(facts))

    def _stage(self, padding: int) -> ConvBlock:
        node = self._take("Conv", kernel_shape=[3, 3], pads=[padding] * 4)
        # Half of what is called precision belongs to the algorithm, not to what it is given.
        weight, bias = (self._constants[name].to(self._dtype) for name in node.input[1:3])
        conv, relu, pool, average = str(self._value), None, None, False
        if self._nodes:
            self._take("Relu")
            relu = self._tap()
            # Outputs that nobody asked for have whatever name the export gave them.
            conv = relu.replace("relu", "conv")
        if self._nodes and self._nodes[0].op_type != "Conv":
            average = self._nodes[0].op_type == "AveragePool"
            self._take("AveragePool" if average else "MaxPool", kernel_shape=[2, 2])
            pool = self._tap()
        return ConvBlock(Filter(weight, bias), conv, relu, pool, average)

    def _tap(self) -> str:
        name = str(self._value)
        if name not in self._taps:
            raise self._unlike(f"{name} is not among its outputs")
        return name

    def _constant(self, node: onnx.NodeProto) -> Tensor:
        return self._constants[node.input[1]].to(self._dtype)

    def _take(self, kind: str, **wanted: Any) -> onnx.NodeProto:
        """The next node, which has to be of a kind and have some attributes."""
        import onnx

        if not self._nodes:
            raise self._unlike(f"it ends where a {kind} should come")
        node: onnx.NodeProto = self._nodes.pop(0)
        if node.input[0] != self._value or len(node.output) != 1:
            raise self._unlike(f"{node.op_type} does not follow the node before it")
        given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type != kind or any(given.get(key) != item for key, item in wanted.items()):
            raise self._unlike(f"it has a {node.op_type} where VGG19 has a {kind} of its own")
        self._value = node.output[0]
        return node

    def _unlike(self, reason: str) -> ModelFileError:
        return ModelFileError(
            f"The model {self._path.name} cannot be mirrored: {reason}; export it again."
        )
