"""Optimisers of the picture itself: Adam, and L-BFGS with its history in a fixed ring.

Pictures are NumPy arrays or torch tensors, 1 x 3 x height x width. An optimiser is given the loss
and gradient at the image and moves the image to the next point, in place; one evaluation is one
step. :meth:`Optimizer.rescaled` carries its state to the next, finer scale.

``state`` gives what a checkpoint has to hold, arrays as they lie, valid until the next step;
``restore`` takes it up in a new object made with the same arguments, which goes on to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nstrt.runtime.arrays import Array, arrays_of, bands_of
from nstrt.runtime.optim.state import State

__all__ = ["Adam", "IterateAverage", "Lbfgs", "Optimizer", "Resize"]

Resize = Callable[[Array], Array]
"""Brings a 1 x 3 x height x width array to the next scale's height and width."""


class Optimizer(Protocol):
    """What the loop asks of an optimiser."""

    def update(self, image: Array, loss: float, gradient: Array) -> None:
        """Move ``image`` (1 x 3 x height x width) to the next point, given the loss there."""

    def rescaled(self, resize: Resize) -> None:
        """Carry the state over to a scale of another size."""

    def state(self) -> State:
        """What a checkpoint holds."""

    def restore(self, state: State) -> None:
        """Go on from it."""


class Adam:
    """Adam (Kingma and Ba, 2015) on the picture, with beta 0.9 for the first moment and ``beta2``
    for the second. With m and v the moments of the gradients g and t the steps so far::

        m = 0.9 m + 0.1 g,    v = beta2 v + (1 - beta2) g^2
        image -= rate * (m / (1 - 0.9^t)) / (sqrt(v / (1 - beta2^t)) + 1e-8)

    The loss falls by orders of magnitude within its first steps. With the usual 0.999 the second
    moment remembers their gradients for a thousand steps, and pixels that started badly hardly
    move any more; 0.99 forgets them in time.

    The picture is clamped to 0..1 after each step unless ``clamp`` is off.
    """

    def __init__(self, *, learning_rate: float, beta2: float = 0.99, clamp: bool = True) -> None:
        self.learning_rate = learning_rate
        self.beta2 = beta2
        self.clamp = clamp
        self._steps = 0
        self._moments: tuple[Array, Array] | None = None

    def update(self, image: Array, loss: float, gradient: Array) -> None:
        arrays = arrays_of(image)
        if self._moments is None:
            self._moments = arrays.zeros(image.shape, image), arrays.zeros(image.shape, image)
        self._steps += 1
        for rows in bands_of(image):
            band = (..., rows, slice(None))
            mean, square = (moment[band] for moment in self._moments)
            self._update(image[band], gradient[band], mean, square)

    def _update(self, image: Array, gradient: Array, mean: Array, square: Array) -> None:
        arrays = arrays_of(image)
        mean *= _BETA1
        arrays.add_scaled(mean, gradient, 1 - _BETA1)
        square *= self.beta2
        arrays.add_scaled(square, gradient * gradient, 1 - self.beta2)
        step = arrays.sqrt(square)
        step /= (1 - self.beta2**self._steps) ** 0.5
        step += _SMALLEST_ROOT
        step = mean / step
        arrays.add_scaled(image, step, -self.learning_rate / (1 - _BETA1**self._steps))
        if self.clamp:
            arrays.clamp(image)

    def rescaled(self, resize: Resize) -> None:
        """Moments are resampled; the second stays positive. Crowson's style-transfer-pytorch
        showed that this beats starting them afresh at every scale."""
        if self._moments is not None:
            mean, square = map(resize, self._moments)
            self._moments = mean, arrays_of(square).clamp_min(square, 0.0)

    def state(self) -> State:
        return {"steps": self._steps, "moments": self._moments}

    def restore(self, state: State) -> None:
        self._steps, moments = state["steps"], state["moments"]
        self._moments = None if moments is None else (moments[0], moments[1])


_BETA1 = 0.9
"""Adam's decay of the first moment."""

_SMALLEST_ROOT = 1e-8
"""What keeps Adam from dividing by zero."""


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
        self._pairs: list[tuple[Array, Array, Array]] = []
        self._spare: list[tuple[Array, Array]] = []
        self._gamma: Array | None = None
        self._weights: Array | None = None
        self._at: _Point | None = None

    def update(self, image: Array, loss: float, gradient: Array) -> None:
        at = self._at
        if at is not None and not loss <= at.loss:
            self._shorten(image, at)
            return
        if at is not None:
            self._remember(image, gradient, at)
        direction = self._direction(image, gradient)
        self._at = _Point(arrays_of(image).copy(image), loss, gradient, direction)
        self._move(image, self._at)

    def rescaled(self, resize: Resize) -> None:
        """Steps and gradient changes are resampled. Each pixel of a finer scale has a smaller
        share of the same loss, so gradients shrink with the number of pixels."""
        pairs, gamma = self._pairs, self._gamma
        self._pairs, self._spare = [], []
        self._gamma = self._weights = self._at = None
        while pairs:
            # Coarse ones go as fine ones come: all of both would be the most memory of a run.
            step, change, _ = pairs.pop(0)
            finer_step, finer_change = resize(step), resize(change)
            share = math.prod(step.shape) / math.prod(finer_step.shape)
            if self._gamma is None and gamma is not None:
                self._gamma = gamma / share
            finer_change *= share
            self._keep(finer_step, finer_change)

    def state(self) -> State:
        at = None if self._at is None else vars(self._at)
        return {"pairs": self._pairs, "gamma": self._gamma, "at": at}

    def restore(self, state: State) -> None:
        self._pairs = [(step, change, rho) for step, change, rho in state["pairs"]]
        self._gamma = state["gamma"]
        self._at = None if state["at"] is None else _Point(**state["at"])

    def _shorten(self, image: Array, at: _Point) -> None:
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

    def _move(self, image: Array, at: _Point) -> None:
        arrays = arrays_of(image)
        image[...] = at.image
        arrays.add_scaled(image, at.direction, at.length)
        if self.clamp:
            arrays.clamp(image)

    def _remember(self, image: Array, gradient: Array, at: _Point) -> None:
        if len(self._pairs) >= self.history:
            self._spare.append(self._pairs.pop(0)[:2])
        if not self._spare:
            arrays = arrays_of(image)
            self._spare.append((arrays.empty(image.shape, image), arrays.empty(image.shape, image)))
        step, change = self._spare.pop()
        step[...], change[...] = image, gradient
        step -= at.image
        change -= at.gradient
        self._keep(step, change)

    def _keep(self, step: Array, change: Array) -> None:
        """Take in the step s, the gradient's change y, rho = 1 / s'y and gamma = s'y / y'Py
        (Nocedal and Wright, 2006, equation 7.20, in P's metric). A pair without positive curvature
        gets rho 0, with which it counts for nothing."""
        arrays = arrays_of(change)
        curvature = arrays.dot(step, change)
        usable = curvature > 1e-10 * arrays.dot(change, change)
        metric = sum(arrays.dot(*pair) for pair in self._smoothed(change))
        gamma = curvature / arrays.where(usable, metric, 1.0)
        self._gamma = gamma if self._gamma is None else arrays.where(usable, gamma, self._gamma)
        rho = usable / arrays.where(usable, curvature, 1.0)
        self._pairs.append((step, change, rho))

    def _direction(self, image: Array, gradient: Array) -> Array:
        """-H g by the two-loop recursion (Nocedal and Wright, 2006, algorithm 7.4)."""
        arrays = arrays_of(image)
        free = self._free(image, gradient)
        q = gradient * free if free is not None else arrays.copy(gradient)
        along: list[Array] = []
        for step, change, rho in reversed(self._pairs):
            alpha = rho * arrays.dot(step, q)
            arrays.add_scaled(q, change, -alpha)
            along.append(alpha)
        for channel, smoothed in self._smoothed(q):
            channel[...] = smoothed
        if self._gamma is None:
            moved = q * free if free is not None else q
            length = (arrays.dot(moved, moved) / math.prod(q.shape)) ** 0.5
            self._gamma = self.first_step / arrays.clamp_min(length, 1e-30)
        q *= self._gamma
        for (step, change, rho), alpha in zip(self._pairs, reversed(along), strict=True):
            beta = rho * arrays.dot(change, q)
            arrays.add_scaled(q, step, alpha - beta)
        if free is not None:
            q *= free
        q *= -1
        return q

    def _smoothed(self, array: Array) -> Iterator[tuple[Array, Array]]:
        """Each channel of an array, where it lies, and P times it. All of them at once would take
        four pictures more."""
        for number in range(array.shape[1]):
            channel = array[:, number]
            yield channel, self._filtered(channel) if self.smoothing else channel

    def _filtered(self, channel: Array) -> Array:
        arrays = arrays_of(channel)
        if self._weights is None:
            height, width = channel.shape[-2:]
            frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
            weights = (frequencies + _FLAT_BELOW) ** -self.smoothing
            self._weights = arrays.from_numpy(weights, like=channel)
        return arrays.filter_spectrum(channel, self._weights)

    def _free(self, image: Array, gradient: Array) -> Array | None:
        if not self.clamp:
            return None
        held = ((image <= 0) & (gradient > 0)) | ((image >= 1) & (gradient < 0))
        return ~held


_FLAT_BELOW = 0.02
"""f0, cycles per pixel: P hardly tells patterns apart that are coarser than fifty pixels."""


@dataclass
class _Point:
    """The last accepted image and the step being tried from it."""

    image: Array
    loss: float
    gradient: Array
    direction: Array
    length: float = 1.0
    shortened: int = 0
    restarts: int = 0


class IterateAverage:
    """Exponential average of the last iterates, unbiased: sum of d^(n-k) x_k over its weights.

    Adam's iterates jitter around the minimum by about the learning rate; their average does not
    (Polyak and Juditsky, 1992).
    """

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self._sum: Array | None = None
        self._weight = 0.0

    def add(self, image: Array) -> None:
        """Take the next iterate into the average."""
        if self._sum is None:
            self._sum = arrays_of(image).zeros(image.shape, image)
        self._sum *= self.decay
        self._sum += image
        self._weight = self._weight * self.decay + 1

    def value(self) -> Array:
        """The average so far."""
        total, weight = self.weighted()
        return total / weight

    def weighted(self) -> tuple[Array, float]:
        """The average times its weight, as it lies, and the weight."""
        if self._sum is None:
            raise ValueError("nothing was averaged yet")
        return self._sum, self._weight

    def state(self) -> State:
        """What a checkpoint holds."""
        return {"sum": self._sum, "weight": self._weight}

    def restore(self, state: State) -> None:
        """Go on from it."""
        self._sum, self._weight = state["sum"], state["weight"]
