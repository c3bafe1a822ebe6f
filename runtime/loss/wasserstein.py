"""The Wasserstein loss of a layer: how far two Gaussian distributions of features are apart.

For features F, channels x positions, with mean m and covariance S, the painting's m' and S', and
R = S'^(1/2), the squared 2-Wasserstein distance of the Gaussians (Dowson and Landau, 1982, *The
Frechet distance between multivariate normal distributions*) and its gradient are::

    W2 = |m - m'|^2 + tr(S + S' - 2 K^(1/2)),   K = R S R
    dW2 / dF = (2 / positions) ((I - T) (F - m) + m - m'),   T = R K^(-1/2) R

and the loss is W2 / (|m'|^2 + tr S'). Two changes make it smooth and quick:

- S' keeps the painting's principal components with :data:`KEPT` of its variance. K has as many
  rows: 87 to 278 of 128 to 512 for paintings of 320 pixels.
- S is the image's covariance plus :data:`SMOOTHING` times S'. The root has no finite gradient where
  the image lacks a component of the painting.

K. Crowson's *style-transfer-pytorch* (2020) has this loss, with another root.
"""

from __future__ import annotations

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.loss.layer_target import EPSILON, Pull
from nstrt.runtime.loss.moments import Moments

__all__ = ["KEPT", "SMOOTHING", "WassersteinTarget"]

KEPT = 0.99
"""Share of the painting's variance, of each layer, that the loss compares."""

SMOOTHING = 1e-3
"""Share of the painting's covariance that is added to the image's."""


_LEAST = 1e-30
"""Smallest eigenvalue; those of a painting of one colour are zero."""


class WassersteinTarget:
    """The mean and covariance that a layer is to reach, in double precision."""

    def __init__(self, moments: Moments, *, relative: bool) -> None:
        mean, second = _in_double(moments)
        arrays = arrays_of(mean)
        variances, components = arrays.eigh(second - mean[:, None] * mean)
        variances = arrays.clamp_min(variances, 0.0)
        # In ascending order: leave out the smallest that sum to the rest.
        left_out = variances.cumsum(0) <= (1 - KEPT) * variances.sum()
        first = min(int(left_out.sum()), len(variances) - 1)
        self._mean = mean
        self._variances = variances[first:]
        self._variance = self._variances.sum()
        self._root = components[:, first:] * arrays.sqrt(self._variances)
        """U V^(1/2), channels x components, for S' = U V U'; R in the basis of U."""
        energy = mean @ mean + self._variance
        self._energy = arrays.clamp_min(energy, EPSILON) if relative else 1.0

    def loss(self, moments: Moments) -> Array:
        """The loss of an image with these moments."""
        return self._distance(*_in_double(moments))[0] / self._energy

    def loss_and_pull(self, moments: Moments) -> tuple[Array, Pull]:
        """The loss of an image with these moments, and its gradient."""
        mean, second = _in_double(moments)
        arrays = arrays_of(mean)
        distance, eigenvalues, vectors = self._distance(mean, second)
        # T = B B' with B = U V^(1/2) Q / eigenvalues^(1/4), for K = Q diag(eigenvalues) Q'.
        root = self._root @ (vectors / arrays.sqrt(arrays.sqrt(eigenvalues)))
        shift = arrays.cast(root @ (root.T @ mean) - self._mean, moments.second)
        root = arrays.cast(root, moments.second)
        factor = -(root @ root.T)
        _diagonal(factor)[...] += 1
        return distance / self._energy, Pull(factor=factor, shift=shift).scaled(2 / self._energy)

    def _distance(self, mean: Array, second: Array) -> tuple[Array, Array, Array]:
        """W2, and the eigenvalues and eigenvectors of K."""
        arrays, difference = arrays_of(mean), mean - self._mean
        covariance = second - mean[:, None] * mean
        product = self._root.T @ covariance @ self._root
        _diagonal(product)[...] += SMOOTHING * self._variances**2
        eigenvalues, vectors = arrays.eigh(product)
        eigenvalues = arrays.clamp_min(eigenvalues, _LEAST)
        distance = difference @ difference + _diagonal(covariance).sum()
        distance = distance + (1 + SMOOTHING) * self._variance
        return distance - 2 * arrays.sqrt(eigenvalues).sum(), eigenvalues, vectors


def _in_double(moments: Moments) -> tuple[Array, Array]:
    """Mean and second moments in double precision: a covariance is a small difference of both."""
    arrays = arrays_of(moments.second)
    return arrays.to_double(moments.mean), arrays.to_double(moments.second)


def _diagonal(matrix: Array) -> Array:
    """View of the diagonal of a contiguous square matrix."""
    return matrix.reshape(-1)[:: len(matrix) + 1]
