"""Picture files made byte by byte, independent of the libraries that read them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["LINEAR", "NTSC", "avif_with", "chunk", "cicp", "encoded", "gama", "png", "tiff"]

_TYPES = {"B": (1, "B"), "H": (3, "H"), "I": (4, "I"), "f": (11, "f")}

LINEAR = 100_000
"""Value of gAMA for linear light."""

NTSC = ((0.310, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08))
"""White, red, green and blue of NTSC (1953), in cHRM's order."""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gama(value: int) -> bytes:
    """A gAMA chunk."""
    return chunk(b"gAMA", struct.pack(">I", value))


def cicp(primaries: int, transfer: int, *, full: bool = True) -> bytes:
    """A cICP chunk."""
    return chunk(b"cICP", bytes([primaries, transfer, 0, full]))


def png(samples: NDArray[np.uint8 | np.uint16], *extra: bytes, bits: int | None = None) -> bytes:
    """A PNG file with chunks before its image data; ``bits`` packs gray of fewer than 8."""
    height, width, channels = samples.shape
    depth = bits or 8 * samples.dtype.itemsize
    rows = samples.astype(samples.dtype.newbyteorder(">"))
    if depth < 8:
        unpacked = np.unpackbits(samples, axis=-1)[..., -depth:]
        rows = np.packbits(unpacked.reshape(height, -1), axis=-1)[..., None]
    header = struct.pack(
        ">IIBBBBB", width, height, depth, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0
    )
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def avif_with(content: bytes, primaries: int, transfer: int) -> bytes:
    """An AVIF file of Pillow's with other code points in its nclx box."""
    place = content.index(b"colrnclx") + 8
    return content[:place] + struct.pack(">HH", primaries, transfer) + content[place + 4 :]


def tiff(
    samples: NDArray[np.generic],
    tags: dict[int, tuple[object, ...]],
    *,
    order: str = "<",
    packed: bool = False,
    strips: int = 1,
) -> bytes:
    """A TIFF file: tags are a type (B, H, I, f, or R for fractions) and values."""
    height, width, channels = samples.shape
    rows = samples.astype(samples.dtype.newbyteorder(order))
    strip = -(-height // strips)
    pieces = [rows[top : top + strip].tobytes() for top in range(0, height, strip)]
    pieces = [zlib.compress(piece) for piece in pieces] if packed else pieces
    places = np.cumsum([8, *map(len, pieces)])
    body = b"".join(pieces)
    body += b"\0" * (len(body) % 2)
    number = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    entries: dict[int, tuple[object, ...]] = {
        256: ("I", width),
        257: ("I", height),
        258: ("H", *[8 * samples.dtype.itemsize] * channels),
        259: ("H", 8 if packed else 1),
        262: ("H", 2),
        273: ("I", *map(int, places[:-1])),
        277: ("H", channels),
        278: ("I", strip),
        279: ("I", *map(len, pieces)),
        339: ("H", *[number] * channels),
        **tags,
    }
    start = 8 + len(body)
    behind = start + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, *numbers) in sorted(entries.items()):
        if kind == "R":
            code, value = 5, b"".join(struct.pack(order + "II", *pair) for pair in numbers)
        else:
            code, letter = _TYPES[str(kind)]
            value = struct.pack(order + letter * len(numbers), *numbers)
        if len(value) > 4:
            offset = behind + len(values)
            values += value + b"\0" * (len(value) % 2)
            value = struct.pack(order + "I", offset)
        directory += struct.pack(order + "HHI", tag, code, len(numbers)) + value.ljust(4, b"\0")
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "I", start) + body + directory + bytes(4) + values
