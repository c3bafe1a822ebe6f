"""Optimisers of the picture itself: Adam, and L-BFGS with its history in a fixed ring.

An optimiser is given the loss and gradient at the image and moves the image to the next point,
in place; one evaluation is one step. :meth:`Optimizer.rescaled` carries its state to the next,
finer scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Adam", "IterateAverage", "Lbfgs", "Optimizer", "Resize"]

Resize = Callable[[Tensor], Tensor]
"""Brings a 1 x 3 x height x width tensor to the next scale's height and width."""


class Optimizer(Protocol):
    """What the loop asks of an optimiser."""

    def update(self, image: Tensor, loss: float, gradient: Tensor) -> None:
        """Move ``image`` (1 x 3 x height x width) to the next point, given the loss there."""

    def rescaled(self, resize: Resize) -> None:
        """Carry the state over to a scale of another size."""


class Adam:
    """Adam (Kingma and Ba, 2015) on the picture, as torch computes it, with beta 0.9 for the
    first moment and ``beta2`` for the second.

    The loss falls by orders of magnitude within its first steps. With the usual 0.999 the second
    moment remembers their gradients for a thousand steps, and pixels that started badly hardly
    move any more; 0.99 forgets them in time.

    The picture is clamped to 0..1 after each step unless ``clamp`` is off.
    """

    def __init__(self, *, learning_rate: float, beta2: float = 0.99, clamp: bool = True) -> None:
        self.learning_rate = learning_rate
        self.beta2 = beta2
        self.clamp = clamp
        self._state: dict[str, Tensor] = {}
        self._adam: torch.optim.Adam | None = None

    def update(self, image: Tensor, loss: float, gradient: Tensor) -> None:
        if self._adam is None:
            self._adam = torch.optim.Adam([image], lr=self.learning_rate, betas=(0.9, self.beta2))
            if self._state:
                self._adam.state[image] = self._state
        image.grad = gradient
        self._adam.step()
        image.grad = None
        self._state = self._adam.state[image]
        if self.clamp:
            image.clamp_(0, 1)

    def rescaled(self, resize: Resize) -> None:
        """Moments are resampled; the second stays positive. Crowson's style-transfer-pytorch
        showed that this beats starting them afresh at every scale."""
        if not self._state:
            return
        self._state = {
            "step": self._state["step"],
            "exp_avg": resize(self._state["exp_avg"]),
            "exp_avg_sq": resize(self._state["exp_avg_sq"]).relu_(),
        }
        self._adam = None


class Lbfgs:
    """Limited-memory BFGS (Nocedal, 1980) in the box 0..1, one evaluation for each step.

    The full step is tried first; one that does not lower the loss is taken back and shortened,
    so that the loss never rises. Pixels held at the edge of the box by their gradient take no
    part in the step. The first step moves pixels by ``first_step`` on average (root mean square).
    """

    def __init__(self, *, history: int = 20, first_step: float = 0.01, clamp: bool = True) -> None:
        self.history = history
        self.first_step = first_step
        self.clamp = clamp
        self._pairs: list[tuple[Tensor, Tensor, float]] = []
        self._spare: list[tuple[Tensor, Tensor]] = []
        self._at: _Point | None = None

    def update(self, image: Tensor, loss: float, gradient: Tensor) -> None:
        at = self._at
        if at is not None and not loss <= at.loss:
            self._shorten(image, at)
            return
        if at is not None:
            self._remember(image, gradient, at)
        direction = self._direction(image, gradient)
        self._at = _Point(image.clone(), loss, gradient, direction)
        self._move(image, self._at)

    def rescaled(self, resize: Resize) -> None:
        """Steps and gradient changes are resampled. Each pixel of a finer scale has a smaller
        share of the same loss, so gradients shrink with the number of pixels."""
        pairs = self._pairs
        self._pairs, self._spare, self._at = [], [], None
        for step, change, _ in pairs:
            finer_step, finer_change = resize(step), resize(change)
            finer_change *= step.numel() / finer_step.numel()
            self._keep(finer_step, finer_change)

    def _shorten(self, image: Tensor, at: _Point) -> None:
        at.shortened += 1
        if at.shortened > 4:
            # The history misleads: fall back to the gradient's own direction.
            self._spare += [(step, change) for step, change, _ in self._pairs]
            self._pairs.clear()
            at.direction = self._direction(at.image, at.gradient)
            # The gradient's direction is sure, its length is a guess: start with less each time.
            at.length, at.shortened = 4.0**-at.restarts, 0
            at.restarts += 1
        else:
            at.length /= 3
        self._move(image, at)

    def _move(self, image: Tensor, at: _Point) -> None:
        torch.add(at.image, at.direction, alpha=at.length, out=image)
        if self.clamp:
            image.clamp_(0, 1)

    def _remember(self, image: Tensor, gradient: Tensor, at: _Point) -> None:
        if not self._spare:
            self._spare.append((torch.empty_like(image), torch.empty_like(image)))
        step, change = self._spare.pop()
        torch.sub(image, at.image, out=step)
        torch.sub(gradient, at.gradient, out=change)
        self._keep(step, change)

    def _keep(self, step: Tensor, change: Tensor) -> None:
        curvature = float(torch.vdot(step.flatten(), change.flatten()))
        if curvature <= 1e-10 * float(change.square().sum()):
            self._spare.append((step, change))
            return
        self._pairs.append((step, change, 1 / curvature))
        if len(self._pairs) > self.history:
            old = self._pairs.pop(0)
            self._spare.append((old[0], old[1]))

    def _direction(self, image: Tensor, gradient: Tensor) -> Tensor:
        """-H g by the two-loop recursion (Nocedal and Wright, 2006, algorithm 7.4)."""
        free = self._free(image, gradient)
        q = (gradient * free if free is not None else gradient.clone()).contiguous()
        flat = q.view(-1)
        if not self._pairs:
            scale = self.first_step / max(float(q.square().mean().sqrt()), 1e-30)
            return q.mul_(-scale)
        along: list[float] = []
        for step, change, rho in reversed(self._pairs):
            alpha = rho * float(torch.vdot(step.flatten(), flat))
            flat.add_(change.flatten(), alpha=-alpha)
            along.append(alpha)
        _, newest, rho = self._pairs[-1]
        flat.mul_(1 / (rho * float(newest.square().sum())))
        for (step, change, rho), alpha in zip(self._pairs, reversed(along), strict=True):
            beta = rho * float(torch.vdot(change.flatten(), flat))
            flat.add_(step.flatten(), alpha=alpha - beta)
        if free is not None:
            q.mul_(free)
        return q.neg_()

    def _free(self, image: Tensor, gradient: Tensor) -> Tensor | None:
        if not self.clamp:
            return None
        held = ((image <= 0) & (gradient > 0)) | ((image >= 1) & (gradient < 0))
        return held.logical_not_()


class _Point:
    """The last accepted image and the step being tried from it."""

    def __init__(self, image: Tensor, loss: float, gradient: Tensor, direction: Tensor) -> None:
        self.image = image
        self.loss = loss
        self.gradient = gradient
        self.direction = direction
        self.length = 1.0
        self.shortened = 0
        self.restarts = 0


class IterateAverage:
    """Exponential average of the last iterates, unbiased: sum of d^(n-k) x_k over its weights.

    Adam's iterates jitter around the minimum by about the learning rate; their average does not
    (Polyak and Juditsky, 1992).
    """

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self._sum: Tensor | None = None
        self._weight = 0.0

    def add(self, image: Tensor) -> None:
        """Take the next iterate into the average."""
        if self._sum is None:
            self._sum = torch.zeros_like(image)
        self._sum.mul_(self.decay).add_(image)
        self._weight = self._weight * self.decay + 1

    def value(self) -> Tensor:
        """The average so far."""
        if self._sum is None:
            raise ValueError("nothing was averaged yet")
        return self._sum / self._weight
