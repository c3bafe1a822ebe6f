"""The products by compiled loops, which read features where they lie.

A Gram matrix is symmetric: half of its products are enough. Positions are added up eight at a time,
two channels with six others in registers, from a copy of a piece of the features that lies in
the cache. The gradient's product takes 24 positions of all channels from such a copy, four channels
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from nstrt.runtime.products import plain
from nstrt.runtime.threads import dealt, parts, pieces
from nstrt.runtime.vectors import (
    BYTES,
    LANES,
    VECTOR,
    Vector,
    at,
    at_number,
    compiled,
    constant,
    copy_bytes,
    everywhere,
    loaded,
    repeated,
    stored,
    written,
)

__all__ = ["GramSum", "add_pull", "works"]

_TALL, _WIDE = 2, 6
"""Channels by channels of a Gram matrix whose products are computed at once."""

_SIDE = 5 * _TALL * _WIDE
"""Channels of a part of it."""

_PIECE = 32
"""Vectors of a piece of the features: two parts' take 120 KiB."""

_APART = (_PIECE + 1) * LANES
"""Numbers between channels of its copy: a power of two apart they would share few places of the
cache."""

_SUMS = 8
"""Sums of parts of the positions. Neither how many threads there are nor which does what makes a
difference to them."""

_ROWS = 4
"""Channels of the gradient that are computed at once."""

_ACROSS = 3
"""Vectors of positions of it."""

_POSITIONS = _ACROSS * LANES

_COPIED = 1 << 11
"""Such sets of positions, times channels, that are copied at once: 192 KiB."""


class GramSum:
    """See :class:`nstrt.runtime.products.GramSum`."""

    def __init__(self, channels: int, like: Tensor) -> None:
        self._channels = channels
        self._room = -(-channels // _WIDE) * _WIDE
        # Beyond a row's end zeros are added to the next.
        self._sums = torch.zeros((_SUMS, channels + 1, self._room))
        self._rest = plain.GramSum(channels, like)

    def add(self, values: Tensor) -> None:
        """More positions."""
        channels, flat = self._channels, _flat(values)
        spans = [] if channels % _TALL else parts(flat.shape[1] // LANES, _SUMS)
        # Columns beyond the last channel are of whatever lies there, and not looked at.
        copies = torch.empty((torch.get_num_threads(), self._room * _APART))

        def do(thread: int, number: int) -> None:
            places = copies[thread].data_ptr(), self._sums[number].data_ptr()
            source = flat.data_ptr(), flat.stride(0) * BYTES
            _gram(*source, *places, channels, self._room, *spans[number])

        dealt(len(spans), do)
        done = spans[-1][1] * LANES if spans else 0
        if done < flat.shape[1]:
            self._rest.add(flat[:, done:])

    def matrix(self) -> Tensor:
        """F F'."""
        half = self._sums[:, : self._channels, : self._channels].sum(0)
        found: Tensor = half.tril() + half.tril(-1).T + self._rest.matrix()
        return found


def add_pull(gradient: Tensor, pull: Tensor, values: Tensor) -> None:
    """See :class:`nstrt.runtime.products.Products`."""
    flat = _flat(values)
    channels, positions = flat.shape
    count = torch.get_num_threads()
    spans = pieces(positions // _POSITIONS)
    if not spans or channels % _ROWS or not gradient.is_contiguous():
        plain.add_pull(gradient, pull, values)
        return
    at_once = max(1, _COPIED // channels)
    copies = torch.empty((count, at_once * channels * _POSITIONS))
    target, matrix = gradient.view(channels, -1), pull.contiguous()

    def do(thread: int, number: int) -> None:
        source = flat.data_ptr(), flat.stride(0) * BYTES
        place = target.data_ptr(), target.stride(0) * BYTES
        copy = copies[thread].data_ptr()
        _pull(matrix.data_ptr(), *source, *place, copy, at_once, channels, *spans[number])

    dealt(len(spans), do)
    done = spans[-1][1] * _POSITIONS
    target[:, done:].addmm_(matrix, flat[:, done:])


def _flat(values: Tensor) -> Tensor:
    """Channels x positions that lie beside each other."""
    flat = values.reshape(len(values), -1)
    return flat if flat.stride(1) == 1 else flat.contiguous()


def works() -> bool:
    """Whether what was compiled for this processor agrees with torch's products."""
    source = torch.Generator().manual_seed(0)
    values = torch.rand((72, 5, 83), generator=source) - 0.5
    flat, pull = values.flatten(1), torch.rand((72, 72), generator=source) - 0.5
    gram, gradient = GramSum(72, values), torch.ones_like(values)
    gram.add(values)
    add_pull(gradient, pull, values)
    return all(
        torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)
        for found, wanted in (
            (gram.matrix(), flat @ flat.T),
            (gradient, 1 + (pull @ flat).view_as(values)),
        )
    )


def _add_sums(builder: Any, vectors: Sequence[Vector], place: Any) -> None:
    """Add the sums of four vectors' numbers to four numbers in memory."""
    halves = [vector.half(0) + vector.half(1) for vector in vectors]
    pairs = [
        halves[i].mixed(halves[i + 1], [0, 4, 1, 5]) + halves[i].mixed(halves[i + 1], [2, 6, 3, 7])
        for i in (0, 2)
    ]
    sums = pairs[0].mixed(pairs[1], [0, 1, 4, 5]) + pairs[0].mixed(pairs[1], [2, 3, 6, 7])
    stored(loaded(builder, place, len(vectors)) + sums, place)


@written(6)
def _dots(
    builder: Any, rows: Any, others: Any, step: Any, count: Any, target: Any, target_step: Any
) -> None:
    """Add the products of two rows, ``count`` vectors long, with six others to a matrix, and zeros
    to the two numbers beside them."""
    before, zero = builder.block, constant(builder, 0.0)
    with repeated(builder, count) as number:
        sums = [[builder.phi(VECTOR) for _ in range(_TALL)] for _ in range(_WIDE)]
        place, other = (at_number(builder, start, number, LANES) for start in (rows, others))
        left = [loaded(builder, at(builder, place, i, step)) for i in range(_TALL)]
        found = []
        for i, line in enumerate(sums):
            right = loaded(builder, at(builder, other, i, step))
            found.append(
                [
                    Vector(builder, so_far) + part * right
                    for so_far, part in zip(line, left, strict=True)
                ]
            )
        for so_far, value in zip(chain(*sums), chain(*found), strict=True):
            so_far.add_incoming(zero.value, before)
            so_far.add_incoming(value.value, builder.block)
    for i, line in enumerate(map(list, zip(*found, strict=True))):
        place = at(builder, target, i, target_step)
        _add_sums(builder, line[:4], place)
        _add_sums(builder, [*line[4:], zero, zero], at(builder, place, 4, BYTES))


@written(6)
def _add_rows(
    builder: Any, matrix: Any, step: Any, columns: Any, count: Any, target: Any, target_step: Any
) -> None:
    """Add to four rows of 24 numbers what four rows of a matrix, a step apart and ``count`` long,
    make of as many that lie close together."""
    before = builder.block
    places = [
        at(builder, at(builder, target, i, target_step), part, LANES * BYTES)
        for i in range(_ROWS)
        for part in range(_ACROSS)
    ]
    start = [loaded(builder, place) for place in places]
    with repeated(builder, count) as number:
        sums = [builder.phi(VECTOR) for _ in places]
        row = at_number(builder, matrix, number, 1)
        column = at_number(builder, columns, number, _POSITIONS)
        right = [loaded(builder, at(builder, column, i, LANES * BYTES)) for i in range(_ACROSS)]
        left = [everywhere(builder, at(builder, row, i, step)) for i in range(_ROWS)]
        found = [
            Vector(builder, sums[_ACROSS * i + part]) + left[i] * right[part]
            for i in range(_ROWS)
            for part in range(_ACROSS)
        ]
        for so_far, first, value in zip(sums, start, found, strict=True):
            so_far.add_incoming(first.value, before)
            so_far.add_incoming(value.value, builder.block)
    for place, value in zip(places, found, strict=True):
        stored(value, place)


@written(2)
def _copy_positions(builder: Any, source: Any, target: Any) -> None:
    for part in range(_ACROSS):
        place = at(builder, target, part, LANES * BYTES)
        stored(loaded(builder, at(builder, source, part, LANES * BYTES)), place)


@compiled
def _gram(  # type: ignore[no-untyped-def]
    start, step, copy, sums, channels, room, first, last
):
    """The lower half of a Gram matrix and a little more, of the vectors from ``first`` on."""
    apart = _APART * BYTES
    for piece in range(first, last, _PIECE):
        count = min(_PIECE, last - piece)
        for channel in range(channels):
            place = start + channel * step + piece * LANES * BYTES
            copy_bytes(place, copy + channel * apart, count * LANES * BYTES)
        for top in range(0, channels, _SIDE):
            for left in range(0, top + 1, _SIDE):
                for row in range(top, min(top + _SIDE, channels), _TALL):
                    # Up to the diagonal.
                    for column in range(left, min(left + _SIDE, row + _TALL), _WIDE):
                        _dots(
                            copy + row * apart,
                            copy + column * apart,
                            apart,
                            count,
                            sums + (row * room + column) * BYTES,
                            room * BYTES,
                        )


@compiled
def _pull(  # type: ignore[no-untyped-def]
    matrix, start, step, target, target_step, copy, at_once, channels, first, last
):
    """The gradient at the sets of positions from ``first`` on."""
    wide = _POSITIONS * BYTES
    for group in range(first, last, at_once):
        count = min(at_once, last - group)
        for channel in range(channels):
            for number in range(count):
                _copy_positions(
                    start + channel * step + (group + number) * wide,
                    copy + (number * channels + channel) * wide,
                )
        for row in range(0, channels, _ROWS):
            for number in range(count):
                _add_rows(
                    matrix + row * channels * BYTES,
                    channels * BYTES,
                    copy + number * channels * wide,
                    channels,
                    target + row * target_step + (group + number) * wide,
                    target_step,
                )
