"""JSON from files that may be damaged: bounded in size and depth, with finite numbers alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from nstrt.runtime.system.regular_file import read_regular

__all__ = ["parse_json", "read_json"]


def read_json(path: Path, *, limit: int) -> Any:
    """Parse a JSON file of at most ``limit`` bytes.

    Raises the errors of :func:`read_regular` and :func:`parse_json`.
    """
    return parse_json(read_regular(path, limit=limit))


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
