"""Pooling by compiled loops: each number is read once and written once, eight windows at a time."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from nstrt.runtime.kernels.parallel import parallel_for
from nstrt.runtime.kernels.pooling import plain
from nstrt.runtime.kernels.pooling.plain import NOWHERE
from nstrt.runtime.kernels.simd import (
    BYTES,
    INT,
    LANES,
    Vector,
    at,
    compiled,
    constant,
    loaded,
    repeat,
    stored,
    written,
)

__all__ = ["pool", "unpool", "works"]


def pool(values: Tensor, pooled: Tensor | None, codes: Tensor | None, *, average: bool) -> None:
    """See :class:`Pooling`."""
    shape = values.shape[0], values.shape[1] // 2, values.shape[2] // 2
    source = values.numpy()
    # A loop for each case would be four: what nobody wants is written to a line that is dropped.
    means = np.empty((1, 1, shape[2]), np.float32) if pooled is None else pooled.numpy()
    bytes_ = np.empty((1, 1, shape[2]), np.uint8) if codes is None else codes.numpy()
    wanted = pooled is not None, codes is not None
    loop = _mean if average else _highest
    parallel_for(shape[0], lambda *part: loop(source, means, bytes_, *wanted, shape[1], *part))


def unpool(gradient: Tensor, codes: Tensor, out: Tensor, low: int, *, average: bool) -> None:
    """See :class:`Pooling`."""
    if out.dtype != torch.float32:
        plain.unpool(gradient, codes, out, low, average=average)
        return
    source, code, target = gradient.numpy(), codes.numpy(), out.numpy()
    parallel_for(len(source), lambda *part: _spread(source, code, target, low, average, *part))


def works() -> bool:
    """Whether what was compiled for this processor agrees with torch's operations."""
    values = torch.rand((3, 5, 40), generator=torch.Generator().manual_seed(0)) - 0.5
    for average in (False, True):
        found: list[list[Tensor]] = []
        for here, there in ((pool, unpool), (plain.pool, plain.unpool)):
            pooled, codes = torch.empty((3, 2, 20)), torch.empty((3, 2, 20), dtype=torch.uint8)
            here(values, pooled, codes, average=average)
            spread = torch.empty_like(values)
            there(pooled, codes, spread, 0, average=average)
            found.append([pooled, codes.float(), spread])
        if not all(map(torch.allclose, *found)):
            return False
    return True


_ZERO, _QUARTER, _ONE = np.float32(0), np.float32(0.25), np.float32(1)
_ALL = np.uint8(255)

_CODES = ir.VectorType(ir.IntType(8), LANES)
_EVEN, _ODD = range(0, 2 * LANES, 2), range(1, 2 * LANES, 2)
_IN_TURN = [number for pair in range(LANES) for number in (pair, LANES + pair)]


def _windows(builder: Any, upper: Any, lower: Any) -> list[Vector]:
    """The four numbers of each of eight windows, row by row."""
    found = []
    for row in (upper, lower):
        left, right = (loaded(builder, at(builder, row, i, LANES * BYTES)) for i in range(2))
        found += [left.mixed(right, _EVEN), left.mixed(right, _ODD)]
    return found


def _bits(builder: Any, condition: Any, bits: int) -> Any:
    """A byte with some bits where the condition holds, else without."""
    found, none = (ir.Constant(_CODES, [value] * LANES) for value in (bits, 0))
    return builder.select(condition, found, none)


def _keep(builder: Any, codes: Any, place: Any) -> None:
    builder.store(codes, builder.inttoptr(place, _CODES.as_pointer()), align=1)


@written(4)
def _highest_of_eight(builder: Any, upper: Any, lower: Any, place: Any, code: Any) -> None:
    zero = constant(builder, 0.0)
    a, b, c, d = _windows(builder, upper, lower)
    above, below = a.at_least(b), c.at_least(d)
    highest = above.at_least(below)
    stored(highest.at_least(zero), place)
    # The first of equal values wins, as in torch.
    is_below = above.compared("<", below)
    right = builder.select(is_below, c.compared("<", d), a.compared("<", b))
    number = builder.or_(_bits(builder, is_below, 2), _bits(builder, right, 1))
    nowhere = _bits(builder, highest.compared("<=", zero), NOWHERE)
    _keep(builder, builder.or_(number, nowhere), code)


@written(4)
def _mean_of_eight(builder: Any, upper: Any, lower: Any, place: Any, code: Any) -> None:
    zero = constant(builder, 0.0)
    corners = _windows(builder, upper, lower)
    a, b, c, d = (corner.at_least(zero) for corner in corners)
    stored(0.25 * ((a + b) + (c + d)), place)
    bits = [_bits(builder, corner.compared(">", zero), 1 << i) for i, corner in enumerate(corners)]
    _keep(builder, reduce(builder.or_, bits), code)


@written(6)
def _spread_eight(
    builder: Any, source: Any, code: Any, left: Any, right: Any, average: Any, place: Any
) -> None:
    byte = ir.IntType(8)
    average = builder.icmp_signed("!=", average, ir.Constant(INT, 0))
    value, zero = loaded(builder, source), constant(builder, 0.0)
    share = builder.select(average, (0.25 * value).value, value.value)
    codes = builder.load(builder.inttoptr(code, _CODES.as_pointer()), align=1)
    sides = []
    for side in (left, right):
        number = builder.trunc(side, byte)
        seen = builder.select(average, number, ir.Constant(byte, 255))
        bits = builder.and_(codes, repeat(builder, seen))
        here = builder.icmp_unsigned("==", bits, repeat(builder, number))
        sides.append(Vector(builder, builder.select(here, share, zero.value)))
    for part, numbers in enumerate((_IN_TURN[:LANES], _IN_TURN[LANES:])):
        stored(sides[0].mixed(sides[1], numbers), at(builder, place, part, LANES * BYTES))


@compiled
def _eights(count):  # type: ignore[no-untyped-def]
    return count // LANES * LANES


@compiled
def _highest(  # type: ignore[no-untyped-def]
    values, pooled, codes, with_values, with_codes, rows, first, last
):
    for channel in range(first, last):
        for row in range(rows):
            upper, lower = values[channel, 2 * row], values[channel, 2 * row + 1]
            place = pooled[channel, row] if with_values else pooled[0, 0]
            code = codes[channel, row] if with_codes else codes[0, 0]
            eights = _eights(len(place))
            for x in range(0, eights, LANES):
                _highest_of_eight(
                    upper[2 * x :].ctypes.data,
                    lower[2 * x :].ctypes.data,
                    place[x:].ctypes.data,
                    code[x:].ctypes.data,
                )
            for x in range(eights, len(place)):
                a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
                # The first of equal values wins, as in torch.
                above, below = max(a, b), max(c, d)
                place[x] = max(max(above, below), _ZERO)
                number = (2 + (c < d)) if above < below else (0 + (a < b))
                code[x] = number + NOWHERE * (max(above, below) <= _ZERO)


@compiled
def _mean(  # type: ignore[no-untyped-def]
    values, pooled, codes, with_values, with_codes, rows, first, last
):
    for channel in range(first, last):
        for row in range(rows):
            upper, lower = values[channel, 2 * row], values[channel, 2 * row + 1]
            place = pooled[channel, row] if with_values else pooled[0, 0]
            code = codes[channel, row] if with_codes else codes[0, 0]
            eights = _eights(len(place))
            for x in range(0, eights, LANES):
                _mean_of_eight(
                    upper[2 * x :].ctypes.data,
                    lower[2 * x :].ctypes.data,
                    place[x:].ctypes.data,
                    code[x:].ctypes.data,
                )
            for x in range(eights, len(place)):
                a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
                above = max(a, _ZERO) + max(b, _ZERO)
                place[x] = _QUARTER * (above + (max(c, _ZERO) + max(d, _ZERO)))
                code[x] = (a > _ZERO) + 2 * (b > _ZERO) + 4 * (c > _ZERO) + 8 * (d > _ZERO)


@compiled
def _spread(gradient, codes, out, low, average, first, last):  # type: ignore[no-untyped-def]
    half_rows, half_columns = gradient.shape[1], gradient.shape[2]
    share = _QUARTER if average else _ONE
    for channel in range(first, last):
        for y in range(out.shape[1]):
            place = out[channel, y]
            row, down = (low + y) // 2, (low + y) % 2
            if row >= half_rows:
                place[:] = _ZERO
                continue
            # A mean's code has a bit for each position, a maximum's is the position's number.
            left = np.uint8(1 << (2 * down) if average else 2 * down)
            right = np.uint8(2 * left if average else left + 1)
            at_left, at_right = (left, right) if average else (_ALL, _ALL)
            source, code = gradient[channel, row], codes[channel, row]
            eights = _eights(half_columns)
            for x in range(0, eights, LANES):
                _spread_eight(
                    source[x:].ctypes.data,
                    code[x:].ctypes.data,
                    left,
                    right,
                    average,
                    place[2 * x :].ctypes.data,
                )
            for x in range(eights, half_columns):
                value = share * source[x]
                place[2 * x] = value if code[x] & at_left == left else _ZERO
                place[2 * x + 1] = value if code[x] & at_right == right else _ZERO
            place[2 * half_columns :] = _ZERO
