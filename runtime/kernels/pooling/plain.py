"""2x2 pooling by torch's operations, on any device and in any precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["NO_GRADIENT", "pool", "unpool"]

NO_GRADIENT = 4
"""Added to the code of a maximum that is not above zero, which passes no gradient."""


def pool(values: Tensor, pooled: Tensor | None, codes: Tensor | None, *, average: bool) -> None:
    """See :class:`nstrt.runtime.kernels.pooling.Pooling`."""
    rows, columns = values.shape[1] // 2 * 2, values.shape[2] // 2 * 2
    corners = [values[:, down:rows:2, across:columns:2] for down in (0, 1) for across in (0, 1)]
    if average:
        corners = [corner.relu() for corner in corners]
        if pooled is not None:
            torch.add(corners[0], corners[1], out=pooled)
            pooled.add_(corners[2]).add_(corners[3]).mul_(0.25)
        if codes is not None:
            codes.copy_(corners[0] > 0)
            for number, corner in enumerate(corners[1:], start=1):
                codes += (corner > 0).byte() << number
        return
    upper = torch.maximum(corners[0], corners[1])
    lower = torch.maximum(corners[2], corners[3])
    highest = torch.maximum(upper, lower, out=pooled)
    if codes is not None:
        # The first of equal values wins, as in torch. The code's bits are: right column, lower
        # row, no gradient.
        right_above = (corners[0] < upper).view(torch.uint8)
        right_below = (corners[2] < lower).view(torch.uint8)
        lower_wins = (upper < lower).view(torch.uint8)
        differing = right_below.bitwise_xor_(right_above).bitwise_and_(lower_wins)
        torch.bitwise_xor(right_above, differing, out=codes)
        codes += lower_wins * 2
        codes += (highest <= 0).view(torch.uint8) * NO_GRADIENT
    highest.relu_()


def unpool(gradient: Tensor, codes: Tensor, out: Tensor, low: int, *, average: bool) -> None:
    """See :class:`nstrt.runtime.kernels.pooling.Pooling`."""
    half_rows, half_columns = gradient.shape[1:]
    out.zero_()
    high = min(low + out.shape[1], 2 * half_rows)
    for down in range(2):
        first = low + (low + down) % 2
        half = slice(first // 2, first // 2 + len(range(first, high, 2)))
        part, code = gradient[:, half], codes[:, half]
        for across in range(2):
            target = out[:, first - low : high - low : 2, across : 2 * half_columns : 2]
            corner = 2 * down + across
            if average:
                torch.mul(part, code.bitwise_and(1 << corner).ne(0), out=target)
                target *= 0.25
            else:
                torch.mul(part, code == corner, out=target)
