"""Colour encodings of files: order of precedence, formulas, HDR, and refusals."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures import decode_picture

from support.picture_files import avif_with, chunk, cicp, encoded, gama, png

RANDOM = np.random.default_rng(3)
COLORS = RANDOM.integers(0, 256, (24, 32, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (24, 32, 3)).astype(np.uint16)
UNIT = COLORS / 255
P3 = bytes(pyvips.Image.profile_load("p3"))
SRGB_CHUNK = chunk(b"sRGB", b"\0")

# Published matrices to linear sRGB: BT.2087 for BT.2020, CSS Color 4 for the others.
TO_SRGB = {
    1: np.eye(3),
    9: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    12: [[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]],
}
ADOBE_TO_SRGB = [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]]


def srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear_srgb(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def bt709(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


CURVES = {1: bt709, 4: lambda v: v**2.2, 5: lambda v: v**2.8, 8: lambda v: v, 13: linear_srgb}


def pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    y = (np.asarray(nits) / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def levels(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)


def differences(content: bytes, expected: NDArray[np.float64]) -> float:
    """Largest difference from the expected values, in levels of 255."""
    return float(np.abs(decode_picture(content, name="a").rgb - expected).max() * 255)


@pytest.mark.parametrize("transfer", CURVES)
@pytest.mark.parametrize("primaries", TO_SRGB)
def test_code_points_of_h273_are_converted_by_their_formulas(primaries: int, transfer: int) -> None:
    expected = srgb(CURVES[transfer](DEEP / 65535) @ np.transpose(TO_SRGB[primaries]))
    difference = np.abs(
        decode_picture(png(DEEP, cicp(primaries, transfer)), name="a").rgb - expected
    )
    # sRGB is steep near black, where the matrices' four digits alone change colours.
    assert difference.max() * 255 < 2
    assert difference.mean() * 255 < 0.1


def test_display_p3_by_code_points_equals_its_profile() -> None:
    by_profile = decode_picture(encoded(Image.fromarray(COLORS), "PNG", icc_profile=P3), name="a")
    assert differences(png(COLORS, cicp(12, 13)), by_profile.rgb) < 6


@pytest.mark.parametrize("transfer", [6, 14, 15])
def test_transfer_functions_of_bt709_have_several_numbers(transfer: int) -> None:
    assert differences(png(DEEP, cicp(1, transfer)), srgb(bt709(DEEP / 65535))) < 0.5


@pytest.mark.parametrize("primaries", [4, 5, 6, 7, 8, 9, 10, 11, 12, 22])
def test_gray_stays_gray_and_white_stays_white_in_all_primaries(primaries: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    picture = decode_picture(png(ramp, cicp(primaries, 13)), name="a")
    assert np.abs(picture.rgb - ramp / 255).max() * 255 < 0.05


def test_narrow_range_is_expanded() -> None:
    narrow = np.rint(16 + UNIT * 219).astype(np.uint8)
    assert differences(png(narrow, cicp(1, 13, full=False)), UNIT) < 1
    deep = np.rint((16 + UNIT * 219) * 256).astype(np.uint16)
    assert differences(png(deep, cicp(1, 13, full=False)), UNIT) < 0.01


def test_srgb_by_any_chunk_keeps_the_exact_values() -> None:
    exact = (COLORS / 255).astype(np.float32)
    for extra in ([cicp(1, 13)], [SRGB_CHUNK], [gama(45455)], [cicp(2, 2)]):
        assert np.array_equal(decode_picture(png(COLORS, *extra), name="a").rgb, exact)
    chrm = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    assert np.array_equal(decode_picture(png(COLORS, gama(45455), chrm), name="a").rgb, exact)


def iccp() -> bytes:
    content = encoded(Image.fromarray(COLORS), "PNG", icc_profile=P3)
    start = content.index(b"iCCP") - 4
    return content[start : start + 12 + int.from_bytes(content[start : start + 4])]


def test_png_chunks_count_in_the_order_of_the_specification() -> None:
    linear, wide = srgb(UNIT), srgb(linear_srgb(UNIT) @ np.transpose(TO_SRGB[12]))
    # Lower ones come first in the file.
    assert differences(png(COLORS, gama(100_000), SRGB_CHUNK), UNIT) < 0.01
    assert differences(png(COLORS, gama(100_000), SRGB_CHUNK, iccp()), wide) < 6
    assert differences(png(COLORS, gama(100_000), iccp(), cicp(1, 13)), UNIT) < 0.01
    assert differences(png(COLORS, gama(100_000), iccp(), cicp(1, 8)), linear) < 0.5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [COLORS, DEEP])
def test_gamma_changes_colors_and_no_alpha(channels: int, samples: np.ndarray) -> None:
    pixels = np.dstack([samples, np.maximum(samples[..., :1], 1)])
    # Without alpha, gray or RGB; with it, the last channel.
    pixels = pixels[..., :channels] if channels in (1, 3) else pixels[..., 4 - channels :]
    colors = 1 if channels < 3 else 3
    picture = decode_picture(png(pixels, gama(50_000)), name="a")
    unit = pixels / np.iinfo(samples.dtype).max
    seen = ... if picture.alpha is None else picture.alpha > 0
    assert np.abs(picture.rgb - srgb(unit[..., :colors] ** 2))[seen].max() * 255 < 0.1
    assert picture.depth == samples.dtype.itemsize * 8
    assert (picture.alpha is None) == (channels in (1, 3))
    if picture.alpha is not None:
        assert np.array_equal(picture.alpha, unit[..., -1].astype(np.float32))


def test_chromaticities_are_converted_with_and_without_gamma() -> None:
    adobe = chunk(
        b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    )
    expected = srgb(linear_srgb(UNIT) @ np.transpose(ADOBE_TO_SRGB))
    assert differences(png(COLORS, adobe), expected) < 2
    expected = srgb(UNIT**2.2 @ np.transpose(ADOBE_TO_SRGB))
    assert differences(png(COLORS, adobe, gama(45455)), expected) < 2


@pytest.mark.parametrize(
    "extra",
    [
        gama(0),
        gama(1),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", bytes(32)),
        chunk(b"cHRM", b"\0"),
        chunk(b"cHRM", struct.pack(">8I", *[31270, 32900] * 4)),
    ],
)
def test_impossible_numbers_are_ignored_with_a_note(extra: bytes) -> None:
    picture = decode_picture(png(COLORS, extra), name="odd.png")
    assert np.array_equal(picture.rgb, (COLORS / 255).astype(np.float32))
    (note,) = picture.notes
    assert "'odd.png'" in note
    assert "sRGB" in note
    assert note.endswith(".")


@pytest.mark.parametrize("codes", [(1, 9), (1, 10), (3, 13), (1, 12), (200, 200)])
def test_unknown_code_points_are_refused_unless_something_else_says_the_colors(
    codes: tuple[int, int],
) -> None:
    with pytest.raises(PictureReadError, match=r"'a.png' has an unusual colour encoding"):
        decode_picture(png(COLORS, cicp(*codes)), name="a.png")
    assert differences(png(COLORS, cicp(*codes), SRGB_CHUNK), UNIT) < 0.01
    with pytest.raises(PictureReadError, match="unusual colour encoding"):
        decode_picture(avif_with(encoded(Image.fromarray(COLORS), "AVIF"), *codes), name="a.avif")


@pytest.mark.parametrize("codes", [(12, 13), (9, 14), (9, 16), (9, 18), (1, 8), (2, 2)])
def test_avif_and_png_of_equal_pixels_and_code_points_are_equal(codes: tuple[int, int]) -> None:
    smooth = np.asarray(Image.fromarray(COLORS[:4, :4]).resize((48, 32), Image.Resampling.BICUBIC))
    content = encoded(Image.fromarray(smooth), "AVIF", quality=100, subsampling="4:4:4")
    held = decode_picture(content, name="a").to_array(np.uint8)
    got = decode_picture(avif_with(content, *codes), name="a.avif")
    like = decode_picture(png(held, cicp(*codes)), name="a.png")
    assert np.array_equal(got.rgb, like.rgb)
    assert len(got.notes) == len(like.notes) == (codes[1] > 15)


def test_the_profile_of_an_avif_precedes_its_code_points() -> None:
    image = Image.fromarray(COLORS)
    content = encoded(image, "AVIF", icc_profile=P3)
    # The code points of the matrix stay; those of the colours are linear BT.2020's.
    assert b"colrprof" in content
    assert b"colrnclx" in content
    expected = decode_picture(content, name="a").rgb
    assert differences(avif_with(content, 9, 8), expected) == 0


# HDR


def test_pq_of_diffuse_white_becomes_white_and_dimmer_light_keeps_its_ratio() -> None:
    nits = np.linspace(0, 203, 768).reshape(24, 32, 1) * np.ones(3)
    assert differences(png(levels(pq(nits)), cicp(1, 16)), srgb(nits / 203)) < 0.3


def test_hlg_of_75_percent_becomes_white() -> None:
    """BT.2408: HLG's diffuse white is 75 % of the signal, 203 of 1000 cd/m2."""
    white = np.full((16, 16, 3), 0.75)
    assert abs(decode_picture(png(levels(white), cicp(9, 18)), name="a").rgb - 1).max() < 0.002
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.linspace(0, 0.75, 768).reshape(24, 32, 1) * np.ones(3)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    assert differences(png(levels(signal), cicp(9, 18)), srgb(scene**1.2 * 1000 / 203)) < 0.5


@pytest.mark.parametrize("transfer", [16, 18])
def test_highlights_are_compressed_in_order_up_to_white(transfer: int) -> None:
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32, 1) * np.ones(3)
    picture = decode_picture(png(levels(ramp), cicp(9, transfer)), name="sun.png")
    shown = picture.rgb[..., 0].reshape(-1)
    assert (np.diff(shown) >= 0).all()
    # No highlight is lost: the upper half of the signal still has a hundred levels.
    assert np.unique(np.rint(shown[512:] * 255)).size > 50
    assert shown[-1] == pytest.approx(1, abs=1e-3)
    (note,) = picture.notes
    assert "'sun.png' is an HDR picture (BT.2100 " in note


def test_tone_mapping_follows_bt2390_and_keeps_hues() -> None:
    nits = np.array([50.0, 150, 203, 400, 1000])
    colors = nits[:, None] * np.array([1, 0.5, 0.25])
    rows = np.repeat(np.repeat(colors[:, None], 16, axis=1), 4, axis=0)
    picture = decode_picture(png(levels(pq(rows)), cicp(1, 16)), name="a")
    e, white = pq(nits) / pq(1000), float(pq(203) / pq(1000))
    k = 1.5 * white - 0.5
    t = (e - k) / (1 - k)
    p = (
        (2 * t**3 - 3 * t**2 + 1) * k
        + (t**3 - 2 * t**2 + t) * (1 - k)
        + (3 * t**2 - 2 * t**3) * white
    )
    mapped = np.where(e < k, e, p) * pq(1000)
    y = np.maximum(mapped ** (1 / 78.84375) - 0.8359375, 0)
    y = y / (18.8515625 - 18.6875 * mapped ** (1 / 78.84375))
    shown = y ** (1 / 0.1593017578125) * 10000 / 203
    expected = srgb(shown[:, None] * np.array([1, 0.5, 0.25]))
    assert np.abs(picture.rgb[2::4, 8] - expected).max() * 255 < 0.5


def test_saturated_colors_below_white_are_not_tone_mapped() -> None:
    green = np.zeros((16, 16, 3))
    green[..., 1] = pq(203)
    expected = srgb(np.array([0, 1, 0]) @ np.transpose(TO_SRGB[9]))
    assert differences(png(levels(green), cicp(9, 16)), expected) < 1


def test_invisible_highlights_change_nothing() -> None:
    nits = np.full((16, 16, 4), 180.0)
    nits[..., 3] = 10000
    nits[:4, :, 3] = 0
    bright = nits.copy()
    bright[:4, :, :3] = 10000
    pictures = [
        decode_picture(png(levels(pq(values)), cicp(1, 16)), name="a") for values in (nits, bright)
    ]
    assert np.array_equal(pictures[0].rgb, pictures[1].rgb)


# EXIF


def exif(space: int, index: str | None) -> bytes:
    data = Image.Exif()
    inner = data.get_ifd(0x8769)
    inner[0xA001] = space
    if index:
        inner[0xA005] = {1: index}
    return data.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_adobe_rgb_by_exif_is_converted(kind: str) -> None:
    image = Image.fromarray(COLORS)
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = srgb(UNIT ** (563 / 256) @ np.transpose(ADOBE_TO_SRGB))
    for block in (exif(0xFFFF, "R03"), exif(2, None)):
        assert differences(encoded(image, kind, exif=block, **options), expected) < 2
    for block in (exif(0xFFFF, "R98"), exif(1, "R03"), exif(0xFFFF, None), b"Exif\0\0rubbish"):
        assert differences(encoded(image, kind, exif=block, **options), UNIT) < 0.01
    by_profile = decode_picture(encoded(image, kind, icc_profile=P3, **options), name="a").rgb
    both = encoded(image, kind, icc_profile=P3, exif=exif(0xFFFF, "R03"), **options)
    assert differences(both, by_profile) == 0


# Profiles


@pytest.mark.parametrize("profile", [b"rubbish" * 60, P3[:300], b"\0" * 128])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_broken_profile_is_noted(profile: bytes, kind: str) -> None:
    picture = decode_picture(
        encoded(Image.fromarray(COLORS), kind, icc_profile=profile), name="odd"
    )
    assert picture.notes == (
        "The colour profile of 'odd' is damaged or of another kind, and was ignored.",
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_gray_with_an_rgb_profile_is_noted_only_if_that_says_other_grays(kind: str) -> None:
    gray = Image.fromarray(COLORS[..., 0])
    # P3 has sRGB's curve. The third has another one.
    linear = bytes(pyvips.Image.profile_load("p3")).replace(b"para", b"oops")
    for profile, notes in ((P3, 0), (bytes(pyvips.Image.profile_load("srgb")), 0), (linear, 1)):
        picture = decode_picture(encoded(gray, kind, icc_profile=profile), name="a")
        assert len(picture.notes) == notes
        assert np.abs(picture.rgb[..., 0] - COLORS[..., 0] / 255).max() < 0.2


def test_a_jpeg_that_lacks_a_piece_of_its_profile_is_noted() -> None:
    content = encoded(Image.fromarray(COLORS), "JPEG", icc_profile=P3 + bytes(100_000))
    assert content.count(b"ICC_PROFILE") == 2
    place = content.index(b"ICC_PROFILE") - 4
    cut = content[:place] + content[place + 2 + int.from_bytes(content[place + 2 : place + 4]) :]
    assert "colour profile" in decode_picture(cut, name="a").notes[0]


def test_a_broken_profile_leaves_the_next_chunk_in_force() -> None:
    broken = bytearray(iccp())
    broken[40:60] = bytes(20)
    assert differences(png(COLORS, gama(100_000), bytes(broken)), srgb(UNIT)) < 0.5


def test_cmyk_without_a_profile_is_noted() -> None:
    image = Image.fromarray(COLORS).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        assert "press" in decode_picture(encoded(image, kind), name="a").notes[0]
    profile = bytes(pyvips.Image.profile_load("cmyk"))
    assert decode_picture(encoded(image, "TIFF", icc_profile=profile), name="a").notes == ()


def calibrated_bmp(space: bytes, points: list[tuple[float, float]], gamma: float) -> bytes:
    """A BMP file with a header of version 4."""
    content = encoded(Image.fromarray(COLORS), "BMP")
    numbers = [round(value * 2**30) for x, y in points for value in (x, y, 1 - x - y)]
    header = struct.pack("<I", 108) + content[18:54] + bytes(16) + space
    header += struct.pack("<9i3I", *numbers, *[round(gamma * 65536)] * 3)
    return content[:10] + struct.pack("<I", 122) + header + content[54:]


@pytest.mark.parametrize("gamma", [2.2, 1 / 2.2])
def test_the_calibration_of_a_bmp_is_converted(gamma: float) -> None:
    points = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]
    expected = srgb(UNIT**2.2 @ np.transpose(ADOBE_TO_SRGB))
    assert differences(calibrated_bmp(bytes(4), points, gamma), expected) < 2
    for content in (
        calibrated_bmp(b"BGRs", points, gamma),
        calibrated_bmp(b"BGRs", points, 0),
        calibrated_bmp(bytes(4), [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)], gamma),
    ):
        assert differences(content, UNIT) < 1e-4


def test_the_profile_of_a_gif_is_converted() -> None:
    content = encoded(Image.fromarray(COLORS[:8, :32]).resize((32, 24)).quantize(64), "GIF")
    blocks = b"".join(
        bytes([len(P3[i : i + 255])]) + P3[i : i + 255] for i in range(0, len(P3), 255)
    )
    start = 13 + (3 << ((content[10] & 7) + 1))
    extension = b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0"
    with_profile = decode_picture(content[:start] + extension + content[start:], name="a")
    held = decode_picture(content, name="a").to_array(np.uint8)
    expected = decode_picture(encoded(Image.fromarray(held), "PNG", icc_profile=P3), name="a")
    assert np.array_equal(with_profile.rgb, expected.rgb)


def test_premultiplied_avif_is_divided_by_alpha() -> None:
    rgba = np.dstack([COLORS // 3 + 120, np.full((24, 32, 1), 128, np.uint8)]).astype(np.uint8)
    image = Image.fromarray(rgba)
    options = {"quality": 100, "subsampling": "4:4:4"}
    straight = decode_picture(encoded(image, "AVIF", **options), name="a")
    content = encoded(image, "AVIF", alpha_premultiplied=True, **options)
    assert b"prem" in content
    got = decode_picture(content, name="a")
    assert np.abs(got.rgb - straight.rgb).mean() * 255 < 3


def test_ordinary_pictures_have_no_notes() -> None:
    image = Image.fromarray(COLORS)
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP"):
        assert decode_picture(encoded(image, kind), name="a").notes == ()
        if kind not in ("GIF", "BMP"):
            assert decode_picture(encoded(image, kind, icc_profile=P3), name="a").notes == ()
