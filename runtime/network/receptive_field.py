"""Receptive field arithmetic: the part of each layer that a tile's core needs.

A 3x3 convolution reads one pixel more on each side than it writes; a 2x2 pooling reads twice as
many pixels as it writes. So the needed part is the core at the deepest layer and grows from layer
to layer up to the picture. Most of a tile's margin is left out in deep layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nstrt.runtime.model import layers_between, layers_through, stride_of

__all__ = [
    "FULL_CORE",
    "Core",
    "OutputArea",
    "OutputRange",
    "margin_of",
    "output_areas",
    "tile_step",
]

Core = tuple[slice, slice]
"""Rows and columns of a picture or a tile that features are needed for. A slice without a stop
ends at the edge; any other bound is a window border of every pooling."""

FULL_CORE: Core = slice(0, None), slice(0, None)
"""The core of an undivided picture."""


@dataclass(frozen=True)
class OutputRange:
    """The computed part of a convolution's output along one axis, in pixels of that output."""

    length: int
    """Pixels of the whole layer."""

    start: int
    """First computed pixel."""

    stop: int
    """One beyond the last computed pixel."""

    input_margin: int
    """Pixels on each side of the convolution's input that hold values, not zeros."""

    @property
    def size(self) -> int:
        """Number of computed pixels."""
        return self.stop - self.start

    @property
    def input_start(self) -> int:
        """First pixel of the input that the convolution reads, without zeros."""
        return max(self.start - 1, -self.input_margin)

    @property
    def input_size(self) -> int:
        """Number of input pixels that the convolution reads, without zeros."""
        return min(self.stop + 1, self.length + self.input_margin) - self.input_start

    @property
    def padding(self) -> int:
        """Zeros that the convolution reads before the first pixel of its input."""
        return self.input_start - self.start + 1

    @property
    def transposed_padding(self) -> int:
        """Zeros that the transposed convolution reads before the first computed pixel."""
        return self.start - self.input_start + 1


@dataclass(frozen=True)
class OutputArea:
    """The computed part of a convolution's output."""

    rows: OutputRange
    columns: OutputRange


def output_areas(pooled: Sequence[bool], height: int, width: int, core: Core) -> list[OutputArea]:
    """The area of each convolution that ``core`` needs, for an input of ``height`` x ``width``
    pixels with one more pixel on each side. ``pooled`` marks convolutions that a pooling follows.
    """
    rows, columns = _ranges(pooled, height, core[0]), _ranges(pooled, width, core[1])
    return [OutputArea(*axes) for axes in zip(rows, columns, strict=True)]


def _ranges(pooled: Sequence[bool], length: int, core: slice) -> list[OutputRange]:
    lengths = [length]
    for is_pooled in pooled:
        lengths.append(lengths[-1] // 2 if is_pooled else lengths[-1])
    stride = 2 ** sum(pooled)
    start = core.start // stride
    stop = lengths[-1] if core.stop is None else core.stop // stride
    ranges: list[OutputRange] = []
    for number in reversed(range(len(pooled))):
        if pooled[number]:
            # Windows leave out an odd last pixel, but a core without a stop includes it.
            start, stop = 2 * start, lengths[number] if core.stop is None else 2 * stop
        output = OutputRange(lengths[number], start, stop, input_margin=0 if number else 1)
        ranges.append(output)
        start, stop = output.input_start, output.input_start + output.input_size
    return ranges[::-1]


def margin_of(layers: Iterable[str], after: str | None = None) -> int:
    """Margin that exact features of ``layers`` in a core need, in pixels of the picture.

    They are computed from the picture, or from the layer ``after``.
    """
    margin = 0
    for name in reversed(layers_between(after, layers)):
        if name.startswith("conv"):
            margin += 1
        elif name.startswith("pool"):
            margin *= 2
    pixels = margin * (stride_of(after) if after else 1)
    step = tile_step(layers)
    return math.ceil(pixels / step) * step


def tile_step(layers: Iterable[str]) -> int:
    """Number of pixels that cores and margins are multiples of, so that pooling windows lie as in
    the whole picture."""
    return max(map(stride_of, layers_through(layers)))
