"""Comparison of contact sheet cells with large pictures, and the picture of docs/explore.md.

    python benchmarks/explore.py [--size 144] [--large 288] [--cells 1 9]

Makes the sheet of examples/cat.jpg and examples/scream.jpg, and paints some of its cells large.
Prints the colour difference (CIE76, mean) of each large picture, shrunk, from each cell.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nstrt.runtime import Exploration, Picture, StyleTransfer, StylizeOptions, parse_axis
from nstrt.runtime.analysis.compare import compare
from nstrt.runtime.analysis.contact_sheet import contact_sheet
from nstrt.runtime.pictures import resize, save

ROOT = Path(__file__).parents[1]
CONTENT, STYLE = ROOT / "examples" / "cat.jpg", ROOT / "examples" / "scream.jpg"
SHEET = ROOT / "docs" / "pictures" / "explore.jpg"
VARY = ("strength=0.2,0.5,0.8", "style-scale=0.5,1,2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=144)
    parser.add_argument("--large", type=int, default=288)
    parser.add_argument("--cells", type=int, nargs="*", default=[1, 9])
    args = parser.parse_args()

    exploration = Exploration(CONTENT, STYLE, [parse_axis(text) for text in VARY], size=args.size)
    for _ in exploration:
        pass
    sheet = contact_sheet(exploration, content=CONTENT.name, style=STYLE.name, stem="cat")
    large: list[tuple[int, Picture]] = []
    transfer = StyleTransfer()
    for cell in exploration.cells:
        if cell.number not in args.cells:
            continue
        options = StylizeOptions.of(**cell.changes, size=args.large)
        picture = transfer.with_options(options).stylize(CONTENT, STYLE).picture
        large.append((cell.number, picture))
        distances = {}
        for number, result in exploration.results.items():
            small = result.picture
            shrunk = Picture(rgb=resize(picture.rgb, small.width, small.height))
            distances[number] = compare(shrunk, small).delta_e
        table = ", ".join(f"{number}: {value:.1f}" for number, value in distances.items())
        print(f"cell {cell.number} at {args.large} pixels, from each cell: {table}", flush=True)
    save(_joined(sheet, large, args.large), SHEET, recipe=None, overwrite=True)


def _joined(sheet: Picture, large: list[tuple[int, Picture]], size: int) -> Picture:
    """The sheet with the large pictures to its right."""
    page = sheet.to_pillow()
    width = max(picture.width for _, picture in large)
    joined = Image.new("RGB", (page.width + width + 12, page.height), "white")
    joined.paste(page, (0, 0))
    draw, font = ImageDraw.Draw(joined), ImageFont.load_default(15)
    y = 86
    for number, picture in large:
        joined.paste(picture.to_pillow(), (page.width, y))
        y += picture.height + 3
        draw.text((page.width, y), f"{number}  --size {size}", font=font, fill=(20, 20, 20))
        y += 40
    return Picture.from_array(np.asarray(joined))


if __name__ == "__main__":
    main()
