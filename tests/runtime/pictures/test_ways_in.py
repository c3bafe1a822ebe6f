"""A picture is the same whichever way it comes in: path, bytes, Pillow image, array, tensor."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures import Picture, as_picture

from support.picture_files import avif_with, chunk, cicp, encoded, gama, png, tiff

ROWS, COLUMNS = np.mgrid[0:32, 0:48]
RGB = np.stack([ROWS * 8, COLUMNS * 5, (ROWS + COLUMNS) * 3], -1).astype(np.uint8)
GRAY, ALPHA = RGB[..., 2:], (COLUMNS * 5).astype(np.uint8)[..., None]
GRAY16 = (COLUMNS * 1000 + ROWS).astype(np.uint16)[..., None]
IMAGE = Image.fromarray(RGB)
P3 = bytes(pyvips.Image.profile_load("p3"))
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def adobe_rgb() -> bytes:
    exif = Image.Exif()
    inner = exif.get_ifd(0x8769)
    inner[0xA001], inner[0xA005] = 0xFFFF, {1: "R03"}
    return exif.tobytes()


def key(*levels: int) -> bytes:
    return chunk(b"tRNS", b"".join(level.to_bytes(2) for level in levels))


def small(bits: int) -> np.ndarray:
    return (COLUMNS % (1 << bits)).astype(np.uint8)[..., None]


def png_with_xmp() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return encoded(IMAGE, "PNG", pnginfo=info)


PALETTE = IMAGE.quantize(16)
EXACT = {
    "rgb.png": png(RGB),
    "rgba.png": png(np.dstack([RGB, ALPHA])),
    "gray.png": png(GRAY),
    "gray with alpha.png": png(np.dstack([GRAY, ALPHA])),
    "gray of 16 bits.png": png(GRAY16),
    "gray of 16 bits with a key.png": png(GRAY16, key(5000)),
    "gray with a key.png": png(GRAY, key(60)),
    "gray of 4 bits with a key.png": png(small(4), key(5), bits=4),
    "gray of 2 bits with a key.png": png(small(2), key(2), bits=2),
    "black and white.png": png(small(1), bits=1),
    "black and white with a key.png": png(small(1), key(1), bits=1),
    "rgb with a key.png": png(RGB, key(*map(int, RGB[3, 5]))),
    "palette.png": encoded(PALETTE, "PNG"),
    "palette with a key.png": encoded(PALETTE, "PNG", transparency=3),
    "palette with alpha.png": encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
    "gamma.png": png(RGB, gama(100_000)),
    "gamma of 16 bits.png": png(GRAY16, gama(60_000)),
    "gamma and sRGB.png": png(RGB, gama(100_000), chunk(b"sRGB", b"\0")),
    "chromaticities.png": png(
        RGB,
        chunk(
            b"cHRM",
            b"".join(
                n.to_bytes(4) for n in (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
            ),
        ),
    ),
    "profile.png": encoded(IMAGE, "PNG", icc_profile=P3),
    "broken profile.png": encoded(IMAGE, "PNG", icc_profile=b"rubbish" * 60),
    "turned.png": encoded(IMAGE, "PNG", exif=turned(6)),
    "turned by XMP.png": png_with_xmp(),
    "plain.jpg": encoded(IMAGE, "JPEG"),
    "gray.jpg": encoded(IMAGE.convert("L"), "JPEG"),
    "cmyk.jpg": encoded(IMAGE.convert("CMYK"), "JPEG"),
    "profile.jpg": encoded(IMAGE, "JPEG", icc_profile=P3),
    "turned.jpg": encoded(IMAGE, "JPEG", exif=turned(8)),
    "turned by XMP.jpg": encoded(IMAGE, "JPEG", xmp=XMP),
    "Adobe RGB.jpg": encoded(IMAGE, "JPEG", exif=adobe_rgb()),
    "plain.webp": encoded(IMAGE, "WEBP", lossless=True),
    "turned by XMP.webp": encoded(IMAGE, "WEBP", lossless=True, xmp=XMP),
    "Adobe RGB.webp": encoded(IMAGE, "WEBP", lossless=True, exif=adobe_rgb()),
    "plain.tif": encoded(IMAGE, "TIFF"),
    "turned.tif": encoded(IMAGE, "TIFF", exif=turned(5)),
    "turned by XMP.tif": encoded(IMAGE, "TIFF", tiffinfo={700: XMP}),
    "cmyk.tif": encoded(IMAGE.convert("CMYK"), "TIFF"),
    "lab.tif": tiff((RGB // 3), {262: ("H", 8)}),
    "gray of 16 bits.tif": tiff(GRAY16, {262: ("H", 1)}),
    "rgba.tif": encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "TIFF"),
    "floating point.tif": tiff((GRAY / 255).astype(np.float32), {262: ("H", 1)}),
    "palette.gif": encoded(PALETTE, "GIF"),
    "plain.bmp": encoded(IMAGE, "BMP"),
    "palette.bmp": encoded(PALETTE, "BMP"),
}
"""Files that Pillow decodes to the same values as libvips, with all that says their colours."""

AVIF = encoded(IMAGE, "AVIF", subsampling="4:4:4", quality=100)
OF_THE_FILE = {
    "rgb of 16 bits.png": png(RGB.astype(np.uint16) * 257 - 99, cicp(12, 13)),
    "P3.png": png(RGB, cicp(12, 13)),
    "HLG.png": png(RGB, cicp(9, 18)),
    "PQ gray.png": png(GRAY, cicp(9, 16)),
    "P3.avif": avif_with(AVIF, 12, 13),
    "PQ.avif": avif_with(AVIF, 9, 16),
    "turned.avif": encoded(IMAGE, "AVIF", exif=turned(6)),
    "linear.tif": tiff(RGB, {301: ("H", *[257 * n for n in range(256)])}),
    "ycbcr.tif": encoded(IMAGE.convert("YCbCr"), "TIFF"),
}
"""Files whose colours or depth Pillow drops when it decodes them."""


def loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


WAYS: dict[str, Callable[[Path], object]] = {
    "text": str,
    "bytes": Path.read_bytes,
    "view": lambda path: memoryview(path.read_bytes()),
    "opened": Image.open,
    "opened bytes": lambda path: Image.open(io.BytesIO(path.read_bytes())),
}
DECODED: dict[str, Callable[[Path], object]] = {
    "loaded": lambda path: loaded(Image.open(path)),
    "loaded bytes": lambda path: loaded(Image.open(io.BytesIO(path.read_bytes()))),
    "turned upright": lambda path: ImageOps.exif_transpose(Image.open(path)),
}


def assert_same(got: Picture, expected: Picture) -> None:
    """Equal to the bit where something can be seen."""
    assert got.size == expected.size
    assert got.depth == expected.depth
    assert (got.alpha is None) == (expected.alpha is None)
    seen = np.ones(got.rgb.shape[:2], bool)
    if got.alpha is not None and expected.alpha is not None:
        assert np.array_equal(got.alpha, expected.alpha)
        seen = got.alpha > 0
    assert np.abs(got.rgb - expected.rgb)[seen].max() < 1e-5


@pytest.mark.parametrize("name", EXACT | OF_THE_FILE)
def test_a_file_is_the_same_however_it_is_given(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((EXACT | OF_THE_FILE)[name])
    expected = as_picture(path)
    for way in WAYS.values():
        got = as_picture(way(path))
        assert_same(got, expected)
        assert got.sha256 == expected.sha256
        assert len(got.notes) == len(expected.notes)


@pytest.mark.parametrize("name", EXACT)
def test_a_decoded_pillow_image_is_the_same_as_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(EXACT[name])
    expected = as_picture(path)
    for way in DECODED.values():
        assert_same(as_picture(way(path)), expected)
    assert_same(Picture.from_pillow(Image.open(path)), expected)


@pytest.mark.parametrize("own", [1, 6])
def test_avif_is_turned_by_its_own_properties_and_not_by_xmp(own: int) -> None:
    content = encoded(IMAGE, "AVIF", exif=turned(own), xmp=XMP)
    size = IMAGE.size[::-1] if own == 6 else IMAGE.size
    assert as_picture(content).size == size
    assert as_picture(loaded(Image.open(io.BytesIO(content)))).size == size


@pytest.mark.parametrize("name", ["P3.png", "HLG.png", "PQ gray.png", "linear.tif"])
def test_a_decoded_pillow_image_keeps_the_colors_of_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(OF_THE_FILE[name])
    assert_same(as_picture(loaded(Image.open(path))), as_picture(path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_changed_after_opening_is_taken_as_it_stands(kind: str) -> None:
    content = encoded(IMAGE, kind, exif=turned(6))
    upright = as_picture(content)
    changed = [
        lambda image: image.rotate(-90, expand=True),
        lambda image: image.transpose(Image.Transpose.ROTATE_270),
        ImageOps.exif_transpose,
    ]
    for change in changed:
        got = as_picture(change(Image.open(io.BytesIO(content))))
        assert np.array_equal(got.rgb, upright.rgb)
    lying = Image.open(io.BytesIO(content)).convert("RGB").resize((96, 64))
    got = as_picture(lying)
    assert np.array_equal(got.to_array(np.uint8), np.asarray(lying))
    assert "orientation was not applied" in got.notes[0]


def test_changes_before_decoding_count() -> None:
    content = encoded(IMAGE, "PNG", icc_profile=P3, exif=turned(6))
    image = Image.open(io.BytesIO(content))
    del image.info["icc_profile"]
    assert_same(as_picture(image), as_picture(encoded(IMAGE, "PNG", exif=turned(6))))
    image = Image.open(io.BytesIO(content))
    image.getexif()[0x0112] = 1
    assert_same(as_picture(image), as_picture(encoded(IMAGE, "PNG", icc_profile=P3)))
    image = Image.open(io.BytesIO(content))
    image.paste((255, 0, 0), (0, 0, 48, 32))
    assert np.ptp(as_picture(image).rgb, axis=(0, 1)).max() == 0
    frames = encoded(PALETTE, "GIF", save_all=True, append_images=[Image.new("L", (48, 32))])
    image = Image.open(io.BytesIO(frames))
    image.seek(1)
    assert as_picture(image).rgb.max() == 0


def test_an_image_stays_as_it_was_after_it_was_read() -> None:
    image = Image.open(io.BytesIO(EXACT["turned.jpg"]))
    as_picture(image)
    assert np.array_equal(
        np.asarray(image), np.asarray(Image.open(io.BytesIO(EXACT["turned.jpg"])))
    )


@settings(deadline=None, max_examples=60)
@given(
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F"]),
    kind=st.sampled_from(["PNG", "TIFF", "WEBP", "BMP", "GIF"]),
    seed=st.integers(0, 9),
)
def test_every_mode_that_a_format_holds_survives_it(mode: str, kind: str, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 250)
    elif mode == "F":
        image = Image.fromarray((values[..., 0] / 255).astype(np.float32))
    else:
        base = Image.fromarray(values if mode == "RGBA" else values[..., :3])
        image = base.convert("L").convert(mode) if mode == "LA" else base.convert(mode)
    try:
        content = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    except (OSError, ValueError, KeyError):
        return
    if Image.open(io.BytesIO(content)).mode != mode:
        return
    assert_same(as_picture(loaded(image)), as_picture(content))


def test_arrays_and_tensors_are_the_same_as_their_file() -> None:
    torch = pytest.importorskip("torch")
    for samples in (RGB, GRAY, np.dstack([RGB, ALPHA]), GRAY16):
        expected = as_picture(png(samples))
        assert_same(as_picture(samples), expected)
        unit = (samples / np.iinfo(samples.dtype).max).astype(np.float32)
        tensor = torch.from_numpy(unit.transpose(2, 0, 1).copy())
        for floats in (unit, tensor, tensor[None]):
            got = as_picture(floats)
            assert np.array_equal(got.rgb, expected.rgb)
            assert (got.alpha is None) == (expected.alpha is None)
    assert_same(as_picture(GRAY[..., 0]), as_picture(GRAY))


@pytest.mark.parametrize("source", [None, 3, [[0.5]], io.BytesIO(b"bytes"), RGB.tolist()])
def test_other_things_are_refused_with_the_list_of_what_is_read(source: object) -> None:
    with pytest.raises(OptionError) as caught:
        as_picture(source)
    for words in ("path", "bytes", "Pillow", "NumPy", "tensor", type(source).__name__):
        assert words in str(caught.value)
    with pytest.raises(OptionError, match="1, 3 or 4 channels"):
        as_picture(np.dstack([GRAY, ALPHA]))
