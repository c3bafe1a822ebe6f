"""JSON from files that may be damaged: bounded in size and depth, with finite numbers alone."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["parse_json", "read_json"]


def read_json(path: Path, *, limit: int) -> Any:
    """Parse a JSON file of at most ``limit`` bytes.

    Raises :class:`OSError` if it cannot be read or is no plain file, and :class:`ValueError` as
    :func:`parse_json` does.
    """
    # A FIFO without a writer would block the open.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no plain file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8.

    Raises :class:`ValueError` for damage: nesting too deep to parse, a member given twice, or a
    number that is not finite.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is given twice")
    return members


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
