"""Messages to the worker with some of their bytes or values changed."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

PIXELS = {"width": 20, "height": 20, "format": "rgb8"}

VALUES = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**300, 1.5, -0.0, 1e308, "", "x", "\0", "\ud800",
    "é" * 40, "/", "//", "rgbaf", [], [[]], [1, [2]], {}, {"a": {}}, {"file": "/"},
]  # fmt: skip

STYLIZE: dict[str, Any] = {
    "op": "stylize", "id": 1, "nbytes": 2400, "content": PIXELS, "style": PIXELS,
    "options": {"size": 64, "preset": "fast"}, "previews": 2.0, "result": "rgba8",
}  # fmt: skip
"""A valid request with two small pictures."""

BASES: list[dict[str, Any]] = [
    {"op": "hello", "id": 0, "protocol": 1, "token": "abc"},
    {"op": "prepare", "id": "a", "options": {"preset": "fast", "style_layers": {"relu1_1": 1}}},
    {"op": "estimate", "id": 2, "content": {"width": 640, "height": 480},
     "style": {"file": "/nowhere/night.jpg"}, "options": {"iterations": [30, 20], "scales": 2}},
    {**STYLIZE, "nbytes": 40},
    {"op": "stylize", "id": 3, "content": {"file": "/nowhere/cat.jpg"}, "style": PIXELS,
     "nbytes": 1200, "options": {"size": 64, "content_layers": [["relu1_1", 0.5]]}},
    {"op": "stylize", "id": 6, "content": {"file": "/nowhere/cat.jpg"}, "style": {"file": "/a.jpg"},
     "nbytes": 2400, "add_styles": [PIXELS], "regions": [{"mask": PIXELS}], "protect": None},
    {"op": "cancel", "id": 4, "job": 3},
    {"op": "stop", "id": 5, "job": "a"},
]  # fmt: skip
"""Valid messages of all kinds."""


def mutated(source: random.Random, bases: list[dict[str, Any]]) -> bytes:
    """A message that was valid once, with some of its bytes or values changed."""
    header = json.loads(json.dumps(source.choice(bases)))
    for _ in range(source.randrange(3)):
        place = header
        while True:
            key = source.choice(list(place))
            if not isinstance(place[key], dict) or not place[key] or source.random() < 0.3:
                break
            place = place[key]
        if source.random() < 0.2:
            del place[key]
        elif source.random() < 0.2:
            place[str(source.choice(VALUES))] = deepcopy(source.choice(VALUES))
        else:
            place[key] = deepcopy(source.choice(VALUES))
        if not header:
            break
    size = header.get("nbytes", 0)
    line = bytearray(json.dumps(header).encode() + b"\n")
    for _ in range(source.choice([0, 0, 0, 1, 3, 20])):
        at = source.randrange(len(line))
        match source.randrange(4):
            case 0:
                line[at] = source.randrange(256)
            case 1:
                del line[at : at + source.randrange(1, 9)]
            case 2:
                line[at:at] = source.choice([b'"', b"{", b"[", b"\n", b"\\u", b"1e9", b"\xc3"])
            case _:
                line[at:at] = line[at : at + source.randrange(1, 30)]
        if not line:
            break
    small = isinstance(size, int) and 0 <= size < 5000
    return bytes(line) + source.randbytes(source.choice([size if small else 0, 3, 0]))
