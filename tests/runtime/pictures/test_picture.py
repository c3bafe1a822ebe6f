"""Pictures from arrays, Pillow images and tensors, and back."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nstrt.runtime.errors import OptionError, PictureReadError
from nstrt.runtime.pictures import Picture, as_picture, read_picture
from nstrt.runtime.pictures.pillow import pillow_samples

RANDOM = np.random.default_rng(11)
NOISE = RANDOM.integers(0, 256, (20, 28, 3), dtype=np.uint8)
UNIT = (NOISE / 255).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_from_array_accepts_every_type_and_shape(dtype: type, channels: int | None) -> None:
    unit = RANDOM.random((20, 28) if channels is None else (20, 28, channels))
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    array = (np.rint(unit * top) if top > 1 else unit).astype(dtype)
    picture = Picture.from_array(array)
    expected = (array.astype(np.float64) / top).astype(np.float32)
    if channels in (None, 1):
        expected = np.repeat(expected.reshape(20, 28, 1), 3, axis=2)
    seen = slice(None) if picture.alpha is None else picture.alpha > 0
    assert np.array_equal(picture.rgb[seen], expected[seen][..., :3])
    assert (picture.alpha is None) == (channels != 4)
    if picture.alpha is not None:
        assert np.array_equal(picture.alpha, expected[..., 3])
    assert picture.depth == (8 if dtype == np.uint8 else 16)
    assert (picture.size, picture.name) == ((28, 20), "")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_from_array_reads_either_byte_order(dtype: type) -> None:
    array = (UNIT * (65535 if dtype == np.uint16 else 1)).astype(dtype)
    native, swapped = (
        Picture.from_array(array.astype(array.dtype.newbyteorder(order))) for order in "=S"
    )
    assert np.array_equal(native.rgb, swapped.rgb)
    assert native.sha256 == swapped.sha256


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 20, 2)), "channels"),
        (np.zeros((20, 20, 5), np.uint8), "channels"),
        (np.zeros(20), "height"),
        (np.float32(0.5), "one number"),
        (np.zeros((1, 3, 20, 20), np.float32), "1x3x20x20"),
        (np.zeros((20, 20), np.int64), "int64"),
        (np.zeros((20, 20), bool), "bool"),
        (np.zeros((20, 20), complex), "complex"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.full((20, 20), np.inf), "NaN or infinity"),
        (np.full((20, 20), 200.0), "between 0 and 1"),
        (np.full((20, 20), -0.1), "between 0 and 1"),
        (np.zeros((20, 15, 3)), "16 pixels"),
        (np.zeros((0, 20, 3)), "16 pixels"),
    ],
)
def test_from_array_refuses_other_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Picture.from_array(array)


def test_from_array_clips_rounding_errors() -> None:
    picture = Picture.from_array(np.array([[-1e-6, 1 + 1e-6]] * 8).repeat(16, 0).repeat(8, 1))
    assert (picture.rgb.min(), picture.rgb.max()) == (0, 1)


def test_pictures_are_immutable_and_own_their_values() -> None:
    array = UNIT.copy()
    picture = Picture.from_array(array)
    array[:] = 0
    assert np.array_equal(picture.rgb, UNIT)
    with pytest.raises(ValueError, match="read-only"):
        picture.rgb[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        picture.depth = 16  # type: ignore[misc]


def test_equal_pictures_have_equal_hashes() -> None:
    one, two = Picture.from_array(NOISE), Picture.from_pillow(Image.fromarray(NOISE))
    assert len(one.sha256) == 64
    assert one.sha256 == two.sha256 == Picture.from_array(UNIT).sha256
    other = NOISE.copy()
    other[0, 0, 0] ^= 1
    assert Picture.from_array(other).sha256 != one.sha256
    assert Picture.from_array(NOISE.reshape(28, 20, 3)).sha256 != one.sha256


@pytest.mark.parametrize(
    ("rgb", "alpha", "depth"),
    [
        (UNIT.astype(np.float64), None, 8),
        (UNIT[..., 0], None, 8),
        (UNIT, UNIT[..., :2], 8),
        (UNIT, UNIT[:5, :, 0], 8),
        (UNIT, None, 12),
    ],
)
def test_invalid_fields_are_refused(rgb: np.ndarray, alpha: np.ndarray | None, depth: int) -> None:
    with pytest.raises(OptionError):
        Picture(rgb=rgb, alpha=alpha, depth=depth)


# Back to arrays


@given(st.integers(0, 65535))
@settings(max_examples=50, deadline=None)
def test_integers_round_trip_exactly(level: int) -> None:
    deep = np.full((16, 16, 3), level, np.uint16)
    assert np.array_equal(Picture.from_array(deep).to_array(np.uint16), deep)
    plain = np.full((16, 16, 4), level % 256, np.uint8)
    assert np.array_equal(Picture.from_array(plain).to_array(np.uint8), plain)


def test_values_are_rounded_to_the_nearest_level() -> None:
    row = np.array([0.49, 0.51, 1.49, 1.51, 253.6, 254.4, 254.6, 255]) / 255
    array = Picture.from_array(np.tile(row, (16, 2))).to_array(np.uint8)
    assert array[0, :8, 0].tolist() == [0, 1, 1, 2, 254, 254, 255, 255]


def test_out_of_range_values_are_clipped() -> None:
    rgb = np.full((16, 16, 3), 1.2, np.float32)
    rgb[0] = -0.3
    picture = Picture(rgb=rgb)
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        array = picture.to_array(dtype)
        assert array.dtype == dtype
        assert (array[0].max(), array[1:].min()) == (0, top)


def test_to_array_refuses_other_types() -> None:
    with pytest.raises(OptionError, match="int32"):
        Picture.from_array(NOISE).to_array(np.int32)


def test_to_array_returns_a_copy() -> None:
    picture = Picture.from_array(NOISE)
    array = picture.to_array()
    array[:] = 0
    assert np.array_equal(picture.rgb, UNIT)


def test_to_pillow() -> None:
    image = Picture.from_array(NOISE).to_pillow()
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), NOISE)
    rgba = np.dstack([NOISE, np.maximum(NOISE[..., 0], 1)])
    image = Picture.from_array(rgba).to_pillow()
    assert image.mode == "RGBA"
    assert np.array_equal(np.asarray(image), rgba)


# Pillow


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "RGBX"])
def test_pillow_modes_without_transparency(mode: str) -> None:
    image = Image.fromarray(NOISE).convert("RGB" if mode == "RGBX" else mode)
    if mode == "RGBX":
        image = Image.frombytes("RGBX", image.size, np.dstack([NOISE, NOISE[..., 0]]).tobytes())
    picture = Picture.from_pillow(image)
    assert np.array_equal(picture.to_array(np.uint8), np.asarray(image.convert("RGB")))
    assert (picture.depth, picture.alpha) == (8, None)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "La", "RGBa"])
def test_pillow_modes_with_transparency(mode: str) -> None:
    rgba = Image.fromarray(np.dstack([NOISE, NOISE[..., 0] | 128]))
    if mode == "PA":
        image = rgba.convert("P").convert("PA")
    elif mode == "La":
        image = rgba.convert("LA").convert("La")
    else:
        image = rgba.convert(mode)
    picture = Picture.from_pillow(image)
    middle = {"La": "LA"}.get(mode)
    expected = (image.convert(middle) if middle else image).convert("RGBA")
    assert np.array_equal(picture.to_array(np.uint8), np.asarray(expected))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_pillow_transparent_colour(mode: str) -> None:
    image = Image.fromarray(NOISE).convert(mode)
    image.info["transparency"] = image.getpixel((4, 4))
    alpha = Picture.from_pillow(image).alpha
    assert alpha is not None
    assert alpha[4, 4] == 0
    assert alpha.max() == 1


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_pillow_16_bits(mode: str) -> None:
    levels = RANDOM.integers(0, 65536, (20, 28)).astype(np.uint16)
    raw = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    image = Image.frombytes(mode, (28, 20), levels.astype(raw).tobytes())
    # libvips expects bytes in this machine's order.
    assert pillow_samples(image).samples.dtype == np.uint16
    picture = Picture.from_pillow(image)
    assert picture.depth == 16
    assert np.array_equal(picture.to_array(np.uint16), np.repeat(levels[..., None], 3, axis=2))


def test_pillow_floating_point_and_its_limits() -> None:
    values = RANDOM.random((20, 28)).astype(np.float32)
    assert np.array_equal(Picture.from_pillow(Image.fromarray(values)).rgb[..., 0], values)
    with pytest.raises(OptionError, match="between 0 and 1"):
        Picture.from_pillow(Image.fromarray(values * 255))
    with pytest.raises(OptionError, match="65535"):
        Picture.from_pillow(Image.new("I", (20, 20), 70000))
    with pytest.raises(OptionError, match="16 pixels"):
        Picture.from_pillow(Image.new("RGB", (20, 3)))


def test_pillow_lab() -> None:
    image = Image.new("RGB", (16, 16), (200, 90, 40))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert converted is not None
    levels = Picture.from_pillow(converted).to_array(np.uint8)[8, 8].astype(int)
    assert np.abs(levels - (200, 90, 40)).max() <= 3


def test_pillow_cmyk() -> None:
    white = Picture.from_pillow(Image.new("CMYK", (16, 16), (0, 0, 0, 0)))
    cyan = Picture.from_pillow(Image.new("CMYK", (16, 16), (255, 0, 0, 0)))
    assert white.rgb.min() > 0.98
    assert cyan.rgb[0, 0, 0] < 0.3 < 0.5 < cyan.rgb[0, 0, 2]


def test_pillow_profile_and_file_agree(tmp_path: Path) -> None:
    path = tmp_path / "p3.png"
    profile = bytes(pyvips.Image.profile_load("p3"))
    Image.fromarray(NOISE).save(path, icc_profile=profile)
    picture = Picture.from_pillow(Image.open(path))
    assert np.abs(picture.rgb - UNIT).max() > 10 / 255
    assert np.array_equal(picture.rgb, read_picture(path).rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_orientation_and_file_agree(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(NOISE).save(path, exif=exif)
        assert np.array_equal(Picture.from_pillow(Image.open(path)).rgb, read_picture(path).rgb)


def test_pillow_broken_exif_and_broken_file() -> None:
    image = Image.fromarray(NOISE)
    image.info["exif"] = b"Exif\0\0rubbish"
    assert np.array_equal(Picture.from_pillow(image).rgb, UNIT)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    cut = Image.open(io.BytesIO(buffer.getvalue()[:900]))
    with pytest.raises(PictureReadError):
        Picture.from_pillow(cut)


# Any source


def test_as_picture_accepts_its_documented_types(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    picture = Picture.from_array(NOISE)
    assert as_picture(picture) is picture
    for source in (path, str(path), NOISE, UNIT, Image.fromarray(NOISE), Image.open(path)):
        assert np.array_equal(as_picture(source).rgb, UNIT)
    for other in (None, 3, [[0.5]], io.BytesIO(b"bytes")):
        with pytest.raises(OptionError, match="must be a file path"):
            as_picture(other)


def test_as_picture_accepts_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(UNIT.copy()).permute(2, 0, 1)
    assert np.array_equal(as_picture(tensor).rgb, UNIT)
    assert np.array_equal(as_picture(tensor[None].clone().requires_grad_()).rgb, UNIT)
    assert np.array_equal(as_picture(tensor.double()).rgb, UNIT)
    assert np.abs(as_picture(tensor.bfloat16()).rgb - UNIT).max() < 0.01
    assert np.array_equal(as_picture(tensor.to_sparse()).rgb, UNIT)
    shapes = tensor[0], tensor.permute(1, 2, 0), tensor.expand(2, 3, 20, 28)
    for wrong in (*shapes, tensor * 255, tensor.to("meta")):
        with pytest.raises(OptionError):
            as_picture(wrong)
