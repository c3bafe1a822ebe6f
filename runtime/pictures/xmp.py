"""Store a picture's recipe as JSON in an XMP packet.

libvips writes XMP into PNG, JPEG, TIFF, WebP and AVIF files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from nstrt.runtime.pictures.formats.sniff import detect_format
from nstrt.runtime.pictures.metadata.xmp_packet import NAMESPACE, RDF
from nstrt.runtime.pictures.read import open_header
from nstrt.runtime.pictures.source import display_name, read_file

__all__ = ["read_recipe", "recipe_from_xmp", "recipe_to_xmp"]

_PACKET = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{RDF}">
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

_ENTRY = """\
<rdf:Description rdf:about="" xmlns:rdf="{rdf}" xmlns:nstrt="{namespace}">
<nstrt:recipe>{recipe}</nstrt:recipe>
</rdf:Description>
"""

_END = re.compile(r"</(?:[^\s<>:]+:)?RDF\s*>")


def recipe_to_xmp(recipe: Mapping[str, object], photo: bytes = b"") -> bytes:
    """Add a recipe to the photo's XMP packet, or serialise it as a packet of its own.

    Paths become text, NumPy values plain numbers, infinities and NaN null. ``photo`` is a packet
    of :func:`clean_packet`.
    """
    packet = photo.decode() if photo else _PACKET
    # XML forbids some characters of JSON strings, so non-ASCII characters are escaped.
    text = json.dumps(_to_json_value(recipe), ensure_ascii=True)
    entry = _ENTRY.format(rdf=RDF, namespace=NAMESPACE, recipe=escape(text))
    *_, end = _END.finditer(packet)
    return (packet[: end.start()] + entry + packet[end.start() :]).encode()


def recipe_from_xmp(packet: bytes) -> dict[str, Any] | None:
    """Parse the recipe in an XMP packet; ``None`` for a missing or damaged recipe."""
    try:
        text = packet.decode("utf-8").strip("\ufeff\0 \t\r\n")
    except UnicodeDecodeError:
        return None
    # XMP has no document type; a document type could define entities that expand without limit.
    if "<!DOCTYPE" in text:
        return None
    try:
        root = ElementTree.fromstring(text)
        element = root.find(f".//{{{NAMESPACE}}}recipe")
        recipe = None if element is None else json.loads(element.text or "")
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """Read the recipe of a picture file; ``None`` if it has none.

    Raises :class:`PictureReadError` for files that are not pictures, as :func:`read_picture` does.
    """
    content = read_file(path)
    if detect_format(content) == "BMP":
        return None
    image = open_header(content, name=display_name(PurePath(path).name))
    return recipe_from_xmp(image.get("xmp-data")) if image.get_typeof("xmp-data") else None


def _to_json_value(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _to_json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json_value(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return display_name(value) if isinstance(value, Path) else str(value)
