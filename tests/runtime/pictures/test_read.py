"""Reading picture files: values, orientation, color profiles and refusals."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from nstrt.runtime.errors import NstrtError, PictureReadError, TooLargeError
from nstrt.runtime.pictures import MAX_PIXELS, limits, read_picture, source

RANDOM = np.random.default_rng(7)
NOISE = RANDOM.integers(0, 256, (24, 40, 3), dtype=np.uint8)
SMOOTH = np.stack(
    np.broadcast_arrays(
        np.linspace(20, 230, 64)[None, :], np.linspace(240, 10, 48)[:, None], np.float64(120)
    ),
    axis=-1,
).astype(np.uint8)


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def vips_image(samples: np.ndarray, interpretation: str, profile: bytes | None = None):
    height, width, bands = samples.shape
    kind = "uchar" if samples.dtype == np.uint8 else "ushort"
    image = pyvips.Image.new_from_memory(samples.tobytes(), width, height, bands, kind)
    image = image.copy(interpretation=interpretation)
    if profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def png_bytes(width: int, height: int, rows: bytes, bits: int = 8, color: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def refusal(path: str | Path, kind: type[NstrtError] = PictureReadError) -> str:
    with pytest.raises(kind) as caught:
        read_picture(path)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert "\n" not in sentence
    assert "vips" not in sentence.lower()
    return sentence


# Values


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_8_bit_values_without_a_profile_are_exact(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), f"a.{suffix}")
    picture = read_picture(path)
    assert np.array_equal(picture.rgb, (NOISE / 255).astype(np.float32))
    assert picture.rgb.dtype == np.float32
    assert (picture.size, picture.depth, picture.alpha) == ((40, 24), 8, None)
    assert picture.name == path.name
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_all_256_levels_are_exact(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = read_picture(saved(tmp_path, Image.fromarray(levels), "a.png"))
    expected = (levels / 255).astype(np.float32)
    assert all(np.array_equal(picture.rgb[..., c], expected) for c in range(3))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_rgb_keeps_all_levels(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    samples = np.stack([ramp, ramp.T, ramp[::-1]], axis=-1)
    path = tmp_path / f"deep.{suffix}"
    vips_image(samples, "rgb16").write_to_file(str(path))
    picture = read_picture(path)
    assert picture.depth == 16
    assert np.array_equal(picture.rgb, (samples / 65535).astype(np.float32))
    assert np.unique(picture.rgb[..., 0]).size == 65536


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {"quality": 97}), ("webp", {"quality": 97})]
)
def test_lossy_formats_are_close_to_the_picture(tmp_path: Path, suffix: str, options: dict) -> None:
    picture = read_picture(saved(tmp_path, Image.fromarray(SMOOTH), f"a.{suffix}", **options))
    assert np.abs(picture.rgb - SMOOTH / 255).max() < 8 / 255


def test_avif_of_8_and_10_bits(tmp_path: Path) -> None:
    plain = tmp_path / "a.avif"
    vips_image(SMOOTH, "srgb").heifsave(str(plain), compression="av1", Q=90)
    assert np.abs(read_picture(plain).rgb - SMOOTH / 255).max() < 8 / 255
    deep = tmp_path / "b.avif"
    white = np.full((32, 32, 3), 65535, np.uint16)
    vips_image(white, "rgb16").heifsave(str(deep), compression="av1", Q=95, bitdepth=10)
    picture = read_picture(deep)
    assert picture.depth == 16
    assert picture.rgb.min() == 1.0


def test_gray_with_and_without_transparency(tmp_path: Path) -> None:
    gray, opaque = NOISE[..., 0], np.maximum(NOISE[..., 1], 1)
    plain = read_picture(saved(tmp_path, Image.fromarray(gray), "g.png"))
    assert np.array_equal(plain.rgb, np.repeat((gray / 255).astype(np.float32)[..., None], 3, 2))
    both = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(opaque)])
    picture = read_picture(saved(tmp_path, both, "ga.png"))
    assert np.array_equal(picture.rgb, plain.rgb)
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, (opaque / 255).astype(np.float32))


def test_16_bit_gray_with_transparency(tmp_path: Path) -> None:
    row = b"\0" + b"\x80\x01\x40\x00" * 20
    path = tmp_path / "ga16.png"
    path.write_bytes(png_bytes(20, 20, row * 20, bits=16, color=4))
    picture = read_picture(path)
    assert picture.depth == 16
    assert picture.alpha is not None
    assert np.all(picture.rgb == np.float32(0x8001 / 65535))
    assert np.all(picture.alpha == np.float32(0x4000 / 65535))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparency_is_kept(tmp_path: Path, suffix: str) -> None:
    rgba = np.dstack([NOISE, RANDOM.integers(1, 256, NOISE.shape[:2], dtype=np.uint8)])
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    picture = read_picture(saved(tmp_path, Image.fromarray(rgba), f"a.{suffix}", **options))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, (rgba[..., 3] / 255).astype(np.float32))
    assert np.array_equal(picture.rgb, (NOISE / 255).astype(np.float32))


def test_palette_and_its_transparent_colour(tmp_path: Path) -> None:
    image = Image.fromarray(NOISE).quantize(16)
    plain = read_picture(saved(tmp_path, image, "p.png"))
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(plain.rgb, (expected / 255).astype(np.float32))
    clear = read_picture(saved(tmp_path, image, "t.png", transparency=3))
    assert clear.alpha is not None
    assert np.array_equal(clear.alpha == 0, np.asarray(image) == 3)


def test_transparent_colour_of_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(NOISE)
    key = tuple(int(v) for v in NOISE[3, 5])
    picture = read_picture(saved(tmp_path, image, "t.png", transparency=key))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, (key == NOISE).all(axis=-1))


def test_the_first_frame_or_page_is_read(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    for name in ("a.gif", "a.tif", "a.webp"):
        more = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path, red, name, save_all=True, append_images=[blue], **more)
        picture = read_picture(path)
        assert picture.size == (20, 20)
        assert np.allclose(picture.rgb, [1, 0, 0])


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    Image.fromarray(NOISE).save(path, "PNG")
    assert np.array_equal(read_picture(path).rgb, (NOISE / 255).astype(np.float32))


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    folder = tmp_path / "Fotos, été"
    folder.mkdir()
    picture = read_picture(saved(folder, Image.fromarray(NOISE), "Käthe 東京 1.png"))
    assert picture.name == "Käthe 東京 1.png"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_names_that_are_not_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Image.fromarray(NOISE).save(path)
    assert read_picture(path).name == "caf?.png"


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = Image.fromarray(SMOOTH)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(
        tmp_path, image, f"a.{suffix}", exif=exif, **{"quality": 95} if suffix != "tif" else {}
    )
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation)
    expected = np.asarray(image if turn is None else image.transpose(turn)) / 255
    picture = read_picture(path)
    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb - expected).max() < 10 / 255


# Color profiles


def p3_profile() -> bytes:
    return bytes(pyvips.Image.profile_load("p3"))


def by_image_cms(samples: np.ndarray, profile: bytes) -> np.ndarray:
    converted = ImageCms.profileToProfile(
        Image.fromarray(samples),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    return np.asarray(converted) / 255


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_an_embedded_profile_is_applied(tmp_path: Path, suffix: str) -> None:
    # All of these colours lie inside sRGB, where the rendering intent does not matter.
    samples = (SMOOTH // 3 + 70).astype(np.uint8)
    path = tmp_path / f"p3.{suffix}"
    options = {"png": {}, "tif": {}, "avif": {"compression": "av1", "Q": 100}}.get(
        suffix, {"Q": 100}
    )
    vips_image(samples, "srgb", p3_profile()).write_to_file(str(path), **options)
    # Lossy formats change the values, so the reference starts from the decoded file.
    held = np.asarray(Image.open(path).convert("RGB"))
    expected = by_image_cms(held, p3_profile())
    assert np.abs(expected - held / 255).max() > 8 / 255, "the profile must matter"
    # AVIF decoders differ by one level.
    tolerance = 4 if suffix == "avif" else 2
    assert np.abs(read_picture(path).rgb - expected).max() <= tolerance / 255


def exact_p3_to_srgb(values: np.ndarray) -> np.ndarray:
    """Convert by the formula: decode, one matrix, encode."""
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]]
    )
    mixed = np.clip(linear @ matrix.T, 0, 1)
    return np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_saturated_colors_are_converted_by_the_formula(tmp_path: Path, dtype: type) -> None:
    top = np.iinfo(dtype).max
    samples = np.rint(RANDOM.random((64, 64, 3)) * top).astype(dtype)
    path = tmp_path / "p3.png"
    vips_image(samples, "srgb" if dtype == np.uint8 else "rgb16", p3_profile()).pngsave(str(path))
    picture = read_picture(path)
    difference = np.abs(picture.rgb - exact_p3_to_srgb(samples / top)) * 255
    # sRGB is steep near black, where the profile's rounded numbers alone change colours.
    assert difference.max() < 6
    assert difference.mean() < 0.1
    assert picture.depth == (8 if dtype == np.uint8 else 16)


def test_conversion_of_16_bits_keeps_more_than_256_levels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64, 1)
    path = tmp_path / "p3.png"
    vips_image(np.repeat(ramp, 3, axis=2), "rgb16", p3_profile()).pngsave(str(path))
    assert np.unique(read_picture(path).rgb[..., 1]).size > 3000


def test_conversion_of_8_bits_causes_no_banding(tmp_path: Path) -> None:
    path = tmp_path / "p3.png"
    vips_image(NOISE, "srgb", p3_profile()).pngsave(str(path))
    values = read_picture(path).rgb * 255
    assert np.abs(values - np.rint(values)).max() > 0.3


@pytest.mark.parametrize("maker", ["vips", "cms"])
def test_an_srgb_profile_changes_nothing(tmp_path: Path, maker: str) -> None:
    if maker == "vips":
        profile = bytes(pyvips.Image.profile_load("srgb"))
    else:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = read_picture(saved(tmp_path, Image.fromarray(NOISE), "a.png", icc_profile=profile))
    assert np.array_equal(picture.rgb, (NOISE / 255).astype(np.float32))


@pytest.mark.parametrize("profile", [b"rubbish" * 60, p3_profile()[:300], b"\0" * 128])
def test_a_broken_profile_is_ignored(tmp_path: Path, profile: bytes) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), "a.tif", icc_profile=profile)
    assert np.array_equal(read_picture(path).rgb, (NOISE / 255).astype(np.float32))


def test_a_profile_of_other_channels_is_ignored(tmp_path: Path) -> None:
    gray = NOISE[..., 0]
    picture = read_picture(
        saved(tmp_path, Image.fromarray(gray), "g.tif", icc_profile=p3_profile())
    )
    assert np.abs(picture.rgb[..., 1] - gray / 255).max() < 1 / 255


def test_a_profile_does_not_change_transparency(tmp_path: Path) -> None:
    rgba = np.dstack([NOISE, NOISE[..., 0]])
    picture = read_picture(
        saved(tmp_path, Image.fromarray(rgba), "a.png", icc_profile=p3_profile())
    )
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, (NOISE[..., 0] / 255).astype(np.float32))
    assert np.abs(picture.rgb - NOISE / 255).max() > 10 / 255


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_without_a_profile(tmp_path: Path, name: str) -> None:
    inks = {"white": (0, 0, 0, 0), "black": (0, 0, 0, 255), "red": (0, 255, 255, 0)}
    shown = {}
    for color, ink in inks.items():
        picture = read_picture(saved(tmp_path, Image.new("CMYK", (16, 16), ink), name))
        shown[color] = picture.rgb[8, 8]
    assert shown["white"].min() > 0.98
    assert shown["black"].max() < 0.2
    assert shown["red"][0] > 0.7 > 0.35 > shown["red"][1:].max()


def test_cmyk_with_its_profile(tmp_path: Path) -> None:
    profile = bytes(pyvips.Image.profile_load("cmyk"))
    inks = RANDOM.integers(0, 120, (16, 16, 4), dtype=np.uint8)
    image = Image.frombytes("CMYK", (16, 16), inks.tobytes())
    picture = read_picture(saved(tmp_path, image, "a.tif", icc_profile=profile))
    expected = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.HIGHRESPRECALC,
    )
    assert np.abs(picture.rgb - np.asarray(expected) / 255).max() <= 3 / 255


# Floating-point TIFF


def float_tiff(path: Path, values: np.ndarray) -> Path:
    height, width, bands = values.shape
    image = pyvips.Image.new_from_memory(
        values.astype(np.float32).tobytes(), width, height, bands, "float"
    )
    image.copy(interpretation="srgb" if bands == 3 else "b-w").tiffsave(str(path))
    return path


def test_floating_point_tiff_between_0_and_1(tmp_path: Path) -> None:
    values = RANDOM.random((20, 30, 3))
    picture = read_picture(float_tiff(tmp_path / "f.tif", values))
    assert picture.depth == 16
    assert np.abs(picture.rgb - values).max() < 1e-5


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "not numbers"), (np.inf, "not numbers"), (3.0, "range"), (-1, "range")],
)
def test_floating_point_tiff_with_other_values(tmp_path: Path, value: float, message: str) -> None:
    values = np.full((20, 20, 3), 0.5)
    values[3, 4, 1] = value
    assert message in refusal(float_tiff(tmp_path / "f.tif", values))


# Refusals


def test_missing_files_folders_and_empty_files_are_refused(tmp_path: Path) -> None:
    assert "no picture" in refusal(tmp_path / "none.jpg")
    assert "no picture" in refusal("bad\0name.jpg")
    assert "no picture" in refusal("")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.jpg").touch()
    assert "empty" in refusal(tmp_path / "empty.jpg")


def test_a_file_used_as_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    assert f"'{path}' is a file and no folder" in refusal(path / "b.jpg")


def test_a_missing_folder_is_called_a_missing_folder(tmp_path: Path) -> None:
    folder = tmp_path / "trip"
    for path in (folder / "a.jpg", folder / "paris" / "a.jpg"):
        assert f"There is no folder '{folder}' for '{path}'" in refusal(path)
    assert f"There is no picture or folder '{folder}'" in refusal(folder)
    assert f"There is no picture '{tmp_path / 'a.jpg'}'" in refusal(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "address", ["https://example.org/a.jpg", "ftp://example.org/a/b", "file:///home/ada/a.png"]
)
def test_an_address_is_called_an_address(address: str, tmp_path: Path) -> None:
    sentence = f"'{address}' is an address; save the picture first, and name its file."
    assert refusal(address) == sentence
    if not address.startswith("file"):
        # A Path loses a slash, and lists join their folder with it.
        assert refusal(Path(address)) == sentence
        assert refusal(tmp_path / address) == sentence


def test_missing_permission_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), "a.png")

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    # chmod does not help: tests may run as root.
    monkeypatch.setattr(source.os, "open", denied)
    assert "may not be read" in refusal(path)


def test_read_errors_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), "a.png")

    def failing(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source.os, "open", failing)
    assert "Input/output error" in refusal(path)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "gif", "bmp"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    image = Image.fromarray(RANDOM.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    path = saved(tmp_path, image, f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "damaged" in refusal(path)


def test_damaged_png_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"To whom it may concern\n" * 40, "not a picture"),
        ("a.png", b"\0" * 5000, "not a picture"),
        ("BM.bmp", b"BMW, BMX and other words" * 9, "not a picture"),
        ("a.svg", b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("a.pdf", b"%PDF-1.7\n", "PDF"),
        ("a.psd", b"8BPS\0\x01", "Photoshop"),
        ("a.jxl", b"\xff\x0a\xfa\x1f", "JPEG XL"),
        ("a.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0", "video"),
        ("a.cr2", b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 99, "camera raw"),
        ("a.NEF", b"MM\0*\0\0\0\x08" + b"\0" * 99, "camera raw"),
    ],
)
def test_other_file_formats_are_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    sentence = refusal(path)
    assert message in sentence
    assert "JPEG, PNG, TIFF" in sentence


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0"])
def test_headers_followed_by_noise_are_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(start + RANDOM.bytes(4000))
    assert "damaged" in refusal(path)


def test_a_heic_photo_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    assert "export it as JPEG" in refusal(path)


@pytest.mark.parametrize("side", [30_000, 200_000])
def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(side, side, b"\0" * 1_000_000))
    assert "megapixels" in refusal(path, TooLargeError)


def test_a_bmp_bomb_is_not_decoded(tmp_path: Path) -> None:
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 99, 0, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6
    )
    path = tmp_path / "bomb.bmp"
    path.write_bytes(header + b"\0" * 50)
    assert "megapixels" in refusal(path, TooLargeError)


def test_pictures_at_the_pixel_limit_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_PIXELS == 400_000_000
    path = saved(tmp_path, Image.new("RGB", (20, 30)), "a.png")
    monkeypatch.setattr(limits, "MAX_PIXELS", 600)
    assert read_picture(path).size == (20, 30)
    monkeypatch.setattr(limits, "MAX_PIXELS", 599)
    refusal(path, TooLargeError)


def test_files_of_too_many_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.tif"
    with open(path, "wb") as file:
        file.write(b"II*\0")
        file.truncate(5 * 1024**3)
    assert "5.0 GB" in refusal(path, TooLargeError)


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg"])
def test_pictures_that_are_too_small_are_refused(tmp_path: Path, suffix: str) -> None:
    sentence = refusal(saved(tmp_path, Image.new("RGB", (15, 40)), f"a.{suffix}"))
    assert "15 x 40" in sentence
    assert "16 pixels" in sentence
    assert read_picture(saved(tmp_path, Image.new("RGB", (16, 16)), f"b.{suffix}")).size == (16, 16)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not an ordinary file" in refusal(tmp_path / "pipe.jpg")
    assert "not an ordinary file" in refusal("/dev/zero")


def test_a_link_to_a_picture_is_followed(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), "a.png")
    (tmp_path / "link.png").symlink_to(path)
    assert read_picture(tmp_path / "link.png").name == "link.png"


def test_damaged_files_print_nothing(tmp_path: Path) -> None:
    good = saved(tmp_path, Image.fromarray(NOISE), "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(good[:-200] + b"\1" * 200)
    tiff = saved(tmp_path, Image.fromarray(NOISE), "a.tif", icc_profile=b"rubbish" * 50)
    code = (
        "import logging, sys; logging.basicConfig()\n"
        "from nstrt.runtime.pictures import read_picture\n"
        "from nstrt.runtime.system.process import own_process; own_process()\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_picture(path)\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "b.png", tiff],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == ["PictureReadError"]
    assert ran.stderr == ""


def test_importing_the_package_imports_no_heavy_module() -> None:
    code = (
        "import sys, nstrt.runtime.pictures\n"
        "print([name for name in ('pyvips', 'PIL', 'torch', 'scipy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_read_picture_accepts_text_paths(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(NOISE), "a.png")
    assert np.array_equal(read_picture(str(path)).rgb, read_picture(path).rgb)
