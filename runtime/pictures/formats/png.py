"""Colours and damage of PNG files, from their chunks (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.colors.encoding import (
    Chromaticities,
    ColorEncoding,
    UnknownEncodingError,
    from_gamma,
    from_h273,
)
from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error, fallback_note
from nstrt.runtime.pictures.formats.png_chunks import (
    MAX_CHUNKS,
    SIGNATURE,
    Chunk,
    pack_chunk,
    read_chunks,
)

__all__ = ["inspect_png", "repair_png"]

_MAX_RATIO = 1040
"""Deflate's largest compression ratio."""

_MAX_PROFILE = 1 << 24
_PIECE = 1 << 20


def inspect_png(content: bytes, name: str) -> Facts:
    """Colours by order of precedence: cICP, iCCP, sRGB, gAMA and cHRM.

    Raises :class:`PictureReadError` if the file cannot hold its pixels.
    """
    chunks = _up_to_end(content)
    if len(chunks) == MAX_CHUNKS:
        raise cut_off_error(name, f"it has more than {MAX_CHUNKS} parts")
    header = _header(chunks)
    stored = sum(len(chunk.data) for chunk in chunks if chunk.kind == b"IDAT")
    if header is not None and header.bytes > _MAX_RATIO * stored + _PIECE:
        repair_png(content, name)
    facts = Facts(name=name)
    broken = [c.kind.decode("latin-1") for c in chunks if not c.whole and c.kind != b"IDAT"]
    ended = bool(chunks) and chunks[-1].kind == b"IEND"
    if not ended or broken == ["IEND"]:
        facts.damage = f"'{name}' lacks its end, but all of its rows are there."
    elif broken:
        facts.damage = (
            f"'{name}' has damaged additions ({', '.join(broken)}), but all of its rows are there."
        )
    elif content[chunks[-1].end :].strip(b"\0\r\n"):
        facts.damage = f"'{name}' has foreign data behind its end, which was left out."
    before: dict[bytes, bytes] = {}
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            break
        if chunk.whole:
            before.setdefault(chunk.kind, bytes(chunk.data))
    _set_colors(facts, before, damaged_profile="iCCP" in broken)
    return facts


def repair_png(content: bytes, name: str) -> bytes:
    """Return a file with the whole chunks and the image data of a damaged one.

    Raises :class:`PictureReadError` if rows are missing.
    """
    chunks = _up_to_end(content)
    header = _header(chunks)
    if header is None:
        raise cut_off_error(name)
    stream, packed, held = zlib.decompressobj(), zlib.compressobj(1), 0
    image = bytearray()
    try:
        for piece in _image_data(chunks):
            # What follows may be of any size.
            if stream.eof or held > header.bytes:
                break
            rows = stream.decompress(piece)
            held += len(rows)
            image += packed.compress(rows)
    except zlib.error as error:
        raise cut_off_error(name) from error
    if held < header.bytes:
        if header.interlaced:
            raise cut_off_error(name, f"{1 - held / header.bytes:.0%} of its pixels are missing")
        missing = header.height - held // header.row_bytes
        raise cut_off_error(name, rows=(missing, header.height))
    image += packed.flush()
    whole = [c for c in chunks if c.whole and c.kind not in (b"IDAT", b"IEND")]
    before = b"".join(pack_chunk(chunk.kind, bytes(chunk.data)) for chunk in whole)
    return SIGNATURE + before + pack_chunk(b"IDAT", bytes(image)) + pack_chunk(b"IEND", b"")


def _set_colors(facts: Facts, chunks: dict[bytes, bytes], *, damaged_profile: bool) -> None:
    """Take the colours from the first of the chunks that is usable; note those that are not."""
    try:
        if b"cICP" in chunks:
            facts.encoding = _from_cicp(chunks[b"cICP"])
            return
    except UnknownEncodingError as error:
        # The specification tells readers to go on to the next chunk.
        if not chunks.keys() & {b"iCCP", b"sRGB", b"gAMA", b"cHRM"}:
            raise PictureReadError(
                f"The picture '{facts.name}' has an unusual colour encoding ({error}); save it as "
                "sRGB."
            ) from error
    if b"iCCP" in chunks or damaged_profile:
        facts.expects_profile = True
        facts.profile = _profile(chunks.get(b"iCCP", b""))
    if b"sRGB" in chunks:
        facts.fallback = from_h273(1, 13)
        return
    try:
        facts.fallback = _from_gama(chunks.get(b"gAMA"), chunks.get(b"cHRM"))
    except (UnknownEncodingError, struct.error) as error:
        if not facts.expects_profile:
            facts.notes.append(fallback_note(facts.name, str(error)))


def _profile(data: bytes) -> bytes | None:
    """The ICC profile of an iCCP chunk; libpng drops those that do not fit the samples."""
    try:
        return zlib.decompressobj().decompress(data[data.index(b"\0") + 2 :], _MAX_PROFILE)
    except (ValueError, zlib.error):
        return None


def _from_cicp(data: bytes) -> ColorEncoding:
    if len(data) != 4 or data[2] != 0 or data[3] > 1:
        raise UnknownEncodingError("the numbers " + " ".join(map(str, data)))
    return from_h273(data[0], data[1], narrow=data[3] == 0)


def _from_gama(gama: bytes | None, chrm: bytes | None) -> ColorEncoding | None:
    if gama is None and chrm is None:
        return None
    exponent = None
    if gama is not None:
        (value,) = struct.unpack(">I", gama)
        if value == 0:
            raise UnknownEncodingError("gamma 0")
        exponent = 100_000 / value
    primaries: Chromaticities | None = None
    if chrm is not None:
        white, red, green, blue = (
            (x / 100_000, y / 100_000) for x, y in struct.iter_unpack(">II", chrm[:32])
        )
        primaries = (red, green, blue, white)
    return from_gamma(exponent, primaries)


def _up_to_end(content: bytes) -> list[Chunk]:
    """The chunks up to IEND or the end of the file."""
    chunks = []
    for chunk in read_chunks(content):
        chunks.append(chunk)
        if chunk.kind == b"IEND":
            break
    return chunks


def _image_data(chunks: list[Chunk]) -> Iterator[memoryview]:
    """The compressed rows in small pieces."""
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            yield from (
                chunk.data[start : start + 4096] for start in range(0, len(chunk.data), 4096)
            )


@dataclass(frozen=True)
class _Header:
    height: int
    row_bytes: int
    bytes: int
    """Bytes of all rows with their filter types."""
    interlaced: bool


def _header(chunks: list[Chunk]) -> _Header | None:
    if not chunks or chunks[0].kind != b"IHDR" or len(chunks[0].data) != 13:
        return None
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", chunks[0].data)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)

    def size(columns: int, rows: int) -> int:
        return rows * (1 + (columns * bits + 7) // 8) if columns else 0

    total = size(width, height)
    if interlace:
        passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4)]
        passes += [(0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
        total = sum(
            size((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, dx, y, dy in passes
        )
    return _Header(height, size(width, 1), total, bool(interlace))
