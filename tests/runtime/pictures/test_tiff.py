"""TIFF files of all kinds: converted as their tags say, or refused in a sentence."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures import Picture, decode_picture
from nstrt.runtime.pictures.formats.tiff_tags import read_tags

from support.picture_files import chunk, encoded, gama, png, tiff

ROWS, COLUMNS = np.mgrid[0:32, 0:48]
RGB = np.stack([ROWS * 5 + 40, COLUMNS * 3 + 50, (ROWS + COLUMNS) * 2 + 30], -1).astype(np.uint8)
UNIT = RGB / 255
ALPHA = (COLUMNS * 5 + 1).astype(np.uint8)
PHOTOMETRIC, EXTRA = 262, 338
YCBCR = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
LAB = np.asarray(
    ImageCms.profileToProfile(
        Image.fromarray(RGB),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
)


def read(content: bytes) -> Picture:
    return decode_picture(content, name="a.tif")


def far(content: bytes, unit: np.ndarray = UNIT) -> float:
    """Mean difference in levels of 255."""
    return float(np.abs(read(content).rgb - unit).mean() * 255)


def refusal(content: bytes) -> str:
    with pytest.raises(PictureReadError) as caught:
        read(content)
    assert str(caught.value).endswith(".")
    return str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("strips", [1, 3, 32])
def test_ycbcr_is_converted(order: str, packed: bool, strips: int) -> None:
    tags = {PHOTOMETRIC: ("H", 6), 530: ("H", 1, 1)}
    assert far(tiff(YCBCR, tags, order=order, packed=packed, strips=strips)) < 1.5


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"]
)
def test_ycbcr_of_every_compression_is_converted(compression: str) -> None:
    image = Image.fromarray(RGB).convert("YCbCr")
    options = {} if compression == "raw" else {"compression": compression}
    if compression == "jpeg":
        options["quality"] = 95
    assert far(encoded(image, "TIFF", **options)) < 2.5


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_ycbcr_that_lacks_data_is_refused(compression: str) -> None:
    content = encoded(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression=compression)
    tags = read_tags(content)
    assert tags is not None
    *whole, last = map(int, tags.numbers(279))
    with pytest.raises(PictureReadError, match="cut off or damaged"):
        decode_picture(tags.rewritten({279: (*whole, last // 3)}), name="a")


@pytest.mark.parametrize("packed", [False, True])
def test_subsampled_ycbcr_that_lacks_data_is_refused(packed: bool) -> None:
    tags = read_tags(subsampled(packed=packed))
    assert tags is not None
    (stored,) = map(int, tags.numbers(279))
    with pytest.raises(PictureReadError, match="cut off or damaged"):
        decode_picture(tags.rewritten({279: (stored // 2,)}), name="a")


def test_ycbcr_coefficients_and_range_of_the_tags_count() -> None:
    kr, kg, kb = 0.2126, 0.7152, 0.0722
    y = UNIT @ [kr, kg, kb]
    cb, cr = (UNIT[..., 2] - y) / (2 * (1 - kb)), (UNIT[..., 0] - y) / (2 * (1 - kr))
    full = np.rint(np.stack([y * 255, 128 + cb * 255, 128 + cr * 255], -1)).astype(np.uint8)
    video = np.rint(np.stack([16 + y * 219, 128 + cb * 224, 128 + cr * 224], -1)).astype(np.uint8)
    luma = ("R", (2126, 10000), (7152, 10000), (722, 10000))
    levels = ("R", *[(n, 1) for n in (16, 235, 128, 240, 128, 240)])
    tags = {PHOTOMETRIC: ("H", 6), 530: ("H", 1, 1), 529: luma}
    for packed in (False, True):
        assert far(tiff(full, tags, packed=packed)) < 1.5
        assert far(tiff(video, {**tags, 532: levels}, packed=packed)) < 1.5


def subsampled(*, packed: bool) -> bytes:
    blocks = YCBCR.reshape(16, 2, 24, 2, 3)
    luma = blocks[..., 0].transpose(0, 2, 1, 3).reshape(16, 24, 4)
    chroma = np.rint(blocks[..., 1:].mean(axis=(1, 3)))
    units = np.concatenate([luma, chroma], axis=-1).astype(np.uint8)
    tags = {256: ("I", 48), 257: ("I", 32), 258: ("H", 8, 8, 8), 277: ("H", 3), 278: ("I", 32)}
    tags |= {PHOTOMETRIC: ("H", 6), 530: ("H", 2, 2), 339: ("H", 1, 1, 1)}
    return tiff(units.reshape(16, -1, 1), tags, packed=packed)


@pytest.mark.parametrize("packed", [False, True])
def test_subsampled_ycbcr_is_converted(packed: bool) -> None:
    assert far(subsampled(packed=packed)) < 3


def test_ycbcr_keeps_its_orientation() -> None:
    tags = {PHOTOMETRIC: ("H", 6), 530: ("H", 1, 1), 274: ("H", 6)}
    assert far(tiff(YCBCR, tags), np.rot90(UNIT, -1)) < 1.5


def test_lab_of_each_encoding_is_converted() -> None:
    signed = LAB[..., 1:].view(np.int8).astype(int)
    lightness = LAB[..., :1].astype(int)
    icc8 = np.dstack([lightness, signed + 128]).astype(np.uint8)
    cie16 = np.dstack([lightness * 257, signed * 256]).astype(np.int16).view(np.uint16)
    icc16 = np.dstack([lightness * 256, (signed + 128) * 256]).astype(np.uint16)
    for samples, kind in ((LAB, 8), (icc8, 9), (cie16, 8), (icc16, 9)):
        for packed in (False, True):
            content = tiff(samples, {PHOTOMETRIC: ("H", kind)}, packed=packed)
            assert far(content) < 1.5, kind
            assert read(content).depth == samples.dtype.itemsize * 8
    signed_samples = {PHOTOMETRIC: ("H", 8), 339: ("H", 2, 2, 2)}
    assert far(tiff(cie16, signed_samples)) < 1.5
    with_alpha = tiff(np.dstack([LAB, ALPHA]), {PHOTOMETRIC: ("H", 8), EXTRA: ("H", 2)})
    assert far(with_alpha) < 1.5
    assert np.array_equal(read(with_alpha).alpha, (ALPHA / 255).astype(np.float32))
    assert far(encoded(Image.frombytes("LAB", (48, 32), LAB.tobytes()), "TIFF")) < 1.5


def test_lab_turns_with_its_orientation() -> None:
    content = tiff(LAB, {PHOTOMETRIC: ("H", 8), 274: ("H", 3)})
    assert far(content, UNIT[::-1, ::-1]) < 1.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", [0, 1])
def test_gray_with_white_as_either_end(dtype: type, kind: int) -> None:
    gray = RGB[..., :1].astype(dtype) * (257 if dtype == np.uint16 else 1)
    expected = UNIT[..., :1] if kind else 1 - UNIT[..., :1]
    assert far(tiff(gray, {PHOTOMETRIC: ("H", kind)}), expected) < 0.01


def test_premultiplied_alpha_is_divided_and_straight_alpha_is_not() -> None:
    multiplied = np.rint(RGB * (ALPHA[..., None] / 255)).astype(np.uint8)
    seen = ALPHA > 100
    for samples, kind in ((multiplied, 1), (RGB, 2)):
        for colors, base in ((samples, 2), (samples[..., :1], 1)):
            pixels = np.dstack([colors, ALPHA])
            picture = read(tiff(pixels, {PHOTOMETRIC: ("H", base), EXTRA: ("H", kind)}))
            expected = UNIT[..., : colors.shape[2]]
            assert np.abs(picture.rgb - expected)[seen].max() * 255 < 2
            assert np.array_equal(picture.alpha, (ALPHA / 255).astype(np.float32))
            assert picture.notes == ()


@pytest.mark.parametrize(
    ("kinds", "place"), [((2, 0), 0), ((0, 2), 1), ((0, 1), 1), ((0, 0, 2), 2)]
)
def test_alpha_is_found_among_further_channels(kinds: tuple[int, ...], place: int) -> None:
    others = np.full((32, 48), 255, np.uint8)
    extra = [others] * len(kinds)
    extra[place] = np.full((32, 48), 51, np.uint8)
    multiplied = np.rint(RGB * 0.2).astype(np.uint8) if 1 in kinds else RGB
    picture = read(tiff(np.dstack([multiplied, *extra]), {EXTRA: ("H", *kinds)}))
    assert np.allclose(picture.alpha, 0.2)
    assert np.abs(picture.rgb - UNIT).max() * 255 < 3
    assert "left out" in picture.notes[0]


def test_channels_without_a_meaning_are_left_out_or_noted() -> None:
    pixels = np.dstack([RGB, ALPHA])
    unspecified = read(tiff(pixels, {EXTRA: ("H", 0)}))
    assert unspecified.alpha is None
    assert "left out" in unspecified.notes[0]
    unstated = read(tiff(pixels, {}))
    assert np.array_equal(unstated.alpha, (ALPHA / 255).astype(np.float32))
    assert "taken as alpha" in unstated.notes[0]


def test_colors_by_tags_equal_those_of_png_chunks() -> None:
    """Linear light and the primaries of Adobe RGB."""

    ramp = ("H", *[257 * n for n in range(256)])
    primaries = ("R", (64, 100), (33, 100), (21, 100), (71, 100), (15, 100), (6, 100))
    white = ("R", (3127, 10000), (3290, 10000))
    chrm = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
    cases = [
        ({301: ramp}, [gama(100_000)]),
        ({301: ("H", *ramp[1:] * 3)}, [gama(100_000)]),
        ({318: white, 319: primaries}, [chrm]),
        ({301: ramp, 319: primaries}, [gama(100_000), chrm]),
    ]
    for tags, chunks in cases:
        like = decode_picture(png(RGB, *chunks), name="a").rgb
        assert np.abs(read(tiff(RGB, tags)).rgb - like).max() * 255 < 0.01
    assert "sRGB" in read(tiff(RGB, {301: ("H", 1, 2, 3)})).notes[0]
    assert far(tiff(RGB, {319: ("R", *[(1, 3)] * 6)})) < 0.01


def test_floating_point_without_a_profile_is_noted() -> None:
    picture = read(tiff(UNIT.astype(np.float32), {}))
    assert np.abs(picture.rgb - UNIT).max() < 1e-4
    assert "sRGB was assumed" in picture.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(RGB, {PHOTOMETRIC: ("H", 10)}), "ITU"),
        (tiff(RGB[..., :1], {PHOTOMETRIC: ("H", 4)}), "mask"),
        (tiff(RGB[..., :1], {PHOTOMETRIC: ("H", 32803)}), "filter array"),
        (tiff(RGB, {PHOTOMETRIC: ("H", 34892)}), "34892"),
        (tiff(RGB, {PHOTOMETRIC: ("H", 32845)}), "32845"),
        (tiff(RGB, {PHOTOMETRIC: ("H", 1)}), "3 channels without a colour"),
        (tiff(RGB[..., :2], {PHOTOMETRIC: ("H", 2)}), "2 channels"),
        (tiff(RGB, {PHOTOMETRIC: ("H", 5), 332: ("H", 2), 334: ("H", 3)}), "inks"),
        (tiff(np.dstack([RGB, ALPHA]), {PHOTOMETRIC: ("H", 5), 332: ("H", 2)}), "inks"),
        (tiff(np.dstack([RGB, ALPHA]), {PHOTOMETRIC: ("H", 5), 336: ("B", 255, 0)}), "inks"),
        (tiff(RGB.astype(np.uint16), {PHOTOMETRIC: ("H", 6), 530: ("H", 1, 1)}), "YCbCr"),
        (tiff(RGB.astype(np.uint32), {}), "unusual"),
        (tiff(RGB.astype(np.int16), {}), "unusual"),
        (tiff(RGB.astype(np.float32), {}), "dynamic range"),
    ],
)
def test_colors_that_cannot_be_converted_are_refused(content: bytes, words: str) -> None:
    assert words in refusal(content)
