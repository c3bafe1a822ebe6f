"""Sections of the network, so that tiles need smaller margins.

The margin of a tile grows with the depth of the network, so the network is cut at a pooling. All
tiles pass its first section. Their features there, four numbers for each pixel of the picture, are
joined, and tiles of them pass the second section. The backward pass joins the gradient likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.model import layers_through, shape_of
from nstrt.runtime.network.feature_observer import place_of
from nstrt.runtime.network.receptive_field import margin_of
from nstrt.runtime.network.tiles import Tile, tiles_of

__all__ = ["CUT", "Section", "SectionBoundary", "deep_side", "sections_of", "split_at_cut"]

CUT = "pool3"
"""The layer where the network is cut: its output is small, and so are margins before it."""

_LEAST_CORE = 64
"""Smallest side of a core behind the cut, in pixels of the picture."""


@dataclass(frozen=True)
class Section:
    """A part of the network, and the tiles that pass it."""

    tiles: list[Tile]
    """Tiles of the picture, or of the layer that the previous section ends with."""

    until: str | None
    """The layer that it ends with; None for the last section."""


def sections_of(
    height: int, width: int, side: int | None, layers: Sequence[str], *, in_two: bool
) -> list[Section]:
    """One or two sections from a picture to ``layers``, in tiles of at most ``side`` pixels.

    Tiles of the second section are larger, see :func:`deep_side`. There is one section without
    ``in_two``, for a picture of one tile, and where no layer lies behind the cut.
    """
    shallow, deep = split_at_cut(layers)
    if not in_two or not deep or side is None or max(height, width) <= side:
        return [Section(tiles_of(height, width, side, layers), None)]
    return [
        Section(tiles_of(height, width, side, shallow), CUT),
        Section(tiles_of(height, width, deep_side(side, deep), deep, CUT), None),
    ]


def split_at_cut(layers: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The layers to observe in the first and the second section; none in the second if no layer
    lies behind the cut."""
    before = layers_through([CUT])
    deep = tuple(name for name in layers if name not in before)
    shallow = tuple(name for name in layers if name in before)
    return tuple(dict.fromkeys([*shallow, CUT])) if deep else shallow, deep


def deep_side(side: int, deep: Sequence[str]) -> int:
    """The longest side of tiles behind the cut, in pixels of the picture, if tiles before it have
    ``side``."""
    # Behind the cut a pixel takes less than half of the memory, and margins are wider.
    return max(side * 3 // 2, 2 * margin_of(deep, CUT) + _LEAST_CORE)


class SectionBoundary:
    """The features at the cut, joined for a picture of ``height`` x ``width`` pixels, and their
    gradient."""

    def __init__(self, layer: str, height: int, width: int) -> None:
        self.layers = (layer,)
        self._size = height, width
        self.values: Array = None
        """The features, channels x rows x columns; None before the first are observed."""
        self.gradient: Array = None
        """The gradient at the features; None before :meth:`begin_gradient`."""

    def begin_gradient(self) -> None:
        """Allocate the gradient, filled with zeros, for layers behind the cut to add to."""
        self.gradient = arrays_of(self.values).zeros(self.values.shape, self.values)

    def forget_values(self) -> None:
        """Free the features' memory, for the gradient of the picture."""
        self.values = None

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Copy features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        if self.values is None:
            _, *size = shape_of(layer, *self._size)
            self.values = arrays_of(values).empty((len(values), *size), values)
        self.values[:, *place_of(values, top, left)] = values

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the gradient from the layers behind the cut."""
        gradient += self.gradient[:, *place_of(values, top, left)]
