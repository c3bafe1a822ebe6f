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

    Where the history knows nothing, the inverse of the Hessian is taken to be gamma P, with

        P = F^-1 diag(1 / (f + f0)^smoothing) F

    for the Fourier transform F of each channel and frequencies f in cycles per pixel: losses of
    convolutions curve most along fine patterns. It is as if the picture were painted in a Fourier
    basis scaled by (f + f0)^(-smoothing / 2), as feature visualisation does (Olah, Mordvintsev
    and Schubert, 2017). With ``smoothing`` 0 it is the usual gamma I.

    Nothing here waits for a GPU: products stay where they are computed.
    """

    def __init__(
        self,
        *,
        history: int = 20,
        first_step: float = 0.01,
        clamp: bool = True,
        smoothing: float = 1.0,
    ) -> None:
        self.history = history
        self.first_step = first_step
        self.clamp = clamp
        self.smoothing = smoothing
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._spare: list[tuple[Tensor, Tensor]] = []
        self._gamma: Tensor | None = None
        self._weights: Tensor | None = None
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
        pairs, gamma = self._pairs, self._gamma
        self._pairs, self._spare = [], []
        self._gamma = self._weights = self._at = None
        for step, change, _ in pairs:
            finer_step, finer_change = resize(step), resize(change)
            share = step.numel() / finer_step.numel()
            if self._gamma is None and gamma is not None:
                self._gamma = gamma / share
            self._keep(finer_step, finer_change.mul_(share))

    def _shorten(self, image: Tensor, at: _Point) -> None:
        at.shortened += 1
        if at.shortened > 4:
            # The history misleads: fall back to the gradient's own direction.
            self._spare += [(step, change) for step, change, _ in self._pairs]
            self._pairs.clear()
            self._gamma = None
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
        if len(self._pairs) >= self.history:
            self._spare.append(self._pairs.pop(0)[:2])
        if not self._spare:
            self._spare.append((torch.empty_like(image), torch.empty_like(image)))
        step, change = self._spare.pop()
        torch.sub(image, at.image, out=step)
        torch.sub(gradient, at.gradient, out=change)
        self._keep(step, change)

    def _keep(self, step: Tensor, change: Tensor) -> None:
        """Take in the step s, the gradient's change y, rho = 1 / s'y and gamma = s'y / y'Py
        (Nocedal and Wright, 2006, equation 7.20, in P's metric). A pair without positive curvature
        gets rho 0, with which it counts for nothing."""
        flat = change.flatten()
        curvature = torch.vdot(step.flatten(), flat)
        usable = curvature > 1e-10 * torch.vdot(flat, flat)
        gamma = curvature / torch.vdot(flat, self._smoothed(change).flatten())
        self._gamma = gamma if self._gamma is None else torch.where(usable, gamma, self._gamma)
        self._pairs.append((step, change, torch.where(usable, 1 / curvature, 0.0)))

    def _direction(self, image: Tensor, gradient: Tensor) -> Tensor:
        """-H g by the two-loop recursion (Nocedal and Wright, 2006, algorithm 7.4)."""
        free = self._free(image, gradient)
        q = (gradient * free if free is not None else gradient.clone()).contiguous()
        along: list[Tensor] = []
        for step, change, rho in reversed(self._pairs):
            alpha = rho * torch.vdot(step.flatten(), q.view(-1))
            q.addcmul_(change, alpha, value=-1)
            along.append(alpha)
        q = self._smoothed(q)
        if self._gamma is None:
            moved = q * free if free is not None else q
            self._gamma = self.first_step / moved.square().mean().sqrt().clamp_min(1e-30)
        q.mul_(self._gamma)
        for (step, change, rho), alpha in zip(self._pairs, reversed(along), strict=True):
            beta = rho * torch.vdot(change.flatten(), q.view(-1))
            q.addcmul_(step, alpha - beta)
        if free is not None:
            q.mul_(free)
        return q.neg_()

    def _smoothed(self, tensor: Tensor) -> Tensor:
        """P times a tensor; for P = I the tensor itself."""
        if not self.smoothing:
            return tensor
        height, width = tensor.shape[-2:]
        if self._weights is None:
            rows = torch.fft.fftfreq(height, dtype=tensor.dtype, device=tensor.device)
            columns = torch.fft.rfftfreq(width, dtype=tensor.dtype, device=tensor.device)
            frequencies = torch.hypot(rows[:, None], columns)
            self._weights = frequencies.add_(_FLAT_BELOW).pow_(-self.smoothing)
        spectrum = torch.fft.rfft2(tensor).mul_(self._weights)
        found: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
        return found.contiguous()

    def _free(self, image: Tensor, gradient: Tensor) -> Tensor | None:
        if not self.clamp:
            return None
        held = ((image <= 0) & (gradient > 0)) | ((image >= 1) & (gradient < 0))
        return held.logical_not_()


_FLAT_BELOW = 0.02
"""f0, cycles per pixel: P hardly tells patterns apart that are coarser than fifty pixels."""


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
