"""Sharpness of results that --original-size enlarges: at the photo's edges and at strokes.

    python benchmarks/original_size.py [--size 128] [--pair cat starry_night]

Sharpness is the gradient in the finest octave of luminance over the whole gradient of the result
enlarged by Lanczos, as root mean squares. Edges are the 5 % of the pixels at which the photo is
steepest. Strokes are the quarter at which the result is steepest, of the half at which the photo
is flattest. Prints both, their quotient, and the seconds that a megapixel takes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from presets import picture
from skimage.filters import gaussian

from nstrt.runtime import StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import resize, upscale

PAIRS = (("cat", "starry_night"), ("rocket", "scream"), ("coffee", "shipwreck"))
WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)

Plane = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pair", nargs=2, action="append", metavar=("PHOTO", "PAINTING"))
    args = parser.parse_args()
    transfer = StyleTransfer(StylizeOptions.of("fast", size=args.size, seed=1))
    for names in args.pair or PAIRS:
        photo, painting = map(picture, names)
        result = transfer.stylize(photo, painting).picture.rgb
        lanczos = resize(result, photo.width, photo.height)
        started = time.perf_counter()
        enlarged = upscale(result, photo.rgb)
        seconds = (time.perf_counter() - started) / (photo.width * photo.height / 1e6)
        print(f"{' in '.join(names)}, {photo.width / result.shape[1]:.1f} times larger:")
        for name, rgb in (
            ("Lanczos", lanczos),
            ("--original-size", enlarged),
            ("photo", photo.rgb),
        ):
            edges, strokes = sharpness(rgb @ WEIGHTS, lanczos @ WEIGHTS, photo.rgb @ WEIGHTS)
            words = f"edges {edges:.2f}, strokes {strokes:.2f}, quotient {edges / strokes:.2f}"
            print(f"  {name}: {words}")
        print(f"  {seconds:.2f} s per megapixel", flush=True)


def sharpness(plane: Plane, lanczos: Plane, photo: Plane) -> tuple[float, float]:
    """Sharpness of a picture's luminance at the photo's edges and at strokes."""
    height, width = plane.shape
    coarse = resize(resize(plane, width // 2, height // 2, clip=False), width, height, clip=False)
    finest, whole = slope(plane - coarse), slope(lanczos)
    steep, painted = slope(gaussian(photo, 1.5)), slope(gaussian(lanczos, 1.5))
    flat = steep < np.quantile(steep, 0.5)
    edges = steep > np.quantile(steep, 0.95)
    strokes = flat & (painted > np.quantile(painted[flat], 0.75))
    return rms(finest[edges]) / rms(whole[edges]), rms(finest[strokes]) / rms(whole[strokes])


def slope(plane: Plane) -> NDArray[np.floating]:
    return np.hypot(*np.gradient(plane))


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
