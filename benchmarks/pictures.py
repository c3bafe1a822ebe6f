"""Paint pairs of photos and paintings in several settings, and measure the pictures.

    python benchmarks/pictures.py FOLDER [--photos DIR] [--size 256] [--strengths 0.3,0.5,0.7]
        [--setting "gram style_loss=gram"] [--setting "w2 style_loss=w2 pooling=avg"]

Each setting is a name and options. FOLDER gets the pictures, ``results.json``, a sheet for each
pair and ``table.md``; what it has already is not painted again. ``likeness.py`` has the measures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from likeness import Reference, measure
from presets import ROOT, cell, contact_sheet

from nstrt.runtime import StyleTransfer, StylizeOptions
from nstrt.runtime.options.text import parse_option
from nstrt.runtime.pictures import read_picture, resize

PAIRS = (
    ("astronaut", "scream"),
    ("astronaut", "shipwreck"),
    ("astronaut", "starry_night"),
    ("hyrax", "starry_night"),
    ("hyrax", "shipwreck"),
    ("cat", "scream"),
    ("town", "stars"),
    ("town", "starry_night"),
    ("bridge", "shipwreck"),
    ("bridge", "scream"),
    ("coffee", "starry_night"),
    ("moraine", "stars"),
)
"""Faces, pets, towns, food and skies; paintings of three centuries. Missing ones are left out."""

COLUMNS = ("kept", "taken", "palette", "grid", "grain", "halo", "border", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, default=ROOT / "examples", help="more pictures")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--strengths", type=_numbers, default=(0.5,))
    parser.add_argument("--setting", action="append", required=True, dest="settings")
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="only the first so many")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = dict(_setting(words) for words in args.settings)
    store = args.folder / "results.json"
    results: dict[str, dict[str, float]] = json.loads(store.read_text()) if store.exists() else {}
    for pair in PAIRS[: args.pairs]:
        paths = [_find(name, args.photos) for name in pair]
        if None in paths:
            print(f"{pair} left out: no such picture")
            continue
        photo, painting = (read_picture(path) for path in paths if path)
        reference: Reference | None = None
        row = [cell(photo.rgb, "photo"), cell(painting.rgb, "painting")]
        for name, options in settings.items():
            for strength in args.strengths:
                key = f"{'-'.join(pair)}-{name}-{args.size}-{strength:g}"
                path = args.folder / f"{key}.png"
                if key not in results:
                    made = StylizeOptions.of(
                        **{"size": args.size, "strength": strength, "seed": 1, **options}
                    )
                    begin = time.perf_counter()
                    result = StyleTransfer(made, notify=print).stylize(photo, painting)
                    seconds = time.perf_counter() - begin
                    result.save(path, overwrite=True)
                    rgb = result.picture.rgb
                    if reference is None:
                        width, height = result.picture.size
                        style = result.plan.scales[-1].styles[0]
                        reference = Reference(
                            resize(photo.rgb, width, height), resize(painting.rgb, *style)
                        )
                    values = asdict(measure(rgb, reference))
                    results[key] = {**values, "seconds": seconds, "steps": result.steps}
                    store.write_text(json.dumps(results, indent=1) + "\n")
                    print(key, {k: round(v, 3) for k, v in results[key].items()}, flush=True)
                row.append(cell(read_picture(path).rgb, f"{name} {strength:g}"))
        contact_sheet([row[at : at + 5] for at in range(0, len(row), 5)]).save(
            args.folder / f"{'-'.join(pair)}.jpg", quality=92
        )
    table = _table(results, settings, args)
    (args.folder / "table.md").write_text(table)
    print(table)


def _table(
    results: Mapping[str, Mapping[str, float]], settings: Mapping[str, Any], args: Any
) -> str:
    """Medians over the pairs."""
    lines = ["| setting | strength | " + " | ".join(COLUMNS) + " |", "|---" * 10 + "|"]
    for name in settings:
        for strength in args.strengths:
            end = f"-{name}-{args.size}-{strength:g}"
            found = [each for key, each in results.items() if key.endswith(end)]
            middle = [float(np.median([each[column] for each in found])) for column in COLUMNS]
            lines.append(
                f"| {name} | {strength:g} | " + " | ".join(f"{m:.3f}" for m in middle) + " |"
            )
    return "\n".join(lines) + "\n"


def _setting(words: str) -> tuple[str, dict[str, Any]]:
    name, *pairs = words.split()
    return name, {
        key: parse_option(key, value) for key, value in (pair.split("=", 1) for pair in pairs)
    }


def _find(name: str, folder: Path) -> Path | None:
    found = [
        path
        for where in (folder, ROOT / "examples")
        for path in sorted(where.glob(f"{name}.*"))
        if path.suffix in {".jpg", ".jpeg", ".png"}
    ]
    return found[0] if found else None


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


if __name__ == "__main__":
    main()
