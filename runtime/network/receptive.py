"""How much of each layer is computed: what a tile's core needs, and no more.

A convolution reads a pixel more on each side than it gives, a pooling twice as many as it gives.
So from the deepest layer, where the core is enough, the part that is needed grows from layer to
layer up to the picture. A tile's margin is as wide as that gets there; deeper down, most of it is
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["WHOLE", "Area", "Core", "Extent", "areas_of"]

Core = tuple[slice, slice]
"""The rows and columns of a picture, or of a part of one, whose features count; where it does not
end at the picture's edge, it ends at windows of all poolings."""

WHOLE: Core = slice(0, None), slice(0, None)
"""All of it."""


@dataclass(frozen=True)
class Extent:
    """What is computed of a convolution's output along one side, in its own pixels."""

    length: int
    """Pixels that there are."""

    start: int
    """The first one that is computed."""

    stop: int
    """One beyond the last."""

    around: int
    """Pixels around the convolution's input that are not zeros but belong to it."""

    @property
    def count(self) -> int:
        """Pixels that are computed."""
        return self.stop - self.start

    @property
    def first_read(self) -> int:
        """The first pixel of its input that the convolution reads, zeros left out."""
        return max(self.start - 1, -self.around)

    @property
    def read(self) -> int:
        """How many pixels of its input it reads, zeros left out."""
        return min(self.stop + 1, self.length + self.around) - self.first_read

    @property
    def zeros(self) -> int:
        """How many zeros it reads before the first pixel of its input."""
        return self.first_read - self.start + 1

    @property
    def reached(self) -> int:
        """How far back from the first pixel of its output the transposed convolution begins: it
        has zeros before that."""
        return self.start - self.first_read + 1


@dataclass(frozen=True)
class Area:
    """What is computed of a convolution's output."""

    rows: Extent
    columns: Extent


def areas_of(pooled: Sequence[bool], height: int, width: int, core: Core) -> list[Area]:
    """Those of all convolutions, some of which are ``pooled`` by halves, of a picture of ``height``
    x ``width`` pixels that has one more around it."""
    rows, columns = _extents(pooled, height, core[0]), _extents(pooled, width, core[1])
    return [Area(*sides) for sides in zip(rows, columns, strict=True)]


def _extents(pooled: Sequence[bool], length: int, core: slice) -> list[Extent]:
    lengths = [length]
    for halves in pooled:
        lengths.append(lengths[-1] // 2 if halves else lengths[-1])
    stride = 2 ** sum(pooled)
    start = core.start // stride
    stop = lengths[-1] if core.stop is None else core.stop // stride
    found: list[Extent] = []
    for number in reversed(range(len(pooled))):
        if pooled[number]:
            # Windows leave out an odd last pixel, but a core without end has it.
            start, stop = 2 * start, lengths[number] if core.stop is None else 2 * stop
        extent = Extent(lengths[number], start, stop, around=0 if number else 1)
        found.append(extent)
        start, stop = extent.first_read, extent.first_read + extent.read
    return found[::-1]
