"""Contact sheets: an exploration's small pictures, each with what makes it underneath."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nstrt.runtime.analysis.grid_search import Cell, Exploration
from nstrt.runtime.pictures import Picture

__all__ = ["contact_sheet"]

_MARGIN = 12
_TITLE, _LABEL, _COMMAND = 20, 15, 12
"""Sizes of letters in pixels."""

_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def contact_sheet(
    exploration: Exploration, page: int = 0, *, content: str, style: str, stem: str = "out"
) -> Picture:
    """The sheet of one page: a grid of pictures, each labelled with its values and its command.

    ``content`` and ``style`` are the pictures' names, results are called ``stem`` and the cell's
    number. Cells that were not painted stay empty.
    """
    cells = [cell for cell in exploration.cells if cell.page == page]
    pictures = {
        number: result.picture.opaque().to_pillow()
        for number, result in exploration.results.items()
    }
    width = max((picture.width for picture in pictures.values()), default=64)
    height = max((picture.height for picture in pictures.values()), default=64)
    width = max(width, 160)
    fonts = {size: ImageFont.load_default(size) for size in (_TITLE, _LABEL, _COMMAND)}

    labels = {
        cell.number: _fitted(_label(cell, exploration), fonts[_LABEL], width) for cell in cells
    }
    commands = {
        cell.number: _fitted(
            cell.command(content, style, f"{stem}-{cell.number}.png"), fonts[_COMMAND], width
        )
        for cell in cells
    }
    title = _title(exploration, cells[0], content, style)
    columns, rows = (1 + max(getattr(cell, way) for cell in cells) for way in ("column", "row"))
    heading = _fitted(title, fonts[_TITLE], columns * (width + _MARGIN) - _MARGIN)
    words = (
        max(map(len, labels.values())) * _line(_LABEL)
        + max(map(len, commands.values())) * _line(_COMMAND)
        + 6
    )
    top = _MARGIN + len(heading) * _line(_TITLE) + 6
    sheet = Image.new(
        "RGB",
        (_MARGIN + columns * (width + _MARGIN), top + rows * (height + words + _MARGIN)),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), heading, fonts[_TITLE], _INK, _TITLE)
    for cell in cells:
        x = _MARGIN + cell.column * (width + _MARGIN)
        y = top + cell.row * (height + words + _MARGIN)
        if cell.number in pictures:
            sheet.paste(pictures[cell.number], (x, y))
        else:
            draw.rectangle((x, y, x + width - 1, y + height - 1), outline=_FAINT)
        below = _write(draw, (x, y + height + 3), labels[cell.number], fonts[_LABEL], _INK, _LABEL)
        _write(draw, (x, below), commands[cell.number], fonts[_COMMAND], _FAINT, _COMMAND)
    return Picture.from_array(np.asarray(sheet))


def _label(cell: Cell, exploration: Exploration) -> str:
    """The cell's number and the values that differ within its sheet."""
    inside = [axis.option for axis in exploration.axes[:2]]
    return f"{cell.number}  " + ", ".join(_named(name, cell.changes[name]) for name in inside)


def _title(exploration: Exploration, cell: Cell, content: str, style: str) -> str:
    """Whose pictures these are, and the values that the whole sheet has."""
    shared = [_named(axis.option, cell.changes[axis.option]) for axis in exploration.axes[2:]]
    return ", ".join([f"{content} in the style of {style}", *shared])


def _named(option: str, value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(str(part[0] if isinstance(part, tuple) else part) for part in value)
    shown = f"{value:g}" if isinstance(value, float) else value
    return f"{option.replace('_', ' ')} {shown}"


def _fitted(text: str, font: Any, width: int) -> list[str]:
    """Lines that are at most ``width`` pixels wide; a longer word is broken."""
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


def _line(size: int) -> int:
    return round(1.3 * size)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    lines: list[str],
    font: Any,
    ink: tuple[int, int, int],
    size: int,
) -> int:
    """Write lines from ``place`` down; gives where the next would begin."""
    x, y = place
    for line in lines:
        draw.text((x, y), line, font=font, fill=ink)
        y += _line(size)
    return y
