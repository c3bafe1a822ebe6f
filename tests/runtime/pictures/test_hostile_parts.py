"""Small files with many parts, or with parts that overlap, take neither time nor memory."""

from __future__ import annotations

import struct
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures import decode_picture
from nstrt.runtime.pictures.formats.tiff_tags import read_tags

from support.peak_memory import measured_peak
from support.picture_files import chunk, encoded, png, tiff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")

NOISE = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
MEMORY = 300 << 20
SECONDS = 5.0

RDF = (
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description>%s'
    b"</rdf:Description></rdf:RDF>"
)


def overlapping_exif(size: int) -> bytes:
    """EXIF data of 900 tags, each of which holds nearly all the bytes."""
    tags = (struct.pack("<HHII", 0xC000 + i if i else 271, 1, size - 16, 0) for i in range(900))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", 900) + b"".join(tags)).ljust(size, b"\0")


def png_text(name: bytes, content: bytes) -> bytes:
    """A PNG file with a compressed text."""
    return png(NOISE, chunk(b"zTXt", name + b"\0\0" + zlib.compress(content, 9)))


def raw_profile(kind: bytes, content: bytes) -> bytes:
    text = b"\n%s\n%8d\n%s\n" % (kind, len(content), content.hex().encode())
    return png_text(b"Raw profile type " + kind, text)


def webp_with(kind: bytes, content: bytes) -> bytes:
    body = encoded(Image.fromarray(NOISE), "WEBP")[12:]
    header = struct.pack("<4sI", b"VP8X", 10) + bytes([12, 0, 0, 0, 63, 0, 0, 47, 0, 0])
    chunks = header + body + struct.pack("<4sI", kind, len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def shared_tags() -> bytes:
    """A TIFF file of 900 tags, each of which holds nearly all the bytes."""
    size = 4 << 20
    content = tiff(NOISE, dict.fromkeys(range(40000, 40900), ("I", 0)))
    for tag in range(40_000, 40_900):
        place = content.index(struct.pack("<HHI", tag, 4, 1))
        entry = struct.pack("<HHII", tag, 1, size, 0)
        content = content[:place] + entry + content[place + 12 :]
    return content + bytes(size)


def shared_pieces(photometric: int, piece: bytes, *, compression: int) -> bytes:
    """A TIFF file of many strips that lie at one place."""
    rows = 40_000
    strips = {256: (16,), 257: (rows,), 259: (compression,), 262: (photometric,), 278: (1,)}
    tags = read_tags(tiff(NOISE, {339: ("H", 1)}))
    assert tags is not None
    place = len(tags.content)
    return tags.rewritten(
        strips | {273: (place,) * rows, 279: (len(piece),) * rows, 530: (1, 1)}, piece
    )


def blank_jpeg(side: int) -> bytes:
    return encoded(Image.new("RGB", (side, side)), "JPEG", quality=10)


def gif_of_clear_codes(count: int) -> bytes:
    codes = bytes([0x00, 0x08, 0x80]) * (count // 2)
    parts = (codes[start : start + 255] for start in range(0, len(codes), 255))
    frame = b",\0\0\0\0\x40\0\x40\0\0\x0b" + b"".join(bytes([len(p)]) + p for p in parts)
    return b"GIF89a\x40\0\x40\0\0\0\0" + frame + b"\0;"


READ: dict[str, Callable[[], bytes]] = {
    "EXIF tags that overlap": lambda: raw_profile(b"exif", overlapping_exif(4 << 20)),
    "EXIF tags of WebP that overlap": lambda: webp_with(b"EXIF", overlapping_exif(1 << 20)),
    "tags of TIFF that overlap": shared_tags,
    "IPTC resources without content": lambda: raw_profile(
        b"iptc", struct.pack(">4sHHI", b"8BIM", 1, 0, 0) * 400_000
    ),
    "XMP of many tags": lambda: png_text(
        b"Raw profile type xmp",
        b"\nxmp\n 1\n" + (RDF % (b"<a/>" * 1_000_000)).hex().encode(),
    ),
    "XMP of many attributes": lambda: png_text(
        b"Raw profile type xmp",
        b"\nxmp\n 1\n"
        + (RDF % (b"<a " + b" ".join(b'a%d=""' % i for i in range(500_000)) + b"/>"))
        .hex()
        .encode(),
    ),
    "chunks of WebP": lambda: webp_with(b"abcd", bytes(4) + b"efgh\0\0\0\0" * 1_500_000),
    "raw YCbCr at one place": lambda: shared_pieces(6, bytes(1 << 20), compression=1),
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "chunks of PNG": lambda: png(NOISE, chunk(b"prIv", b"") * 1_200_000),
    "empty image data of PNG": lambda: png(NOISE, chunk(b"IDAT", b"") * 1_200_000),
    "clear codes of GIF": lambda: gif_of_clear_codes(2_000_000),
    "large JPEGs as strips of TIFF": lambda: shared_pieces(6, blank_jpeg(3000), compression=7),
}


def decoded_within_limits(content: bytes) -> None:
    started = time.process_time()
    try:
        with measured_peak() as peak:
            decode_picture(content, name="a")
    finally:
        assert peak.bytes < MEMORY
        assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("kind", READ)
def test_many_parts_beside_the_pixels_take_little(kind: str) -> None:
    decoded_within_limits(READ[kind]())


@pytest.mark.parametrize("kind", REFUSED)
def test_many_parts_of_the_pixels_are_refused(kind: str) -> None:
    with pytest.raises(PictureReadError):
        decoded_within_limits(REFUSED[kind]())


def test_tags_may_share_values() -> None:
    exif = overlapping_exif(20_000)
    picture = decode_picture(webp_with(b"EXIF", exif), name="a")
    assert 1 < len(picture.metadata.exif.main) < 900
