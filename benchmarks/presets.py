"""Write docs/presets.md with contact sheets and numbers of the presets.

    python benchmarks/presets.py [--size 256] [--only fast]

The photos come from scikit-image (cat, astronaut, coffee; CC0 or public domain), the paintings
from ``examples``. ``fast``, ``balanced`` and ``best`` repaint the same three pairs. ``classic``
repaints only the first pair, as a smaller square, because its 300 steps take long.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from quality import border_ratio, chroma_noise, chroma_noise_ratio

from nstrt.runtime import PRESETS, Picture, Result, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import read_picture, resize
from nstrt.runtime.system.host import processor_name, versions

ROOT = Path(__file__).parents[1]
PAIRS = (("cat", "starry_night"), ("astronaut", "scream"), ("coffee", "shipwreck"))
CLASSIC_SIZE = 160
CELL = 300
"""Width in pixels of a picture in a sheet."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--only", choices=PRESETS, action="append")
    args = parser.parse_args(arguments)
    presets = args.only or PRESETS
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    sheet, rows = [], []
    for photo_name, painting_name in PAIRS:
        photo, painting = picture(photo_name), picture(painting_name)
        cells = [cell(photo.rgb, "photo"), cell(painting.rgb, "painting")]
        for preset in presets:
            if preset == "classic" and sheet:
                continue
            result = repaint(preset, photo, painting, args.size)
            cells.append(cell(result.picture.rgb, preset))
            rows.append(row(preset, f"{photo_name}, {painting_name}", result, photo, painting))
            print(rows[-1], flush=True)
        sheet.append(cells)
        contact_sheet(sheet).save(folder / "presets.jpg", quality=90)
    (ROOT / "docs" / "presets.md").write_text(page(rows, args.size))


def repaint(preset: str, photo: Picture, painting: Picture, size: int) -> Result:
    size = CLASSIC_SIZE if preset == "classic" else size
    options = StylizeOptions.of(preset, size=size, seed=1, engine="torch")
    return StyleTransfer(options, notify=print).stylize(photo, painting)


def picture(name: str) -> Picture:
    """Load an example or one of scikit-image's pictures."""
    path = ROOT / "examples" / f"{name}.jpg"
    if path.is_file():
        return read_picture(path)
    import skimage.data

    return Picture.from_array(getattr(skimage.data, name)())


def row(preset: str, pair: str, result: Result, photo: Picture, painting: Picture) -> str:
    same_size = resize(photo.rgb, result.picture.width, result.picture.height)
    border = border_ratio(result.picture.rgb, same_size)
    chroma = chroma_noise_ratio(result.picture.rgb, same_size)
    finest = result.plan.scales[-1]
    on_canvas = resize(painting.rgb, *finest.styles[0])
    painting_chroma = chroma_noise(on_canvas) / chroma_noise(same_size)
    size = f"{result.picture.width}×{result.picture.height}"
    return (
        f"| {preset} | {pair} | {size} | {result.steps} | "
        f"{100 * result.painted:.0f} % | {border:.2f} | {chroma:.2f} | {painting_chroma:.2f} |"
    )


def cell(rgb: NDArray[np.float32], label: str) -> Image.Image:
    height = round(CELL * rgb.shape[0] / rgb.shape[1])
    small = np.rint(resize(rgb, CELL, height) * 255).astype(np.uint8)
    image = Image.fromarray(small)
    draw = ImageDraw.Draw(image)
    draw.text((6, 4), label, fill="white", stroke_width=2, stroke_fill="black", font=font())
    return image


def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(15)


def contact_sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    heights = [max(image.height for image in cells) for cells in rows]
    width = max(len(cells) for cells in rows) * (CELL + 6) - 6
    sheet = Image.new("RGB", (width, sum(heights) + 6 * (len(rows) - 1)), "white")
    top = 0
    for cells, height in zip(rows, heights, strict=True):
        for column, image in enumerate(cells):
            sheet.paste(image, (column * (CELL + 6), top))
        top += height + 6
    return sheet


def page(rows: Sequence[str], size: int) -> str:
    machine = f"{processor_name()}, Python {platform.python_version()}, " + ", ".join(
        f"{name} {version}" for name, version in versions().items()
    )
    return f"""# The presets

Made by `make sheets` (`benchmarks/presets.py`), long side {size} pixels, `classic` at
{CLASSIC_SIZE} and for the first pair alone, seed 1, engine torch.

![Photos, paintings, and what each preset makes of them](pictures/presets.jpg)

| preset | photo, painting | pixels | steps | painted | border | chroma | painting |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

- **painted**: how far the picture went from the photo's texture statistics to the painting's
  ([method.md](method.md)).
- **border**: how busy the outer 8 pixels are against the inside, over the same for the photo. A
  frame would show as a number far above 1; a photo with a blurred or empty border gives more than
  1 when it is painted all over.
- **chroma**: root mean square of Cb and Cr less their 3×3 mean, over the photo's; **painting**:
  the painting's own, at the size the run sees it, over the photo's. Strokes of several colours
  raise it as coloured noise does: a result near the painting's number has the painting's strokes.

Made with {machine}.

Photos: *Chelsea* by Stefan van der Walt (CC0), Eileen Collins (NASA, public domain), *coffee* by
Rachel Michetti (CC0), all from scikit-image. Paintings: van Gogh, Munch, Turner (public domain).
"""


if __name__ == "__main__":
    main()
