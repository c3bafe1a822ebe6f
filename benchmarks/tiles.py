"""Measure seconds per step and megapixel for several sizes alternately, whole and in tiles.

python benchmarks/tiles.py [--repeats 3] [1024x768 512x341 300x200 1024x768:304 ...]

The number after a colon is the longest side of a tile. Engine ``torch`` computes loss and gradient;
algorithms and targets are prepared before the measurement. Prints the median, and the median ratio
to the first entry of each turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from engines import engine_of, step_of

EXAMPLES = Path(__file__).parents[1] / "examples"

SIZES = ("1024x768", "512x341", "300x200", "1536x1152:896", "1536x1152:544", "1024x768:304")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES, help="WIDTHxHEIGHT[:TILE]")
    parser.add_argument("--content", type=Path, default=EXAMPLES / "cat.jpg")
    parser.add_argument("--style", type=Path, default=EXAMPLES / "night.jpg")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)

    from nstrt.runtime import Picture, StylizeOptions
    from nstrt.runtime.pictures import as_picture, resize

    photo, painting = (as_picture(path) for path in (args.content, args.style))
    options = StylizeOptions.of(provider="cpu")
    engine = engine_of(options, "torch", [])
    steps: dict[str, Callable[[], float]] = {}
    for name in args.sizes:
        width, height, tile = parse_size(name)
        pictures = [
            Picture(rgb=resize(one.rgb, width, height), alpha=None, depth=8)
            for one in (photo, painting)
        ]
        steps[name] = step_of(engine, options, pictures, tile=tile)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(args.repeats + 1):
        for name, once in steps.items():
            width, height, _ = parse_size(name)
            started = time.perf_counter()
            once()
            if repeat:
                seconds[name].append((time.perf_counter() - started) / (width * height / 1e6))
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratio = median(mine / other for mine, other in zip(values, first, strict=True))
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:<16} {median(values):6.2f} s/MP  ({each})  {ratio:.2f}")


def parse_size(size: str) -> tuple[int, int, int | None]:
    """Parse width, height and tile of WIDTHxHEIGHT[:TILE]."""
    pixels, _, tile = size.partition(":")
    width, height = map(int, pixels.split("x"))
    return width, height, int(tile) if tile else None


if __name__ == "__main__":
    main()
