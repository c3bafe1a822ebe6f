"""Gray files stay gray, whatever their profile and depth."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from nstrt.runtime.pictures import Picture, match_colors, to_gray
from nstrt.runtime.pictures.colors.gray import is_gray, keep_gray
from nstrt.runtime.pictures.vips import libvips

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
COLORS = np.random.default_rng(2).random((16, 16, 3), np.float32)


def gray_profile(gamma: float) -> bytes:
    """A gray ICC profile (version 2) with a power curve."""

    def u32(value: int) -> bytes:
        return value.to_bytes(4, "big")

    white = b"XYZ \0\0\0\0" + u32(0xF6D6) + u32(0x10000) + u32(0xD32D)
    curve = b"curv\0\0\0\0" + u32(1) + round(gamma * 256).to_bytes(2, "big") + b"\0\0"
    name = b"desc\0\0\0\0" + u32(5) + b"gray\0" + b"\0" * 78
    name += b"\0" * (-len(name) % 4)
    tags, place, table = (b"desc", name), (b"wtpt", white), (b"kTRC", curve)
    body, entries, start = b"", b"", 128 + 4 + 36
    for kind, data in (tags, place, table):
        entries += kind + u32(start + len(body)) + u32(len(data))
        body += data
    header = u32(start + len(body)) + b"lcms" + bytes.fromhex("02100000") + b"mntrGRAYXYZ "
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + u32(0xF6D6) + u32(0x10000) + u32(0xD32D)
    return header.ljust(128, b"\0") + u32(3) + entries + body


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_gray_profile_gives_grays(kind: type) -> None:
    samples = LEVELS.astype(kind) * (1 if kind is np.uint8 else 257)
    profile = gray_profile(1.8)
    ImageCms.getOpenProfile(io.BytesIO(profile))
    picture = Picture.from_samples(samples, source=profile)
    assert picture.is_gray
    assert not np.array_equal(picture.rgb[..., :1], LEVELS / np.float32(255))


def test_grays_in_a_wide_gamut_give_grays() -> None:
    image = Image.fromarray(np.repeat(LEVELS, 3, axis=2))
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info["icc_profile"] = xyz
    assert Picture.from_pillow(image).is_gray


def test_invisible_colors_do_not_decide_if_a_photo_is_gray() -> None:
    samples = np.dstack([np.repeat(LEVELS, 3, axis=2), np.full((16, 16), 255, np.uint8)])
    samples[:8, :, 3] = 0
    tinted = samples.copy()
    tinted[:8, :, 0] ^= 99
    profile = libvips().Image.profile_load("p3")
    gray = Picture.from_samples(samples, source=profile)
    assert gray.is_gray
    np.testing.assert_array_equal(Picture.from_samples(tinted, source=profile).rgb, gray.rgb)


def test_rounding_of_a_conversion_is_undone_and_tints_are_kept() -> None:
    samples = np.repeat(LEVELS, 3, axis=2)
    converted = samples.astype(np.uint16) * 257
    rounded = converted ^ np.array([0, 1, 3], np.uint16)
    assert is_gray(keep_gray(rounded, samples))
    sepia = np.minimum(converted, np.array([65535, 60000, 50000], np.uint16))
    assert keep_gray(sepia, samples) is sepia
    assert not is_gray(keep_gray(rounded, samples[::-1, ::-1] ^ np.array([0, 1, 0], np.uint8)))


def test_lightness_and_gray_palettes_are_gray_to_the_bit() -> None:
    colored = Picture(rgb=COLORS)
    gray = to_gray(colored)
    assert gray.is_gray
    for method in ("covariance", "histogram"):
        assert match_colors(colored, gray, method).is_gray
        assert not match_colors(gray, colored, method).is_gray
