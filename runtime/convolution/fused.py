"""Winograd's convolution with larger tiles, a few of them at a time from end to end.

F(6x6, 3x3) of Lavin and Gray (2016), "Fast Algorithms for Convolutional Neural Networks": 64
products for 36 pixels, where the definition has 324. Transformed tiles are 1.8 times as many
numbers as the picture, which is what such a convolution waits for where they go to memory and back.
So each thread transforms some tiles, multiplies, and transforms back while they lie in its cache.

The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity. They are their own reciprocals but for the
order, and the factors that the transforms leave to choose are shared out such that the transposed
convolution has the same transforms and the same weights, at the reciprocal points.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nstrt.runtime.convolution import compiled
from nstrt.runtime.convolution.scratch import Scratch
from nstrt.runtime.convolution.winograd import Point, point_matrix
from nstrt.runtime.threads import parts, together

__all__ = ["FACTORS", "POINTS", "RECIPROCAL", "Fused", "transform_weight", "works"]

POINTS: tuple[Point, ...] = (
    Fraction(0),
    Fraction(1),
    Fraction(-1),
    Fraction(2),
    Fraction(-2),
    Fraction(1, 2),
    Fraction(-1, 2),
    None,
)

FACTORS = (-1, 1, 1, 1, 1, Fraction(1, 16), Fraction(1, 16), 1)
"""Of the weights at each point, whose inverse is in the transform of the input at 0 and in that of
the output at 1/2 and -1/2: then w at 1/p is w flipped at p."""

RECIPROCAL = (7, 1, 2, 5, 6, 3, 4, 0)
"""The number of each point's reciprocal."""

_KEPT = 1 << 22
"""Bytes of transformed weights that stay in a processor's cache while tiles go by."""

_MOST = 8
"""Blocks of tiles that share a reading of larger ones."""


class Fused:
    """A 3x3 convolution, forwards or transposed, of a band of rows, by F(6x6, 3x3).

    Relative error about 5e-6 in single precision. ``transformed`` are the weights of
    :func:`transform_weight`, the same for both directions.
    """

    multiple = compiled.TILE
    rounded = None

    def __init__(self, transformed: Tensor, scratch: Scratch, *, transposed: bool) -> None:
        self._weight = transformed
        self._scratch = scratch
        _, outputs, inputs = transformed.shape
        order, size = np.arange(compiled.SIDE**2), transformed.element_size()
        by_output, by_input = (size * step for step in transformed.stride()[1:])
        self._steps = by_output, by_input
        self._channels = inputs, outputs
        if transposed:
            self._channels, self._steps = (outputs, inputs), (by_input, by_output)
            order = order.reshape(compiled.SIDE, -1)[np.ix_(RECIPROCAL, RECIPROCAL)].reshape(-1)
        self._order = order
        self._no_bias = torch.zeros(self._channels[1])

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """``out``, channels x rows x columns, from ``band``, which has a pixel more on each side
        and, to the right and below, as many as fill the last tiles."""
        inputs, outputs = self._channels
        rows, columns = out.shape[1:]
        added = self._no_bias if bias is None else bias.contiguous()
        strips = -(-rows // compiled.TILE) * -(-columns // (compiled.TILE * compiled.LANES))
        blocks = -(-strips // 2)
        shared_by = len(parts(blocks))
        # As many rounds as it takes, of the same length in all threads.
        most = 1 if self._weight.nbytes <= _KEPT else _MOST
        at_once = -(-blocks // (-(-blocks // (most * shared_by)) * shared_by))
        spans = parts(-(-blocks // at_once))
        points, block = compiled.SIDE**2, compiled.BLOCK
        seen = self._scratch.take("gathered", (len(spans), points * block * (at_once * inputs + 1)))
        # Up to six channels more are written than there are.
        room = points * block * (at_once * outputs + compiled.ROWS)
        found = self._scratch.take("transformed", (len(spans), room))
        small = self._scratch.take("strip", (len(spans), compiled.work(inputs)))
        size = band.element_size()

        def work(number: int, first: int, last: int) -> Callable[[], None]:
            return lambda: compiled.convolve(
                band.data_ptr(),
                size * band.stride(0),
                size * band.stride(1),
                inputs,
                self._weight.data_ptr(),
                size * self._weight.stride(0),
                self._order,
                *self._steps,
                added.data_ptr(),
                out.data_ptr(),
                size * out.stride(0),
                size * out.stride(1),
                outputs,
                rows,
                columns,
                seen[number].data_ptr(),
                found[number].data_ptr(),
                small[number].data_ptr(),
                at_once,
                first,
                last,
            )

        together([work(number, *span) for number, span in enumerate(spans)])


def transform_weight(weight: Tensor) -> Tensor:
    """G w G' of weights out x in x 3 x 3, as 64 x out x in, with zeros around: rows a power of two
    apart would share few places of the cache, and some are read beyond their end."""
    found = point_matrix(weight, POINTS, FACTORS)
    points, outputs, inputs = found.shape
    more = max(0, compiled.ROWS - outputs)
    room = torch.zeros((points, outputs + more, inputs + compiled.BLOCK))
    return room[:, :outputs, :inputs].copy_(found)


@lru_cache(maxsize=1)
def works() -> bool:
    """Whether what was compiled for this processor agrees with torch's convolution."""
    source = torch.Generator().manual_seed(0)
    seen = torch.rand((16, 8, 14), generator=source)
    weight = torch.rand((16, 16, 3, 3), generator=source) - 0.5
    out = torch.empty((16, 6, 12))
    Fused(transform_weight(weight), Scratch(), transposed=False).apply(seen, out, None)
    wanted = torch.nn.functional.conv2d(seen[None], weight)[0]
    return bool(torch.allclose(out, wanted, rtol=1e-3, atol=1e-4))
