"""Which settings? A small picture for each combination of some options, on contact sheets."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.options.text import format_flags, option_name, parse_option
from nstrt.runtime.pictures import PictureSource, as_picture
from nstrt.runtime.run.events import Event, Finished
from nstrt.runtime.run.result import Result

__all__ = ["SIZE", "Axis", "Cell", "Exploration", "parse_axis", "sheet_paths"]

SIZE = 192
"""Long side in pixels of a cell's picture."""

MOST_CELLS = 400
"""More would be hours of work that nobody looks through."""

_ACROSS = 4
"""Cells beside each other where one option alone varies."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An option and the values that it takes in turn."""

    option: str
    """A field of :class:`StylizeOptions`."""

    values: tuple[Any, ...]
    """In the order in which they are shown."""


def parse_axis(text: str) -> Axis:
    """Read ``strength=0.2,0.5,0.8``. Values with commas of their own are separated by semicolons:
    ``content-layers=relu3_1;relu3_1,relu4_2``."""
    name, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise OptionError(
            f"'{text}' names no values to try; write an option and its values, such as "
            "strength=0.2,0.5,0.8."
        )
    option = option_name(name)
    parts = [part for part in values.split(";" if ";" in values else ",") if part.strip()]
    return Axis(option=option, values=tuple(parse_option(option, part) for part in parts))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination."""

    number: int
    """From 1, along columns, rows and pages."""

    page: int
    """Which sheet, from 0."""

    row: int
    """On the sheet, from 0."""

    column: int
    """On the sheet, from 0."""

    changes: Mapping[str, Any]
    """The options that vary, with this cell's values."""

    options: StylizeOptions
    """How the small picture is painted."""

    flags: tuple[str, ...]
    """What to add to ``nstrt stylize CONTENT STYLE -o RESULT`` for this look at full size."""

    def command(self, content: str, style: str, output: str) -> str:
        """The command line that paints this look at full size."""
        return shlex.join(["nstrt", "stylize", content, style, "-o", output, *self.flags])


class Exploration:
    """Paints ``content`` in the style of ``style`` once for each combination of the axes' values.

    The first axis goes across, the second down, and each combination of the others has a sheet of
    its own; a single axis fills rows of four. ``given`` are the options that all cells share, as
    :meth:`StylizeOptions.of` takes them; ``size`` is the long side of the small pictures. They are
    painted coarse to fine from the same start and seed as large ones, whose first scales they are.

    Iterate it for the events of each cell's run. Raises
    :class:`OptionError` at once for values that an option cannot have.
    """

    def __init__(
        self,
        content: PictureSource,
        style: PictureSource,
        axes: Sequence[Axis],
        *,
        given: Mapping[str, Any] | None = None,
        size: int = SIZE,
        store: ModelStore | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.cells = _cells(axes, dict(given or {}), size)
        self.axes = tuple(axes)
        self._sources = content, style
        self._store = store
        self._notify = notify
        self._stopped = False
        self._leave: Callable[[], None] = lambda: None
        self.results: dict[int, Result] = {}
        """What was painted, by the cell's number."""

    @property
    def pages(self) -> int:
        """How many sheets there are."""
        return 1 + max(cell.page for cell in self.cells)

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    def stop(self) -> None:
        """Paint no more cells once the one under way is left. From any thread."""
        self._stopped = True
        self._leave()

    def __iter__(self) -> Iterator[tuple[Cell, Event]]:
        from nstrt.runtime.style_transfer import StyleTransfer
        from nstrt.runtime.system.interrupt import Interrupted

        # Decoded once for all cells.
        content, style = (as_picture(source) for source in self._sources)
        first = StyleTransfer(self.cells[0].options, store=self._store, notify=self._notify)
        for cell in self.cells:
            if self._stopped:
                return
            run = first.with_options(cell.options).run(content, style)
            self._leave = run.cancel
            try:
                for event in run:
                    if isinstance(event, Finished):
                        self.results[cell.number] = event.result
                    yield cell, event
            except Interrupted:
                return


def sheet_paths(path: str | Path, pages: int) -> list[Path]:
    """Where sheets go: ``path`` itself, or with more than one ``sheet-1.jpg``, ``sheet-2.jpg``."""
    path = Path(path)
    if pages == 1:
        return [path]
    digits = len(str(pages))
    return [
        path.with_name(f"{path.stem}-{page + 1:0{digits}}{path.suffix}") for page in range(pages)
    ]


def _cells(axes: Sequence[Axis], given: dict[str, Any], size: int) -> tuple[Cell, ...]:
    if not axes:
        raise OptionError("Name at least one option to vary, such as --vary strength=0.2,0.5,0.8.")
    names = [axis.option for axis in axes]
    for name in names:
        if name == "size":
            raise OptionError(
                "All pictures of a sheet have one size; vary another option than size."
            )
        if names.count(name) > 1 or not all(axis.values for axis in axes):
            raise OptionError(f"Vary '{name.replace('_', '-')}' once, with all its values.")
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST_CELLS:
        raise OptionError(
            f"That would be {count} pictures, and {MOST_CELLS} are the most; try fewer values."
        )
    cells: list[Cell] = []
    # The last of a product's factors runs fastest, and the first axis goes across.
    for number, values in enumerate(
        itertools.product(*(axis.values for axis in reversed(axes))), start=1
    ):
        changes = dict(zip(names, reversed(values), strict=True))
        whole = {**given, **changes}
        # What varies comes first, to be seen; the seed is written down for the day when another
        # is the default.
        seed = {"seed": StylizeOptions.of().seed}
        rest = {name: value for name, value in whole.items() if name not in names}
        options = StylizeOptions.of(**{**whole, "size": size, "original_size": False})
        page, row, column = _place(number - 1, [len(axis.values) for axis in axes])
        cells.append(
            Cell(
                number=number,
                page=page,
                row=row,
                column=column,
                changes=changes,
                options=options,
                flags=tuple(format_flags({**changes, **seed, **rest, **changes})),
            )
        )
    return tuple(cells)


def _place(index: int, lengths: list[int]) -> tuple[int, int, int]:
    if len(lengths) == 1:
        return 0, index // _ACROSS, index % _ACROSS
    across, down = lengths[:2]
    page, inside = divmod(index, across * down)
    return page, inside // across, inside % across
