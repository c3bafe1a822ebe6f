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
    shared(len(source), lambda *part: _spread(source, code, target, low, average, *part))


_compiled: Any = numba.njit(cache=True, nogil=True)
_ZERO, _QUARTER, _ONE = np.float32(0), np.float32(0.25), np.float32(1)
_ALL = np.uint8(255)


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
            for x in range(half_columns):
                value = share * source[x]
                place[2 * x] = value if code[x] & at_left == left else _ZERO
                place[2 * x + 1] = value if code[x] & at_right == right else _ZERO
            place[2 * half_columns :] = _ZERO
