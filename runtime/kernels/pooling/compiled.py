"""2x2 pooling by compiled loops, eight windows at a time: each number is read and written once."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from nstrt.runtime.kernels.parallel import parallel_for
from nstrt.runtime.kernels.pooling import plain
from nstrt.runtime.kernels.pooling.plain import NO_GRADIENT
from nstrt.runtime.kernels.simd import (
    FLOAT_BYTES,
    INT64,
    LANES,
    Vector,
    broadcast,
    constant,
    jit,
    llvm_intrinsic,
    load_vector,
    offset,
    store_vector,
)

__all__ = ["pool", "self_test", "unpool"]


def pool(values: Tensor, pooled: Tensor | None, codes: Tensor | None, *, average: bool) -> None:
    """See :class:`nstrt.runtime.kernels.pooling.Pooling`."""
    shape = values.shape[0], values.shape[1] // 2, values.shape[2] // 2
    source = values.numpy()
    # Unwanted results go to one scratch row, which saves separate loops for each case.
    target = np.empty((1, 1, shape[2]), np.float32) if pooled is None else pooled.numpy()
    code_bytes = np.empty((1, 1, shape[2]), np.uint8) if codes is None else codes.numpy()
    wanted = pooled is not None, codes is not None
    loop = _average_pool if average else _max_pool
    parallel_for(shape[0], lambda *part: loop(source, target, code_bytes, *wanted, shape[1], *part))


def unpool(gradient: Tensor, codes: Tensor, out: Tensor, low: int, *, average: bool) -> None:
    """See :class:`nstrt.runtime.kernels.pooling.Pooling`."""
    if out.dtype != torch.float32:
        plain.unpool(gradient, codes, out, low, average=average)
        return
    source, code, target = gradient.numpy(), codes.numpy(), out.numpy()
    parallel_for(len(source), lambda *part: _unpool(source, code, target, low, average, *part))


def self_test() -> bool:
    """Return True if the compiled pooling agrees with torch's operations on this processor."""
    values = torch.rand((3, 5, 40), generator=torch.Generator().manual_seed(0)) - 0.5
    for average in (False, True):
        results: list[list[Tensor]] = []
        for forward, backward in ((pool, unpool), (plain.pool, plain.unpool)):
            pooled, codes = torch.empty((3, 2, 20)), torch.empty((3, 2, 20), dtype=torch.uint8)
            forward(values, pooled, codes, average=average)
            gradient = torch.empty_like(values)
            backward(pooled, codes, gradient, 0, average=average)
            results.append([pooled, codes.float(), gradient])
        if not all(map(torch.allclose, *results)):
            return False
    return True


_ZERO, _QUARTER, _ONE = np.float32(0), np.float32(0.25), np.float32(1)
_ALL_BITS = np.uint8(255)

_CODE_VECTOR = ir.VectorType(ir.IntType(8), LANES)
_EVEN, _ODD = range(0, 2 * LANES, 2), range(1, 2 * LANES, 2)
_INTERLEAVED = [lane for pair in range(LANES) for lane in (pair, LANES + pair)]


def _load_windows(builder: Any, upper: Any, lower: Any) -> list[Vector]:
    """Load the four pixels of eight windows, as four vectors, row by row."""
    corners = []
    for row in (upper, lower):
        left, right = (
            load_vector(builder, offset(builder, row, i, LANES * FLOAT_BYTES)) for i in range(2)
        )
        corners += [left.shuffle(right, _EVEN), left.shuffle(right, _ODD)]
    return corners


def _select_bits(builder: Any, condition: Any, bits: int) -> Any:
    """Bytes with some bits set where the condition holds, else zero."""
    chosen, zero = (ir.Constant(_CODE_VECTOR, [value] * LANES) for value in (bits, 0))
    return builder.select(condition, chosen, zero)


def _store_codes(builder: Any, codes: Any, target: Any) -> None:
    builder.store(codes, builder.inttoptr(target, _CODE_VECTOR.as_pointer()), align=1)


@llvm_intrinsic(4)
def _max_pool_vector(builder: Any, upper: Any, lower: Any, target: Any, code: Any) -> None:
    """Maxima and codes of eight windows."""
    zero = constant(builder, 0.0)
    a, b, c, d = _load_windows(builder, upper, lower)
    above, below = a.maximum(b), c.maximum(d)
    highest = above.maximum(below)
    store_vector(highest.maximum(zero), target)
    # The first of equal values wins, as in torch.
    is_below = above.compare("<", below)
    is_right = builder.select(is_below, c.compare("<", d), a.compare("<", b))
    number = builder.or_(_select_bits(builder, is_below, 2), _select_bits(builder, is_right, 1))
    no_gradient = _select_bits(builder, highest.compare("<=", zero), NO_GRADIENT)
    _store_codes(builder, builder.or_(number, no_gradient), code)


@llvm_intrinsic(4)
def _average_pool_vector(builder: Any, upper: Any, lower: Any, target: Any, code: Any) -> None:
    """Averages and codes of eight windows."""
    zero = constant(builder, 0.0)
    corners = _load_windows(builder, upper, lower)
    a, b, c, d = (corner.maximum(zero) for corner in corners)
    store_vector(0.25 * ((a + b) + (c + d)), target)
    bits = [
        _select_bits(builder, corner.compare(">", zero), 1 << i) for i, corner in enumerate(corners)
    ]
    _store_codes(builder, reduce(builder.or_, bits), code)


@llvm_intrinsic(6)
def _unpool_vector(
    builder: Any, source: Any, code: Any, left: Any, right: Any, average: Any, target: Any
) -> None:
    """Gradient of one row of eight windows, whose columns have the codes ``left`` and ``right``."""
    byte = ir.IntType(8)
    average = builder.icmp_signed("!=", average, ir.Constant(INT64, 0))
    value, zero = load_vector(builder, source), constant(builder, 0.0)
    share = builder.select(average, (0.25 * value).value, value.value)
    codes = builder.load(builder.inttoptr(code, _CODE_VECTOR.as_pointer()), align=1)
    columns = []
    for side in (left, right):
        number = builder.trunc(side, byte)
        mask = builder.select(average, number, ir.Constant(byte, 255))
        bits = builder.and_(codes, broadcast(builder, mask))
        receives = builder.icmp_unsigned("==", bits, broadcast(builder, number))
        columns.append(Vector(builder, builder.select(receives, share, zero.value)))
    for part, lanes in enumerate((_INTERLEAVED[:LANES], _INTERLEAVED[LANES:])):
        address = offset(builder, target, part, LANES * FLOAT_BYTES)
        store_vector(columns[0].shuffle(columns[1], lanes), address)


@jit
def _whole_vectors(count):  # type: ignore[no-untyped-def]
    return count // LANES * LANES


@jit
def _max_pool(  # type: ignore[no-untyped-def]
    values, pooled, codes, with_values, with_codes, rows, first, last
):
    for channel in range(first, last):
        for row in range(rows):
            upper, lower = values[channel, 2 * row], values[channel, 2 * row + 1]
            target = pooled[channel, row] if with_values else pooled[0, 0]
            code = codes[channel, row] if with_codes else codes[0, 0]
            vectors_end = _whole_vectors(len(target))
            for x in range(0, vectors_end, LANES):
                _max_pool_vector(
                    upper[2 * x :].ctypes.data,
                    lower[2 * x :].ctypes.data,
                    target[x:].ctypes.data,
                    code[x:].ctypes.data,
                )
            for x in range(vectors_end, len(target)):
                a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
                # The first of equal values wins, as in torch.
                above, below = max(a, b), max(c, d)
                target[x] = max(max(above, below), _ZERO)
                number = (2 + (c < d)) if above < below else (0 + (a < b))
                code[x] = number + NO_GRADIENT * (max(above, below) <= _ZERO)


@jit
def _average_pool(  # type: ignore[no-untyped-def]
    values, pooled, codes, with_values, with_codes, rows, first, last
):
    for channel in range(first, last):
        for row in range(rows):
            upper, lower = values[channel, 2 * row], values[channel, 2 * row + 1]
            target = pooled[channel, row] if with_values else pooled[0, 0]
            code = codes[channel, row] if with_codes else codes[0, 0]
            vectors_end = _whole_vectors(len(target))
            for x in range(0, vectors_end, LANES):
                _average_pool_vector(
                    upper[2 * x :].ctypes.data,
                    lower[2 * x :].ctypes.data,
                    target[x:].ctypes.data,
                    code[x:].ctypes.data,
                )
            for x in range(vectors_end, len(target)):
                a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
                above = max(a, _ZERO) + max(b, _ZERO)
                target[x] = _QUARTER * (above + (max(c, _ZERO) + max(d, _ZERO)))
                code[x] = (a > _ZERO) + 2 * (b > _ZERO) + 4 * (c > _ZERO) + 8 * (d > _ZERO)


@jit
def _unpool(gradient, codes, out, low, average, first, last):  # type: ignore[no-untyped-def]
    half_rows, half_columns = gradient.shape[1], gradient.shape[2]
    share = _QUARTER if average else _ONE
    for channel in range(first, last):
        for y in range(out.shape[1]):
            target = out[channel, y]
            row, down = (low + y) // 2, (low + y) % 2
            if row >= half_rows:
                target[:] = _ZERO
                continue
            # An average's code has a bit for each pixel, a maximum's is the pixel's number.
            left = np.uint8(1 << (2 * down) if average else 2 * down)
            right = np.uint8(2 * left if average else left + 1)
            left_mask, right_mask = (left, right) if average else (_ALL_BITS, _ALL_BITS)
            source, code = gradient[channel, row], codes[channel, row]
            vectors_end = _whole_vectors(half_columns)
            for x in range(0, vectors_end, LANES):
                _unpool_vector(
                    source[x:].ctypes.data,
                    code[x:].ctypes.data,
                    left,
                    right,
                    average,
                    target[2 * x :].ctypes.data,
                )
            for x in range(vectors_end, half_columns):
                value = share * source[x]
                target[2 * x] = value if code[x] & left_mask == left else _ZERO
                target[2 * x + 1] = value if code[x] & right_mask == right else _ZERO
            target[2 * half_columns :] = _ZERO
