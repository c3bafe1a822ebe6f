"""Photos with EXIF, IPTC and XMP data, written by Pillow or by hand."""

from __future__ import annotations

import io
import struct

from PIL import Image, TiffImagePlugin

__all__ = [
    "AUTHOR",
    "IPTC",
    "XMP",
    "exif_data",
    "exif_tags",
    "insert_segment",
    "jpeg_photo",
    "photo_image",
]

AUTHOR = "Jörg"
"""A name with a letter beyond ASCII, in UTF-8 as cameras and editors write it."""

IPTC = b"\x1c\x02\x50\x00\x05" + AUTHOR.encode() + b"\x1c\x02\x19\x00\x03cat"

XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    'tiff:Orientation="6" xmp:Rating="5"><dc:subject><rdf:Bag><rdf:li>Käfer &amp; Katze</rdf:li>'
    "</rdf:Bag></dc:subject><xmp:Thumbnails><rdf:Alt/></xmp:Thumbnails></rdf:Description>"
    '</rdf:RDF></x:xmpmeta>   <?xpacket end="w"?>'
).encode()


def exif_tags(
    *, orientation: int = 1, dots: float | None = None, head: bytes = b"II*\0\x08\0\0\0"
) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags of camera, author, time and place, and of pixels that are no more."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2(head)
    ifd[271], ifd[272] = "Maker", "Model"
    ifd.tagtype[315] = 2
    ifd[315] = AUTHOR.encode()
    ifd[18246] = 4
    ifd[274] = orientation
    if dots is not None:
        ifd[282] = ifd[283] = dots
        ifd[296] = 2
    ifd[34665] = {
        36867: "2020:01:02 03:04:05",
        37500: b"maker's own",
        40961: 65535,
        40962: 4000,
        40963: 3000,
        37396: (5, 6),
        42036: "Lens",
    }
    ifd[34853] = {1: "N", 2: (52.0, 31.0, 12.25)}
    return ifd


def exif_data(
    *, orientation: int = 1, dots: float | None = None, order: str = "<", thumbnail: bool = True
) -> bytes:
    """An EXIF block with camera, author, time, place, maker's data and a thumbnail."""
    head = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    ifd = exif_tags(orientation=orientation, dots=dots, head=head)
    block = head + ifd.tobytes(8)
    if thumbnail:
        # The next directory follows the first one's entries.
        (count,) = struct.unpack_from(order + "H", block, 8)
        place = 8 + 2 + 12 * count
        small = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(small, "JPEG")
        data = small.getvalue()
        entries = [(513, 4, len(block) + 2 + 24 + 4), (514, 4, len(data))]
        second = struct.pack(order + "H", 2)
        second += b"".join(struct.pack(order + "HHII", tag, kind, 1, v) for tag, kind, v in entries)
        second += struct.pack(order + "I", 0) + data
        block = block[:place] + struct.pack(order + "I", len(block)) + block[place + 4 :] + second
    return b"Exif\0\0" + block


def photo_image(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A gradient."""
    return Image.linear_gradient("L").resize(size).convert("RGB")


def insert_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """Insert a segment behind the start marker of a JPEG file."""
    head = struct.pack(">BBH", 0xFF, marker, len(data) + 2)
    return jpeg[:2] + head + data + jpeg[2:]


def jpeg_photo(
    *,
    exif: bytes | None = None,
    iptc: bytes = IPTC,
    xmp: bytes = XMP,
    dpi: tuple[int, int] = (300, 300),
) -> bytes:
    """A JPEG photo with all kinds of data."""
    content = io.BytesIO()
    photo_image().save(content, "JPEG", quality=95, dpi=dpi, xmp=xmp)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    # Another resource comes first, as Photoshop writes it.
    other = b"8BIM\x04\x0c\x03abc" + struct.pack(">I", 3) + b"xyz\0"
    content = insert_segment(content.getvalue(), 0xED, b"Photoshop 3.0\0" + other + resource)
    return insert_segment(content, 0xE1, exif_data() if exif is None else exif)
