"""How much a film's frames flicker: each alone, begun from the last, and held to it.

    python benchmarks/film.py [--size 192] [--frames 4] [--weights 0,10,30,100] [--init noise]

Paints a pan over a photo, and prints a table of flicker (see :func:`flicker`)
and of the loss without its temporal part, the mean of all frames after the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime import Result, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import read_picture, resize
from nstrt.runtime.video.frames import FilmPainter, flicker

ROOT = Path(__file__).parents[1]
PAN = 3 / 64
"""How far the camera moves from frame to frame, as a share of the frame's width."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = _arguments(arguments)
    frames = pan(given.content, given.frames, given.size)
    options = StylizeOptions.of("balanced", size=given.size, init=given.init, engine=given.engine)
    print(f"{given.frames} frames of {given.size} pixels, from {given.init}\n")
    print("| | flicker | loss |\n|---|---|---|")
    transfer = StyleTransfer(options)
    alone = [
        transfer.with_options(replace(options, seed=seed)).stylize(frame, given.style)
        for seed, frame in enumerate(frames)
    ]
    row("each alone", alone, frames)
    for weight in given.weights:
        painter = FilmPainter(given.style, replace(options, temporal_weight=weight))
        row(f"temporal weight {weight:g}", list(painter.paint(frames)), frames)


def row(name: str, results: list[Result], frames: list[NDArray[np.float32]]) -> None:
    """Print a line of the table."""
    found = flicker([result.picture for result in results], frames)
    losses = []
    for result in results[1:]:
        terms, weight = result.terms, result.options.temporal_weight
        losses.append(terms.loss - (weight * terms.temporal if terms.temporal else 0.0))
    print(f"| {name} | {found:.4f} | {np.mean(losses):.4f} |", flush=True)


def pan(photo: Path, count: int, width: int) -> list[NDArray[np.float32]]:
    """A camera that moves to the right over a photo: height x width x 3 in 0..1, 4:3."""
    whole = read_picture(photo).opaque().rgb
    scale = 2 * width / whole.shape[1]
    whole = resize(whole, 2 * width, round(scale * whole.shape[0]))
    height = 3 * width // 4
    top = (whole.shape[0] - height) // 2
    step = round(PAN * width)
    lefts = [width // 2 - count * step // 2 + step * number for number in range(count)]
    return [np.ascontiguousarray(whole[top : top + height, left : left + width]) for left in lefts]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--content", type=Path, default=ROOT / "examples" / "cat.jpg")
    add("--style", type=Path, default=ROOT / "examples" / "night.jpg")
    add("--size", type=int, default=192, help="width of a frame in pixels")
    add("--frames", type=int, default=4)
    add(
        "--weights",
        type=lambda words: [float(word) for word in words.split(",")],
        default=[0.0, 10.0, 30.0, 100.0],
        help="temporal weights",
    )
    add("--init", choices=("content", "noise"), default="content")
    add("--engine", default="auto")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
