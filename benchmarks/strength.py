"""Write the strips of docs/method.md: five strengths and four color modes.

Usage: python benchmarks/strength.py [--size 256] [--only strength|colors]

Writes ``strength.jpg`` and ``colors.jpg``. Prints what each strength keeps of the photo, as
``likeness.py`` measures it, and its colour difference from the strength before.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from likeness import kept
from numpy.typing import NDArray
from presets import ROOT, cell, contact_sheet, picture
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.filters import gaussian

from nstrt.runtime import Picture, StyleTransfer, StylizeOptions
from nstrt.runtime.options.choices import COLORS
from nstrt.runtime.pictures import resize

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRENGTH_PAIR, COLOR_PAIR = ("cat", "scream"), ("cat", "starry_night")
WORDS = {"style": "--color style (as it is)"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--only", choices=("strength", "colors"))
    args = parser.parse_args(arguments)
    if args.only != "colors":
        strength(args.size)
    if args.only != "strength":
        colors(args.size)


def strength(size: int) -> None:
    photo, painting = map(picture, STRENGTH_PAIR)
    results = [repaint(photo, painting, size, strength=value) for value in STRENGTHS]
    photo_rgb = resize(photo.rgb, results[0].shape[1], results[0].shape[0])
    before = photo_rgb
    for value, result in zip(STRENGTHS, results, strict=True):
        change = color_difference(result, before)
        print(f"{value}: kept {kept(result, photo_rgb):.2f}, CIEDE2000 from the last {change:.1f}")
        before = result
    cells = [
        cell(each, f"--strength {value:g}") for value, each in zip(STRENGTHS, results, strict=True)
    ]
    sheet([[cell(photo.rgb, "photo"), *cells[:2]], cells[2:]], "strength.jpg")


def colors(size: int) -> None:
    photo, painting = map(picture, COLOR_PAIR)
    cells = [
        cell(repaint(photo, painting, size, color=color), WORDS.get(color, f"--color {color}"))
        for color in COLORS
    ]
    both = [cell(photo.rgb, "photo"), cell(same_shape(painting, photo), "painting")]
    sheet([[both[0], *cells[:2]], [both[1], *cells[2:]]], "colors.jpg")


def repaint(photo: Picture, painting: Picture, size: int, **options: Any) -> NDArray[np.float32]:
    stylize_options = StylizeOptions.of("fast", size=size, seed=1, engine="torch", **options)
    return StyleTransfer(stylize_options, notify=print).stylize(photo, painting).picture.rgb


def same_shape(painting: Picture, photo: Picture) -> NDArray[np.float32]:
    """Crop the middle of a painting to the photo's aspect ratio."""
    height = min(painting.height, round(painting.width * photo.height / photo.width))
    top = (painting.height - height) // 2
    return np.ascontiguousarray(painting.rgb[top : top + height])


def color_difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean CIEDE2000 after a Gaussian blur of 1 pixel, which removes fine strokes."""
    labs = [rgb2lab(gaussian(each.astype(float), 1, channel_axis=2)) for each in (one, other)]
    return float(deltaE_ciede2000(*labs).mean())


def sheet(rows: Sequence[Sequence[Any]], name: str) -> None:
    contact_sheet(rows).save(ROOT / "docs" / "pictures" / name, quality=88)


if __name__ == "__main__":
    main()
