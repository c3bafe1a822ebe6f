"""The model file's network in PyTorch, built from its nodes and weights, with its gradient.

There is one description of the network, the ONNX file: the mirror reads it node by node, so the
two cannot drift apart. It can compute the activations itself, or take those that ONNX Runtime
computed and run only backwards through them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.model import ModelFileError, PackageMissingError

if TYPE_CHECKING:
    import onnx

__all__ = ["Mirror", "read_mirror"]


Check = Callable[[], None]
"""Called before each operation; leaves the computation by raising."""


def _go_on() -> None:
    pass


class Node(Protocol):
    """One operation of the network and its vector-Jacobian product."""

    def forward(self, x: Tensor) -> Tensor:
        """The operation's output for the input ``x``."""

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        """The gradient at the input from the one at the output, which may be overwritten.

        ``x`` and ``y`` are the operation's input and output where they were kept: every tap is,
        values between two taps are not.
        """


@dataclass(frozen=True)
class Subtract:
    """x - c, for a constant c."""

    constant: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x - self.constant

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        return grad


@dataclass(frozen=True)
class Divide:
    """x / c, for a constant c, then in the precision that the layers compute in."""

    constant: Tensor
    dtype: torch.dtype

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.constant).to(self.dtype)

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        return grad.float() / self.constant


@dataclass(frozen=True)
class ReplicatePad:
    """One pixel of the picture's own edge on every side."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (1, 1, 1, 1), mode="replicate")

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        # Each border pixel was copied outwards, corners three times: their gradients add up.
        rows = grad[:, :, 1:-1].clone()
        rows[:, :, 0] += grad[:, :, 0]
        rows[:, :, -1] += grad[:, :, -1]
        inner = rows[..., 1:-1].clone()
        inner[..., 0] += rows[..., 0]
        inner[..., -1] += rows[..., -1]
        return inner


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution with stride 1."""

    weight: Tensor
    bias: Tensor
    padding: int

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, padding=self.padding)

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        if x is None:
            # Only the input's shape matters to its gradient; expanding one value costs nothing.
            margin = 2 * (1 - self.padding)
            shape = (1, self.weight.shape[1], grad.shape[2] + margin, grad.shape[3] + margin)
            x = grad.new_zeros(1).expand(shape)
        sides, ones = [self.padding] * 2, [1, 1]
        found: Tensor = torch.ops.aten.convolution_backward(
            grad, x, self.weight, None, ones, sides, ones, False, [0, 0], 1, [True, False, False]
        )[0]
        return found


@dataclass(frozen=True)
class Relu:
    """max(x, 0), written over its input unless that is a tap too."""

    over_input: bool

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() if self.over_input else x.relu()

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        found: Tensor = torch.ops.aten.threshold_backward(grad, y, 0)
        return found


@dataclass(frozen=True)
class MaxPool:
    """The largest of each 2x2 window; an odd last row or column is left out."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2)

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        assert x is not None
        assert y is not None
        # The first of equal values wins, as in torch: ties must not be counted twice.
        result = torch.zeros_like(x)
        height, width = 2 * y.shape[2], 2 * y.shape[3]
        free = torch.ones_like(y, dtype=torch.bool)
        for row in (0, 1):
            for column in (0, 1):
                corner = slice(row, height, 2), slice(column, width, 2)
                wins = (x[:, :, *corner] == y).logical_and_(free)
                free ^= wins
                torch.mul(grad, wins, out=result[:, :, *corner])
        return result


@dataclass(frozen=True)
class AveragePool:
    """The mean of each 2x2 window; an odd last row or column is left out."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)

    def backward(self, grad: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor:
        assert x is not None
        result = torch.zeros_like(x)
        spread = functional.interpolate(grad / 4, scale_factor=2, mode="nearest")
        result[:, :, : spread.shape[2], : spread.shape[3]] = spread
        return result


@dataclass(frozen=True)
class Segment:
    """The nodes from one tap (or the picture) to the next."""

    tap: str
    nodes: tuple[Node, ...]

    def forward(self, x: Tensor, check: Check) -> Tensor:
        for node in self.nodes:
            check()
            x = node.forward(x)
        return x

    def backward(self, grad: Tensor, x: Tensor, y: Tensor, check: Check) -> Tensor:
        last = len(self.nodes) - 1
        for index, node in reversed(list(enumerate(self.nodes))):
            check()
            grad = node.backward(grad, x if index == 0 else None, y if index == last else None)
        return grad


class Mirror:
    """A chain of segments, each ending in a tap of the model file.

    All tensors are 1 x channels x height x width. Weights have no gradient.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        *,
        device: torch.device,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self.segments = tuple(segments)
        self.device = device
        self.weights = dict(weights or {})

    @property
    def taps(self) -> tuple[str, ...]:
        """The model's outputs, in network order."""
        return tuple(segment.tap for segment in self.segments)

    @torch.no_grad()
    def activations(self, image: Tensor, check: Check = _go_on) -> dict[str, Tensor]:
        """Every tap's activation for an image, RGB in 0..1, without a graph for autograd."""
        found: dict[str, Tensor] = {}
        x = image
        for segment in self.segments:
            x = segment.forward(x, check)
            found[segment.tap] = x
        return found

    @torch.no_grad()
    def gradient(
        self,
        image: Tensor,
        activations: Mapping[str, Tensor],
        at: Mapping[str, Tensor],
        check: Check = _go_on,
    ) -> Tensor:
        """The gradient at the image from the gradients ``at`` some of the taps.

        ``activations`` are those of all taps for ``image``, whoever computed them; nothing is
        computed forwards here. The tensors in ``at`` may be overwritten.
        """
        grad: Tensor | None = None
        for position in reversed(range(len(self.segments))):
            segment = self.segments[position]
            if (own := at.get(segment.tap)) is not None:
                grad = own if grad is None else grad.add_(own)
            if grad is None:
                continue
            x = activations[self.segments[position - 1].tap] if position else image
            grad = segment.backward(grad, x, activations[segment.tap], check)
        return torch.zeros_like(image) if grad is None else grad


def read_mirror(
    path: Path, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Mirror:
    """Build the mirror of a plain model file.

    Raises :class:`ModelFileError` if the file is not a chain of the operations that VGG is made
    of, or does not give out every ReLU and pooling (which the backward pass starts from).
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise PackageMissingError(
            "Repainting needs the packages torch and onnx; install them with: "
            'pip install "nstrt[full]"'
        ) from error
    device = device or torch.device("cpu")
    model = onnx.load(path)
    graph = model.graph
    # Initializers may be views of read-only bytes: torch wants memory of its own.
    constants = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy()).to(device)
        for item in graph.initializer
    }
    taps = {output.name for output in graph.output}
    segments: list[Segment] = []
    nodes: list[Node] = []
    value = graph.input[0].name
    for node in graph.node:
        if node.input[0] != value or len(node.output) != 1:
            raise _unlike(path, f"{node.op_type} does not follow the node before it")
        nodes.append(_node(node, constants, dtype, over_input=value not in taps, path=path))
        value = node.output[0]
        if value in taps:
            segments.append(Segment(tap=value, nodes=tuple(nodes)))
            nodes = []
        elif node.op_type in ("Relu", "MaxPool", "AveragePool"):
            raise _unlike(path, f"its {node.op_type} {value} is not among its outputs")
    return Mirror(segments, device=device, weights=_weights(model))


def _weights(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says of its weights."""
    facts = {item.key: item.value for item in model.metadata_props}
    found = {"description": facts.get("nstrt.weights", "")}
    for name in ("licence", "origin", "sha256"):
        found[name] = facts.get(f"nstrt.weights.{name}", "")
    return found


def _node(
    node: onnx.NodeProto,
    constants: Mapping[str, Tensor],
    dtype: torch.dtype,
    *,
    over_input: bool,
    path: Path,
) -> Node:
    import onnx

    options: dict[str, Any] = {
        item.name: onnx.helper.get_attribute_value(item) for item in node.attribute
    }
    match node.op_type:
        case "Sub":
            return Subtract(constants[node.input[1]])
        case "Div":
            return Divide(constants[node.input[1]], dtype)
        case "Pad" if options.get("mode") == b"edge":
            return ReplicatePad()
        case "Conv" if options.get("kernel_shape") == [3, 3]:
            weight, bias = (constants[name].to(dtype) for name in node.input[1:3])
            return Convolution(weight, bias, padding=options["pads"][0])
        case "Relu":
            return Relu(over_input=over_input)
        case "MaxPool" if options.get("kernel_shape") == [2, 2]:
            return MaxPool()
        case "AveragePool" if options.get("kernel_shape") == [2, 2]:
            return AveragePool()
    raise _unlike(path, f"it has a node {node.op_type} that VGG19 does not have")


def _unlike(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(f"The model {path.name} cannot be mirrored: {reason}; export it again.")
