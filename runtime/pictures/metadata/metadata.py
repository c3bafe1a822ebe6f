"""Data about a photo that its repainted picture keeps: resolution, EXIF, IPTC and XMP."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from nstrt.runtime.pictures.metadata.exif_block import ExifBlock, parse_block, resolution_by_tags
from nstrt.runtime.pictures.metadata.png_metadata import PngMetadata, raw_profile
from nstrt.runtime.pictures.metadata.xmp_packet import clean_packet
from nstrt.runtime.pictures.vips import metadata as field_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "NO_METADATA",
    "Metadata",
    "metadata_of_file",
    "metadata_of_pillow",
    "pack_iptc",
]

_Value = TypeVar("_Value")

_PHOTOSHOP = b"Photoshop 3.0\0"
"""Start of the JPEG segment that holds Photoshop's resources."""

_IPTC_RESOURCE = 0x0404
"""Number of the Photoshop resource that holds IPTC records."""

_TIFF_XMP, _TIFF_IPTC, _EXIF_POINTER, _GPS_POINTER = 700, 33723, 0x8769, 0x8825

_MAX_DOTS = 1_000_000.0
"""Largest number of dots per inch that counts as one; TIFF files cannot state more."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Data about a photo without what is untrue of the repainted picture."""

    resolution: tuple[float, float] | None = None
    """Dots per inch, horizontally and vertically; ``None`` if the photo states none."""

    exif: ExifBlock = ExifBlock()
    """EXIF data without orientation, thumbnail, and facts about the pixels."""

    iptc: bytes = b""
    """IPTC records (IIM)."""

    xmp: bytes = b""
    """XMP packet, as cleaned by :func:`clean_packet`."""

    damage: tuple[str, ...] = ()
    """Sentences on data that cannot be read and is left out."""

    def scaled(self, horizontal: float, vertical: float) -> Metadata:
        """Data of a picture with so many times the pixels, for the same size in print."""
        if self.resolution is None:
            return self
        x, y = self.resolution
        return replace(self, resolution=(x * horizontal, y * vertical))


NO_METADATA = Metadata()
"""Data of a picture that has none."""


def metadata_of_file(
    content: bytes, image: Any, png: PngMetadata, *, name: str, orientation: int
) -> Metadata:
    """Collect the data of a file from its bytes and its libvips header ``image``.

    ``png`` is empty for other formats; ``orientation`` is the EXIF value by which the pixels are
    turned.
    """
    # libvips does not read the EXIF data of TIFF files.
    is_tiff = content[:2] in (b"II", b"MM")

    def blob(field: str) -> bytes:
        # A list of all fields would fail for names that are no valid text.
        return bytes(field_of(image, field) or b"")

    return _collect(
        exif=content if is_tiff else png.exif or blob("exif-data"),
        is_tiff=is_tiff,
        iptc=png.iptc or blob("iptc-data"),
        xmp=png.xmp or blob("xmp-data"),
        resolution=png.resolution or _jfif_resolution(content),
        orientation=orientation,
        owner=f"'{name}'" if name else "the picture",
    )


def metadata_of_pillow(
    image: Image.Image, *, content: bytes = b"", orientation: int = 1
) -> Metadata:
    """Collect the data that Pillow keeps beside a loaded image; none for images of other origin.

    ``content`` are the bytes of its file, if they are known. Pillow reads the EXIF data of a TIFF
    file only until the pixels are loaded.
    """
    info, profiles = image.info, _profiles_of(image.info)
    tags: Any = getattr(image, "tag_v2", {})
    exif = _as_bytes(info.get("exif")) or _profile(profiles, "exif", "APP1")
    if tags:
        exif = content if content[:2] in (b"II", b"MM") else b""
    photoshop = info.get("photoshop")
    iptc = photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else None
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or tags.get(_TIFF_XMP)
    dpi: Any = info.get("dpi")
    # Pillow states 72 for JPEG files whose EXIF data states none.
    if dpi and exif and "jfif_unit" not in info and tuple(dpi) == (72, 72):
        dpi = None
    metadata = _collect(
        exif=exif,
        iptc=_as_bytes(iptc or tags.get(_TIFF_IPTC)) or _profile(profiles, "iptc", "8bim"),
        xmp=_as_bytes(xmp) or _profile(profiles, "xmp"),
        resolution=_tried(lambda: (float(dpi[0]), float(dpi[1])), None) if dpi else None,
        orientation=orientation,
        owner="the picture",
        is_tiff=bool(tags),
    )
    if exif or not {_EXIF_POINTER, _GPS_POINTER} & set(tags):
        return metadata
    lost = "The EXIF data of the picture cannot be read from its Pillow image and was left out."
    return replace(metadata, damage=(*metadata.damage, lost))


def pack_iptc(records: bytes) -> bytes:
    """Wrap IPTC records in the Photoshop resource in which JPEG files hold them."""
    resource = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(records)) + records
    return _PHOTOSHOP + resource + b"\0" * (len(records) % 2)


def _collect(
    *,
    exif: bytes,
    iptc: bytes,
    xmp: bytes,
    resolution: tuple[float, float] | None,
    orientation: int,
    owner: str,
    is_tiff: bool = False,
) -> Metadata:
    """Clean the data; ``exif`` may be a TIFF file, whose damage is another matter."""
    damage = []
    resolution = _usable(resolution)
    turned = orientation in range(2, 9)
    block, packet = ExifBlock(), b""
    if exif:
        try:
            block = parse_block(exif)
            resolution = resolution or _usable(resolution_by_tags(exif))
        except ValueError:
            if not is_tiff:
                damage.append(f"The EXIF data of {owner} is damaged and was left out.")
        if block.damaged and not is_tiff:
            damage.append(f"Damaged parts of the EXIF data of {owner} were left out.")
    records = _iptc_records(iptc)
    if iptc.strip(b"\0") and not records:
        damage.append(f"The IPTC data of {owner} is damaged and was left out.")
    if xmp.strip(b"\0 \t\r\n"):
        try:
            packet = clean_packet(xmp, turned=turned)
        except ValueError:
            damage.append(f"The XMP data of {owner} is damaged and was left out.")
    if resolution is not None and orientation in (5, 6, 7, 8):
        resolution = resolution[::-1]
    return Metadata(
        resolution=resolution,
        exif=block,
        iptc=records,
        xmp=packet,
        damage=tuple(damage),
    )


def _usable(resolution: tuple[float, float] | None) -> tuple[float, float] | None:
    """The resolution; ``None`` for numbers that are none, such as the 0 of some cameras."""
    sane = resolution is not None and all(0 < value < _MAX_DOTS for value in resolution)
    return resolution if sane else None


def _jfif_resolution(content: bytes) -> tuple[float, float] | None:
    """Dots per inch by the JFIF segment of a JPEG file."""
    place = 2
    while content[:2] == b"\xff\xd8" and place + 18 <= len(content):
        marker, length = struct.unpack_from(">HH", content, place)
        if marker == 0xFFE0 and content[place + 4 : place + 9] == b"JFIF\0":
            unit, x, y = struct.unpack_from(">BHH", content, place + 11)
            factor = {1: 1.0, 2: 2.54}.get(unit)
            return None if factor is None else (x * factor, y * factor)
        if not 0xFFC0 < marker < 0xFFFF or marker == 0xFFDA:
            break
        place += 2 + length
    return None


def _iptc_records(data: bytes) -> bytes:
    """Return the bare IPTC records of a JPEG segment, a Photoshop resource, or a TIFF tag."""
    start = len(_PHOTOSHOP) if data.startswith(_PHOTOSHOP) else 0
    end = len(data)
    while data[start : start + 4] == b"8BIM" and len(data) >= start + 12:
        number, name_length = struct.unpack_from(">HB", data, start + 4)
        place = start + 6 + 1 + name_length + (name_length + 1) % 2
        if place + 4 > len(data):
            return b""
        (length,) = struct.unpack_from(">I", data, place)
        start = place + 4
        if number == _IPTC_RESOURCE:
            end = start + length
            break
        start += length + length % 2
    return data[start:end] if data[start : start + 1] == b"\x1c" else b""


def _profiles_of(info: dict[Any, Any]) -> dict[str, bytes]:
    """Data that older programs store in PNG files as text, by its kind."""
    start = "Raw profile type "
    return {
        key.removeprefix(start): raw_profile(_as_bytes(text))
        for key, text in info.items()
        if isinstance(key, str) and key.startswith(start)
    }


def _profile(profiles: dict[str, bytes], *kinds: str) -> bytes:
    return next((profiles[kind] for kind in kinds if profiles.get(kind)), b"")


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


def _tried(read: Callable[[], _Value], default: _Value) -> _Value:
    """Return the value read; ``default`` if Pillow or the text's author made it unreadable."""
    try:
        return read()
    except Exception:
        return default
