"""Gram matrices and their gradient by compiled loops, which read features without a copy of all.

A Gram matrix is symmetric, so only its lower half is computed. Its micro-kernel sums positions a
register at a time, for some channels by six others, from a cached copy of a chunk of features.
The gradient's micro-kernel multiplies a few rows of the factor by some registers of positions of
all channels, from such a copy too.
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
    FLOAT_BYTES,
    LANES,
    REGISTER_LANES,
    Vector,
    constant,
    copy_bytes,
    counted_loop,
    jit,
    llvm_intrinsic,
    load_vector,
    multiply_panel,
    offset,
    offset_floats,
    store_vector,
    vector_type,
)

__all__ = ["GramSum", "add_gram_gradient", "self_test"]

_TILE_ROWS, _TILE_COLUMNS = 2 if REGISTER_LANES == LANES else 4, 6
"""Entries of a Gram matrix that one call of the micro-kernel computes, limited by the registers."""

_BLOCK = 5 * 12
"""Rows and columns of a block of the matrix: a multiple of both, so that blocks do not overlap."""

_CHUNK = 256 // REGISTER_LANES
"""Vectors of a chunk of the features: the copy of 128 channels takes 132 KiB."""

_COPY_STRIDE = (_CHUNK + 1) * REGISTER_LANES
"""Floats from one channel to the next in the copy; a power of two would map to few cache sets."""

_WHOLE_ROWS = 128
"""Most channels whose rows of a Gram matrix form one task; above, each block of rows does."""

_MAX_SUMS = 8
"""Most partial sums. Their number does not depend on the threads, so results do not either."""

_SUM_FLOATS = 1 << 19
"""Floats of all partial sums together, if two of them do not exceed it."""

_ROWS, _VECTORS = (4, 3) if REGISTER_LANES == LANES else (8, 2)
"""Channels and vectors of positions of the gradient that one call of the micro-kernel computes."""

_POSITIONS = _VECTORS * REGISTER_LANES

_COPY_FLOATS = 3 << 14
"""Floats of the features that are copied at once: 192 KiB."""


class GramSum:
    """See :class:`nstrt.runtime.kernels.gram.GramSum`."""

    def __init__(self, channels: int, like: Tensor) -> None:
        self._channels = channels
        self._row_floats = -(-channels // _TILE_COLUMNS) * _TILE_COLUMNS
        self._count = min(_MAX_SUMS, max(2, _SUM_FLOATS // channels**2))
        # The micro-kernel adds zeros beyond a row's end, to the next row.
        self._sums = torch.zeros((self._count, channels + 1, self._row_floats))
        self._remainder = plain.GramSum(channels, like)

    def add(self, values: Tensor) -> None:
        channels, flat = self._channels, _flatten(values)
        divisible = channels % _TILE_ROWS == 0
        chunks = equal_chunks(flat.shape[1] // REGISTER_LANES, self._count) if divisible else []
        # Columns beyond the last channel come from arbitrary memory; matrix() ignores them.
        copies = torch.empty((torch.get_num_threads(), self._row_floats * _COPY_STRIDE))
        height = channels if channels <= _WHOLE_ROWS else _BLOCK
        # The lower rows have more products and run first.
        tasks = list(product(reversed(range(0, channels, height)), range(len(chunks))))

        def run(thread: int, task: int) -> None:
            top, number = tasks[task]
            targets = copies[thread].data_ptr(), self._sums[number].data_ptr()
            source = flat.data_ptr(), flat.stride(0) * FLOAT_BYTES
            rows = top, min(top + height, channels)
            _add_gram(*source, *targets, *rows, self._row_floats, *chunks[number])

        run_tasks(len(tasks), run)
        done = chunks[-1][1] * REGISTER_LANES if chunks else 0
        if done < flat.shape[1]:
            self._remainder.add(flat[:, done:])

    def matrix(self) -> Tensor:
        lower = self._sums[:, : self._channels, : self._channels].sum(0)
        gram: Tensor = lower.tril() + lower.tril(-1).T + self._remainder.matrix()
        return gram


def add_gram_gradient(
    gradient: Tensor, factor: Tensor, values: Tensor, shift: Tensor | None = None
) -> None:
    """See :class:`nstrt.runtime.kernels.gram.GramProducts`."""
    flat = _flatten(values)
    channels, positions = flat.shape
    threads = torch.get_num_threads()
    chunks = guided_chunks(positions // _POSITIONS)
    if not chunks or channels % _ROWS or not gradient.is_contiguous():
        plain.add_gram_gradient(gradient, factor, values, shift)
        return
    # The shift is the factor of one more row of features, of ones.
    wide = factor if shift is None else torch.cat([factor, shift[:, None]], dim=1)
    depth = wide.shape[1]
    group = max(1, _COPY_FLOATS // (depth * _POSITIONS))
    copies = torch.ones((threads, group * depth * _POSITIONS))
    target = gradient.view(channels, -1)
    panels = wide.view(-1, _ROWS, depth).transpose(1, 2).contiguous()

    def run(thread: int, number: int) -> None:
        source = flat.data_ptr(), flat.stride(0) * FLOAT_BYTES
        destination = target.data_ptr(), target.stride(0) * FLOAT_BYTES
        copy = copies[thread].data_ptr()
        _add_product(
            panels.data_ptr(), *source, *destination, copy, group, channels, depth, *chunks[number]
        )

    run_tasks(len(chunks), run)
    done = chunks[-1][1] * _POSITIONS
    target[:, done:].addmm_(factor, flat[:, done:])
    if shift is not None:
        target[:, done:] += shift[:, None]


def _flatten(values: Tensor) -> Tensor:
    """Reshape features to channels x positions, with contiguous positions."""
    flat = values.reshape(len(values), -1)
    return flat if flat.stride(1) == 1 else flat.contiguous()


def self_test() -> bool:
    """Return True if the compiled products agree with torch's on this processor."""
    source = torch.Generator().manual_seed(0)
    values = torch.rand((72, 5, 83), generator=source) - 0.5
    flat, factor = values.flatten(1), torch.rand((72, 72), generator=source) - 0.5
    gram, gradient, shift = GramSum(72, values), torch.ones_like(values), factor[0]
    gram.add(values)
    add_gram_gradient(gradient, factor, values, shift)
    return all(
        torch.allclose(result, expected, rtol=1e-3, atol=1e-3)
        for result, expected in (
            (gram.matrix(), flat @ flat.T),
            (gradient, 1 + (factor @ flat + shift[:, None]).view_as(values)),
        )
    )


def _add_lane_sums(builder: Any, vectors: Sequence[Vector], target: Any) -> None:
    """Add the lane sums of four vectors to four floats in memory."""
    while vectors[0].value.type.count > len(vectors):
        vectors = [vector.add_halves() for vector in vectors]
    pairs = [
        vectors[i].shuffle(vectors[i + 1], [0, 4, 1, 5])
        + vectors[i].shuffle(vectors[i + 1], [2, 6, 3, 7])
        for i in (0, 2)
    ]
    sums = pairs[0].shuffle(pairs[1], [0, 1, 4, 5]) + pairs[0].shuffle(pairs[1], [2, 3, 6, 7])
    store_vector(load_vector(builder, target, len(vectors)) + sums, target)


@llvm_intrinsic(6)
def _add_dot_products(
    builder: Any, rows: Any, columns: Any, stride: Any, count: Any, target: Any, target_stride: Any
) -> None:
    """Add the dot products of some channels with six others, ``count`` vectors long, to a matrix.

    Adds zeros to the two floats after each row.
    """
    before, zero = builder.block, constant(builder, 0.0, REGISTER_LANES)
    with counted_loop(builder, count) as number:
        sums = [
            [builder.phi(vector_type(REGISTER_LANES)) for _ in range(_TILE_ROWS)]
            for _ in range(_TILE_COLUMNS)
        ]
        row, column = (
            offset_floats(builder, base, number, REGISTER_LANES) for base in (rows, columns)
        )
        left = [
            load_vector(builder, offset(builder, row, i, stride), REGISTER_LANES)
            for i in range(_TILE_ROWS)
        ]
        results = []
        for i, line in enumerate(sums):
            right = load_vector(builder, offset(builder, column, i, stride), REGISTER_LANES)
            results.append(
                [
                    Vector(builder, total) + part * right
                    for total, part in zip(line, left, strict=True)
                ]
            )
        for total, value in zip(chain(*sums), chain(*results), strict=True):
            total.add_incoming(zero.value, before)
            total.add_incoming(value.value, builder.block)
    for i, line in enumerate(map(list, zip(*results, strict=True))):
        address = offset(builder, target, i, target_stride)
        _add_lane_sums(builder, line[:4], address)
        _add_lane_sums(builder, [*line[4:], zero, zero], offset(builder, address, 4, FLOAT_BYTES))


@llvm_intrinsic(5)
def _add_panel_product(
    builder: Any, panel: Any, columns: Any, depth: Any, target: Any, target_stride: Any
) -> None:
    """Add a panel, times ``depth`` rows of copied positions, to some rows of the gradient."""
    addresses = [
        [
            offset(
                builder,
                offset(builder, target, i, target_stride),
                part,
                REGISTER_LANES * FLOAT_BYTES,
            )
            for part in range(_VECTORS)
        ]
        for i in range(_ROWS)
    ]
    start = [
        [load_vector(builder, address, REGISTER_LANES) for address in row] for row in addresses
    ]
    result = multiply_panel(builder, panel, columns, _POSITIONS, depth, start)
    for address, value in zip(chain(*addresses), chain(*result), strict=True):
        store_vector(value, address)


@llvm_intrinsic(2)
def _copy_positions(builder: Any, source: Any, target: Any) -> None:
    """Copy the positions of one call of the micro-kernel, of one channel."""
    for part in range(_VECTORS):
        address = offset(builder, target, part, REGISTER_LANES * FLOAT_BYTES)
        value = load_vector(
            builder, offset(builder, source, part, REGISTER_LANES * FLOAT_BYTES), REGISTER_LANES
        )
        store_vector(value, address)


@jit
def _add_gram(  # type: ignore[no-untyped-def]
    source, stride, copy, sums, top, bottom, row_floats, first, last
):
    """Add the vectors from ``first`` to ``last`` to rows ``top`` to ``bottom`` of a Gram matrix.

    Computes the lower half, up to the tiles that contain the diagonal.
    """
    copy_stride = _COPY_STRIDE * FLOAT_BYTES
    for chunk in range(first, last, _CHUNK):
        count = min(_CHUNK, last - chunk)
        for channel in range(bottom):
            vectors = source + channel * stride + chunk * REGISTER_LANES * FLOAT_BYTES
            copy_bytes(vectors, copy + channel * copy_stride, count * REGISTER_LANES * FLOAT_BYTES)
        for left in range(0, bottom, _BLOCK):
            for row in range(top, bottom, _TILE_ROWS):
                for column in range(left, min(left + _BLOCK, row + _TILE_ROWS), _TILE_COLUMNS):
                    _add_dot_products(
                        copy + row * copy_stride,
                        copy + column * copy_stride,
                        copy_stride,
                        count,
                        sums + (row * row_floats + column) * FLOAT_BYTES,
                        row_floats * FLOAT_BYTES,
                    )


@jit
def _add_product(  # type: ignore[no-untyped-def]
    panels, source, stride, target, target_stride, copy, group, channels, depth, first, last
):
    """Add the product to the gradient, for positions ``first`` to ``last``, in micro-kernels.

    The copy has room for ``depth`` rows; those beyond the channels stay as they are.
    """
    width = _POSITIONS * FLOAT_BYTES
    for start in range(first, last, group):
        count = min(group, last - start)
        for channel in range(channels):
            for number in range(count):
                _copy_positions(
                    source + channel * stride + (start + number) * width,
                    copy + (number * depth + channel) * width,
                )
        for row in range(0, channels, _ROWS):
            for number in range(count):
                _add_panel_product(
                    panels + row * depth * FLOAT_BYTES,
                    copy + number * depth * width,
                    depth,
                    target + row * target_stride + (start + number) * width,
                    target_stride,
                )
