"""Find a plain margin around a painting: a scan's paper, black bars, a frame of one colour.

A margin is a band of rows or columns along a border, all of one colour, that ends in one straight
edge. Skies and dark backgrounds end gradually or along their objects, and are no margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.limits import MIN_SIDE

__all__ = ["Margin", "find_margin"]

_SAMPLES = 1024
"""Most pixels of a row or column that are looked at."""

_LEAST = 0.005
"""Narrowest margin, as a share of the picture's side; two pixels at least."""

_MOST = 0.25
"""Widest margin of one side, as a share of the picture's side."""

_MOST_ALONE = 0.12
"""Widest margin of a picture that has one on this side only."""

_STRAY, _SHARE = 0.11, 0.97
"""A row is of one colour if this share of its pixels differs by at most 28 of 255 levels."""

_DRIFT = 0.024
"""Largest difference between a row's mean and the margin's colour, 6 of 255 levels."""

_STEP, _CERTAIN, _LIKELY = 0.1, 0.75, 0.35
"""At the edge this share of the pixels changes by 25 of 255 levels or more. The smaller share is
enough beside a certain side of equal colour, because a painting may be as dark as its frame."""

_ALIKE = 0.04
"""Largest difference between the colours of two sides that count as equal, 10 of 255 levels."""

_ROUNDS = 3
"""Most margins inside each other: paper, a frame, a mount."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Pixels of a margin on each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))

    def words(self) -> str:
        """The pixels of each side, such as "12 pixels left, 10 right"."""
        first, *others = [f"{pixels} {side}" for side, pixels in vars(self).items() if pixels]
        return ", ".join([first.replace(" ", " pixels "), *others])

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture without its margin."""
        return slice(self.top, height - self.bottom), slice(self.left, width - self.right)


def find_margin(rgb: NDArray[np.float32]) -> Margin:
    """The margin of a picture, height x width x 3 in 0..1; an empty one if none is certain."""
    height, width = rgb.shape[:2]
    found = Margin()
    for _ in range(_ROUNDS):
        inner = rgb[found.inside(height, width)]
        more = _outermost(inner) if min(inner.shape[:2]) >= MIN_SIDE else None
        if not more:
            break
        sums = {side: pixels + getattr(more, side) for side, pixels in vars(found).items()}
        found = Margin(**sums)
    return found


@dataclass(frozen=True, eq=False)
class _Side:
    """The plain rows at one border, and how much of their end is an edge."""

    pixels: int
    color: NDArray[np.float32]
    share: float


def _outermost(rgb: NDArray[np.float32]) -> Margin:
    columns = rgb.transpose(1, 0, 2)
    views = {"left": columns, "top": rgb, "right": columns[::-1], "bottom": rgb[::-1]}
    plain = {name: side for name, view in views.items() if (side := _plain_rows(view))}
    certain = [side for side in plain.values() if side.share >= _CERTAIN]
    found = {
        name: side.pixels
        for name, side in plain.items()
        if side in certain
        or (side.share >= _LIKELY and any(_are_alike(side, other) for other in certain))
    }
    if len(found) == 1:
        ((name, pixels),) = found.items()
        if pixels > _MOST_ALONE * len(views[name]):
            return Margin()
    return Margin(**found)


def _are_alike(one: _Side, other: _Side) -> bool:
    return bool(np.abs(one.color - other.color).max() <= _ALIKE)


def _are_plain(rows: NDArray[np.float32], color: NDArray[np.float32]) -> NDArray[np.bool_]:
    """For each row whether it has the colour."""
    near = np.abs(rows - color).max(axis=2) <= _STRAY
    plain: NDArray[np.bool_] = np.abs(rows.mean(axis=1) - color).max(axis=1) <= _DRIFT
    plain &= near.mean(axis=1) >= _SHARE
    return plain


def _plain_rows(rows: NDArray[np.float32]) -> _Side | None:
    """The rows of one colour at the beginning of ``rows``; None if they are too few or too many."""
    length = len(rows)
    least, most = max(2, round(_LEAST * length)), int(_MOST * length)
    # A scan's edge is soft, and JPEG rings around it.
    soft = max(4, round(0.006 * length))
    band = rows[: most + soft + 1, :: -(-rows.shape[1] // _SAMPLES)]
    color = np.median(band[:least].reshape(-1, 3), axis=0)
    # Most pictures end here, without a look at their inside.
    if not _are_plain(band[:least], color).all():
        return None
    plain, away = _are_plain(band, color), np.abs(band - color).max(axis=2)
    depth = len(plain) if plain.all() else int(plain.argmin())
    if not least <= depth <= most:
        return None
    # Corners belong to the margins of other sides.
    fifth = band.shape[1] // 5
    shares = (away[depth : depth + soft + 1, fifth : band.shape[1] - fifth] >= _STEP).mean(axis=1)
    # The soft edge belongs to the margin.
    reached = int((shares >= 0.9 * shares.max()).argmax())
    return _Side(depth + reached, color, float(shares.max()))
