"""The products by compiled loops, which read features where they lie.

A Gram matrix is symmetric: half of its products are enough. Positions are added up a register at a
time, some channels with six others, from a copy of a piece of the features that lies in the cache.
The gradient's product takes some registers of positions of all channels from such a copy, a few
channels at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, product
from typing import Any

import torch
from torch import Tensor

from nstrt.runtime.kernels.gram import plain
from nstrt.runtime.kernels.parallel import equal_chunks, guided_chunks, run_tasks
from nstrt.runtime.kernels.simd import (
    BYTES,
    LANES,
    WIDE,
    Vector,
    at,
    at_number,
    compiled,
    constant,
    copy_bytes,
    loaded,
    multiplied,
    repeated,
    stored,
    vectors_of,
    written,
)

__all__ = ["GramSum", "add_pull", "works"]

_DOWN, _ACROSS = 2 if WIDE == LANES else 4, 6
"""Channels by channels of a Gram matrix whose products are computed at once: as registers hold."""

_SIDE = 5 * 12
"""Channels of a part of it: whole ones of both, so that no two parts write the same numbers."""

_PIECE = 256 // WIDE
"""Vectors of a piece of the features: the copy of 128 channels takes 132 KiB."""

_APART = (_PIECE + 1) * WIDE
"""Numbers between channels of its copy: a power of two apart they would share few places of the
cache."""

_FEW = 128
"""Channels all of whose rows of a Gram matrix are computed together; of more, parts are dealt
out."""

_SUMS = 8
"""Sums of parts of the positions, at most. Neither how many threads there are nor which does what
makes a difference to them."""

_SUMMED = 1 << 19
"""Numbers of all sums, where two do not have more."""

_ROWS, _VECTORS = (4, 3) if WIDE == LANES else (8, 2)
"""Channels of the gradient by vectors of its positions that are computed at once."""

_POSITIONS = _VECTORS * WIDE

_COPIED = 3 << 14
"""Positions, times channels, that are copied at once: 192 KiB."""


class GramSum:
    """See :class:`GramSum`."""

    def __init__(self, channels: int, like: Tensor) -> None:
        self._channels = channels
        self._room = -(-channels // _ACROSS) * _ACROSS
        self._count = min(_SUMS, max(2, _SUMMED // channels**2))
        # Beyond a row's end zeros are added to the next.
        self._sums = torch.zeros((self._count, channels + 1, self._room))
        self._rest = plain.GramSum(channels, like)

    def add(self, values: Tensor) -> None:
        """More positions."""
        channels, flat = self._channels, _flat(values)
        spans = [] if channels % _DOWN else equal_chunks(flat.shape[1] // WIDE, self._count)
        # Columns beyond the last channel are of whatever lies there, and not looked at.
        copies = torch.empty((torch.get_num_threads(), self._room * _APART))
        tall = channels if channels <= _FEW else _SIDE
        # Long rows first: those below have more products.
        shares = list(product(reversed(range(0, channels, tall)), range(len(spans))))

        def do(thread: int, share: int) -> None:
            top, number = shares[share]
            places = copies[thread].data_ptr(), self._sums[number].data_ptr()
            source = flat.data_ptr(), flat.stride(0) * BYTES
            rows = top, min(top + tall, channels)
            _gram(*source, *places, *rows, self._room, *spans[number])

        run_tasks(len(shares), do)
        done = spans[-1][1] * WIDE if spans else 0
        if done < flat.shape[1]:
            self._rest.add(flat[:, done:])

    def matrix(self) -> Tensor:
        """F F'."""
        half = self._sums[:, : self._channels, : self._channels].sum(0)
        found: Tensor = half.tril() + half.tril(-1).T + self._rest.matrix()
        return found


def add_pull(gradient: Tensor, pull: Tensor, values: Tensor) -> None:
    """See :class:`GramProducts`."""
    flat = _flat(values)
    channels, positions = flat.shape
    count = torch.get_num_threads()
    spans = guided_chunks(positions // _POSITIONS)
    if not spans or channels % _ROWS or not gradient.is_contiguous():
        plain.add_pull(gradient, pull, values)
        return
    at_once = max(1, _COPIED // (channels * _POSITIONS))
    copies = torch.empty((count, at_once * channels * _POSITIONS))
    target = gradient.view(channels, -1)
    # Some rows at a time, all of them for each column.
    panels = pull.view(-1, _ROWS, channels).transpose(1, 2).contiguous()

    def do(thread: int, number: int) -> None:
        source = flat.data_ptr(), flat.stride(0) * BYTES
        place = target.data_ptr(), target.stride(0) * BYTES
        copy = copies[thread].data_ptr()
        _pull(panels.data_ptr(), *source, *place, copy, at_once, channels, *spans[number])

    run_tasks(len(spans), do)
    done = spans[-1][1] * _POSITIONS
    target[:, done:].addmm_(pull, flat[:, done:])


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
    while vectors[0].value.type.count > len(vectors):
        vectors = [vector.halved() for vector in vectors]
    pairs = [
        vectors[i].mixed(vectors[i + 1], [0, 4, 1, 5])
        + vectors[i].mixed(vectors[i + 1], [2, 6, 3, 7])
        for i in (0, 2)
    ]
    sums = pairs[0].mixed(pairs[1], [0, 1, 4, 5]) + pairs[0].mixed(pairs[1], [2, 3, 6, 7])
    stored(loaded(builder, place, len(vectors)) + sums, place)


@written(6)
def _dots(
    builder: Any, rows: Any, others: Any, step: Any, count: Any, target: Any, target_step: Any
) -> None:
    """Add the products of some rows, ``count`` vectors long, with six others to a matrix, and zeros
    to the two numbers beside them."""
    before, zero = builder.block, constant(builder, 0.0, WIDE)
    with repeated(builder, count) as number:
        sums = [[builder.phi(vectors_of(WIDE)) for _ in range(_DOWN)] for _ in range(_ACROSS)]
        place, other = (at_number(builder, start, number, WIDE) for start in (rows, others))
        left = [loaded(builder, at(builder, place, i, step), WIDE) for i in range(_DOWN)]
        found = []
        for i, line in enumerate(sums):
            right = loaded(builder, at(builder, other, i, step), WIDE)
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


@written(5)
def _add_rows(
    builder: Any, panel: Any, columns: Any, count: Any, target: Any, target_step: Any
) -> None:
    """Add to some rows of a few vectors what ``count`` numbers of each row of a matrix, those of
    all rows beside each other, make of as many vectors that lie close together."""
    places = [
        [
            at(builder, at(builder, target, i, target_step), part, WIDE * BYTES)
            for part in range(_VECTORS)
        ]
        for i in range(_ROWS)
    ]
    start = [[loaded(builder, place, WIDE) for place in line] for line in places]
    found = multiplied(builder, panel, columns, _POSITIONS, count, start)
    for place, value in zip(chain(*places), chain(*found), strict=True):
        stored(value, place)


@written(2)
def _copy_positions(builder: Any, source: Any, target: Any) -> None:
    for part in range(_VECTORS):
        place = at(builder, target, part, WIDE * BYTES)
        stored(loaded(builder, at(builder, source, part, WIDE * BYTES), WIDE), place)


@compiled
def _gram(  # type: ignore[no-untyped-def]
    start, step, copy, sums, top, bottom, room, first, last
):
    """The lower half of some rows of a Gram matrix and a little more, of the vectors from ``first``
    on."""
    apart = _APART * BYTES
    for piece in range(first, last, _PIECE):
        count = min(_PIECE, last - piece)
        for channel in range(bottom):
            place = start + channel * step + piece * WIDE * BYTES
            copy_bytes(place, copy + channel * apart, count * WIDE * BYTES)
        for left in range(0, bottom, _SIDE):
            for row in range(top, bottom, _DOWN):
                # Up to the diagonal.
                for column in range(left, min(left + _SIDE, row + _DOWN), _ACROSS):
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
    panels, start, step, target, target_step, copy, at_once, channels, first, last
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
                    panels + row * channels * BYTES,
                    copy + number * channels * wide,
                    channels,
                    target + row * target_step + (group + number) * wide,
                    target_step,
                )
