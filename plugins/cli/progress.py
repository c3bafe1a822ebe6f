"""The progress bar: scale, how far the picture is painted, time to go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nstrt.plugins.cli.console import complain
from nstrt.runtime.batch import (
    BatchEvent,
    JobDone,
    JobFailed,
    JobProgress,
    JobSkipped,
)
from nstrt.runtime.events import Event, ScaleDone, Started

__all__ = ["batch_display", "progress_display"]

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
            complain(
                f"scale {event.scale} of {self._scales}  {event.width}x{event.height}  {steps}  "
                f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
                + (f"  {left}" if left else "")
            )


@contextmanager
def batch_display(total: int, *, quiet: bool) -> Iterator[Callable[[BatchEvent], None]]:
    """Give a function that shows a batch's events: a bar over all pictures on a terminal, and a
    line for each picture."""
    if quiet:
        yield lambda event: None
    elif not sys.stderr.isatty():
        yield lambda event: complain(line) if (line := _picture_line(event)) else None
    else:
        with _batch_bar(total) as show:
            yield show


@contextmanager
def _batch_bar(total: int) -> Iterator[Callable[[BatchEvent], None]]:
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

        def show(event: BatchEvent) -> None:
            nonlocal over
            told, name = event.event, escape(event.job.content.name)
            words = name
            if isinstance(told, JobProgress):
                running[event.number] = told.fraction
                words = f"{name}  {100 * told.fraction:.0f} %  {_left(told.seconds_left)}"
            elif isinstance(told, JobDone | JobSkipped | JobFailed):
                running.pop(event.number, None)
                over += 1
            with contextlib.suppress(OSError):
                if line := _picture_line(event):
                    progress.console.print(line, markup=False, highlight=False)
                progress.update(task, completed=over + sum(running.values()), description=words)

        yield show


def _picture_line(event: BatchEvent) -> str:
    """What became of a picture, in a line; nothing while it is under way."""
    told = event.event
    match told:
        case JobDone():
            words = f"painted {100 * told.painted:.0f} %  {told.seconds:.0f} s"
            words = "; ".join([words, *told.notes])
        case JobSkipped():
            words = "done before"
        case JobFailed():
            words = "failed"
        case _:
            return ""
    return f"{event.number} of {event.total}  {event.job.content.name}  {words}"


def _left(seconds: float | None) -> str:
    if not seconds or seconds < 1:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} to go" if minutes else f"{rest} s to go"
