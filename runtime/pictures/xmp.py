"""How a picture was made, kept inside the picture: JSON in an XMP packet.

libvips carries XMP into PNG, JPEG, TIFF, WebP and AVIF files alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from nstrt.runtime.pictures.read import open_header
from nstrt.runtime.pictures.sniff import picture_kind
from nstrt.runtime.pictures.source import read_content, shown

__all__ = ["NAMESPACE", "embed", "extract", "read_recipe"]

NAMESPACE = "https://pypi.org/project/nstrt/ns/1.0/"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{rdf}">
<rdf:Description rdf:about="" xmlns:nstrt="{namespace}">
<nstrt:recipe>{recipe}</nstrt:recipe>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def embed(recipe: Mapping[str, object]) -> bytes:
    """Write a recipe as an XMP packet.

    JSON holds no paths, NumPy numbers or infinities: these become text, plain numbers and null.
    """
    # Non-ASCII characters are escaped, since XML forbids some that JSON strings can hold.
    text = json.dumps(_plain(recipe), ensure_ascii=True)
    return _PACKET.format(rdf=_RDF, namespace=NAMESPACE, recipe=escape(text)).encode()


def extract(packet: bytes) -> dict[str, Any] | None:
    """Give the recipe in an XMP packet; ``None`` when there is none, or none that is whole."""
    try:
        text = packet.decode("utf-8").strip("\ufeff\0 \t\r\n")
    except UnicodeDecodeError:
        return None
    # XMP has no document type, and one could define entities that grow without end.
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
    """Give the recipe inside a picture file; ``None`` when it has none.

    Files that are no pictures are refused as :func:`read_picture` does.
    """
    content = read_content(path)
    if picture_kind(content) == "BMP":
        return None
    image = open_header(content, name=shown(PurePath(path).name))
    return extract(image.get("xmp-data")) if image.get_typeof("xmp-data") else None


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return shown(value) if isinstance(value, Path) else str(value)
