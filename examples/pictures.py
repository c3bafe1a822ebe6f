"""Make the pictures of README.md with the program itself.

Run `python examples/pictures.py` to make all of them again, or name some:
`python examples/pictures.py hero film`. Names are those of PICTURES. Each picture is made by the
commands that stand in its function; paintings wait in out/pictures and are not painted twice.
The environment needs nstrt with its extras "full" and "video".
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
WORK = ROOT / "out" / "pictures"
DOCS = ROOT / "docs" / "pictures"

GAP = 4
CAPTION = 24

Cell = tuple[Image.Image, str]
Box = tuple[float, float, float, float]

SAUCER_AND_CUP = [(0.125, 0.235, 0.81, 0.975), (0.275, 0.03, 0.695, 0.72)]
FACE = [(0.34, 0.06, 0.55, 0.37)]
"""Ellipses of the masks: left, top, right, bottom as shares of the photo's sides."""


def nstrt(command: str, output: str, size: int | None = None) -> Image.Image:
    """Run a command in examples/ unless its result `output` exists; return that picture.

    With a size, the command paints at that size with the preset "fast".
    """
    target = WORK / output
    if not target.is_file():
        words = [word.replace("WORK", str(WORK)) for word in shlex.split(command)]
        words += ["--seed", "1"]
        if size is not None:
            words += ["--size", str(size), "--preset", "fast"]
        if words[0] == "stylize":
            words += ["-o", str(target)]
        print("nstrt", shlex.join(words), flush=True)
        subprocess.run(
            [sys.executable, "-m", "nstrt.plugins.cli", *words], cwd=EXAMPLES, check=True
        )
    return opened(target)


def opened(path: Path) -> Image.Image:
    """The picture of a file, without transparency."""
    with Image.open(path) as image:
        return image.convert("RGB")


def example(name: str) -> Image.Image:
    """A picture of examples/."""
    return opened(EXAMPLES / name)


def strip(cells: Sequence[Cell], height: int, name: str, quality: int = 85) -> None:
    """Save pictures side by side, each `height` pixels high above its caption."""
    font = ImageFont.load_default(size=15)
    scaled = [
        (image.resize((round(image.width * height / image.height), height)), caption)
        for image, caption in cells
    ]
    width = sum(image.width for image, _ in scaled) + GAP * (len(scaled) - 1)
    sheet = Image.new("RGB", (width, height + CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    left = 0
    for image, caption in scaled:
        sheet.paste(image, (left, 0))
        pen.text((left + 2, height + 3), caption, "black", font)
        left += image.width + GAP
    sheet.save(DOCS / name, quality=quality, optimize=True)


def mask(photo: str, ellipses: Sequence[Box], name: str, blur: float) -> None:
    """Save a mask for a photo: white ellipses (shares of width and height), soft at the edge."""
    image = Image.new("L", example(photo).size)
    pen = ImageDraw.Draw(image)
    for left, top, right, bottom in ellipses:
        corners = (left * image.width, top * image.height)
        pen.ellipse((*corners, right * image.width, bottom * image.height), "white")
    image.filter(ImageFilter.GaussianBlur(blur)).save(EXAMPLES / name, optimize=True)


def hero() -> None:
    nstrt("stylize cat.jpg scream.jpg --timelapse WORK/hero.webp", "cat.png")
    (DOCS / "hero.webp").write_bytes((WORK / "hero.webp").read_bytes())


def stylize() -> None:
    result = nstrt("stylize astronaut.jpg scream.jpg", "astronaut.png")
    cells = [(example("astronaut.jpg"), "photo"), (example("scream.jpg"), "painting")]
    strip([*cells, (result, "result")], 320, "stylize.jpg")


def colors() -> None:
    cells: list[Cell] = []
    for value in ("style", "content", "match-content", "match-style"):
        words = f"--color {value}"
        result = nstrt(f"stylize cat.jpg starry_night.jpg {words}", f"color-{value}.png", 320)
        cells.append((result, words))
    strip(cells, 150, "colors-cat.jpg")


def regions() -> None:
    mask("coffee.jpg", SAUCER_AND_CUP, "cup-mask.png", 3)
    result = nstrt(
        "stylize coffee.jpg starry_night.jpg --region cup-mask.png:scream.jpg", "region.png", 384
    )
    rest = nstrt(
        "stylize coffee.jpg starry_night.jpg --region cup-mask.png --rest photo", "rest.png", 384
    )
    cells = [(example("coffee.jpg"), "photo"), (example("cup-mask.png"), "mask")]
    strip([*cells, (result, "--region"), (rest, "--rest photo")], 150, "cup.jpg")


def protect() -> None:
    mask("astronaut.jpg", FACE, "face-mask.png", 8)
    plain = nstrt("stylize astronaut.jpg shipwreck.jpg --strength 0.7", "without.png", 256)
    kept = nstrt(
        "stylize astronaut.jpg shipwreck.jpg --strength 0.7 --protect face-mask.png",
        "protect.png",
        256,
    )
    cells = [(example("astronaut.jpg"), "photo"), (example("face-mask.png"), "mask")]
    strip([*cells, (plain, "without"), (kept, "--protect")], 225, "protect.jpg")


def paintings() -> None:
    one = nstrt("stylize rocket.jpg starry_night.jpg", "rocket-night.png", 256)
    other = nstrt("stylize rocket.jpg shipwreck.jpg", "rocket-sea.png", 256)
    both = nstrt(
        "stylize rocket.jpg starry_night.jpg --add-style shipwreck.jpg", "rocket-both.png", 256
    )
    strip([(one, "one painting"), (other, "another"), (both, "both")], 200, "blend.jpg")


def original_size() -> None:
    small = nstrt("stylize cat.jpg starry_night.jpg", "small.png", 192)
    large = nstrt("stylize cat.jpg starry_night.jpg --original-size", "large.png", 192)
    box = (100, 60, 370, 260)
    cells = [
        (small.resize(large.size, Image.Resampling.LANCZOS).crop(box), "enlarged by Lanczos"),
        (large.crop(box), "--original-size"),
        (example("cat.jpg").crop(box), "photo"),
    ]
    strip(cells, 220, "original-size.jpg")


def batch() -> None:
    photos = ("cat", "rocket", "astronaut", "coffee")
    files = " ".join(f"{name}.jpg" for name in photos)
    nstrt(f"batch {files} --style shipwreck.jpg --out-dir WORK/painted", "painted/coffee.jpg", 224)
    cells = [(opened(WORK / "painted" / f"{name}.jpg"), f"{name}.jpg") for name in photos]
    strip(cells, 160, "batch.jpg")


def film() -> None:
    frames = WORK / "film"
    frames.mkdir(exist_ok=True)
    photo, (width, height), count = example("rocket.jpg"), (360, 270), 8
    for number in range(count):
        left, top = 60 + 20 * number, 100
        photo.crop((left, top, left + width, top + height)).save(frames / f"{number:02}.png")
    nstrt(
        "batch WORK/film --frames --style starry_night.jpg --out-dir WORK/film-painted",
        f"film-painted/{count - 1:02}.png",
        192,
    )
    pairs = []
    for number in range(count):
        painted = opened(WORK / "film-painted" / f"{number:02}.png")
        pair = Image.new("RGB", (2 * painted.width + GAP, painted.height), "white")
        pair.paste(opened(frames / f"{number:02}.png").resize(painted.size), (0, 0))
        pair.paste(painted, (painted.width + GAP, 0))
        pairs.append(pair)
    there_and_back = [*pairs, *pairs[-2:0:-1]]
    there_and_back[0].save(
        DOCS / "film.webp", save_all=True, append_images=there_and_back[1:], duration=120, loop=0,
        quality=80, method=6,
    )  # fmt: skip


PICTURES: dict[str, Callable[[], None]] = {
    made.__name__: made
    for made in (
        *(hero, stylize, colors, regions, protect, paintings),
        *(original_size, batch, film),
    )
}


def main(names: Sequence[str]) -> None:
    """Make the named pictures, or all of them."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
