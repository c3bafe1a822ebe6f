"""Embed metadata in picture files: by libvips where it keeps all of it, else in their bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nstrt.runtime.pictures.metadata.exif_block import Directory, ExifBlock, Tag, parse_block
from nstrt.runtime.pictures.metadata.metadata import Metadata, pack_iptc
from nstrt.runtime.pictures.metadata.png_metadata import with_metadata
from nstrt.runtime.pictures.vips import set_blob
from nstrt.runtime.pictures.xmp import recipe_to_xmp

__all__ = ["Embedding"]

_MAX_SEGMENT = 65_000
"""Longest data of a JPEG segment in bytes; libvips drops longer ones silently."""

_MAX_XMP = 60_000
"""Longest XMP packet of a JPEG file in bytes."""

_NO_IPTC = ("WebP", "AVIF")
_IPTC_TAG = 33723
_WEBP_EXIF = 0x08
"""Bit of the VP8X chunk that announces EXIF data."""

_UNDEFINED, _RESOLUTION_UNIT, _NO_UNIT = 7, 296, 1


@dataclass(kw_only=True)
class Embedding:
    """The metadata of one file that is being written."""

    container: str
    """Name of the format: JPEG, PNG, TIFF, WebP or AVIF."""

    size: tuple[int, int]
    """Width and height of the picture in pixels."""

    metadata: Metadata
    """Data of the photo."""

    recipe: Mapping[str, object] | None
    notes: list[str] = field(default_factory=list)
    """Sentences on data that the format cannot hold."""

    def __post_init__(self) -> None:
        self.notes += self.metadata.damage
        if self.container in _NO_IPTC and self.metadata.iptc:
            self._leave_out("holds no IPTC data; that of the photo is", iptc=b"")
        if self.container == "JPEG" and len(self.metadata.iptc) > _MAX_SEGMENT:
            self._leave_out("has no room for the photo's IPTC data; it is", iptc=b"")
        self._exif = self._exif_data()
        self._xmp = self._packet()

    def attach(self, image: Any) -> tuple[Any, str]:
        """Attach metadata to a libvips image; returns it and the kinds to be kept on saving."""
        keep = ["icc"]
        if self.metadata.resolution is not None:
            # libvips counts in dots per millimetre.
            x, y = (value / 25.4 for value in self.metadata.resolution)
            image = image.copy(xres=x, yres=y)
        # libvips compresses the packet in PNG files, and some readers then take it for Latin-1.
        if self._xmp and self.container != "PNG":
            set_blob(image, "xmp-data", self._xmp)
            keep.append("xmp")
        if self.metadata.iptc and self.container == "JPEG":
            set_blob(image, "iptc-data", pack_iptc(self.metadata.iptc))
            keep.append("iptc")
        if self._exif and self.container == "AVIF":
            set_blob(image, "exif-data", b"Exif\0\0" + self._exif)
            keep.append("exif")
            if self.metadata.resolution is None:
                # libvips writes one in any case; by the EXIF standard 72 stands for none.
                image = image.copy(xres=72 / 25.4, yres=72 / 25.4)
        return image, ":".join(keep)

    def complete(self, content: bytes) -> bytes:
        """Add to a saved file what libvips leaves out or changes."""
        if self.container == "JPEG" and self._exif:
            # The segment follows the start marker, as EXIF demands.
            segment = b"Exif\0\0" + self._exif
            head = struct.pack(">BBH", 0xFF, 0xE1, len(segment) + 2)
            return content[:2] + head + segment + content[2:]
        if self.container == "PNG":
            return with_metadata(
                content,
                exif=self._exif,
                iptc=self.metadata.iptc,
                xmp=self._xmp,
                keep_resolution=self.metadata.resolution is not None,
            )
        if self.container == "WebP" and self._exif:
            return self._completed_webp(content)
        if self.container == "TIFF":
            return self._completed_tiff(content)
        return content

    def _exif_data(self) -> bytes:
        """EXIF data of the result, without the maker's own where a JPEG segment is too short."""
        block, resolution = self.metadata.exif, self.metadata.resolution
        if not block and resolution is None:
            return b""
        data = block.for_picture(self.size, resolution).to_bytes()
        if self.container != "JPEG" or len(data) <= _MAX_SEGMENT:
            return data
        self._note("has no room for all of the photo's EXIF data; the maker's own is")
        data = block.without_maker_note().for_picture(self.size, resolution).to_bytes()
        if len(data) <= _MAX_SEGMENT:
            return data
        self.notes.pop()
        self._note("has no room for the photo's EXIF data; it is")
        return ExifBlock().for_picture(self.size, resolution).to_bytes()

    def _packet(self) -> bytes:
        """The photo's XMP packet with the recipe, as much of both as the format has room for."""
        photo, recipe = self.metadata.xmp, self.recipe
        limit = _MAX_XMP if self.container == "JPEG" else None
        short = None if recipe is None else {k: v for k, v in recipe.items() if k != "losses"}
        losses = ("the recipe's losses; they are",) if short != recipe else ()
        data = ("the photo's XMP data; it is",) if photo else ()
        attempts = [(photo, recipe, ()), (photo, short, losses), (b"", recipe, data)]
        attempts += [(b"", short, (*data, *losses))]
        attempts += [(b"", None, (*data, "the recipe; it is"))]
        for packet, facts, missing in attempts:
            content = packet if facts is None else recipe_to_xmp(facts, packet)
            if limit is None or len(content) <= limit:
                for words in missing:
                    self._note(f"has no room for {words}")
                return content
        return b""

    def _completed_webp(self, content: bytes) -> bytes:
        """A WebP file, whose profile demands a VP8X chunk, with EXIF data before its XMP packet."""
        padded = self._exif + b"\0" * (len(self._exif) % 2)
        chunk = struct.pack("<4sI", b"EXIF", len(self._exif)) + padded
        place = 12
        while place < len(content):
            kind, length = struct.unpack_from("<4sI", content, place)
            if kind == b"XMP ":
                break
            place += 8 + length + length % 2
        flags = content[20] | _WEBP_EXIF
        head = struct.pack("<4sI", b"RIFF", len(content) + len(chunk) - 8)
        body = content[8:20] + bytes([flags]) + content[21:place]
        return head + body + chunk + content[place:]

    def _completed_tiff(self, content: bytes) -> bytes:
        """A TIFF file with a new directory at its end: libvips writes neither EXIF nor GPS."""
        stored = parse_block(content, all_tags=True)
        block = self.metadata.exif.in_order(stored.order)
        extra: Directory = {}
        if self.metadata.iptc:
            extra[_IPTC_TAG] = Tag(_UNDEFINED, len(self.metadata.iptc), self.metadata.iptc)
        if self.metadata.resolution is None:
            extra[_RESOLUTION_UNIT] = Tag(3, 1, struct.pack(stored.order + "H", _NO_UNIT))
        if block.photo:
            block = block.for_picture(self.size, self.metadata.resolution)
        start = len(content) + len(content) % 2
        directories = replace(
            block,
            main={**block.main, **stored.main, **block.resolution_tags(self.metadata.resolution)}
            | extra,
        ).directories(start)
        head = content[:4] + struct.pack(stored.order + "I", start)
        gap = b"\0" * (start - len(content))
        return b"".join([head, memoryview(content)[8:], gap, directories])

    def _leave_out(self, words: str, **changes: Any) -> None:
        self._note(words)
        self.metadata = replace(self.metadata, **changes)

    def _note(self, words: str) -> None:
        self.notes.append(f"{self.container} {words} left out.")
