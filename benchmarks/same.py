"""The same pictures for every program: written once at the size at which all of them work.

Each program resizes with a filter of its own. Given files that have the final size already, none
of them changes a pixel, and all minimise the same loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nstrt.runtime import StylizeOptions
from nstrt.runtime.planning.plan import plan_scales

__all__ = ["Pair", "fixed_point", "prepare"]

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A photo and a painting at their final sizes."""

    content: Path
    style: Path
    size: Size
    """Width and height of the photo."""

    style_size: Size
    """Width and height of the painting."""

    digest: str
    """Of both pictures' pixels."""


def prepare(content: Path, style: Path, long_side: int, folder: Path) -> Pair:
    """Write both pictures as nstrt would resize them for a result of this long side."""
    options = StylizeOptions.of(size=long_side, scales=1)
    photo, painting = (Image.open(path).convert("RGB") for path in (content, style))

    def sizes(photo_size: Size, painting_size: Size) -> tuple[Size, Size]:
        (scale,) = plan_scales(options, photo=photo_size, painting=painting_size, default=long_side)
        return (scale.width, scale.height), (scale.style_width, scale.style_height)

    size, first = sizes(photo.size, painting.size)
    style_size = fixed_point(first, lambda given: sizes(size, given)[1])
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    paths = []
    for picture, target, name in ((photo, size, "content"), (painting, style_size, "style")):
        resized = picture.resize(target, Image.Resampling.LANCZOS)
        digest.update(f"{target}".encode() + resized.tobytes())
        paths.append(folder / f"{name}-{long_side}.png")
        resized.save(paths[-1])
    return Pair(
        content=paths[0],
        style=paths[1],
        size=size,
        style_size=style_size,
        digest=digest.hexdigest()[:16],
    )


def fixed_point(start: Size, resized: Callable[[Size], Size]) -> Size:
    """A size near ``start`` that is kept: rounding may move a size by a pixel once more."""
    size = start
    for _ in range(8):
        if resized(size) == size:
            return size
        size = resized(size)
    width, height = start
    for dx in (0, -1, 1, -2, 2):
        for dy in (0, -1, 1, -2, 2):
            if resized((width + dx, height + dy)) == (width + dx, height + dy):
                return width + dx, height + dy
    raise ValueError(f"no size near {start} is kept when it is resized")
