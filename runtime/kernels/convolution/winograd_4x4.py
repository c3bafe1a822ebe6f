"""Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications of a 3x3 convolution.

Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks" (2016, arXiv:1509.09308). A 4x4 output tile comes from a 6x6 input
tile as ``A' [(G w G') * (B' x B)] A``, where ``*`` is the elementwise product. Summed over
channels, the products are 36 matrix products, which CPUs compute efficiently. The matrices are
those of Toom and Cook: polynomials evaluated at six points, the last of which is infinity.

The gradient of the input is a convolution with the flipped filter. A flipped polynomial at 1/p is
the polynomial at p, up to a factor. So with the reciprocal points, one set of transformed weights
serves both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nstrt.runtime.kernels.buffers import BufferPool

__all__ = ["TILE", "Point", "Winograd4x4", "transform_weight", "weight_matrix", "write_output"]

TILE = 4
"""Rows and columns of an output tile."""

_SIDE = TILE + 2
"""Rows and columns of an input tile, and points along each axis."""

Point = Fraction | None
"""Point at which polynomials are evaluated; None is infinity, the highest coefficient."""

_POINTS: tuple[Point, ...] = (
    Fraction(0),
    Fraction(1),
    Fraction(-1),
    Fraction(2),
    Fraction(-2),
    None,
)


class Winograd4x4:
    """A 3x3 convolution of a band, or its transpose, by F(4x4, 3x3).

    The relative error is about 3e-6 in single precision. ``transformed`` are the weights from
    :func:`transform_weight`, for either direction.
    """

    tile_size = TILE
    band_dtype = None
    windowed = False

    def __init__(self, transformed: Tensor, buffers: BufferPool, *, transposed: bool) -> None:
        self._weight = transformed.transpose(1, 2) if transposed else transformed
        self._buffers = buffers
        points = tuple(map(_reciprocal, _POINTS)) if transposed else _POINTS
        output_matrix, input_matrix = _output_matrix(points), _input_matrix(points)
        if transposed:
            output_matrix = output_matrix * _flip_factors()
        self._input_transform = _transform_2d(input_matrix)
        self._output_transform = _transform_2d(output_matrix)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        (rows, columns), (down, across) = out.shape[1:], _count_tiles(out.shape)
        channels, outputs = band.shape[0], out.shape[0]
        count, side = down * across, _SIDE * _SIDE
        channel_stride, row_stride, _ = band.stride()
        patches = band.as_strided(
            (channels, _SIDE, _SIDE, down, across),
            (channel_stride, row_stride, 1, row_stride * TILE, TILE),
        )
        get = self._buffers.get
        gathered = get("gathered", (channels, side, count))
        gathered.view(patches.shape).copy_(patches)
        transformed = get("transformed", (channels, side, count))
        torch.bmm(self._input_transform.expand(channels, side, side), gathered, out=transformed)
        products = get("gathered", (side, outputs, count))
        torch.bmm(self._weight, transformed.transpose(0, 1), out=products)
        tiles = get("transformed", (outputs, TILE * TILE, count))
        torch.bmm(
            self._output_transform.expand(outputs, TILE * TILE, side),
            products.transpose(0, 1),
            out=tiles,
        )
        pixels = tiles.view(-1, TILE, TILE, down, across).permute(0, 3, 1, 4, 2)
        if columns == across * TILE and rows == down * TILE and out.stride(1) == columns:
            write_output(
                pixels, out.view(pixels.shape), None if bias is None else bias[..., None, None]
            )
            return
        whole = get("gathered", (outputs, down * TILE, across * TILE))
        whole.view(pixels.shape).copy_(pixels)
        write_output(whole[:, :rows, :columns], out, bias)


def write_output(result: Tensor, out: Tensor, bias: Tensor | None) -> None:
    """Write ``result``, plus the bias if there is one, to ``out``."""
    if bias is None:
        out.copy_(result)
    else:
        torch.add(result, bias, out=out)


def _count_tiles(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of tiles that cover channels x rows x columns."""
    return -(-shape[1] // TILE), -(-shape[2] // TILE)


def transform_weight(weight: Tensor) -> Tensor:
    """Transform weights, out x in x 3 x 3, to G w G', 36 x out x in."""
    matrix = _tensor(weight_matrix(_POINTS))
    outputs, inputs = weight.shape[:2]
    flat = weight.float().reshape(outputs * inputs, 9)
    return (torch.kron(matrix, matrix) @ flat.T).view(-1, outputs, inputs)


def _transform_2d(matrix: NDArray[np.object_]) -> Tensor:
    """Kronecker product that transforms the rows and columns of flattened tiles."""
    one_axis = _tensor(matrix)
    return torch.kron(one_axis, one_axis)


def _tensor(matrix: NDArray[np.object_]) -> Tensor:
    return torch.from_numpy(matrix.astype(np.float32))


def _reciprocal(point: Point) -> Point:
    if point is None:
        return Fraction(0)
    return None if point == 0 else 1 / point


def _finite(points: Sequence[Point]) -> list[Fraction]:
    return [point for point in points if point is not None]


def _norm(points: Sequence[Point], point: Point) -> Fraction:
    """Product of a point's differences from the other finite points; 1 at infinity."""
    norm = Fraction(1)
    for other in _finite(points):
        if point is not None and other != point:
            norm *= point - other
    return norm


def _powers(point: Point, count: int) -> list[Fraction]:
    """Powers 1, p, p^2, ...; at infinity zeros and a last 1."""
    if point is None:
        return [Fraction(0)] * (count - 1) + [Fraction(1)]
    return [point**power for power in range(count)]


def weight_matrix(points: Sequence[Point]) -> NDArray[np.object_]:
    """Weight transform G: values of a filter's polynomial at the points, divided by the norms."""
    return np.array(
        [[value / _norm(points, point) for value in _powers(point, 3)] for point in points]
    )


def _output_matrix(points: Sequence[Point]) -> NDArray[np.object_]:
    """Output transform A': from the products at the points to the output."""
    return np.array([_powers(point, len(points) - 2) for point in points]).T


def _input_matrix(points: Sequence[Point]) -> NDArray[np.object_]:
    """Input transform B': for each point, the polynomial that vanishes at the other points."""
    rows = []
    for point in points:
        coefficients = [Fraction(1)]
        for other in _finite(points):
            if point is None or other != point:
                coefficients = _multiply_root(coefficients, other)
        rows.append(coefficients + [Fraction(0)] * (len(points) - len(coefficients)))
    return np.array(rows)


def _multiply_root(coefficients: list[Fraction], root: Fraction) -> list[Fraction]:
    """Multiply a polynomial by (x - root)."""
    shifted = [Fraction(0), *coefficients]
    return [
        high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)
    ]


def _flip_factors() -> NDArray[np.object_]:
    """Ratio, for each point p, of the flipped filter's value at 1/p to the filter's at p."""
    reciprocal = tuple(map(_reciprocal, _POINTS))
    factors = []
    for point, flipped in zip(_POINTS, reciprocal, strict=True):
        power = Fraction(1) if point is None or flipped is None else flipped**2
        factors.append(power * _norm(_POINTS, point) / _norm(reciprocal, flipped))
    return np.array(factors)
