"""Small files that announce large pictures take neither time nor memory."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime.errors import NstrtError, PictureReadError
from nstrt.runtime.pictures import decode_picture
from nstrt.runtime.pictures.formats.tiff_tags import read_tags
from nstrt.runtime.pictures.limits import check_density
from nstrt.runtime.pictures.vips import from_samples

from support.peak_memory import measured_peak
from support.picture_files import chunk, encoded, tiff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")

NOISE = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE)
SIDE = 20_000
TILE = {"tile": True, "tile_width": 64, "tile_height": 48}
PADDING = bytes(2_000_000)
MEMORY = 150 << 20


def jpeg(*, kind: int = 0, **options: object) -> bytes:
    """A JPEG file with another size, and another kind of frame if ``kind`` is given."""
    content = bytearray(encoded(IMAGE, "JPEG", **options))
    place = content.find(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    content[place + 1] = kind or content[place + 1]
    struct.pack_into(">HH", content, place + 5, SIDE, SIDE)
    return bytes(content)


def tiff_of(compression: str, changes: dict[int, tuple[int, ...]], **options: object) -> bytes:
    """A TIFF file of libvips with changed tags."""
    content = bytes(from_samples(NOISE, "srgb").tiffsave_buffer(compression=compression, **options))
    tags = read_tags(content)
    assert tags is not None
    return tags.rewritten(changes)


def tiff_of_tiles(columns: int, rows: int, *, longer: int = 0) -> bytes:
    """A TIFF file of tiles at one JPEG stream, which take up to ``longer`` bytes more each."""
    tags = read_tags(tiff_of("jpeg", {}, **TILE))
    assert tags is not None
    (start,), (size,), count = tags.numbers(324), tags.numbers(325), columns * rows
    places = (int(start),) * count
    sizes = tuple(int(size) + max(0, longer - number) for number in range(count))
    return tags.rewritten(
        {256: (64 * columns,), 257: (48 * rows,), 324: places, 325: sizes}, PADDING
    )


def bmp_in_runs(*, skips: int) -> bytes:
    """A BMP file whose data only skip rows."""
    data = bytes([0, 2, 255, 255]) * skips + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, len(data), 0, 0, 256, 256)
    offset = 54 + 1024
    start = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
    return start + head + bytes(1024) + data


def png_of(side: int) -> bytes:
    """A PNG file of other data than its header says."""
    content = bytearray(encoded(IMAGE, "PNG"))
    header = struct.pack(">II", side, side) + bytes(content[24:29])
    return bytes(content[:8]) + chunk(b"IHDR", header) + bytes(content[33:])


def png_with_foreign_rows() -> bytes:
    """A PNG file whose rows end early, before 30 MB that belong to none."""
    rows = zlib.compress(bytes(10 * (1 + 3 * 64)))
    content = encoded(IMAGE, "PNG")
    return content[:33] + chunk(b"IDAT", rows) + chunk(b"IDAT", bytes(30_000_000))


def gif_of_cleared_tables() -> bytes:
    """A GIF file of 4 MB that only clears its table."""
    packed = np.unpackbits(np.array([[0, 8]], np.uint8), axis=1, bitorder="little")[:, :12]
    data = np.packbits(np.tile(packed, (3_000_000, 1)), bitorder="little").tobytes()
    blocks = b"".join(
        bytes([255]) + data[place : place + 255] for place in range(0, 4_080_000, 255)
    )
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 48, 0xF7, 0, 0) + bytes(768)
    return head + struct.pack("<cHHHHBB", b",", 0, 0, 64, 48, 0, 11) + blocks + b"\0;"


GIF = encoded(IMAGE.quantize(32), "GIF")
GIF_CANVAS = GIF[:6] + (1088).to_bytes(2, "little") + (30_493).to_bytes(2, "little") + GIF[10:]
GIF_OUTSIDE = GIF.replace(b"," + bytes(4), b",\0\0\0\x77", 1)
GIF_OUTSIDE = GIF_CANVAS[:8] + b"\x30\0" + GIF_OUTSIDE[10:]
STRIP = {256: (SIDE,), 257: (SIDE,), 278: (SIDE,)}
ROWS = {
    "JPEG": jpeg(),
    "JPEG with foreign data": jpeg() + PADDING,
    "progressive JPEG": jpeg(progressive=True),
    "progressive JPEG with foreign data": jpeg(progressive=True) + PADDING,
    "arithmetic JPEG": jpeg(kind=0xC9),
    "PNG": png_of(SIDE),
    "TIFF of JPEG": tiff_of("jpeg", STRIP),
}
OTHERS = {
    "BMP in runs": bmp_in_runs(skips=80),
    "TIFF of LZW": tiff_of("lzw", STRIP),
    "TIFF of deflate": tiff_of("deflate", STRIP),
    "TIFF of fax": read_tags(encoded(IMAGE.convert("1"), "TIFF", compression="group3")).rewritten(STRIP),  # type: ignore[union-attr]  # noqa: E501
    "TIFF with a large tile": tiff_of("deflate", {322: (65_536,), 323: (65_536,)}, **TILE),
    "GIF with a free canvas": GIF_CANVAS,
    "GIF with a frame outside its canvas": GIF_OUTSIDE,
    "TIFF of overlapping tiles": tiff_of_tiles(60, 60, longer=1_500_000),
    "TIFF of many tiles": tiff_of_tiles(300, 300),
    "TIFF of many channels": tiff(NOISE, {277: ("I", 0xFFFFFFFF), 262: ("H", 8)}),
    "PNG with foreign rows": png_with_foreign_rows(),
    "GIF of cleared tables": gif_of_cleared_tables(),
    "TIFF of many bits": tiff(NOISE, {258: ("I", 0xFFFFFFFF), 301: ("H", *range(256))}),
}  # fmt: skip


def refused(content: bytes) -> str:
    started = time.process_time()
    with measured_peak() as peak, pytest.raises(NstrtError) as caught:
        decode_picture(content, name="a")
    assert peak.bytes < MEMORY
    assert time.process_time() - started < 5
    return str(caught.value)


@pytest.mark.parametrize("kind", ROWS)
def test_missing_rows_of_a_large_header_are_counted(kind: str) -> None:
    found = re.search(r"(\d+) of its 20000 rows are missing", refused(ROWS[kind]))
    assert found is not None
    assert int(found[1]) > 18_000


@pytest.mark.parametrize("kind", OTHERS)
def test_large_headers_are_refused(kind: str) -> None:
    refused(OTHERS[kind])


def test_a_strip_of_jpeg_that_ends_early_lacks_rows() -> None:
    whole = tiff_of("jpeg", {}, **TILE)
    assert decode_picture(whole, name="a").height == 48
    tags = read_tags(whole)
    assert tags is not None
    (start,) = map(int, tags.numbers(324))
    (size,) = map(int, tags.numbers(325))
    half = whole[: start + size // 2] + b"\xff\xd9" * (size // 4) + whole[start + size // 2 :]
    with pytest.raises(PictureReadError, match="of its 48 rows are missing"):
        decode_picture(half[: len(whole)], name="a")


def test_a_run_of_marker_bytes_takes_linear_time() -> None:
    content = encoded(IMAGE, "JPEG")
    started = time.process_time()
    with pytest.raises(PictureReadError):
        decode_picture(content[:-400] + b"\xff" * 2_000_000 + b"\0\xff\xd9", name="a")
    assert time.process_time() - started < 5


def test_texts_that_are_not_utf_8_do_not_stop_later_readings() -> None:
    whole = encoded(IMAGE, "AVIF")
    for place in range(8, 300):
        damaged = whole[:place] + b"\x80\xc3" + whole[place + 2 :]
        with contextlib.suppress(NstrtError):
            decode_picture(damaged, name="a")
    assert decode_picture(whole, name="a").size == (64, 48)


@pytest.mark.parametrize("repeated", ["<a/>", "<a b=''/>"])
def test_data_of_a_photo_take_little_memory(repeated: str) -> None:
    start = "<x><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
    text = start + repeated * 1_500_000 + "</rdf:RDF></x>"
    packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text.encode())
    content = encoded(IMAGE, "PNG")
    started = time.process_time()
    with measured_peak() as peak:
        decode_picture(content[:33] + chunk(b"iTXt", packed) + content[33:], name="a")
    assert peak.bytes < MEMORY
    assert time.process_time() - started < 5


def test_a_blank_picture_without_bytes_is_refused_and_one_of_deflate_is_not() -> None:
    check_density(20_000, 20_000, 1, 48_800, "a")
    check_density(20_000, 20_000, 3, 1_163_000, "a")
    check_density(5_700, 5_700, 3, 34, "a")
    with pytest.raises(PictureReadError, match="34 bytes, which are too few"):
        check_density(16_383, 16_383, 3, 34, "a")


UNDER_LIMIT = """
import resource, sys
from pathlib import Path
from nstrt.runtime.pictures import decode_picture
from support.peak_memory import status_bytes
small, large = (Path(name).read_bytes() for name in sys.argv[1:])
# Libraries are loaded before the limit is set.
decode_picture(small, name="small")
limit = status_bytes("VmSize") + (30 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    decode_picture(large, name="large")
except MemoryError:
    print("memory")
except Exception as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP"])
def test_a_whole_picture_is_not_blamed_for_little_memory(kind: str, tmp_path: Path) -> None:
    for name, image in (("small", IMAGE), ("large", IMAGE.resize((4000, 4000)))):
        (tmp_path / name).write_bytes(encoded(image.quantize(9) if kind == "GIF" else image, kind))
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMIT, tmp_path / "small", tmp_path / "large"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert "may be used (ulimit -v); set" in done.stdout or done.stdout == "memory\n"
