"""Grid search: a small picture for each combination of some options' values."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.options.text import format_flags, option_name, parse_option
from nstrt.runtime.pictures import Picture, PictureSource, as_picture
from nstrt.runtime.run.events import Event, Finished
from nstrt.runtime.run.result import Result
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    from nstrt.runtime.planning.estimate import Estimate
    from nstrt.runtime.style_transfer import StyleTransfer

__all__ = ["SIZE", "Axis", "Cell", "Exploration", "parse_axis", "sheet_paths"]

SIZE = 192
"""Default long side of a cell's picture, in pixels."""

MAX_CELLS = 400
"""Most combinations; more would take hours."""

_COLUMNS = 4
"""Columns of a sheet with a single axis."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An option and its values in the grid."""

    option: str
    """Name of a field of :class:`StylizeOptions`."""

    values: tuple[Any, ...]
    """Values in the order of columns, rows or sheets."""


def parse_axis(text: str) -> Axis:
    """Parse text such as ``strength=0.2,0.5,0.8``.

    Values that contain commas are separated by semicolons, such as
    ``content-layers=relu3_1;relu3_1,relu4_2``. Raises :class:`OptionError` for other text.
    """
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
    """One combination of values, and its place on the sheets."""

    number: int
    """Number of the cell from 1, along columns, rows and sheets."""

    page: int
    """Index of the sheet, from 0."""

    row: int
    """Row on the sheet, from 0."""

    column: int
    """Column on the sheet, from 0."""

    changes: Mapping[str, Any]
    """Values of the options that vary."""

    options: StylizeOptions
    """Options of the small picture."""

    full_size: Mapping[str, Any]
    """Options that give this look at full size: those that vary, the seed, those of all cells."""

    style_mask: str = ""
    """File of the painting's mask; empty for none, or one that is not a file."""

    def command(
        self, content: str, style: str, output: str, *, without: Collection[str] = ()
    ) -> str:
        """The command line that paints this look at full size, ``without`` some options."""
        values = {name: value for name, value in self.full_size.items() if name not in without}
        mask = ["--style-mask", self.style_mask] if self.style_mask else []
        words = ["nstrt", "stylize", content, style, "-o", output, *mask, *format_flags(values)]
        return shlex.join(words)


class Exploration:
    """Paints ``content`` in the style of ``style`` for each combination of the axes' values.

    The first axis varies along the columns of a sheet, the second along its rows. Each combination
    of further axes has a sheet of its own. A single axis fills rows of four.

    ``style_mask`` is white on the part of ``style`` that counts.
    ``given`` are the options of all cells, as :meth:`StylizeOptions.of` takes them. ``size`` is the
    long side of the small pictures. Their start and seed are those of a large picture, so they
    resemble its first scales.

    Iterate it for pairs of a cell and an event of its run. Raises :class:`OptionError` at once for
    values that an option cannot have.
    """

    def __init__(
        self,
        content: PictureSource,
        style: PictureSource,
        axes: Sequence[Axis],
        *,
        style_mask: PictureSource | None = None,
        given: Mapping[str, Any] | None = None,
        size: int = SIZE,
        store: ModelStore | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.cells = _cells(axes, dict(given or {}), size)
        if isinstance(style_mask, str | Path):
            self.cells = tuple(replace(each, style_mask=str(style_mask)) for each in self.cells)
        self.axes = tuple(axes)
        self._sources = content, style
        self._style_mask = style_mask
        self._store = store
        self._notify = notify
        self._stopped = False
        self._cancel_run: Callable[[], None] = lambda: None
        self.results: dict[int, Result] = {}
        """Results of the finished cells, by cell number."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the finished cells, each once."""
        return tuple(dict.fromkeys(n for result in self.results.values() for n in result.notes))

    @property
    def pages(self) -> int:
        """Number of sheets."""
        return 1 + max(cell.page for cell in self.cells)

    def varying(self, page: int = 0) -> tuple[str, ...]:
        """Names of the options that differ among the cells of a sheet."""
        changes = [cell.changes for cell in self.cells if cell.page == page]
        names = [axis.option for axis in self.axes]
        return tuple(name for name in names if len({values[name] for values in changes}) > 1)

    @property
    def stopped(self) -> bool:
        """True after :meth:`stop`."""
        return self._stopped

    def stop(self) -> None:
        """Cancel the running cell and start no others. Callable from any thread."""
        self._stopped = True
        self._cancel_run()

    @cached_property
    def pictures(self) -> tuple[Picture, Picture]:
        """Photo and painting, decoded once for all cells."""
        content, style = self._sources
        return as_picture(content), as_picture(style)

    @cached_property
    def _mask(self) -> Picture | None:
        return None if self._style_mask is None else as_picture(self._style_mask)

    @cached_property
    def _transfer(self) -> StyleTransfer:
        """Keeps the networks that cells share."""
        from nstrt.runtime.style_transfer import StyleTransfer

        return StyleTransfer(self.cells[0].options, store=self._store, notify=self._notify)

    def estimate(self) -> Estimate:
        """Seconds of all cells, and the plan of the one that takes most memory."""
        content, style = self.pictures
        estimates = [
            self._transfer.with_options(cell.options).estimate(
                content.size,
                style.size,
                part_of_paintings=self._mask is not None or style.alpha is not None,
            )
            for cell in self.cells
        ]
        largest = max(estimates, key=lambda estimate: estimate.plan.memory)
        return replace(largest, seconds=sum(estimate.seconds for estimate in estimates))

    def __iter__(self) -> Iterator[tuple[Cell, Event]]:
        from nstrt.runtime.system.cancellation import Interrupted

        content, style = self.pictures
        for cell in self.cells:
            run = self._transfer.with_options(cell.options).run(
                content, style, style_mask=self._mask
            )
            self._cancel_run = run.cancel
            # A stop before this line would have cancelled the run before.
            if self._stopped:
                return
            try:
                for event in run:
                    if isinstance(event, Finished):
                        self.results[cell.number] = event.result
                    yield cell, event
            except Interrupted:
                return


def sheet_paths(path: str | Path, pages: int) -> list[Path]:
    """The files of the sheets: ``path``, or with several ``sheet-1.jpg``, ``sheet-2.jpg``, ..."""
    path = Path(path)
    if pages == 1:
        return [path]
    digits = len(str(pages))
    return [
        path.with_name(f"{path.stem}-{page + 1:0{digits}}{path.suffix}") for page in range(pages)
    ]


def _cells(axes: Sequence[Axis], given: dict[str, Any], size: int) -> tuple[Cell, ...]:
    """The cells of the grid. Raises :class:`OptionError` for axes that make no grid."""
    if not axes:
        raise OptionError(
            f"Name at least one option to vary with {spelled('axes')}, such as "
            "strength=0.2,0.5,0.8."
        )
    names = [axis.option for axis in axes]
    for name in names:
        if name == "size":
            raise OptionError(
                "All pictures of a sheet have one size; vary another option than size."
            )
        if names.count(name) > 1 or not all(axis.values for axis in axes):
            raise OptionError(f"Vary '{name.replace('_', '-')}' once, with all its values.")
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_CELLS:
        raise OptionError(
            f"That would be {count} pictures, and {MAX_CELLS} are the most; try fewer values."
        )
    cells: list[Cell] = []
    # Reversed, since product() varies its last factor fastest and the first axis makes columns.
    for number, values in enumerate(
        itertools.product(*(axis.values for axis in reversed(axes))), start=1
    ):
        changes = dict(zip(names, reversed(values), strict=True))
        cell_options = {**given, **changes}
        # The options of the axes come first, to be seen. The seed is explicit, so that a command
        # gives the same picture after a change of the default seed.
        seed = {"seed": StylizeOptions.of().seed}
        page, row, column = _position(number - 1, [len(axis.values) for axis in axes])
        cells.append(
            Cell(
                number=number,
                page=page,
                row=row,
                column=column,
                changes=changes,
                options=StylizeOptions.of(**{**cell_options, "size": size, "original_size": False}),
                full_size={**changes, **seed, **cell_options},
            )
        )
    return tuple(cells)


def _position(index: int, lengths: list[int]) -> tuple[int, int, int]:
    """The sheet, row and column of a cell; ``lengths`` are the numbers of the axes' values."""
    if len(lengths) == 1:
        return 0, index // _COLUMNS, index % _COLUMNS
    columns, rows = lengths[:2]
    page, index = divmod(index, columns * rows)
    return page, index // columns, index % columns
