"""The loops of :mod:`nstrt.runtime.convolution.fused`, compiled for the processor at hand.

Winograd's transforms of eight tiles side by side are written once, as formulas, and compiled with
vectors of eight numbers for values; so are the matrix products, six rows by sixteen columns at a
time, which stay in registers. Memory is given as addresses and distances in bytes, so that one
compilation serves every array.

All of it is one file because Numba keeps what it compiled until the file of the loop changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["BLOCK", "LANES", "ROWS", "SIDE", "TILE", "convolve", "pixels_of", "points_of", "work"]

TILE = 6
"""Rows and columns of the output that one tile gives."""

SIDE = TILE + 2
"""Rows and columns of the input that it takes, and points along each."""

LANES = 8
"""Tiles, side by side, that are transformed at once."""

BLOCK = 2 * LANES
"""Tiles whose products are computed at once."""

ROWS = 6
"""Output channels whose products are computed at once."""

_BYTES = 4

_STRIP = TILE * LANES
"""Pixels that tiles side by side give of a row."""


def work(channels: int) -> int:
    """Numbers of a thread's buffer for a strip of tiles, or for some rows of weights."""
    return max((SIDE + TILE + 1) * _STRIP, ROWS * channels + LANES)


_T = TypeVar("_T", bound=Any)


def points_of(seen: Sequence[_T]) -> list[_T]:
    """Winograd's B': eight pixels as the polynomial that has them as coefficients, at the points
    0, 1, -1, 2, -2, 1/2, -1/2 and infinity. Even and odd powers serve a point and its opposite."""
    a0, a1, a2, a3, a4, a5, a6, a7 = seen
    at_one = (a2 + a6) - 4.25 * a4, (a1 + a5) - 4.25 * a3
    at_two = (a6 - 1.25 * a4) + 0.25 * a2, (2.0 * a5 - 2.5 * a3) + 0.5 * a1
    at_half = (a6 - 5.0 * a4) + 4.0 * a2, (2.0 * a1 - 2.5 * a3) + 0.5 * a5
    found = [(a0 - a6) + 5.25 * (a4 - a2)]
    for even, odd in (at_one, at_two, at_half):
        found += [even + odd, even - odd]
    return [*found, (a7 - a1) + 5.25 * (a3 - a5)]


def pixels_of(products: Sequence[_T]) -> list[_T]:
    """Winograd's A': six pixels from the products at these points."""
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


_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FLAGS = ("contract",)
"""A product and a sum may be computed as one, rounded once."""


class _Vector:
    """Eight numbers in a register, with the arithmetic that the formulas use."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: _Vector) -> _Vector:
        return _Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_FLAGS))

    def __sub__(self, other: _Vector) -> _Vector:
        return _Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_FLAGS))

    def __mul__(self, other: _Vector) -> _Vector:
        return _Vector(self.builder, self.builder.fmul(self.value, other.value, flags=_FLAGS))

    def __rmul__(self, factor: float) -> _Vector:
        return self * _constant(self.builder, factor)

    def mixed(self, other: _Vector, numbers: Sequence[int]) -> _Vector:
        """Of this one's numbers, 0 to 7, and the other's, 8 to 15."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(numbers))
        return _Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, mask))


def _constant(builder: Any, value: float) -> _Vector:
    return _Vector(builder, ir.Constant(_VECTOR, [value] * LANES))


def _at(builder: Any, start: Any, count: int, step: Any = 1) -> Any:
    """The address ``count`` steps, of so many bytes, after another."""
    step = ir.Constant(_INT, step) if isinstance(step, int) else step
    return builder.add(start, builder.mul(ir.Constant(_INT, count), step))


def _loaded(builder: Any, address: Any) -> _Vector:
    pointer = builder.inttoptr(address, _VECTOR.as_pointer())
    return _Vector(builder, builder.load(pointer, align=_BYTES))


def _stored(vector: _Vector, address: Any) -> None:
    builder = vector.builder
    pointer = builder.inttoptr(address, _VECTOR.as_pointer())
    builder.store(vector.value, pointer, align=_BYTES)


def _everywhere(builder: Any, address: Any) -> _Vector:
    """One number from memory, eight times."""
    number = builder.load(builder.inttoptr(address, _FLOAT.as_pointer()), align=_BYTES)
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return _Vector(builder, first).mixed(_Vector(builder, nothing), [0] * LANES)


def _transposed(rows: Sequence[_Vector]) -> list[_Vector]:
    """Eight vectors as a matrix, whose columns become the vectors."""
    pairs = [
        rows[i].mixed(
            rows[i + 1], [low, 8 + low, low + 1, 9 + low, 4 + low, 12 + low, 5 + low, 13 + low]
        )
        for i in (0, 2, 4, 6)
        for low in (0, 2)
    ]
    fours = [
        pairs[i].mixed(
            pairs[i + 2], [low, low + 1, 8 + low, 9 + low, 4 + low, 5 + low, 12 + low, 13 + low]
        )
        for i in (0, 1, 4, 5)
        for low in (0, 2)
    ]
    return [
        fours[i].mixed(
            fours[i + 4],
            [half, half + 1, half + 2, half + 3, 8 + half, 9 + half, 10 + half, 11 + half],
        )
        for half in (0, 4)
        for i in range(4)
    ]


def _joined(tiles: Sequence[_Vector]) -> list[_Vector]:
    """Six vectors of the first six numbers of eight, one after another."""
    found = []
    for i in range(0, LANES, 4):
        a, b, c, d = tiles[i : i + 4]
        found += [
            a.mixed(b, [0, 1, 2, 3, 4, 5, 8, 9]),
            b.mixed(c, [2, 3, 4, 5, 8, 9, 10, 11]),
            c.mixed(d, [4, 5, 8, 9, 10, 11, 12, 13]),
        ]
    return found


def _written(arguments: int) -> Callable[[Callable[..., None]], Any]:
    """A function for compiled loops from one that writes its code for a builder and addresses."""

    def decorated(write: Callable[..., None]) -> Any:
        signature = types.void(*[types.intp] * arguments)

        def code(context: Any, builder: Any, _: Any, values: Sequence[Any]) -> Any:
            write(builder, *values)
            return context.get_dummy_value()

        if arguments == 3:
            return intrinsic(lambda _, a, b, c: (signature, code))
        if arguments == 4:
            return intrinsic(lambda _, a, b, c, d: (signature, code))
        return intrinsic(lambda _, a, b, c, d, e, f: (signature, code))

    return decorated


@_written(4)
def _points(builder: Any, source: Any, source_step: Any, target: Any, target_step: Any) -> None:
    """Eight rows, a step apart, at the points, a step apart."""
    rows = [_loaded(builder, _at(builder, source, i, source_step)) for i in range(SIDE)]
    for point, values in enumerate(points_of(rows)):
        _stored(values, _at(builder, target, point, target_step))


@_written(3)
def _points_across(builder: Any, source: Any, target: Any, step: Any) -> None:
    """A row of eight tiles at the points, a step apart."""
    tiles = [_loaded(builder, _at(builder, source, i, TILE * _BYTES)) for i in range(LANES)]
    for point, values in enumerate(points_of(_transposed(tiles))):
        _stored(values, _at(builder, target, point, step))


@_written(4)
def _pixels(builder: Any, source: Any, source_step: Any, target: Any, target_step: Any) -> None:
    """Products at eight points, a step apart, as six pixels, a step apart."""
    products = [_loaded(builder, _at(builder, source, i, source_step)) for i in range(SIDE)]
    for pixel, values in enumerate(pixels_of(products)):
        _stored(values, _at(builder, target, pixel, target_step))


@_written(3)
def _row(builder: Any, source: Any, bias: Any, target: Any) -> None:
    """Six pixels of each of eight tiles, written beside each other, with the bias added."""
    added = _everywhere(builder, bias)
    pixels = [
        _loaded(builder, _at(builder, source, i, LANES * _BYTES)) + added for i in range(TILE)
    ]
    for number, values in enumerate(_joined(_transposed([*pixels, added, added]))):
        _stored(values, _at(builder, target, number, LANES * _BYTES))


@_written(3)
def _copy(builder: Any, source: Any, target: Any, count: Any) -> None:
    """So many bytes."""
    byte = ir.IntType(8).as_pointer()
    source, target = (builder.inttoptr(address, byte) for address in (source, target))
    copy: Any = cgutils.raw_memcpy
    copy(builder, target, source, count, ir.Constant(_INT, 1))


@_written(6)
def _product(
    builder: Any, rows: Any, row_step: Any, step: Any, columns: Any, count: Any, target: Any
) -> None:
    """Six rows, of ``count`` numbers a step apart, times as many of sixteen."""
    before = builder.block
    body, after = builder.append_basic_block("sum"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)

    def carried(first: Any, kind: Any) -> Any:
        value = builder.phi(kind)
        value.add_incoming(first, before)
        return value

    number = carried(ir.Constant(_INT, 0), _INT)
    row, column = carried(rows, _INT), carried(columns, _INT)
    zero = _constant(builder, 0.0).value
    parts = BLOCK // LANES
    sums = [[carried(zero, _VECTOR) for _ in range(parts)] for _ in range(ROWS)]
    right = [_loaded(builder, _at(builder, column, i, LANES * _BYTES)) for i in range(parts)]
    for i, line in enumerate(sums):
        left = _everywhere(builder, _at(builder, row, i, row_step))
        for part, before_it in enumerate(line):
            now = _Vector(builder, before_it) + left * right[part]
            before_it.add_incoming(now.value, body)
            line[part] = now.value
    following = _at(builder, number, 1)
    number.add_incoming(following, body)
    row.add_incoming(builder.add(row, step), body)
    column.add_incoming(_at(builder, column, BLOCK, _BYTES), body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)
    for i, line in enumerate(sums):
        for part, value in enumerate(line):
            address = _at(builder, target, parts * i + part, LANES * _BYTES)
            _stored(_Vector(builder, value), address)


@_written(4)
def _panel(builder: Any, rows: Any, step: Any, count: Any, target: Any) -> None:
    """Six numbers of each row, close together; two more are read, and written at the end."""
    before = builder.block
    body, after = builder.append_basic_block("row"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    number, row, place = (builder.phi(_INT) for _ in range(3))
    _stored(_loaded(builder, row), place)
    following = _at(builder, number, 1)
    for value, first, then in (
        (number, ir.Constant(_INT, 0), following),
        (row, rows, builder.add(row, step)),
        (place, target, _at(builder, place, ROWS, _BYTES)),
    ):
        value.add_incoming(first, before)
        value.add_incoming(then, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)


_compiled: Any = numba.njit(cache=True, nogil=True)


@_compiled
def _enter(  # type: ignore[no-untyped-def]
    band, plane, line, channels, across, first, strips, seen, step, columns
):
    """Strips of tiles of each channel at the 64 points."""
    in_row = (across + LANES - 1) // LANES
    for channel in range(channels):
        for strip in range(strips):
            down, right = (first + strip) // in_row, (first + strip) % in_row * LANES
            width = TILE * min(LANES, across - right) + 2
            source = band + channel * plane + TILE * (down * line + right * _BYTES)
            for x in range(0, width - LANES, LANES):
                _points(source + _BYTES * x, line, columns + _BYTES * x, _BYTES * (_STRIP + LANES))
            # The last ones overlap: nothing is read beyond the band.
            x = width - LANES
            _points(source + _BYTES * x, line, columns + _BYTES * x, _BYTES * (_STRIP + LANES))
            place = (strip // 2 * channels + channel) * BLOCK + strip % 2 * LANES
            target = seen + _BYTES * place
            for point in range(SIDE):
                _points_across(
                    columns + _BYTES * (_STRIP + LANES) * point, target + SIDE * step * point, step
                )


@_compiled
def _multiply(  # type: ignore[no-untyped-def]
    weight,
    point_step,
    order,
    row_step,
    in_step,
    inputs,
    outputs,
    blocks,
    seen,
    seen_step,
    found,
    found_step,
    columns,
):
    """At each point the weights' matrix times that of the tiles."""
    for point in range(SIDE * SIDE):
        matrix = weight + point_step * order[point]
        for number in range((outputs + ROWS - 1) // ROWS):
            # The last rows overlap: nothing is read beyond the weights.
            row = max(0, min(ROWS * number, outputs - ROWS))
            rows, between, step = matrix + row * row_step, row_step, in_step
            if blocks > 1 and row_step == _BYTES:
                _panel(rows, in_step, inputs, columns)
                rows, between, step = columns, _BYTES, ROWS * _BYTES
            for block in range(blocks):
                _product(
                    rows,
                    between,
                    step,
                    seen + point * seen_step + _BYTES * BLOCK * block * inputs,
                    inputs,
                    found + point * found_step + _BYTES * BLOCK * (block * outputs + row),
                )


@_compiled
def _leave(  # type: ignore[no-untyped-def]
    found, step, channels, across, first, strips, bias, out, plane, line, height, width, columns
):
    """Products at the points as pixels, with the bias."""
    in_row = (across + LANES - 1) // LANES
    square = columns + _BYTES * SIDE * _STRIP
    strip_bytes = _BYTES * _STRIP
    spare = square + TILE * strip_bytes
    for channel in range(channels):
        for strip in range(strips):
            place = (strip // 2 * channels + channel) * BLOCK + strip % 2 * LANES
            source = found + _BYTES * place
            for point in range(SIDE):
                _pixels(
                    source + SIDE * step * point,
                    step,
                    columns + strip_bytes * point,
                    _BYTES * LANES,
                )
            for pixel in range(TILE):
                across_it = _BYTES * LANES * pixel
                _pixels(columns + across_it, strip_bytes, square + across_it, strip_bytes)
            down, right = (first + strip) // in_row * TILE, (first + strip) % in_row * _STRIP
            target = out + channel * plane + down * line + _BYTES * right
            for y in range(min(TILE, height - down)):
                if width - right >= _STRIP:
                    _row(square + strip_bytes * y, bias + _BYTES * channel, target + line * y)
                else:
                    _row(square + strip_bytes * y, bias + _BYTES * channel, spare)
                    _copy(spare, target + line * y, _BYTES * (width - right))


@_compiled
def convolve(  # type: ignore[no-untyped-def]
    band,
    band_plane,
    band_line,
    inputs,
    weight,
    point_step,
    order,
    row_step,
    in_step,
    bias,
    out,
    out_plane,
    out_line,
    outputs,
    height,
    width,
    seen,
    found,
    columns,
    blocks,
    first,
    last,
):
    """A convolution of some groups, of so many blocks of tiles, of a band.

    Addresses: ``band``, ``weight``, ``bias``, ``out`` and the buffers ``seen``, ``found`` and
    ``columns``. Distances in bytes: of channels and rows of the band and of ``out``, and of the
    weights' outputs (``row_step``) and inputs. ``order`` is the point of the weights for each one
    of the tiles'.
    """
    across = (width + TILE - 1) // TILE
    strips = (height + TILE - 1) // TILE * ((across + LANES - 1) // LANES)
    # A line more: points a power of two apart would share few places of the cache.
    seen_step = _BYTES * BLOCK * (blocks * inputs + 1)
    found_step = _BYTES * BLOCK * (blocks * outputs + ROWS)
    for group in range(first, last):
        start = 2 * blocks * group
        count = min(2 * blocks, strips - start)
        _enter(band, band_plane, band_line, inputs, across, start, count, seen, seen_step, columns)
        _multiply(
            weight,
            point_step,
            order,
            row_step,
            in_step,
            inputs,
            outputs,
            (count + 1) // 2,
            seen,
            seen_step,
            found,
            found_step,
            columns,
        )
        _leave(
            found,
            found_step,
            outputs,
            across,
            start,
            count,
            bias,
            out,
            out_plane,
            out_line,
            height,
            width,
            columns,
        )
