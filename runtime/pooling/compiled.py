"""Pooling by compiled loops: each number is read once and written once."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from nstrt.runtime.pooling import plain
from nstrt.runtime.pooling.plain import NOWHERE
from nstrt.runtime.threads import shared

__all__ = ["pool", "unpool"]


def pool(values: Tensor, pooled: Tensor | None, codes: Tensor | None, *, average: bool) -> None:
    """See :class:`nstrt.runtime.pooling.Pooling`."""
    shape = values.shape[0], values.shape[1] // 2, values.shape[2] // 2
    source = values.numpy()
    # A loop for each case would be four: what nobody wants is written to a line that is dropped.
    means = np.empty((1, 1, shape[2]), np.float32) if pooled is None else pooled.numpy()
    bytes_ = np.empty((1, 1, shape[2]), np.uint8) if codes is None else codes.numpy()
    wanted = pooled is not None, codes is not None
    loop = _mean if average else _highest
    shared(shape[0], lambda *part: loop(source, means, bytes_, *wanted, shape[1], *part))


def unpool(gradient: Tensor, codes: Tensor, out: Tensor, low: int, *, average: bool) -> None:
    """See :class:`nstrt.runtime.pooling.Pooling`."""
    if out.dtype != torch.float32:
        plain.unpool(gradient, codes, out, low, average=average)
        return
    source, code, target = gradient.numpy(), codes.numpy(), out.numpy()
    loop = _spread_mean if average else _spread_highest
    shared(len(source), lambda *part: loop(source, code, target, low, *part))


_compiled: Any = numba.njit(cache=True, nogil=True)
_ZERO, _QUARTER = np.float32(0), np.float32(0.25)


@_compiled
def _highest(  # type: ignore[no-untyped-def]
    values, pooled, codes, with_values, with_codes, rows, first, last
):
    for channel in range(first, last):
        for row in range(rows):
            upper, lower = values[channel, 2 * row], values[channel, 2 * row + 1]
            place = pooled[channel, row] if with_values else pooled[0, 0]
            for x in range(len(place)):
                above = max(upper[2 * x], upper[2 * x + 1])
                below = max(lower[2 * x], lower[2 * x + 1])
                place[x] = max(max(above, below), _ZERO)
            if not with_codes:
                continue
            code = codes[channel, row]
            for x in range(len(code)):
                a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
                # The first of equal values wins, as in torch.
                above, below = max(a, b), max(c, d)
                number = (2 + (c < d)) if above < below else (0 + (a < b))
                code[x] = number + NOWHERE * (max(above, below) <= _ZERO)


@_compiled
def _mean(  # type: ignore[no-untyped-def]
    values, pooled, codes, with_values, with_codes, rows, first, last
):
    for channel in range(first, last):
        for row in range(rows):
            upper, lower = values[channel, 2 * row], values[channel, 2 * row + 1]
            place = pooled[channel, row] if with_values else pooled[0, 0]
            for x in range(len(place)):
                above = max(upper[2 * x], _ZERO) + max(upper[2 * x + 1], _ZERO)
                below = max(lower[2 * x], _ZERO) + max(lower[2 * x + 1], _ZERO)
                place[x] = _QUARTER * (above + below)
            if not with_codes:
                continue
            code = codes[channel, row]
            for x in range(len(code)):
                a, b, c, d = upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]
                code[x] = (a > _ZERO) + 2 * (b > _ZERO) + 4 * (c > _ZERO) + 8 * (d > _ZERO)


@_compiled
def _spread_highest(gradient, codes, out, low, first, last):  # type: ignore[no-untyped-def]
    half_rows, half_columns = gradient.shape[1], gradient.shape[2]
    for channel in range(first, last):
        for y in range(out.shape[1]):
            place = out[channel, y]
            row = (low + y) // 2
            if row >= half_rows:
                place[:] = _ZERO
                continue
            left = np.uint8(2 * ((low + y) % 2))
            right = np.uint8(left + 1)
            source, code = gradient[channel, row], codes[channel, row]
            for x in range(half_columns):
                place[2 * x] = source[x] if code[x] == left else _ZERO
                place[2 * x + 1] = source[x] if code[x] == right else _ZERO
            place[2 * half_columns :] = _ZERO


@_compiled
def _spread_mean(gradient, codes, out, low, first, last):  # type: ignore[no-untyped-def]
    half_rows, half_columns = gradient.shape[1], gradient.shape[2]
    for channel in range(first, last):
        for y in range(out.shape[1]):
            place = out[channel, y]
            row = (low + y) // 2
            if row >= half_rows:
                place[:] = _ZERO
                continue
            left = np.uint8(1 << (2 * ((low + y) % 2)))
            right = np.uint8(2 * left)
            source, code = gradient[channel, row], codes[channel, row]
            for x in range(half_columns):
                quarter = _QUARTER * source[x]
                place[2 * x] = quarter if code[x] & left else _ZERO
                place[2 * x + 1] = quarter if code[x] & right else _ZERO
            place[2 * half_columns :] = _ZERO
