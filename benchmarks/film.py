"""Flicker of a film: frames painted alone, from the previous result, and with the temporal loss.

    python benchmarks/film.py [--size 192] [--frames 4] [--weights 0,10,30,100] [--init noise]

Paints a pan over a photo. Prints a table of flicker (see :func:`flicker`) and of the mean loss of
the frames after the first, without its temporal part.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime import Batch, Job, JobFailed, Picture, StyleTransfer, StylizeOptions, read_recipe
from nstrt.runtime.pictures import PictureSource, as_picture, read_picture, resize, save
from nstrt.runtime.video.optical_flow import warp_previous

ROOT = Path(__file__).parents[1]
PAN = 3 / 64
"""Camera movement from frame to frame, as a share of the frame's width."""

Painting = tuple[Picture, dict[str, Any]]
"""A painted frame and its recipe."""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _arguments(arguments)
    frames = pan(args.content, args.frames, args.size)
    options = StylizeOptions.of("balanced", size=args.size, init=args.init, engine=args.engine)
    print(f"{args.frames} frames of {args.size} pixels, from {args.init}\n")
    print("| | flicker | loss |\n|---|---|---|")
    transfer = StyleTransfer(options)
    alone = []
    for seed, frame in enumerate(frames):
        result = transfer.with_options(replace(options, seed=seed)).stylize(frame, args.style)
        alone.append((result.picture, result.recipe))
    _print_row("each alone", alone, frames)
    for weight in args.weights:
        with tempfile.TemporaryDirectory() as folder:
            film = paint_film(
                frames, args.style, replace(options, temporal_weight=weight), Path(folder)
            )
        _print_row(f"temporal weight {weight:g}", film, frames)


def paint_film(
    frames: Iterable[NDArray[np.float32]], style: Path, options: StylizeOptions, folder: Path
) -> list[Painting]:
    """Paint frames (height x width x 3 in 0..1) as ``nstrt batch --frames`` does.

    Frames and paintings become 16-bit files in ``folder``. Raises :class:`RuntimeError` if a frame
    fails.
    """
    jobs = []
    for number, frame in enumerate(frames):
        content = folder / f"frame-{number}.png"
        save(Picture(rgb=frame, depth=16), content, recipe=None, overwrite=False)
        output = folder / f"painted-{number}.png"
        jobs.append(Job(content=content, style=style, output=output, options=options))
    for item in Batch(jobs, frames=True):
        if isinstance(item.event, JobFailed):
            raise RuntimeError(item.event.reason)
    return [(read_picture(job.output), read_recipe(job.output) or {}) for job in jobs]


def flicker(paintings: Iterable[PictureSource], frames: Iterable[PictureSource]) -> float:
    """The change from painting to painting beyond that of the frames.

    This is the root mean square, where the optical flow is consistent, of each painting's
    difference from the previous one, warped. Frames are resized to the paintings. Raises
    :class:`ValueError` for fewer than two frames.
    """
    total = weights = 0.0
    last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    for painting, frame in zip(paintings, frames, strict=True):
        x = as_picture(painting).opaque().rgb
        y = resize(as_picture(frame).opaque().rgb, x.shape[1], x.shape[0])
        if last is not None:
            target = warp_previous(last[0], last[1], y)
            total += float(
                (target.weight[..., None] * np.square(x - target.warped)).sum(dtype=np.float64)
            )
            weights += float(target.weight.sum(dtype=np.float64)) * x.shape[2]
        last = x, y
    if not weights:
        raise ValueError("Flicker needs two frames or more with consistent optical flow.")
    return float(np.sqrt(total / weights))


def loss_without_temporal(recipe: dict[str, Any]) -> float:
    """The loss of a painted frame, without the temporal part."""
    losses = recipe["losses"]
    return float(losses["loss"] - recipe["options"]["temporal_weight"] * losses["temporal"])


def pan(photo: Path, count: int, width: int) -> list[NDArray[np.float32]]:
    """Frames of a camera that moves to the right over a photo: 4:3, height x width x 3 in 0..1."""
    whole = read_picture(photo).opaque().rgb
    scale = 2 * width / whole.shape[1]
    whole = resize(whole, 2 * width, round(scale * whole.shape[0]))
    height = 3 * width // 4
    top = (whole.shape[0] - height) // 2
    step = round(PAN * width)
    lefts = [width // 2 - count * step // 2 + step * number for number in range(count)]
    return [np.ascontiguousarray(whole[top : top + height, left : left + width]) for left in lefts]


def _print_row(name: str, film: Sequence[Painting], frames: list[NDArray[np.float32]]) -> None:
    """Print one row of the table."""
    value = flicker([picture for picture, _ in film], frames)
    loss = np.mean([loss_without_temporal(recipe) for _, recipe in film[1:]])
    print(f"| {name} | {value:.4f} | {loss:.4f} |", flush=True)


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
