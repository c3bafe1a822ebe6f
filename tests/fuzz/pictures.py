"""Picture files of all formats, changed."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from nstrt.runtime.errors import NstrtError
from nstrt.runtime.pictures import decode_picture
from nstrt.runtime.pictures.vips import from_samples

from fuzz.mutation import change_bytes, change_sizes
from support.picture_files import NTSC, chunk, cicp, encoded, gama, png, tiff

__all__ = ["Cases"]

WIDTH, HEIGHT = 64, 48


class Cases:
    """Changed pictures, read as the runtime reads a photo."""

    refusals = (NstrtError,)

    def __init__(self, folder: Path) -> None:
        self._seeds = _seeds()
        self._others = list(self._seeds.values())

    def case(self, source: random.Random) -> tuple[str, bytes]:
        kind = source.choice(list(self._seeds))
        content = self._seeds[kind]
        larger = source.random() < 0.25
        if larger:
            content = change_sizes(source, content, (WIDTH, HEIGHT, WIDTH - 1, HEIGHT - 1))
        if not larger or source.random() < 0.3:
            content = change_bytes(source, content, self._others)
        if kind.startswith("PNG") and source.random() < 0.7:
            content = _with_checksums(content)
        return kind, content

    def read(self, content: bytes) -> int:
        picture = decode_picture(content, name="a")
        # Colours as 32-bit floats, and samples of up to four channels of 16 bits.
        return picture.width * picture.height * (16 + 8)


def _seeds() -> dict[str, bytes]:
    random_ = np.random.default_rng(1)
    noise = random_.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    smooth = np.linspace(0, 255, HEIGHT * WIDTH * 3).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)
    wide = random_.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    rgb, rgba = Image.fromarray(noise[..., :3].copy()), Image.fromarray(noise)
    blank = Image.new("RGB", (WIDTH, HEIGHT), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [rgb.quantize(32), blank.quantize(2)]
    seeds = {
        "JPEG": encoded(rgb, "JPEG", exif=exif),
        "JPEG progressive": encoded(rgb, "JPEG", progressive=True),
        "JPEG with restarts": encoded(rgb, "JPEG", restart_marker_rows=1),
        "JPEG gray": encoded(rgb.convert("L"), "JPEG"),
        "JPEG CMYK": encoded(rgb.convert("CMYK"), "JPEG"),
        "JPEG blank": encoded(blank, "JPEG", subsampling=2),
        "JPEG of one channel, progressive": encoded(blank.convert("L"), "JPEG", progressive=True),
        "PNG": encoded(rgb, "PNG", exif=exif),
        "PNG of 16 bits": png(wide, gama(45455), chunk(b"cHRM", _points())),
        "PNG with HDR": png(wide, cicp(9, 16)),
        "PNG with alpha": encoded(rgba, "PNG"),
        "PNG with a palette": encoded(frames[0], "PNG", transparency=1),
        "PNG of 1 bit": png(noise[..., :1] & 1, bits=1),
        "PNG interlaced": _interlaced(smooth),
        "WebP": encoded(rgb, "WEBP", exif=exif),
        "WebP lossless": encoded(rgba, "WEBP", lossless=True),
        "WebP blank": encoded(blank, "WEBP", lossless=True),
        "WebP with alpha": encoded(rgba, "WEBP"),
        "WebP film": encoded(rgb, "WEBP", save_all=True, append_images=[blank]),
        "AVIF": encoded(rgb, "AVIF", exif=exif),
        "AVIF with alpha": encoded(rgba, "AVIF"),
        "AVIF blank": encoded(blank, "AVIF"),
        "GIF": encoded(frames[0], "GIF"),
        "GIF film": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "GIF with transparency": encoded(frames[0], "GIF", transparency=0),
        "BMP": encoded(rgb, "BMP"),
        "BMP of 8 bits": encoded(frames[0], "BMP"),
        "BMP of 1 bit": encoded(rgb.convert("1"), "BMP"),
        "BMP with RLE": _rle_bmp(),
        "TIFF of 16 bits": tiff(wide, {}),
        "TIFF in strips": tiff(noise[..., :3], {}, strips=6, order=">"),
        "TIFF of floats": tiff(wide.astype(np.float32) / 65535, {}),
        "TIFF CIELab": tiff(noise[..., :3], {262: ("H", 8)}, packed=True),
        "TIFF YCbCr": tiff(noise[..., :3], {262: ("H", 6), 530: ("H", 1, 1)}),
        "TIFF CMYK": tiff(noise, {262: ("H", 5)}, packed=True),
        "TIFF fax": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "TIFF fax blank": encoded(blank.convert("1"), "TIFF", compression="group3"),
        "TIFF with a palette": encoded(frames[0], "TIFF", compression="packbits"),
    }
    for compression in ("deflate", "lzw", "jpeg", "packbits", "webp"):
        options = {"compression": compression, "tile": compression != "packbits"}
        samples = noise if compression == "webp" else noise[..., :3]
        image = from_samples(samples, "srgb")
        sides = {"tile_width": 32, "tile_height": 32} if options["tile"] else {}
        seeds[f"TIFF {compression}"] = bytes(image.tiffsave_buffer(**options, **sides))
    big = from_samples(wide, "rgb16")
    seeds["BigTIFF"] = bytes(big.tiffsave_buffer(bigtiff=True, compression="lzw", predictor="none"))
    return seeds


def _points() -> bytes:
    return struct.pack(">8I", *(round(value * 100_000) for pair in NTSC for value in pair))


def _interlaced(samples: np.ndarray) -> bytes:
    return bytes(from_samples(samples, "srgb").pngsave_buffer(interlace=True))


def _rle_bmp() -> bytes:
    """A BMP file of 8 bits in runs."""
    rows = b"".join(bytes([WIDTH, row, 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    palette = bytes(1024)
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(rows), 0, 0, 256, 256)
    offset = 14 + 40 + len(palette)
    start = b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return start + head + palette + rows


def _with_checksums(content: bytes) -> bytes:
    """A PNG file whose checksums match, as far as its chunks can be followed."""
    stream, place = io.BytesIO(content), 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        end = place + 8 + length
        if end + 4 > len(content):
            break
        stream.seek(end)
        stream.write(struct.pack(">I", zlib.crc32(content[place + 4 : end])))
        place = end + 4
    return stream.getvalue()
