"""Changes to the bytes of a valid file, and to the values of a JSON document."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

__all__ = ["JSON_VALUES", "change_bytes", "change_json", "change_sizes"]

_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 4096, 16383, 32767, 65535, 1 << 20, (1 << 31) - 1)
_LARGE = (1 << 31, (1 << 32) - 1, (1 << 32), (1 << 63) - 1, (1 << 64) - 1)

JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 1 << 31, 1 << 63, 10**300, -(10**300), 1.5, -0.0, 1e308),
    *(math.nan, math.inf, -math.inf, "", "x", "\0", "é" * 40, "/", "cpu", "5", [], [[]], [1, [2]]),
    *({}, {"a": {}}, {"array": 0}, {"array": 99}, {"array": -1}, {"array": "x"}, ["\u00b2"]),
)  # fmt: skip
"""Values of every kind, NaN and infinity among them, which Python's JSON knows."""


def change_bytes(source: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """One to eight changes, half of them near the start or the end, where headers lie."""
    data = bytearray(content)
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        source.choice(_CHANGES)(source, data, others)
    return bytes(data)


def change_sizes(source: random.Random, content: bytes, sizes: Sequence[int]) -> bytes:
    """Replace numbers that state one of ``sizes``, as headers do, by large ones."""
    data = bytearray(content)
    for letter in "HI":
        for order in "<>":
            stated = [struct.pack(order + letter, size) for size in sizes]
            for old in stated:
                place = data.find(old)
                while place >= 0:
                    if source.random() < 0.5:
                        top = 65535 if letter == "H" else 1 << 20
                        new = int(2 ** source.uniform(4, math.log2(top + 1)))
                        data[place : place + len(old)] = struct.pack(order + letter, min(new, top))
                    place = data.find(old, place + len(old))
    return bytes(data)


def change_json(source: random.Random, document: Any) -> Any:
    """A copy of a document with one to three values replaced, removed or added."""
    document = {"": deepcopy(document)}
    for _ in range(source.choice((1, 1, 2, 3))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = source.choice(keys)
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or source.random() < 0.15:
                _change_value(source, place, key)
                break
            place = inner
    return document.get("")


def _change_value(source: random.Random, place: Any, key: Any) -> None:
    kind = source.random()
    if kind < 0.15 and key != "":
        del place[key]
    elif kind < 0.25 and isinstance(place, dict):
        place[str(source.choice(JSON_VALUES))[:20]] = deepcopy(source.choice(JSON_VALUES))
    elif kind < 0.3:
        nested: Any = 1
        for _ in range(source.choice((10, 900, 100_000 // 8))):
            nested = [nested]
        place[key] = nested
    else:
        place[key] = deepcopy(source.choice(JSON_VALUES))


def _place(source: random.Random, data: bytearray) -> int:
    """An offset; three of four times in the first or last 300 bytes."""
    kind = source.random()
    if kind < 0.5:
        return source.randrange(min(len(data), 300))
    if kind < 0.75:
        return source.randrange(max(0, len(data) - 300), len(data))
    return source.randrange(len(data))


def _flip(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    data[_place(source, data)] ^= 1 << source.randrange(8)


def _byte(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    data[_place(source, data)] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))


def _number(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """A number of 2, 4 or 8 bytes in either byte order."""
    place = _place(source, data)
    letter = source.choice("HHIIQ")
    top = (1 << 8 * struct.calcsize(letter)) - 1
    value = min(source.choice(_NUMBERS + _LARGE), top)
    packed = struct.pack(source.choice("<>") + letter, value)
    data[place : place + len(packed)] = packed


def _cut(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[_place(source, data) :]


def _remove(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(source, data)
    del data[place : place + source.choice((1, 2, 4, 12, 100))]


def _repeat(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(source, data)
    data[place:place] = data[place : place + source.choice((1, 4, 12, 100, 1000))]


def _insert(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(source, data)
    data[place:place] = source.randbytes(source.choice((1, 2, 4, 16, 200)))


def _fill(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(source, data)
    length = min(source.choice((4, 16, 200, 5000)), len(data) - place)
    data[place : place + length] = bytes([source.choice((0, 0xFF))]) * length


def _splice(source: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """A piece of another seed."""
    other = source.choice(others)
    start, place = source.randrange(len(other)), _place(source, data)
    piece = other[start : start + source.choice((4, 30, 300, 3000))]
    data[place : place + len(piece)] = piece


_CHANGES: tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...] = (
    *(_flip, _flip, _byte, _byte, _number, _number, _number),
    *(_cut, _remove, _repeat, _insert, _fill, _splice),
)
