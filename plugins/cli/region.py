"""The argument of ``--region``."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from nstrt.runtime.errors import OptionError

__all__ = ["Region", "parse_region"]

Region = tuple[Path, Path | None, Path | None]
"""A mask, its painting (None is the main painting), and the painting's own mask."""


def parse_region(text: str) -> Region:
    """Split ``MASK[:PAINTING[:MASK]]``; a colon may also be part of a name, as on Windows.

    ``MASK::MASK`` leaves the painting out, which is the main one.
    """
    whole = Path(text)
    places = [place for place, letter in enumerate(text) if letter == ":"]
    pairs: list[Region] = [(Path(text[:place]), Path(text[place + 1 :]), None) for place in places]
    triples: list[Region] = [
        (Path(text[:one]), Path(middle) if middle else None, Path(text[other + 1 :]))
        for one, other in combinations(places, 2)
        for middle in [text[one + 1 : other]]
    ]
    for region in (*pairs, *triples):
        if all(path.is_file() for path in region if path is not None):
            return region
    if not pairs or whole.is_file():
        return whole, None, None
    if text.endswith(":") or text.startswith(":"):
        raise OptionError(f"--region cannot be '{text}'; write it as mask.png:painting.jpg.")
    # Some file is missing: a single letter before a colon is a drive of Windows.
    three = len(places) == 2 and all(len(part) != 1 for part in text.split(":"))
    return triples[-1] if three else pairs[-1]
