"""Winograd's convolution with larger tiles, a few of them at a time.

F(6x6, 3x3) of Lavin and Gray (2016), "Fast Algorithms for Convolutional Neural Networks": 64
products for 36 pixels, where the definition has 324. Transformed tiles are 1.8 times as many
numbers as the picture, which is what such a convolution waits for where they go to memory and back.
So each thread transforms some tiles, multiplies, and transforms back while they lie in its cache.
Between many channels, whose weights are transformed on the way, threads share more tiles than that,
and do one of the three after the other.

The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import winograd_6x6_loops as loops
from nstrt.runtime.kernels.convolution.filter import Filter
from nstrt.runtime.kernels.convolution.winograd_4x4 import Point, weight_matrix
from nstrt.runtime.kernels.parallel import guided_chunks, run_tasks

__all__ = ["FACTORS", "POINTS", "Winograd6x6", "transform_weight", "works"]

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
the output at 1/2 and -1/2: so the numbers there are few."""

_FEW = 1 << 14
"""Pairs of channels whose weights at all points stay in a processor's cache while tiles go by."""

_MOST = 16
"""Blocks of tiles that share a reading of more of them."""

_ZERO, _NO_LEAST = torch.zeros(1), torch.full((1,), -torch.inf)


class Winograd6x6:
    """A 3x3 convolution by F(6x6, 3x3), with weights out x in x 3 x 3.

    Relative error about 6e-6 in single precision.
    """

    multiple = 1
    rounded = None
    windowed = True

    def __init__(self, weight: Tensor, scratch: BufferPool) -> None:
        self._scratch = scratch
        outputs, inputs = weight.shape[:2]
        self._whole = outputs * inputs <= _FEW
        self._matrix = _matrix().contiguous()
        if self._whole:
            self._panels = _panels(transform_weight(weight))
            points = self._panels.element_size() * self._panels.stride(0), 0
        else:
            self._panels = _panels(weight.float().permute(2, 3, 0, 1).flatten(0, 1), beside=True)
            points = 0, self._matrix.data_ptr()
        self._weights = loops.Weights(self._panels.data_ptr(), *points)
        self._no_bias = torch.zeros(outputs)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """``out``, channels x rows x columns, from ``band``, which has a pixel more on each
        side."""
        self.window(band, 0, 0, out, bias)

    def window(
        self,
        source: Tensor,
        top: int,
        left: int,
        out: Tensor,
        bias: Tensor | None,
        *,
        rectified: bool = False,
    ) -> None:
        """``out`` from the pixels of ``source``, channels x rows x columns, from row ``top`` and
        column ``left`` on, which may be outside of it; there are zeros."""
        seen, target = _plane(source), _plane(out)
        added = self._no_bias if bias is None else bias.float().contiguous()
        least = _ZERO if rectified else _NO_LEAST
        strips = loops.strips_of(target.rows, target.columns)
        if not strips:
            return
        blocks = -(-strips // 2)
        inputs, outputs = (0, seen.channels), (0, target.channels)
        products, none = (0, loops.SIDE * loops.parts_of(target.channels)), (0, 0)
        # Where weights are transformed on the way, that is done once for as many tiles as the
        # buffers allow, and the threads share these; otherwise each has tiles of its own.
        at_once = 1 if self._whole else -(-blocks // -(-blocks // _MOST))
        groups = -(-blocks // at_once)
        buffers, memory = self._buffers(at_once, seen.channels, target.channels)

        def do(shares: Sequence[loops.Share]) -> None:
            run_tasks(
                len(shares),
                partial(
                    _convolve,
                    (self, source, out, added, memory),
                    seen,
                    top,
                    left,
                    self._weights,
                    added.data_ptr(),
                    least.data_ptr(),
                    target,
                    buffers,
                    shares,
                ),
            )

        if self._whole:
            do([loops.Share(*span, *inputs, *products, *outputs) for span in guided_chunks(groups)])
            return
        for number in range(groups):
            group = number, number + 1
            do([loops.Share(*group, *span, *none, *none) for span in guided_chunks(inputs[1])])
            do([loops.Share(*group, *none, n, n + 1, *none) for n in range(products[1])])
            do([loops.Share(*group, *none, *none, *span) for span in guided_chunks(outputs[1])])

    def _buffers(
        self, blocks: int, inputs: int, outputs: int
    ) -> tuple[list[loops.Buffers], tuple[Tensor, ...]]:
        """Of each thread, and the memory that they are addresses of: transformed tiles, products,
        and a strip."""
        points, take, threads = loops.SIDE**2, self._scratch.get, torch.get_num_threads()
        rooms = threads if self._whole else 1
        seen = take("gathered", (rooms, points * loops.room(blocks, inputs)))
        found = take("transformed", (rooms, points * loops.room(blocks, outputs)))
        work = loops.work(inputs, 0 if self._whole else outputs)
        strips = take("strip", (threads, work))
        buffers = [
            loops.Buffers(
                seen[number % rooms].data_ptr(),
                found[number % rooms].data_ptr(),
                strips[number].data_ptr(),
                blocks,
            )
            for number in range(threads)
        ]
        return buffers, (seen, found, strips)


def _convolve(held: Sequence[object], *arguments: Any) -> None:
    """``held`` owns the memory that the arguments are addresses of; the last ones are the buffers
    and the shares, and the numbers of the thread and of the share."""
    *first, buffers, shares, thread, number = arguments
    loops.convolve(*first, buffers[thread], shares[number])


def _plane(values: Tensor) -> loops.Plane:
    if values.dtype != torch.float32 or values.device.type != "cpu" or values.stride(2) != 1:
        raise ValueError("Compiled loops take rows of single precision numbers in main memory.")
    channel, row, _ = (values.element_size() * step for step in values.stride())
    return loops.Plane(values.data_ptr(), channel, row, *values.shape)


def transform_weight(weight: Tensor) -> Tensor:
    """G w G' of weights out x in x 3 x 3, as 64 x out x in."""
    g = _matrix()
    return torch.einsum("ui,ocij,vj->uvoc", g, weight.float(), g).flatten(0, 1)


def _panels(matrices: Tensor, *, beside: bool = False) -> Tensor:
    """Matrices, number x out x in, as they are multiplied: number x panels x in x outputs of the
    panel, zeros where there are fewer; or ``beside`` each other, panels x in x number x outputs."""
    outputs = matrices.shape[1]
    rows = torch.tensor(loops.rows_of(outputs))[:, None] + torch.arange(loops.ROWS)
    enough = functional.pad(matrices, (0, 0, 0, max(0, loops.ROWS - outputs)))
    panels = enough[:, rows].transpose(2, 3)
    if beside:
        panels = panels.permute(1, 2, 0, 3)
    # A last vector may reach beyond.
    room = torch.zeros(panels.numel() + loops.BLOCK)
    return room[: panels.numel()].view(panels.shape).copy_(panels)


@lru_cache(maxsize=1)
def _matrix() -> Tensor:
    """G: a filter's polynomial at the points, with the factors."""
    exact = weight_matrix(POINTS) * np.array(FACTORS, dtype=object)[:, None]
    return torch.from_numpy(exact.astype(np.float32))


def works() -> bool:
    """Whether what was compiled for this processor agrees with torch's convolution."""
    return all(
        _agrees(channels, transposed=transposed)
        for channels in (16, 136)
        for transposed in (False, True)
    )


def _agrees(channels: int, *, transposed: bool) -> bool:
    """Of a picture with whole strips of tiles and others, and zeros around."""
    source = torch.Generator().manual_seed(0)
    picture = torch.rand((channels, 9, 130), generator=source)
    weight = torch.rand((channels, channels, 3, 3), generator=source) - 0.5
    found = torch.empty_like(picture)
    filter_ = Filter(weight, torch.zeros(channels))
    kernel = Winograd6x6(filter_.one_way(transposed=transposed), BufferPool())
    kernel.window(picture, -1, -1, found, None, rectified=True)
    way = functional.conv_transpose2d if transposed else functional.conv2d
    wanted = way(picture[None], weight, padding=1)[0].relu()
    return bool(torch.allclose(found, wanted, rtol=1e-3, atol=1e-3))
