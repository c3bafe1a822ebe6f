"""Optimisers of an image: Adam, L-BFGS, and the average of iterates.

Images are NumPy arrays or torch tensors, 1 x 3 x height x width. An optimiser takes the loss and
gradient at the image and moves the image to the next point, in place. One evaluation is one step.

``state`` returns the data for a checkpoint without copies, valid until the next step. ``restore``
takes it over in a new object with the same arguments; further steps then have the same bits.
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
"""Resamples a 1 x 3 x height x width array to the next scale's height and width."""

_BETA1 = 0.9
"""Adam's decay of the first moment."""

_ADAM_EPSILON = 1e-8
"""Added to Adam's denominator."""

_F0 = 0.02
"""f0 of the L-BFGS metric P, in cycles per pixel: P is nearly constant for patterns coarser than
1 / f0 = 50 pixels."""


class Optimizer(Protocol):
    """Interface of an optimiser."""

    def update(self, image: Array, loss: float, gradient: Array) -> None:
        """Move ``image`` to the next point, in place, from its loss and gradient."""

    def rescale(self, resize: Resize) -> None:
        """Resample the state for a scale of another size."""

    def state(self) -> State:
        """The state for a checkpoint."""

    def restore(self, state: State) -> None:
        """Continue from the state of a checkpoint."""


class Adam:
    """Adam (Kingma and Ba, 2015), with beta1 = 0.9.

    For the moments m and v of the gradients g and the number of steps t::

        m = 0.9 m + 0.1 g,    v = beta2 v + (1 - beta2) g^2
        image -= rate * (m / (1 - 0.9^t)) / (sqrt(v / (1 - beta2^t)) + 1e-8)

    The loss falls by orders of magnitude in the first steps. With the usual beta2 = 0.999, their
    gradients stay in the second moment for a thousand steps and slow those pixels down; 0.99 lets
    them decay in time.

    With ``clamp``, the image is clamped to 0..1 after each step.
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
            self._update_band(image[band], gradient[band], mean, square)

    def _update_band(self, image: Array, gradient: Array, mean: Array, square: Array) -> None:
        arrays = arrays_of(image)
        mean *= _BETA1
        arrays.add_scaled(mean, gradient, 1 - _BETA1)
        square *= self.beta2
        arrays.add_scaled(square, gradient * gradient, 1 - self.beta2)
        step = arrays.sqrt(square)
        step /= (1 - self.beta2**self._steps) ** 0.5
        step += _ADAM_EPSILON
        step = mean / step
        arrays.add_scaled(image, step, -self.learning_rate / (1 - _BETA1**self._steps))
        if self.clamp:
            arrays.clamp(image)

    def rescale(self, resize: Resize) -> None:
        """Resample the moments; the second stays positive.

        Crowson's style-transfer-pytorch showed that this beats a restart at every scale.
        """
        if self._moments is not None:
            mean, square = map(resize, self._moments)
            self._moments = mean, arrays_of(square).clamp_min(square, 0.0)

    def state(self) -> State:
        return {"steps": self._steps, "moments": self._moments}

    def restore(self, state: State) -> None:
        self._steps, moments = state["steps"], state["moments"]
        self._moments = None if moments is None else (moments[0], moments[1])


class Lbfgs:
    """Limited-memory BFGS (Nocedal, 1980) in the box 0..1, one evaluation for each step.

    The full step is tried first. A step that does not lower the loss is undone and shortened, so
    the loss of accepted points never rises. Pixels at an edge of the box whose gradient points
    outwards do not move. The first step has the root mean square ``first_step``.

    The initial inverse Hessian is gamma P, with

        P = F^-1 diag(1 / (f + f0)^smoothing) F

    for the Fourier transform F of each channel and frequencies f in cycles per pixel: losses of
    convolutions curve most along fine patterns. This equals optimising in a Fourier basis scaled by
    (f + f0)^(-smoothing / 2), as in feature visualisation (Olah, Mordvintsev and Schubert, 2017).
    With ``smoothing`` 0 it is the usual gamma I.

    No operation waits for a GPU: scalars stay on the device.
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
        """Step s, gradient change y and rho = 1 / s'y of the last steps, oldest first."""
        self._spare: list[tuple[Array, Array]] = []
        """Memory of dropped pairs, for the next ones."""
        self._gamma: Array | None = None
        self._spectrum_weights: Array | None = None
        self._point: _Point | None = None

    def update(self, image: Array, loss: float, gradient: Array) -> None:
        point = self._point
        if point is not None and not loss <= point.loss:
            self._shorten_step(image, point)
            return
        if point is not None:
            self._add_pair(image, gradient, point)
        direction = self._direction(image, gradient)
        self._point = _Point(arrays_of(image).copy(image), loss, gradient, direction)
        self._move(image, self._point)

    def rescale(self, resize: Resize) -> None:
        """Resample steps and gradient changes.

        Gradients shrink with the number of pixels: each pixel of a finer scale has a smaller share
        of the same loss.
        """
        pairs, gamma = self._pairs, self._gamma
        self._pairs, self._spare = [], []
        self._gamma = self._spectrum_weights = self._point = None
        while pairs:
            # Frees each coarse pair before the next fine one: both sets would be the run's peak.
            step, change, _ = pairs.pop(0)
            finer_step, finer_change = resize(step), resize(change)
            share = math.prod(step.shape) / math.prod(finer_step.shape)
            if self._gamma is None and gamma is not None:
                self._gamma = gamma / share
            finer_change *= share
            self._store_pair(finer_step, finer_change)

    def state(self) -> State:
        point = None if self._point is None else vars(self._point)
        return {"pairs": self._pairs, "gamma": self._gamma, "at": point}

    def restore(self, state: State) -> None:
        self._pairs = [(step, change, rho) for step, change, rho in state["pairs"]]
        self._gamma = state["gamma"]
        self._point = None if state["at"] is None else _Point(**state["at"])

    def _shorten_step(self, image: Array, point: _Point) -> None:
        """Try a third of the step; after four times, drop the history."""
        point.shortened += 1
        if point.shortened > 4:
            # The history does not fit the loss here: fall back to the gradient's direction.
            self._spare += [(step, change) for step, change, _ in self._pairs]
            self._pairs.clear()
            self._gamma = None
            point.direction = self._direction(point.image, point.gradient)
            # The right length is unknown: each restart begins with a quarter of the last.
            point.length, point.shortened = 4.0**-point.restarts, 0
            point.restarts += 1
        else:
            point.length /= 3
        self._move(image, point)

    def _move(self, image: Array, point: _Point) -> None:
        arrays = arrays_of(image)
        image[...] = point.image
        arrays.add_scaled(image, point.direction, point.length)
        if self.clamp:
            arrays.clamp(image)

    def _add_pair(self, image: Array, gradient: Array, point: _Point) -> None:
        """Add the accepted step to the history, in the memory of the oldest one if it is full."""
        if len(self._pairs) >= self.history:
            self._spare.append(self._pairs.pop(0)[:2])
        if not self._spare:
            arrays = arrays_of(image)
            self._spare.append((arrays.empty(image.shape, image), arrays.empty(image.shape, image)))
        step, change = self._spare.pop()
        step[...], change[...] = image, gradient
        step -= point.image
        change -= point.gradient
        self._store_pair(step, change)

    def _store_pair(self, step: Array, change: Array) -> None:
        """Store the step s and the gradient change y with rho = 1 / s'y, and set gamma = s'y / y'Py
        (Nocedal and Wright, 2006, equation 7.20, in P's metric).

        A pair without positive curvature gets rho = 0, so it has no effect.
        """
        arrays = arrays_of(change)
        curvature = arrays.dot(step, change)
        usable = curvature > 1e-10 * arrays.dot(change, change)
        metric = sum(arrays.dot(*pair) for pair in self._smoothed_channels(change))
        gamma = curvature / arrays.where(usable, metric, 1.0)
        self._gamma = gamma if self._gamma is None else arrays.where(usable, gamma, self._gamma)
        rho = usable / arrays.where(usable, curvature, 1.0)
        self._pairs.append((step, change, rho))

    def _direction(self, image: Array, gradient: Array) -> Array:
        """-H g by the two-loop recursion (Nocedal and Wright, 2006, algorithm 7.4)."""
        arrays = arrays_of(image)
        free = self._free_pixels(image, gradient)
        q = gradient * free if free is not None else arrays.copy(gradient)
        alphas: list[Array] = []
        for step, change, rho in reversed(self._pairs):
            alpha = rho * arrays.dot(step, q)
            arrays.add_scaled(q, change, -alpha)
            alphas.append(alpha)
        for channel, smoothed in self._smoothed_channels(q):
            channel[...] = smoothed
        if self._gamma is None:
            moved = q * free if free is not None else q
            length = (arrays.dot(moved, moved) / math.prod(q.shape)) ** 0.5
            self._gamma = self.first_step / arrays.clamp_min(length, 1e-30)
        q *= self._gamma
        for (step, change, rho), alpha in zip(self._pairs, reversed(alphas), strict=True):
            beta = rho * arrays.dot(change, q)
            arrays.add_scaled(q, step, alpha - beta)
        if free is not None:
            q *= free
        q *= -1
        return q

    def _smoothed_channels(self, array: Array) -> Iterator[tuple[Array, Array]]:
        """Each channel of an array, as a view, and P times it."""
        # One channel at a time: all spectra at once would take the memory of four images.
        for number in range(array.shape[1]):
            channel = array[:, number]
            yield channel, self._smooth(channel) if self.smoothing else channel

    def _smooth(self, channel: Array) -> Array:
        """P times a channel."""
        arrays = arrays_of(channel)
        if self._spectrum_weights is None:
            height, width = channel.shape[-2:]
            frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
            weights = (frequencies + _F0) ** -self.smoothing
            self._spectrum_weights = arrays.from_numpy(weights, like=channel)
        return arrays.filter_spectrum(channel, self._spectrum_weights)

    def _free_pixels(self, image: Array, gradient: Array) -> Array | None:
        """True for values that may move; None if the image is not clamped."""
        if not self.clamp:
            return None
        fixed = ((image <= 0) & (gradient > 0)) | ((image >= 1) & (gradient < 0))
        return ~fixed


@dataclass
class _Point:
    """The last accepted image and the step tried from it; its fields are keys in checkpoints."""

    image: Array
    loss: float
    gradient: Array
    direction: Array
    length: float = 1.0
    shortened: int = 0
    restarts: int = 0


class IterateAverage:
    """Unbiased exponential average of the iterates x_1 to x_n::

        sum of d^(n-k) x_k / sum of d^(n-k)

    Adam's iterates oscillate around the minimum by about the learning rate; their average does not
    (Polyak and Juditsky, 1992).
    """

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self._sum: Array | None = None
        self._weight = 0.0

    def add(self, image: Array) -> None:
        """Add the next iterate."""
        if self._sum is None:
            self._sum = arrays_of(image).zeros(image.shape, image)
        self._sum *= self.decay
        self._sum += image
        self._weight = self._weight * self.decay + 1

    def value(self) -> Array:
        """The average of the iterates so far."""
        total, weight = self.weighted_sum()
        return total / weight

    def weighted_sum(self) -> tuple[Array, float]:
        """The weighted sum of the iterates, not copied, and the sum of the weights."""
        if self._sum is None:
            raise ValueError("nothing was averaged yet")
        return self._sum, self._weight

    def state(self) -> State:
        """The state for a checkpoint."""
        return {"sum": self._sum, "weight": self._weight}

    def restore(self, state: State) -> None:
        """Continue from the state of a checkpoint."""
        self._sum, self._weight = state["sum"], state["weight"]
