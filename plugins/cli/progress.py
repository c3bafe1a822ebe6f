"""The progress bar: scale, how far the picture is painted, time to go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nstrt.plugins.cli.console import print_err
from nstrt.runtime.run.events import Event, ScaleDone, Started

__all__ = ["Item", "counting_display", "progress_display"]

Display = Callable[[Event], None]


@contextmanager
def progress_display(*, quiet: bool) -> Iterator[Display]:
    """Give a function that shows events: a bar on a terminal, a line for each scale elsewhere."""
    if quiet:
        yield lambda event: None
    elif not sys.stderr.isatty():
        yield _Lines().show
    else:
        with _bar() as show:
            yield show


@contextmanager
def _bar() -> Iterator[Display]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("painted {task.fields[painted]:>3.0f} %"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("preparing", total=1.0, painted=0.0, left="")
        scales = 0

        def show(event: Event) -> None:
            nonlocal scales
            if isinstance(event, Started):
                scales = len(event.plan.scales)
            with contextlib.suppress(OSError):
                progress.update(
                    task,
                    completed=event.fraction,
                    description=f"scale {event.scale}/{scales}  {event.width}x{event.height}",
                    painted=100 * event.painted,
                    left=_left(event.seconds_left),
                )

        yield show


class _Lines:
    """A line for each scale, where no bar can be drawn."""

    _scales = 0

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._scales = len(event.plan.scales)
        elif isinstance(event, ScaleDone):
            left = _left(event.seconds_left)
            steps = f"{event.iteration} step{'s' * (event.iteration != 1)}"
            print_err(
                f"scale {event.scale} of {self._scales}  {event.width}x{event.height}  {steps}  "
                f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
                + (f"  {left}" if left else "")
            )


Count = Callable[["Item"], None]


@dataclass(frozen=True, kw_only=True)
class Item:
    """Where one of several pictures is."""

    number: int
    """Which, from 1."""

    name: str
    """What it is called."""

    fraction: float = 0.0
    """Of its work that is done."""

    seconds_left: float | None = None
    """To go."""

    over: str | None = None
    """What became of it, in words, once that is known."""


@contextmanager
def counting_display(total: int, *, quiet: bool) -> Iterator[Count]:
    """Give a function that shows where several pictures are: on a terminal a bar over all of them,
    and a line for each one that is over."""
    if quiet:
        yield lambda item: None
    elif not sys.stderr.isatty():
        yield lambda item: print_err(_line(item, total)) if item.over is not None else None
    else:
        with _counting_bar(total) as show:
            yield show


@contextmanager
def _counting_bar(total: int) -> Iterator[Count]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    progress = Progress(
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("preparing", total=total)
        running: dict[int, float] = {}
        over = 0

        def show(item: Item) -> None:
            nonlocal over
            words = escape(item.name)
            if item.over is None:
                running[item.number] = item.fraction
                words += f"  {100 * item.fraction:.0f} %  {_left(item.seconds_left)}"
            else:
                running.pop(item.number, None)
                over += 1
            with contextlib.suppress(OSError):
                if item.over is not None:
                    progress.console.print(_line(item, total), markup=False, highlight=False)
                # A picture under way counts as a part of one.
                progress.update(task, completed=over + sum(running.values()), description=words)

        yield show


def _line(item: Item, total: int) -> str:
    return f"{item.number} of {total}  {item.name}  {item.over}"


def _left(seconds: float | None) -> str:
    if not seconds or seconds < 1:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} to go" if minutes else f"{rest} s to go"
