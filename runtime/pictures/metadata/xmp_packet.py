"""XMP packets of photos: properties that stay true of a repainted picture."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from xml.dom import minidom
from xml.parsers.expat import ExpatError

__all__ = ["NAMESPACE", "RDF", "clean_packet", "xmp_orientation"]

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

_MAX_BYTES = 1 << 24
"""Largest packet in bytes; editors' own histories can be larger, but no one reads them."""

_MAX_NODES = 200_000
"""Largest number of tags and attributes; each takes a kilobyte of memory."""

_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_UNTRUE = {
    _TIFF: (
        *("ImageWidth", "ImageLength", "BitsPerSample", "Compression", "Orientation"),
        *("PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration"),
        *("YCbCrSubSampling", "YCbCrPositioning", "YCbCrCoefficients", "ReferenceBlackWhite"),
        *("XResolution", "YResolution", "ResolutionUnit", "NativeDigest"),
        *("TransferFunction", "WhitePoint", "PrimaryChromaticities"),
    ),
    _EXIF: (
        *("ColorSpace", "ComponentsConfiguration", "CompressedBitsPerPixel", "Gamma"),
        *("PixelXDimension", "PixelYDimension", "SubjectArea", "SubjectLocation", "NativeDigest"),
    ),
    "http://ns.adobe.com/xap/1.0/": ("Thumbnails",),
    "http://ns.adobe.com/photoshop/1.0/": ("ColorMode", "ICCProfile"),
    "http://ns.adobe.com/xmp/note/": ("HasExtendedXMP",),
}
"""Properties about the pixels, by namespace."""

NAMESPACE = "https://pypi.org/project/nstrt/ns/1.0/"
"""Namespace of a recipe."""

_UNTRUE_NAMESPACES = (
    NAMESPACE,
    # Data behind the photo's file, such as gain maps, depth maps and short films.
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.google.com/photos/1.0/",
)

_PLACES = (
    # Regions of faces and the like, in the photo before it was turned.
    "http://www.metadataworkinggroup.com/schemas/regions/",
    "http://ns.microsoft.com/photo/1.2/",
)


def clean_packet(packet: bytes, *, turned: bool) -> bytes:
    """Return a packet without properties that are untrue of the repainted picture.

    Places in the picture are removed if its pixels were ``turned``. Returns nothing for a packet
    without other properties. Raises :class:`ValueError` for a damaged one.
    """
    document = _parse(packet)
    namespaces = (*_UNTRUE_NAMESPACES, *(_PLACES if turned else ()))
    left = 0
    for description in _descriptions(document):
        for attribute in list(description.attributes.values()):
            if _is_untrue(attribute, namespaces):
                description.removeAttributeNode(attribute)
        for child in list(description.childNodes):
            if child.nodeType == child.ELEMENT_NODE and _is_untrue(child, namespaces):
                description.removeChild(child)
        left += sum(_is_property(node) for node in description.attributes.values())
        left += sum(child.nodeType == child.ELEMENT_NODE for child in description.childNodes)
    return _serialize(document) if left else b""


def _parse(packet: bytes) -> minidom.Document:
    """Parse a packet; raise :class:`ValueError` if it is damaged or holds no RDF."""
    if packet[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        packet = packet.decode("utf-16", "replace").encode()
    text = packet.strip(b"\0 \t\r\n")
    # XMP has no document type; a document type could define entities that expand without limit.
    nodes = text.count(b"<") + text.count(b"=")
    too_large = len(text) > _MAX_BYTES or nodes > _MAX_NODES
    if too_large or b"<!DOCTYPE" in text.replace(b"\0", b""):
        raise ValueError("no XMP packet")
    try:
        document = minidom.parseString(text)
        has_rdf = bool(document.getElementsByTagNameNS(RDF, "RDF"))
    except (ExpatError, LookupError, UnicodeError, RecursionError) as error:
        raise ValueError("no XMP packet") from error
    if not has_rdf:
        raise ValueError("no RDF")
    return document


def _serialize(document: minidom.Document) -> bytes:
    element = document.documentElement
    assert element is not None
    try:
        text = element.toxml()
    except RecursionError as error:
        raise ValueError("too many levels") from error
    head = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return f'{head}\n{text}\n<?xpacket end="w"?>'.encode()


def _descriptions(document: minidom.Document) -> Iterable[minidom.Element]:
    for rdf in document.getElementsByTagNameNS(RDF, "RDF"):
        for child in rdf.childNodes:
            if child.nodeType == child.ELEMENT_NODE:
                yield child


def _is_untrue(node: minidom.Element | minidom.Attr, namespaces: tuple[str, ...]) -> bool:
    uri = node.namespaceURI or ""
    return node.localName in _UNTRUE.get(uri, ()) or uri.startswith(namespaces)


def _is_property(attribute: minidom.Attr) -> bool:
    return attribute.namespaceURI not in (RDF, "http://www.w3.org/2000/xmlns/", None)


_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b")


def xmp_orientation(packet: bytes | None) -> int:
    """The orientation that an XMP packet states; 1 if it states none."""
    found = _ORIENTATION.search(packet) if packet else None
    return int(found[1]) if found else 1
