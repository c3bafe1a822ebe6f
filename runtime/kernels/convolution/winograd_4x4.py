"""Winograd's minimal filtering for 3x3 convolutions: a quarter of the multiplications.

Lavin and Gray (2016), "Fast Algorithms for Convolutional Neural Networks": a 4x4 tile of the
output comes from a 6x6 tile of the input as ``A' [(G w G') * (B' x B)] A``, where ``*`` is the
product number by number. Summed over channels, the products are 36 matrix products, which is
what a processor does best. The matrices are those of Toom and Cook: polynomials evaluated at six
points, of which the last is infinity.

The gradient with respect to the input is a convolution with the flipped filter. A flipped
polynomial at 1/p is the polynomial at p, but for a factor: with the reciprocal points, the same
transformed weights serve both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nstrt.runtime.kernels.buffers import BufferPool

__all__ = ["TILE", "Point", "Winograd4x4", "place", "transform_weight", "weight_matrix"]

TILE = 4
"""Rows and columns of the output that one tile gives."""

_SIDE = TILE + 2
"""Rows and columns of the input that it takes."""

Point = Fraction | None
"""Where polynomials are evaluated; None is infinity, which gives the highest coefficient."""

_POINTS: tuple[Point, ...] = (
    Fraction(0),
    Fraction(1),
    Fraction(-1),
    Fraction(2),
    Fraction(-2),
    None,
)


class Winograd4x4:
    """A 3x3 convolution, forwards or transposed, of a band of rows, by F(4x4, 3x3).

    Relative error about 3e-6 in single precision. ``transformed`` are the weights of
    :func:`transform_weight`, the same for both directions.
    """

    multiple = TILE
    rounded = None
    windowed = False

    def __init__(self, transformed: Tensor, scratch: BufferPool, *, transposed: bool) -> None:
        self._weight = transformed.transpose(1, 2) if transposed else transformed
        self._scratch = scratch
        points = tuple(map(_reciprocal, _POINTS)) if transposed else _POINTS
        outputs, inputs = _output_matrix(points), _input_matrix(points)
        if transposed:
            outputs = outputs * _flip_factors()
        self._inputs = _both_ways(inputs)
        self._outputs = _both_ways(outputs)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """``out``, channels x rows x columns, from ``band``, which has a pixel more on each side
        and, to the right and below, as many as fill the last tiles."""
        (rows, columns), tiles = out.shape[1:], _tiles(out.shape)
        channels, (down, across) = band.shape[0], tiles
        count, side = down * across, _SIDE * _SIDE
        per_channel, per_row, _ = band.stride()
        patches = band.as_strided(
            (channels, _SIDE, _SIDE, down, across),
            (per_channel, per_row, 1, per_row * TILE, TILE),
        )
        take = self._scratch.get
        gathered = take("gathered", (channels, side, count))
        gathered.view(patches.shape).copy_(patches)
        seen = take("transformed", (channels, side, count))
        torch.bmm(self._inputs.expand(channels, side, side), gathered, out=seen)
        products = take("gathered", (side, out.shape[0], count))
        torch.bmm(self._weight, seen.transpose(0, 1), out=products)
        found = take("transformed", (out.shape[0], TILE * TILE, count))
        torch.bmm(
            self._outputs.expand(out.shape[0], TILE * TILE, side),
            products.transpose(0, 1),
            out=found,
        )
        square = found.view(-1, TILE, TILE, down, across).permute(0, 3, 1, 4, 2)
        if columns == across * TILE and rows == down * TILE and out.stride(1) == columns:
            added = None if bias is None else bias[..., None, None]
            place(square, out.view(square.shape), added)
            return
        whole = take("gathered", (out.shape[0], down * TILE, across * TILE))
        whole.view(square.shape).copy_(square)
        place(whole[:, :rows, :columns], out, bias)


def place(found: Tensor, out: Tensor, bias: Tensor | None) -> None:
    """Write what was found where it belongs, with the bias added, if there is one."""
    if bias is None:
        out.copy_(found)
    else:
        torch.add(found, bias, out=out)


def _tiles(shape: Sequence[int]) -> tuple[int, int]:
    return -(-shape[1] // TILE), -(-shape[2] // TILE)


def transform_weight(weight: Tensor) -> Tensor:
    """G w G' of weights out x in x 3 x 3, as 36 x out x in."""
    matrix = _tensor(weight_matrix(_POINTS))
    outputs, inputs = weight.shape[:2]
    flat = weight.float().reshape(outputs * inputs, 9)
    return (torch.kron(matrix, matrix) @ flat.T).view(-1, outputs, inputs)


def _both_ways(matrix: NDArray[np.object_]) -> Tensor:
    """The transform of rows and columns together, as one matrix for tiles written as vectors."""
    one = _tensor(matrix)
    return torch.kron(one, one)


def _tensor(matrix: NDArray[np.object_]) -> Tensor:
    return torch.from_numpy(matrix.astype(np.float32))


def _reciprocal(point: Point) -> Point:
    if point is None:
        return Fraction(0)
    return None if point == 0 else 1 / point


def _finite(points: Sequence[Point]) -> list[Fraction]:
    return [point for point in points if point is not None]


def _norm(points: Sequence[Point], point: Point) -> Fraction:
    """The product of a point's distances from the others; 1 at infinity."""
    found = Fraction(1)
    for other in _finite(points):
        if point is not None and other != point:
            found *= point - other
    return found


def _powers(point: Point, count: int) -> list[Fraction]:
    """1, p, p^2, ...; at infinity the last alone counts."""
    if point is None:
        return [Fraction(0)] * (count - 1) + [Fraction(1)]
    return [point**power for power in range(count)]


def weight_matrix(points: Sequence[Point]) -> NDArray[np.object_]:
    """G: a filter's polynomial at the points, each divided by its norm."""
    return np.array(
        [[value / _norm(points, point) for value in _powers(point, 3)] for point in points]
    )


def _output_matrix(points: Sequence[Point]) -> NDArray[np.object_]:
    """A': from the products at the points to the output."""
    return np.array([_powers(point, len(points) - 2) for point in points]).T


def _input_matrix(points: Sequence[Point]) -> NDArray[np.object_]:
    """B': for each point the coefficients of the polynomial that vanishes at the other ones."""
    rows = []
    for point in points:
        coefficients = [Fraction(1)]
        for other in _finite(points):
            if point is None or other != point:
                coefficients = _times(coefficients, other)
        rows.append(coefficients + [Fraction(0)] * (len(points) - len(coefficients)))
    return np.array(rows)


def _times(coefficients: list[Fraction], root: Fraction) -> list[Fraction]:
    """The polynomial times (x - root)."""
    shifted = [Fraction(0), *coefficients]
    return [
        high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)
    ]


def _flip_factors() -> NDArray[np.object_]:
    """For each point p, the flipped filter's value at 1/p over the filter's own at p."""
    reciprocal = tuple(map(_reciprocal, _POINTS))
    found = []
    for point, flipped in zip(_POINTS, reciprocal, strict=True):
        power = Fraction(1) if point is None or flipped is None else flipped**2
        found.append(power * _norm(_POINTS, point) / _norm(reciprocal, flipped))
    return np.array(found)
