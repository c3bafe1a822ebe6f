"""Contact sheets: photo, painting, and an exploration's pictures with what differs between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from nstrt.runtime.analysis.grid_search import Cell, Exploration
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.pictures import Picture

__all__ = ["contact_sheet"]

_MARGIN = 12
"""Space around the pictures, in pixels."""

_WIDTH, _HEIGHT = 240, 480
"""Least width of a cell, and most height to which pictures are enlarged to fill it; in pixels."""

_TITLE, _CAPTION, _COMMAND = 20, 15, 12
"""Font sizes in pixels."""

_PAPER, _INK, _GRAY = (255, 255, 255), (20, 20, 20), (110, 110, 110)

_Size = tuple[int, int]


def contact_sheet(
    exploration: Exploration, page: int = 0, *, content: str, style: str, stem: str = "out"
) -> Picture:
    """The sheet of one page: photo and painting, then the grid of painted pictures.

    ``content`` and ``style`` are file names for title and command. A command's result is named
    ``stem``, a hyphen and the cell's number. The title has what the pictures share, a caption the
    cell's number and its values of the options that differ. Pictures less than 240 pixels wide are
    enlarged to that, or to a height of 480. Cells without a result are empty frames.
    """
    cells = [cell for cell in exploration.cells if cell.page == page]
    names = exploration.varying(page)
    photo, painting = (picture.opaque().to_pillow() for picture in exploration.pictures)
    painted = {
        number: result.picture.opaque().to_pillow()
        for number, result in exploration.results.items()
    }
    longest = cells[0].options.size or _WIDTH
    sizes = [image.size for image in painted.values()] or [_within(photo.size, (longest, longest))]
    size = max(width for width, _ in sizes), max(height for _, height in sizes)
    shown = _within(size, (max(size[0], _WIDTH), max(size[1], _HEIGHT)))
    width = max(_WIDTH, shown[0])

    command = cells[0].command(content, style, f"{stem}-N.png", without=names)
    rest = ", with what is under picture N" if names else ""
    enlarged = f", shown at {shown[0]}x{shown[1]}" if shown != size else ""
    across = max(2, 1 + max(cell.column for cell in cells)) * (width + _MARGIN) - _MARGIN
    heading = [
        _text(f"{content} in the style of {style}", across, _TITLE),
        _text(f"pictures of {_pixels(size)}{enlarged}", across),
        _text(f"at full size: {command}{rest}", across, _COMMAND, _GRAY),
    ]

    room = width, max(shown[1], width * 3 // 4)
    rows = [
        [
            _cell(image, _within(image.size, room), f"{name}, {_pixels(image.size)}", width)
            for name, image in (("photo", photo), ("painting", painting))
        ]
    ]
    for cell in cells:
        if cell.column == 0:
            rows.append([])
        image = painted.get(cell.number, _frame(shown))
        own = shown
        if cell.number in painted:
            own = round(image.width * shown[0] / size[0]), round(image.height * shown[1] / size[1])
        rows[-1].append(_cell(image, own, _caption(cell, names), width))
    grid = [_joined(row, _MARGIN) for row in rows]
    sheet = _joined([_joined(heading, 0, down=True), *grid], _MARGIN, down=True)
    return Picture.from_array(np.asarray(ImageOps.expand(sheet, _MARGIN, _PAPER)))


def _caption(cell: Cell, names: Sequence[str]) -> str:
    """The cell's number and its values of the named options, one in a line."""
    return f"{cell.number}  " + "\n".join(_words(name, cell.changes[name]) for name in names)


def _words(option: str, value: Any) -> str:
    """An option and its value, with spaces at which a list can be broken into lines."""
    name = option.replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {OPTIONS[option].format(value)}".replace(",", ", ")


def _pixels(size: _Size) -> str:
    return f"{size[0]}x{size[1]} pixels"


def _within(size: _Size, room: _Size) -> _Size:
    """The largest size of the same shape that fits into ``room``."""
    factor = min(room[0] / size[0], room[1] / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _frame(size: _Size) -> Image.Image:
    """An empty picture with a border."""
    return ImageOps.expand(Image.new("RGB", (size[0] - 2, size[1] - 2), _PAPER), 1, _GRAY)


def _cell(image: Image.Image, size: _Size, caption: str, width: int) -> Image.Image:
    """A picture at ``size`` above its caption of ``width`` pixels."""
    shown = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    return _joined([shown, _text(caption, width)], 3, down=True)


def _text(
    words: str, width: int, size: int = _CAPTION, ink: tuple[int, int, int] = _INK
) -> Image.Image:
    """Words in lines of at most ``width`` pixels, as a picture of that width."""
    font, leading = ImageFont.load_default(size), round(1.3 * size)
    lines = [line for text in words.split("\n") for line in _wrap(text, font, width)]
    image = Image.new("RGB", (width, len(lines) * leading), _PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((0, number * leading), line, font=font, fill=ink)
    return image


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels, within words that are longer."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _joined(images: Sequence[Image.Image], gap: int, *, down: bool = False) -> Image.Image:
    """Pictures beside one another, or one below the other, on white."""
    widths, heights = [image.width for image in images], [image.height for image in images]
    between = gap * (len(images) - 1)
    size = (max(widths), sum(heights) + between) if down else (sum(widths) + between, max(heights))
    joined, x, y = Image.new("RGB", size, _PAPER), 0, 0
    for image in images:
        joined.paste(image, (x, y))
        x, y = (x, y + image.height + gap) if down else (x + image.width + gap, y)
    return joined
