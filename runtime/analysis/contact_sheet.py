"""Contact sheets: a grid of an exploration's pictures with their options and commands."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nstrt.runtime.analysis.grid_search import Cell, Exploration
from nstrt.runtime.pictures import Picture

__all__ = ["contact_sheet"]

_MARGIN = 12
"""Space around the pictures, in pixels."""

_TITLE, _LABEL, _COMMAND = 20, 15, 12
"""Font sizes in pixels."""

_PAPER, _INK, _GRAY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def contact_sheet(
    exploration: Exploration, page: int = 0, *, content: str, style: str, stem: str = "out"
) -> Picture:
    """The sheet of one page: a grid of pictures, each with its option values and its command.

    ``content`` and ``style`` are file names for title and commands. A command's result is named
    ``stem``, a hyphen and the cell's number. Cells without a result are empty frames.
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

    labels = {cell.number: _wrap(_label(cell, exploration), fonts[_LABEL], width) for cell in cells}
    commands = {
        cell.number: _wrap(
            cell.command(content, style, f"{stem}-{cell.number}.png"), fonts[_COMMAND], width
        )
        for cell in cells
    }
    title = _title(exploration, cells[0], content, style)
    columns = 1 + max(cell.column for cell in cells)
    rows = 1 + max(cell.row for cell in cells)
    heading = _wrap(title, fonts[_TITLE], columns * (width + _MARGIN) - _MARGIN)
    text_height = (
        max(map(len, labels.values())) * _line_height(_LABEL)
        + max(map(len, commands.values())) * _line_height(_COMMAND)
        + 6
    )
    top = _MARGIN + len(heading) * _line_height(_TITLE) + 6
    sheet = Image.new(
        "RGB",
        (_MARGIN + columns * (width + _MARGIN), top + rows * (height + text_height + _MARGIN)),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), heading, fonts[_TITLE], _INK, _TITLE)
    for cell in cells:
        x = _MARGIN + cell.column * (width + _MARGIN)
        y = top + cell.row * (height + text_height + _MARGIN)
        if cell.number in pictures:
            sheet.paste(pictures[cell.number], (x, y))
        else:
            draw.rectangle((x, y, x + width - 1, y + height - 1), outline=_GRAY)
        below = _write(draw, (x, y + height + 3), labels[cell.number], fonts[_LABEL], _INK, _LABEL)
        _write(draw, (x, below), commands[cell.number], fonts[_COMMAND], _GRAY, _COMMAND)
    return Picture.from_array(np.asarray(sheet))


def _label(cell: Cell, exploration: Exploration) -> str:
    """The cell's number and its values of the axes that vary within the sheet."""
    names = [axis.option for axis in exploration.axes[:2]]
    return f"{cell.number}  " + ", ".join(_option_text(name, cell.changes[name]) for name in names)


def _title(exploration: Exploration, cell: Cell, content: str, style: str) -> str:
    """The names of photo and painting, and the option values of the whole sheet."""
    shared = [_option_text(axis.option, cell.changes[axis.option]) for axis in exploration.axes[2:]]
    return ", ".join([f"{content} in the style of {style}", *shared])


def _option_text(option: str, value: Any) -> str:
    """An option and its value in short form, without the weights of layers."""
    if isinstance(value, tuple):
        value = ",".join(str(part[0] if isinstance(part, tuple) else part) for part in value)
    text = f"{value:g}" if isinstance(value, float) else value
    return f"{option.replace('_', ' ')} {text}"


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


def _line_height(size: int) -> int:
    return round(1.3 * size)


def _write(
    draw: ImageDraw.ImageDraw,
    position: tuple[int, int],
    lines: list[str],
    font: Any,
    ink: tuple[int, int, int],
    size: int,
) -> int:
    """Draw lines from ``position`` down; returns the y of the line after the last."""
    x, y = position
    for line in lines:
        draw.text((x, y), line, font=font, fill=ink)
        y += _line_height(size)
    return y
