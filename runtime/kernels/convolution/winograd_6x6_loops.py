"""Loops of :mod:`.winograd_6x6`, compiled for the processor at hand.

Winograd's transforms of eight tiles side by side are written once, as formulas, and compiled with
vectors of eight numbers for values; those of weights, and the matrix products, some rows by sixteen
columns at a time, with vectors of as many as a register holds. Memory is given as addresses and
distances in bytes, so that one compilation serves every array; nothing here checks them.

The loops are in one file because Numba keeps what it compiled until the file of a loop changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from llvmlite import ir
from numba.core import cgutils

from nstrt.runtime.kernels.simd import (
    BYTES,
    INT,
    LANES,
    WIDE,
    Vector,
    at,
    at_number,
    compiled,
    constant,
    copy_bytes,
    everywhere,
    loaded,
    multiplied,
    repeated,
    stored,
    written,
)

__all__ = [
    "BLOCK",
    "ROWS",
    "SIDE",
    "TILE",
    "Buffers",
    "Plane",
    "Share",
    "Weights",
    "convolve",
    "parts_of",
    "pixels_of",
    "points_of",
    "room",
    "rows_of",
    "strips_of",
    "weights_of",
    "work",
]

TILE = 6
"""Rows and columns of the output that one tile gives."""

SIDE = TILE + 2
"""Rows and columns of the input that it takes, and points along each."""

BLOCK = 2 * LANES
"""Tiles whose products are computed at once."""

ROWS = 6 if WIDE == LANES else 16
"""Output channels whose products are computed at once: as registers hold with the rest."""

_TOGETHER = 8 if WIDE == LANES else 2
"""Times so many, whose weights at a row of points are transformed one after another: they stay in a
processor's cache meanwhile."""

_PLACE = 8
"""Bytes of a number that says where something lies."""

_STRIP = TILE * LANES
"""Pixels of a row that the tiles of a strip give. Those are eight after another; a strip may go on
in the row below."""

_SEEN = SIDE * LANES
"""Pixels that they see of one, at most: each may be in a row of its own."""


def strips_of(rows: int, columns: int) -> int:
    """How many of them give so many pixels."""
    tiles = ((rows + TILE - 1) // TILE) * ((columns + TILE - 1) // TILE)
    return (tiles + LANES - 1) // LANES


def work(channels: int, outputs: int = 0) -> int:
    """Numbers of a thread's buffer for a strip of tiles, or for the weights of some outputs that
    are transformed on the way."""
    entering = 2 * SIDE * _SEEN + 2 * LANES
    leaving = (SIDE + 2 * TILE) * _STRIP
    together = min(_TOGETHER, len(rows_of(outputs)))
    return max(entering, leaving, SIDE * together * panel(channels))


def panel(channels: int) -> int:
    """Numbers by which panels of transformed weights are apart: a few more than they have, as a
    power of two apart they would share few places of the cache, and a last vector may reach
    beyond."""
    return channels * ROWS + WIDE


def rows_of(outputs: int) -> list[int]:
    """The first of the outputs that are multiplied at once, each time. The last ones overlap, and
    write the same numbers again; where there are too few at all, zeros fill up."""
    return [max(0, min(row, outputs - ROWS)) for row in range(0, outputs, ROWS)]


def parts_of(outputs: int) -> int:
    """How many parts a row of points has whose products are computed each by itself."""
    return (outputs + ROWS * _TOGETHER - 1) // (ROWS * _TOGETHER)


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


def weights_of(weights: Sequence[_T]) -> list[_T]:
    """Winograd's G: three weights as a polynomial at the points, each with the factor that makes
    the transforms of pixels and products simple."""
    a, b, c = weights
    odd = (1.0 / 45.0) * b
    pairs: list[tuple[Any, Any]] = [
        ((-2.0 / 9.0) * (a + c), (-2.0 / 9.0) * b),
        ((1.0 / 90.0) * a + (2.0 / 45.0) * c, odd),
        ((2.0 / 45.0) * a + (1.0 / 90.0) * c, odd),
    ]
    return [a, *chain(*((even + odd, even - odd) for even, odd in pairs)), c]


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


def _transposed(rows: Sequence[Vector]) -> list[Vector]:
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


def _joined(tiles: Sequence[Vector]) -> list[Vector]:
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


def _apart(
    builder: Any,
    formula: Callable[[Sequence[Vector]], list[Vector]],
    source: Any,
    source_step: Any,
    target: Any,
    target_step: Any,
) -> None:
    """A formula of eight vectors, a step apart, written a step apart."""
    rows = [loaded(builder, at(builder, source, i, source_step)) for i in range(SIDE)]
    for number, values in enumerate(formula(rows)):
        stored(values, at(builder, target, number, target_step))


@written(4)
def _points(builder: Any, *places: Any) -> None:
    """Eight rows, a step apart, at the points, a step apart."""
    _apart(builder, points_of, *places)


@written(4)
def _points_across(builder: Any, source: Any, places: Any, target: Any, step: Any) -> None:
    """A row of eight tiles, at places so many bytes from a first one, at the points, a step
    apart."""
    tiles = []
    for tile in range(LANES):
        place = builder.inttoptr(at(builder, places, tile, _PLACE), INT.as_pointer())
        tiles.append(loaded(builder, builder.add(source, builder.load(place))))
    for point, values in enumerate(points_of(_transposed(tiles))):
        stored(values, at(builder, target, point, step))


@written(2)
def _put(builder: Any, place: Any, number: Any) -> None:
    """A place, for :func:`_points_across`."""
    builder.store(number, builder.inttoptr(place, INT.as_pointer()))


@written(4)
def _pixels(builder: Any, *places: Any) -> None:
    """Products at eight points, a step apart, as six pixels, a step apart."""
    _apart(builder, pixels_of, *places)


@written(4)
def _row(builder: Any, source: Any, bias: Any, least: Any, target: Any) -> None:
    """Six pixels of each of eight tiles, written beside each other, with the bias added, and not
    below the least."""
    added = everywhere(builder, bias)
    pixels = [loaded(builder, at(builder, source, i, LANES * BYTES)) + added for i in range(TILE)]
    floor = everywhere(builder, least)
    for number, values in enumerate(_joined(_transposed([*pixels, added, added]))):
        stored(values.at_least(floor), at(builder, target, number, LANES * BYTES))


@written(2)
def _clear(builder: Any, target: Any, count: Any) -> None:
    """So many bytes of zeros."""
    clear: Any = cgutils.memset
    clear(builder, builder.inttoptr(target, ir.IntType(8).as_pointer()), count, 0)


def _product(columns: int) -> Any:
    """Products of rows with so many columns, which lie a block apart."""
    wide = min(WIDE, columns)

    @written(4)
    def product(builder: Any, panel: Any, block: Any, count: Any, target: Any) -> None:
        """``count`` numbers of each row, those of all rows beside each other, times as many of the
        columns."""
        zeros = [[constant(builder, 0.0, wide)] * (columns // wide)] * ROWS
        for i, line in enumerate(multiplied(builder, panel, block, BLOCK, count, zeros)):
            place = at(builder, target, i, BLOCK * BYTES)
            for part, value in enumerate(line):
                stored(value, at(builder, place, part, wide * BYTES))

    return product


_whole_block, _half_block = _product(BLOCK), _product(LANES)


@written(5)
def _transform(builder: Any, source: Any, count: Any, factors: Any, target: Any, step: Any) -> None:
    """For each of ``count`` inputs a panel's nine weights, three rows of three: the rows' sum with
    factors, at the points, a step apart."""
    of = [everywhere(builder, at(builder, factors, i, BYTES), WIDE) for i in range(3)]
    with repeated(builder, count) as number:
        place = at_number(builder, source, number, 9 * ROWS)
        nine = [loaded(builder, at(builder, place, i, ROWS * BYTES), WIDE) for i in range(9)]
        rows = [(of[0] * nine[i] + of[1] * nine[3 + i]) + of[2] * nine[6 + i] for i in range(3)]
        place = at_number(builder, target, number, ROWS)
        # Where there are fewer than a vector's, the next ones are written over what is too much.
        for point, values in enumerate(weights_of(rows)):
            stored(values, at(builder, place, point, step))


def room(blocks: int, channels: int) -> int:
    """Numbers by which points are apart in a buffer for so many blocks of tiles.

    More than there are: a power of two apart they would share few places of the cache, and of fewer
    channels than are computed at once as many are written.
    """
    return BLOCK * (blocks * channels + ROWS + 1)


class Plane(NamedTuple):
    """Channels of rows of numbers, somewhere in memory."""

    start: int
    """Address of the first number."""

    channel: int
    """Bytes from one channel to the next."""

    row: int
    """Bytes from one row to the next."""

    channels: int
    rows: int
    columns: int


class Weights(NamedTuple):
    """What the tiles are multiplied by, as it is read: in panels of :data:`ROWS` outputs, all of
    them for each input.

    For each point panels of transformed weights; or, where there are many channels, panels with the
    definition's nine weights for each input.
    """

    start: int
    """Address of the first number."""

    point: int
    """Bytes from the panels of one point to those of the next, where they are transformed."""

    factors: int
    """Address of the three that rows of the nine have at each row of points; 0 where they are
    transformed."""


class Buffers(NamedTuple):
    """Memory to work in."""

    seen: int
    """Address of the transformed tiles of ``blocks``: :func:`room` for the inputs."""

    found: int
    """Address of their products: :func:`room` for the outputs."""

    strip: int
    """Address of :func:`work` numbers, of one thread."""

    blocks: int
    """Blocks of tiles that share a reading of the weights."""


class Share(NamedTuple):
    """What of a convolution is done: from a first one up to a last one, which is left out.

    Its groups of tiles, ``blocks`` of them each, of which the inputs are transformed, multiplied by
    the weights, eight points of a part of the outputs at a time, and of the products the outputs
    transformed back.
    """

    group: int
    last_group: int
    input: int
    last_input: int
    part: int
    last_part: int
    output: int
    last_output: int


_room = compiled(room)
_strips_of = compiled(strips_of)
_parts_of = compiled(parts_of)
_panel = compiled(panel)


@compiled
def _enter(  # type: ignore[no-untyped-def]
    source, top, left, width, first, strips, begin, end, seen, point, strip_buffer
):
    """Strips of tiles of some channels at the 64 points; around the source are zeros."""
    in_row = (width + TILE - 1) // TILE
    at_points, line_bytes = strip_buffer, _SEEN * BYTES
    patch = at_points + SIDE * line_bytes
    places = patch + SIDE * line_bytes
    for channel in range(begin, end):
        plane = source.start + channel * source.channel
        down, tile = first * LANES // in_row * TILE, first * LANES % in_row
        for strip in range(strips):
            # Tiles beyond the last are of whatever lies there, and given to nobody.
            filled = used = 0
            while filled < LANES:
                count = min(LANES - filled, in_row - tile)
                columns = TILE * count + 2
                y, x = top + down, left + TILE * tile
                rows, row = plane + y * source.row + x * BYTES, source.row
                if y < 0 or x < 0 or y + SIDE > source.rows or x + columns > source.columns:
                    _clear(patch, SIDE * line_bytes)
                    start, stop = max(x, 0), min(x + columns, source.columns)
                    for line in range(max(y, 0), min(y + SIDE, source.rows)):
                        if stop > start:
                            copy_bytes(
                                plane + line * source.row + start * BYTES,
                                patch + (line - y) * line_bytes + (start - x) * BYTES,
                                (stop - start) * BYTES,
                            )
                    rows, row = patch, line_bytes
                for column in range(0, columns - LANES, LANES):
                    place = at_points + (used + column) * BYTES
                    _points(rows + column * BYTES, row, place, line_bytes)
                # The last ones overlap: nothing is read beyond.
                column = columns - LANES
                place = at_points + (used + column) * BYTES
                _points(rows + column * BYTES, row, place, line_bytes)
                for number in range(count):
                    _put(places + (filled + number) * _PLACE, (used + TILE * number) * BYTES)
                filled, used, tile = filled + count, used + columns, tile + count
                if tile == in_row:
                    down, tile = down + TILE, 0
            block = (strip // 2 * source.channels + channel) * BLOCK + strip % 2 * LANES
            for number in range(SIDE):
                _points_across(
                    at_points + number * line_bytes,
                    places,
                    seen + block * BYTES + number * SIDE * point,
                    point,
                )


@compiled
def _multiply(  # type: ignore[no-untyped-def]
    weights,
    inputs,
    outputs,
    strips,
    begin,
    end,
    seen,
    seen_point,
    found,
    found_point,
    work,
):
    """Some parts of the products: the weights' matrices times those of the tiles."""
    size, apart = inputs * ROWS * BYTES, _panel(inputs) * BYTES
    panels, equal_chunks = (outputs + ROWS - 1) // ROWS, _parts_of(outputs)
    for part in range(begin, end):
        line, first = part // equal_chunks, part % equal_chunks * _TOGETHER
        last = min(first + _TOGETHER, panels)
        if weights.factors:
            for number in range(first, last):
                _transform(
                    weights.start + 9 * number * size,
                    inputs,
                    weights.factors + 3 * line * BYTES,
                    work + (number - first) * SIDE * apart,
                    apart,
                )
        for column in range(SIDE):
            point = SIDE * line + column
            tiles, products = seen + point * seen_point, found + point * found_point
            for number in range(first, last):
                if weights.factors:
                    rows = work + ((number - first) * SIDE + column) * apart
                else:
                    rows = weights.start + point * weights.point + number * size
                row = max(0, min(number * ROWS, outputs - ROWS))
                for block in range((strips + 1) // 2):
                    source = tiles + block * inputs * BLOCK * BYTES
                    target = products + (block * outputs + row) * BLOCK * BYTES
                    if 2 * block + 1 < strips:
                        _whole_block(rows, source, inputs, target)
                    else:
                        _half_block(rows, source, inputs, target)


@compiled
def _leave(  # type: ignore[no-untyped-def]
    found, point, target, bias, least, first, strips, begin, end, strip_buffer
):
    """Some channels of the products at the points as pixels, with the bias, and not below the
    least."""
    in_row = (target.columns + TILE - 1) // TILE
    wide = _STRIP * BYTES
    square = strip_buffer + SIDE * wide
    spare = square + TILE * wide
    for channel in range(begin, end):
        plane, added = target.start + channel * target.channel, bias + channel * BYTES
        down, tile = first * LANES // in_row * TILE, first * LANES % in_row
        for strip in range(strips):
            block = (strip // 2 * target.channels + channel) * BLOCK + strip % 2 * LANES
            for number in range(SIDE):
                _pixels(
                    found + block * BYTES + number * SIDE * point,
                    point,
                    strip_buffer + number * wide,
                    LANES * BYTES,
                )
            for pixel in range(TILE):
                column = pixel * LANES * BYTES
                _pixels(strip_buffer + column, wide, square + column, wide)
            right = TILE * tile
            if right + _STRIP <= target.columns:
                place = plane + down * target.row + right * BYTES
                for line in range(min(TILE, target.rows - down)):
                    _row(square + line * wide, added, least, place + line * target.row)
                tile += LANES
                if tile == in_row:
                    down, tile = down + TILE, 0
                continue
            for line in range(TILE):
                _row(square + line * wide, added, least, spare + line * wide)
            filled = 0
            while filled < LANES and down < target.rows:
                count = min(LANES - filled, in_row - tile)
                right = TILE * tile
                place = plane + down * target.row + right * BYTES
                for line in range(min(TILE, target.rows - down)):
                    copy_bytes(
                        spare + line * wide + filled * TILE * BYTES,
                        place + line * target.row,
                        min(TILE * count, target.columns - right) * BYTES,
                    )
                filled, tile = filled + count, tile + count
                if tile == in_row:
                    down, tile = down + TILE, 0


@compiled
def convolve(  # type: ignore[no-untyped-def]
    source, top, left, weights, bias, least, target, buffers, share
):
    """A share of a convolution.

    ``source``, ``target``: :class:`Plane`; the pixel at the top left of the target comes from the
    source's 3x3 from row ``top`` and column ``left`` on, with zeros where there is nothing.
    ``bias`` and ``least``, below which no pixel is: their addresses.
    """
    strips = _strips_of(target.rows, target.columns)
    blocks, seen, found = buffers.blocks, buffers.composite, buffers.found
    seen_point = _room(blocks, source.channels) * BYTES
    found_point = _room(blocks, target.channels) * BYTES
    for group in range(share.group, share.last_group):
        start = 2 * blocks * group
        count = min(2 * blocks, strips - start)
        _enter(
            source,
            top,
            left,
            target.columns,
            start,
            count,
            share.input,
            share.last_input,
            seen,
            seen_point,
            buffers.strip,
        )
        _multiply(
            weights,
            source.channels,
            target.channels,
            count,
            share.part,
            share.last_part,
            seen,
            seen_point,
            found,
            found_point,
            buffers.strip,
        )
        _leave(
            found,
            found_point,
            target,
            bias,
            least,
            start,
            count,
            share.output,
            share.last_output,
            buffers.strip,
        )
