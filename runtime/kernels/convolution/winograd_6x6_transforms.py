"""Winograd transforms of F(6x6, 3x3): formulas along one axis, and intrinsics that apply them.

Each formula is written once. Its values are floats in tests, and vectors of eight tiles side by
side when the intrinsics emit LLVM IR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

from nstrt.runtime.kernels.convolution.winograd_6x6_layout import (
    ADDRESS_BYTES,
    PANEL_ROWS,
    SIDE,
    TILE,
)
from nstrt.runtime.kernels.simd import (
    FLOAT_BYTES,
    INT64,
    LANES,
    REGISTER_LANES,
    Vector,
    counted_loop,
    llvm_intrinsic,
    load_broadcast,
    load_vector,
    offset,
    offset_floats,
    store_vector,
)

__all__ = [
    "input_transform",
    "output_transform",
    "store_address",
    "transform_input_columns",
    "transform_input_rows",
    "transform_output",
    "transform_panel",
    "weight_transform",
    "write_output_row",
]

_T = TypeVar("_T", bound=Any)


def input_transform(pixels: Sequence[_T]) -> list[_T]:
    """Input transform B': eight pixels to the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.

    The pixels are a polynomial's coefficients. A point and its opposite share the sums of even and
    of odd powers.
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = pixels
    at_one = (a2 + a6) - 4.25 * a4, (a1 + a5) - 4.25 * a3
    at_two = (a6 - 1.25 * a4) + 0.25 * a2, (2.0 * a5 - 2.5 * a3) + 0.5 * a1
    at_half = (a6 - 5.0 * a4) + 4.0 * a2, (2.0 * a1 - 2.5 * a3) + 0.5 * a5
    points = [(a0 - a6) + 5.25 * (a4 - a2)]
    for even, odd in (at_one, at_two, at_half):
        points += [even + odd, even - odd]
    return [*points, (a7 - a1) + 5.25 * (a3 - a5)]


def weight_transform(weights: Sequence[_T]) -> list[_T]:
    """Weight transform G: three weights to the eight points, with the factors that simplify the
    other two transforms."""
    a, b, c = weights
    odd = (1.0 / 45.0) * b
    pairs: list[tuple[Any, Any]] = [
        ((-2.0 / 9.0) * (a + c), (-2.0 / 9.0) * b),
        ((1.0 / 90.0) * a + (2.0 / 45.0) * c, odd),
        ((2.0 / 45.0) * a + (1.0 / 90.0) * c, odd),
    ]
    return [a, *chain(*((even + odd, even - odd) for even, odd in pairs)), c]


def output_transform(products: Sequence[_T]) -> list[_T]:
    """Output transform A': products at the eight points to six pixels."""
    at_zero, *pairs, at_infinity = products
    even_1, even_2, even_half = (pairs[i] + pairs[i + 1] for i in (0, 2, 4))
    odd_1, odd_2, odd_half = (pairs[i] - pairs[i + 1] for i in (0, 2, 4))
    return [
        ((at_zero + even_1) + even_2) + 16.0 * even_half,
        (odd_1 + 2.0 * odd_2) + 8.0 * odd_half,
        even_1 + 4.0 * (even_2 + even_half),
        (odd_1 + 8.0 * odd_2) + 2.0 * odd_half,
        (even_1 + 16.0 * even_2) + even_half,
        ((at_infinity + odd_1) + 32.0 * odd_2) + 0.5 * odd_half,
    ]


def _transpose(rows: Sequence[Vector]) -> list[Vector]:
    """Transpose eight vectors of eight lanes."""
    pairs = [
        rows[i].shuffle(
            rows[i + 1], [low, 8 + low, low + 1, 9 + low, 4 + low, 12 + low, 5 + low, 13 + low]
        )
        for i in (0, 2, 4, 6)
        for low in (0, 2)
    ]
    fours = [
        pairs[i].shuffle(
            pairs[i + 2], [low, low + 1, 8 + low, 9 + low, 4 + low, 5 + low, 12 + low, 13 + low]
        )
        for i in (0, 1, 4, 5)
        for low in (0, 2)
    ]
    return [
        fours[i].shuffle(
            fours[i + 4],
            [half, half + 1, half + 2, half + 3, 8 + half, 9 + half, 10 + half, 11 + half],
        )
        for half in (0, 4)
        for i in range(4)
    ]


def _join_tiles(tiles: Sequence[Vector]) -> list[Vector]:
    """Concatenate the first six lanes of eight vectors into six vectors."""
    rows = []
    for i in range(0, LANES, 4):
        a, b, c, d = tiles[i : i + 4]
        rows += [
            a.shuffle(b, [0, 1, 2, 3, 4, 5, 8, 9]),
            b.shuffle(c, [2, 3, 4, 5, 8, 9, 10, 11]),
            c.shuffle(d, [4, 5, 8, 9, 10, 11, 12, 13]),
        ]
    return rows


def _apply_strided(
    builder: Any,
    formula: Callable[[Sequence[Vector]], list[Vector]],
    source: Any,
    source_stride: Any,
    target: Any,
    target_stride: Any,
) -> None:
    """Apply a formula to eight vectors in memory, with strides in bytes."""
    rows = [load_vector(builder, offset(builder, source, i, source_stride)) for i in range(SIDE)]
    for number, values in enumerate(formula(rows)):
        store_vector(values, offset(builder, target, number, target_stride))


@llvm_intrinsic(4)
def transform_input_columns(builder: Any, *arguments: Any) -> None:
    """Input transform along columns: eight rows of eight pixels to eight points.

    Arguments: source, its stride, target, its stride.
    """
    _apply_strided(builder, input_transform, *arguments)


@llvm_intrinsic(4)
def transform_input_rows(builder: Any, source: Any, offsets: Any, target: Any, stride: Any) -> None:
    """Input transform along a row of eight tiles, which start at ``offsets`` bytes from ``source``.

    Writes a vector of tiles for each point, with a stride in bytes.
    """
    tiles = []
    for tile in range(LANES):
        pointer = builder.inttoptr(
            offset(builder, offsets, tile, ADDRESS_BYTES), INT64.as_pointer()
        )
        tiles.append(load_vector(builder, builder.add(source, builder.load(pointer))))
    for point, values in enumerate(input_transform(_transpose(tiles))):
        store_vector(values, offset(builder, target, point, stride))


@llvm_intrinsic(2)
def store_address(builder: Any, target: Any, value: Any) -> None:
    """Store an address or an offset in bytes."""
    builder.store(value, builder.inttoptr(target, INT64.as_pointer()))


@llvm_intrinsic(4)
def transform_output(builder: Any, *arguments: Any) -> None:
    """Output transform along one axis: products at eight points to six pixels of eight tiles.

    Arguments: source, its stride, target, its stride.
    """
    _apply_strided(builder, output_transform, *arguments)


@llvm_intrinsic(4)
def write_output_row(builder: Any, source: Any, bias: Any, least: Any, target: Any) -> None:
    """Write a row of eight tiles, six pixels each, plus the bias, and at least ``least``."""
    bias = load_broadcast(builder, bias)
    pixels = [
        load_vector(builder, offset(builder, source, i, LANES * FLOAT_BYTES)) + bias
        for i in range(TILE)
    ]
    floor = load_broadcast(builder, least)
    for number, values in enumerate(_join_tiles(_transpose([*pixels, bias, bias]))):
        store_vector(values.maximum(floor), offset(builder, target, number, LANES * FLOAT_BYTES))


@llvm_intrinsic(5)
def transform_panel(
    builder: Any, source: Any, count: Any, factors: Any, target: Any, stride: Any
) -> None:
    """Weight transform of a panel of nine weights, at one row of points, for ``count`` inputs.

    ``factors`` are the three of this row of points. Writes a panel for each of its eight points,
    with a stride in bytes.
    """
    f = [
        load_broadcast(builder, offset(builder, factors, i, FLOAT_BYTES), REGISTER_LANES)
        for i in range(3)
    ]
    with counted_loop(builder, count) as number:
        address = offset_floats(builder, source, number, 9 * PANEL_ROWS)
        nine = [
            load_vector(
                builder, offset(builder, address, i, PANEL_ROWS * FLOAT_BYTES), REGISTER_LANES
            )
            for i in range(9)
        ]
        rows = [(f[0] * nine[i] + f[1] * nine[3 + i]) + f[2] * nine[6 + i] for i in range(3)]
        address = offset_floats(builder, target, number, PANEL_ROWS)
        # A vector may extend beyond the panel's rows; the next input overwrites the excess.
        for point, values in enumerate(weight_transform(rows)):
            store_vector(values, offset(builder, address, point, stride))
