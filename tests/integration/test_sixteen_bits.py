"""Runs keep 16 bits a channel from the photo's file to the result's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray

from support import EMBER
from support.command_line import nstrt

WIDTH, HEIGHT, SKY = 96, 64, 40
"""Size of the photo and height of its sky, in pixels."""

COLORS = [
    ("style",),
    ("content",),
    ("match-style", "covariance"),
    ("match-content", "histogram"),
]


def evening() -> NDArray[np.uint16]:
    """A smooth sky, lighter downwards and to the right, above a dark rough hill: sRGB, 16 bits."""
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    top, change = np.array([0.25, 0.4, 0.7]), np.array([0.35, 0.3, 0.15])
    photo = top + change * (0.8 * down + 0.2 * across)
    rough = np.random.default_rng(1).uniform(0.05, 0.25, (HEIGHT - SKY, WIDTH, 3))
    photo[SKY:] = rough * np.array([0.6, 1.0, 0.5])
    return np.rint(photo * 65535).astype(np.uint16)


def write_tiff_or_png(path: Path, values: NDArray[np.uint16], profile: bytes | None = None) -> Path:
    height, width, bands = values.shape
    image = pyvips.Image.new_from_memory(values.tobytes(), width, height, bands, "ushort")
    image = image.copy(interpretation="rgb16")
    if profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    image.write_to_file(str(path))
    return path


def read(path: Path) -> tuple[NDArray[np.uint16], bytes]:
    """Read a file's samples as stored, and its ICC profile."""
    image = pyvips.Image.new_from_file(str(path))
    assert image.format == "ushort"
    assert image.interpretation == "rgb16"
    values = np.frombuffer(image.write_to_memory(), np.uint16)
    return values.reshape(image.height, image.width, image.bands), image.get("icc-profile-data")


def stylize(photo: Path, out: Path, *flags: str) -> None:
    short = ["--scales", "1", "--iterations", "6", "--engine", "torch"]
    assert nstrt("stylize", photo, EMBER, "-o", out, *short, *flags) == 0


@pytest.mark.parametrize("color", COLORS, ids="-".join)
def test_a_16_bit_sky_keeps_more_levels_than_8_bits_have(
    color: tuple[str, ...], tmp_path: Path
) -> None:
    suffix = ".png" if color == ("style",) else ".tif"
    photo = write_tiff_or_png(tmp_path / f"photo{suffix}", evening())
    flags = ["--color", color[0], *(["--color-match", color[1]] if color[1:] else [])]
    stylize(photo, tmp_path / f"out{suffix}", "--size", "96", *flags)
    values, profile = read(tmp_path / f"out{suffix}")
    assert values.shape == (HEIGHT, WIDTH, 3)
    assert profile == bytes(pyvips.Image.profile_load("srgb"))
    sky = values[: SKY - 4]
    for channel in range(3):
        levels = np.unique(sky[..., channel])
        assert len(levels) > 256
        # 8-bit levels stored in 16 bits would be multiples of 257.
        assert (levels % 257 != 0).mean() > 0.9


def test_original_size_keeps_16_bits(tmp_path: Path) -> None:
    large = np.rint(np.kron(evening(), np.ones((2, 2, 1)))).astype(np.uint16)
    photo = write_tiff_or_png(tmp_path / "photo.tif", large)
    flags = ["--size", "64", "--original-size", "--color", "match-style"]
    stylize(photo, tmp_path / "out.tif", *flags)
    values, _ = read(tmp_path / "out.tif")
    assert values.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert all(len(np.unique(values[: 2 * SKY - 8, :, channel])) > 256 for channel in range(3))


def test_an_icc_profile_is_applied_in_16_bits(tmp_path: Path) -> None:
    photo = write_tiff_or_png(tmp_path / "photo.tif", evening(), pyvips.Image.profile_load("p3"))
    stylize(photo, tmp_path / "out.tif", "--size", "96", "--color", "content")
    values, profile = read(tmp_path / "out.tif")
    assert profile == bytes(pyvips.Image.profile_load("srgb"))
    assert all(len(np.unique(values[: SKY - 4, :, channel])) > 256 for channel in range(3))
