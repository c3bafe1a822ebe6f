"""Engines: given an image, the loss terms and the gradient with respect to the image.

Both engines share the losses and the way back to the image; they differ in who computes the
activations. ``torch`` computes them in the mirrored graph, ``onnx`` in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from nstrt.runtime.interrupt import Interrupt
from nstrt.runtime.losses import Objective
from nstrt.runtime.mirror import Mirror
from nstrt.runtime.session import FeatureSession
from nstrt.runtime.terms import LossTerms

__all__ = ["Engine", "OnnxEngine", "TorchEngine"]


class Engine(Protocol):
    """What the loop asks of an engine."""

    name: str
    """``torch`` or ``onnx``."""

    device: torch.device
    """Where the image lies."""

    weights: dict[str, str]
    """What the model file says of its weights: description, licence, origin, SHA-256."""

    interrupt: Interrupt
    """Who may end a computation between two layers, which then raises
    :class:`~nstrt.runtime.interrupt.Interrupted`; a run puts its own here."""

    def features(self, image: Tensor) -> Mapping[str, Tensor]:
        """Activations of all taps for a 1 x 3 x height x width image, RGB in 0..1.

        They are valid until the engine is used again.
        """

    def evaluate(self, image: Tensor, objective: Objective) -> tuple[LossTerms, Tensor]:
        """The loss terms at ``image`` (1 x 3 x height x width, RGB in 0..1), and their gradient
        with respect to it, of the same shape."""

    def measure(self, image: Tensor, objective: Objective) -> LossTerms:
        """The loss terms at ``image`` alone."""

    def nodes_by_provider(self) -> dict[str, int]:
        """How many nodes of the network ONNX Runtime runs on which provider; empty for torch."""

    def release(self) -> None:
        """Give back the memory that is kept between steps."""


class _Mirrored:
    """The half that both engines share: from activations to losses and back to the image."""

    name: str

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.device = mirror.device
        self.weights = mirror.weights
        self.interrupt = Interrupt()

    def features(self, image: Tensor) -> Mapping[str, Tensor]:
        raise NotImplementedError

    def evaluate(self, image: Tensor, objective: Objective) -> tuple[LossTerms, Tensor]:
        activations = self.features(image)
        self.interrupt.check()
        half = activations[objective.layers[0]].dtype == torch.float16
        leaves = {
            name: (activations[name].float() if half else activations[name].detach())
            for name in objective.layers
        }
        picture = image.detach().requires_grad_()
        for leaf in leaves.values():
            leaf.requires_grad_()
        with torch.enable_grad():
            loss, terms = objective.terms(picture, leaves)
            *at_taps, at_picture = torch.autograd.grad(loss, [*leaves.values(), picture])
        gradients = dict(zip(leaves, at_taps, strict=True))
        scale = _into_half(gradients) if half else 1.0
        through = self.mirror.gradient(image, activations, gradients, self.interrupt.check)
        return terms, at_picture.add_(through, alpha=scale)

    def measure(self, image: Tensor, objective: Objective) -> LossTerms:
        with torch.no_grad():
            return objective.terms(image, self.features(image))[1]

    def nodes_by_provider(self) -> dict[str, int]:
        return {}

    def release(self) -> None:
        """Nothing is kept between steps."""


class TorchEngine(_Mirrored):
    """Everything in the mirrored PyTorch graph."""

    name = "torch"

    def features(self, image: Tensor) -> Mapping[str, Tensor]:
        return self.mirror.activations(image, self.interrupt.check)


class OnnxEngine(_Mirrored):
    """ONNX Runtime forwards, without copies; the mirrored graph backwards on its activations."""

    name = "onnx"

    def __init__(self, mirror: Mirror, session: FeatureSession) -> None:
        super().__init__(mirror)
        self.session = session

    def features(self, image: Tensor) -> Mapping[str, Tensor]:
        return self.session.bound(image.detach().contiguous(), self.interrupt)

    def nodes_by_provider(self) -> dict[str, int]:
        return self.session.nodes_by_provider()

    def release(self) -> None:
        self.session.release()


def _into_half(gradients: dict[str, Tensor]) -> float:
    """Turn gradients at the taps into half precision; returns what undoes the scaling.

    Gradients of means over a million positions lie far below half precision's smallest numbers,
    so they are scaled up together first.
    """
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    scale = max(largest, 1e-30)
    for name, gradient in gradients.items():
        gradients[name] = (gradient / scale).half()
    return scale
