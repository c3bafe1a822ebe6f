"""Write input pictures at their final size, equal for all programs.

Each program resizes with its own filter. With files of the final size none of them changes a
pixel, and all minimise the same loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nstrt.runtime import StylizeOptions
from nstrt.runtime.planning.plan import plan_scales

__all__ = ["Pair", "prepare", "stable_size"]

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Photo and painting at their final sizes."""

    content: Path
    style: Path
    size: Size
    """Width and height of the photo in pixels."""

    style_size: Size
    """Width and height of the painting in pixels."""

    digest: str
    """Digest of both pictures' pixels."""


def prepare(content: Path, style: Path, long_side: int, folder: Path) -> Pair:
    """Write both pictures at nstrt's sizes for a result with this long side."""
    options = StylizeOptions.of(size=long_side, scales=1)
    photo, painting = (Image.open(path).convert("RGB") for path in (content, style))

    def sizes(photo_size: Size, painting_size: Size) -> tuple[Size, Size]:
        (scale,) = plan_scales(options, photo=photo_size, painting=painting_size, default=long_side)
        return (scale.width, scale.height), scale.styles[0]

    size, first = sizes(photo.size, painting.size)
    style_size = stable_size(first, lambda candidate: sizes(size, candidate)[1])
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


def stable_size(start: Size, resized: Callable[[Size], Size]) -> Size:
    """Return a size near ``start`` that ``resized`` does not change; rounding may change others."""
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
