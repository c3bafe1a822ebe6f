"""Check step and tile graphs: run them in ONNX Runtime and compare with torch's autograd.

The reference shares only the weights with the graph: it is the PyTorch network with the loss
formulas written in torch. Rounding flips some ReLU masks and pooling maxima, which changes a
gradient by a thousandth. Gradients are therefore compared twice: end to end, and with the graph's
activations inserted into the reference, which leaves only arithmetic errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from nstrt.exporter.check import SIZES, Check, check_picture, relative_error
from nstrt.exporter.vgg import FeatureNet
from nstrt.runtime.errors import ExportCheckError
from nstrt.runtime.model import (
    CONTENT_FACTORS,
    CONTENT_SHARES,
    GRADIENT,
    IMAGE,
    STYLE_SHARES,
    TERM_NAMES,
    TERMS,
    WEIGHTS,
    ModelSpec,
    StepVariant,
    core_input,
    gram_input,
    pull_input,
    shift_input,
    target_input,
)
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.onnx_runtime import import_onnxruntime

__all__ = ["STEP_TOLERANCES", "Tolerances", "check_step", "reference_features"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Tolerances:
    """Largest relative errors allowed for a step or tile, ||a - b|| / ||b||."""

    terms: float
    """Error of the loss and each of its terms."""

    gradient: float
    """Error of each term's gradient, end to end."""

    arithmetic: float
    """Error of each term's gradient on the same activations."""


_SINGLE = Tolerances(terms=1e-4, gradient=1e-2, arithmetic=1e-5)
_HALF = Tolerances(terms=2e-3, gradient=5e-2, arithmetic=1e-3)

STEP_TOLERANCES: Mapping[StepVariant, Tolerances] = {
    "step": _SINGLE,
    "tile": _SINGLE,
    "step-fp16": _HALF,
    "tile-fp16": _HALF,
}
"""Tolerances by variant."""


def check_step(model: onnx.ModelProto, content: bytes, net: FeatureNet, spec: ModelSpec) -> Check:
    """Compare the serialised step or tile of ``spec`` with its network in single precision.

    Returns the error that is largest relative to its tolerance. Raises :class:`ExportCheckError`
    for invalid ONNX, wrong outputs, an error above its tolerance or a value that is not finite.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportCheckError(f"The exported model is not valid ONNX: {error}") from error
    layers = _values(net, model)
    session, activation_session = (
        _session(content),
        _session(_with_activations(model, layers)),
    )
    whole = spec.variant.startswith("step")
    expected = [TERMS, GRADIENT] if whole else [GRADIENT]
    names = [output.name for output in session.get_outputs()]
    if names != expected:
        raise ExportCheckError(f"The exported model gives out {names} instead of {expected}.")

    tolerances = STEP_TOLERANCES[spec.variant]  # type: ignore[index]
    checks: list[Check] = []
    for height, width in SIZES:
        check_interrupt()
        image = check_picture(height, width)
        case = (_Step if whole else _Tile)(spec, net, image)
        activations: dict[str, Array] = {}
        for inputs, compare in case.runs():
            outputs = dict(zip(expected, session.run(None, inputs), strict=True))
            # Activations do not depend on loss weights.
            activations = activations or dict(
                zip(layers, activation_session.run(list(layers.values()), inputs), strict=True)
            )
            for name, values in outputs.items():
                if not np.isfinite(values).all():
                    raise ExportCheckError(f"{name} is not finite in the {spec.variant} model.")
            for part, ours, reference, allowed in compare(outputs, activations, tolerances):
                difference = relative_error(ours, reference)
                checks.append(
                    Check(
                        largest_error=difference,
                        worst_tap=part,
                        tolerance=allowed,
                        largest_value=float(max(np.abs(v).max() for v in activations.values())),
                    )
                )
    worst = max(checks, key=lambda check: check.largest_error / check.tolerance)
    if not worst.largest_error <= worst.tolerance:
        raise ExportCheckError(
            f"The exported {spec.variant} model differs from the network by "
            f"{worst.largest_error:.1e} in {worst.worst_tap}; at most {worst.tolerance:.0e} is "
            "allowed. No file was written."
        )
    return worst


def reference_features(
    net: FeatureNet, image: Tensor, activations: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return every layer's features, differentiable.

    ``activations`` replace the outputs of their layers. Autograd then uses their ReLU masks and
    pooling maxima.
    """
    activations = activations or {}
    x = (image - net.mean) / net.std
    features: dict[str, Tensor] = {}
    for name, layer in net.layers.items():
        x = layer(x)
        if name in activations:
            x = _replace_value(x, activations[name])
        features[name] = x
        rectified = name.replace("conv", "relu")
        if rectified != name and rectified in activations:
            # The ReLU's input decides its mask, so it gets the other ReLU's output.
            x = _replace_value(x, activations[rectified])
    return features


class _ReplaceValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, computed: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _replace_value(computed: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``computed``."""
    result: Tensor = _ReplaceValue.apply(computed, value)
    return result


RUNS = {
    (1.0, 0.0, 0.0): "content",
    (0.0, 1.0, 0.0): "style",
    (0.5, 2.0, 100.0): "the loss",
}
"""Weights of content, style and tv, and the name of their gradient."""

Comparison = tuple[str, Array, Array, float]
"""Name, actual value, expected value and largest relative error allowed."""

Compare = Callable[[Mapping[str, Array], Mapping[str, Array], Tolerances], Iterator[Comparison]]
"""Function from the graph's outputs and activations to comparisons."""

Inputs = dict[str, Array]


class _Case:
    """Test picture with targets from a mirrored and a recoloured copy."""

    def __init__(self, spec: ModelSpec, net: FeatureNet, image: Array) -> None:
        self.spec = spec
        self.net = net
        self.image = image
        mirrored, recoloured = image[..., ::-1].copy(), np.roll(image, 1, axis=1)
        with torch.no_grad():
            content = reference_features(net, torch.from_numpy(mirrored))
            style = reference_features(net, torch.from_numpy(recoloured))
        self.targets = {name: content[name] for name in spec.content_layers}
        self.grams = {name: _gram(style[name]) for name in spec.style_layers}

    def evaluate(
        self, activations: Mapping[str, Array] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the image and the reference's features of it, differentiable."""
        image = torch.from_numpy(self.image).requires_grad_()
        values = {name: torch.from_numpy(v).float() for name, v in (activations or {}).items()}
        return image, reference_features(self.net, image, values)


class _Step(_Case):
    """Compare the terms, and the gradient of each term alone."""

    def runs(self) -> Iterator[tuple[Inputs, Compare]]:
        self._references: dict[bool, tuple[Tensor, Tensor]] = {}
        self._content = _shares(self.targets)
        self._style = _shares(self.grams)
        inputs: Inputs = {IMAGE: self.image}
        inputs |= {target_input(name): value.numpy() for name, value in self.targets.items()}
        inputs |= {gram_input(name): value.numpy() for name, value in self.grams.items()}
        if self._content:
            inputs[CONTENT_SHARES] = np.array([*self._content.values()], np.float32)
        if self._style:
            inputs[STYLE_SHARES] = np.array([*self._style.values()], np.float32)
        for weights in RUNS:
            yield (
                {**inputs, WEIGHTS: np.array(weights, np.float32)},
                partial(self._compare, weights),
            )

    def _compare(
        self,
        weights: tuple[float, float, float],
        outputs: Mapping[str, Array],
        activations: Mapping[str, Array],
        tolerances: Tolerances,
    ) -> Iterator[Comparison]:
        name = RUNS[weights]
        for same in (False, True):
            if same not in self._references:
                self._references[same] = self._reference(activations if same else None)
            terms, gradients = self._references[same]
            factors = torch.tensor(weights)
            if not same:
                expected = torch.cat([(factors @ terms)[None], terms])
                for term, ours, theirs in zip(
                    TERM_NAMES, outputs[TERMS], expected.numpy(), strict=True
                ):
                    yield f"the {term} term", ours[None], theirs[None], tolerances.terms
            allowed = tolerances.arithmetic if same else tolerances.gradient
            where = "the same activations" if same else "its own activations"
            gradient = torch.einsum("k,kbchw->bchw", factors, gradients).numpy()
            yield f"the gradient of {name} on {where}", outputs[GRADIENT], gradient, allowed

    def _reference(self, activations: Mapping[str, Array] | None) -> tuple[Tensor, Tensor]:
        image, features = self.evaluate(activations)
        zero = image.sum() * 0
        content = sum(
            (
                share * (features[name] - self.targets[name]).square().sum()
                for name, share in self._content.items()
            ),
            zero,
        )
        style = sum(
            (
                share * (_gram(features[name]) - self.grams[name]).square().sum()
                for name, share in self._style.items()
            ),
            zero,
        )
        right, below = image.diff(dim=-1).square(), image.diff(dim=-2).square()
        tv = torch.cat([right.flatten(), below.flatten()]).mean()
        terms = [content, style, tv]
        gradients = [torch.autograd.grad(term, image, retain_graph=True)[0] for term in terms]
        return torch.stack(terms).detach(), torch.stack(gradients)


class _Tile(_Case):
    """Compare the gradient of a tile whose cores differ on every side."""

    def runs(self) -> Iterator[tuple[Inputs, Compare]]:
        generator = torch.Generator().manual_seed(19)
        self._factors = {name: 0.5 + 0.25 * index for index, name in enumerate(self.targets)}
        pulls = {
            name: torch.randn(gram.shape, generator=generator) / gram.shape[0]
            for name, gram in self.grams.items()
        }
        shifts = {
            name: torch.randn(1, len(gram), 1, 1, generator=generator)
            for name, gram in self.grams.items()
        }
        with torch.no_grad():
            features = reference_features(self.net, torch.from_numpy(self.image))
        inputs: Inputs = {IMAGE: self.image}
        inputs |= {target_input(name): value.numpy() for name, value in self.targets.items()}
        inputs |= {pull_input(name): value.numpy() for name, value in pulls.items()}
        inputs |= {shift_input(name): value.numpy() for name, value in shifts.items()}
        if self._factors:
            inputs[CONTENT_FACTORS] = np.array([*self._factors.values()], np.float32)
        self._cores: dict[str, tuple[int, ...]] = {}
        for name in self.spec.taps:
            height, width = features[name].shape[2:]
            self._cores[name] = (height // 4, height - height // 3, width // 3, width)
            # Top, bottom, left, right.
            inputs[core_input(name)] = np.array(self._cores[name], np.int64)
        yield inputs, partial(self._compare, pulls, shifts)

    def _compare(
        self,
        pulls: Mapping[str, Tensor],
        shifts: Mapping[str, Tensor],
        outputs: Mapping[str, Array],
        activations: Mapping[str, Array],
        tolerances: Tolerances,
    ) -> Iterator[Comparison]:
        for same in (False, True):
            image, features = self.evaluate(activations if same else None)
            output_gradients = []
            for name in self.spec.taps:
                value = features[name].detach()
                pull = torch.zeros_like(value)
                if name in pulls:
                    pull += torch.einsum("ij,bjhw->bihw", pulls[name], value) + shifts[name]
                if name in self._factors:
                    pull += self._factors[name] * (value - self.targets[name])
                top, bottom, left, right = self._cores[name]
                inside = torch.zeros_like(pull)
                inside[:, :, top:bottom, left:right] = pull[:, :, top:bottom, left:right]
                output_gradients.append(inside)
            outputs_of_taps = [features[name] for name in self.spec.taps]
            (gradient,) = torch.autograd.grad(outputs_of_taps, image, output_gradients)
            allowed = tolerances.arithmetic if same else tolerances.gradient
            where = "the same activations" if same else "its own activations"
            yield f"the gradient on {where}", outputs[GRADIENT], gradient.numpy(), allowed


def _gram(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def _shares(targets: Mapping[str, Tensor]) -> dict[str, float]:
    """Return factors that give all layers a similar but different weight."""
    return {
        name: float(np.float32((1 + index / 4) / float(target.square().sum())))
        for index, (name, target) in enumerate(targets.items())
    }


def _session(content: bytes) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _values(net: FeatureNet, model: onnx.ModelProto) -> dict[str, str]:
    """Map ReLU, pooling and loss layers to the names of their values, in network order."""
    kinds = ("Conv", "Relu", "MaxPool", "AveragePool")
    layers = [name for name in net.layers if name != "pad"]
    chain = [node.output[0] for node in model.graph.node if node.op_type in kinds]
    return {
        name: value
        for name, value in zip(layers, chain, strict=False)
        if not name.startswith("conv") or name in net.taps
    }


def _with_activations(model: onnx.ModelProto, values: Mapping[str, str]) -> bytes:
    """Serialise the model with its activations as further outputs."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    kinds = {item.data_type for item in model.graph.initializer}
    kind = TensorProto.FLOAT16 if TensorProto.FLOAT16 in kinds else TensorProto.FLOAT
    for value in values.values():
        extended.graph.output.append(helper.make_tensor_value_info(value, kind, None))
    content: bytes = extended.SerializeToString()
    return content
