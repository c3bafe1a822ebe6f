"""Progress on stderr: a bar on a terminal, a line for each scale or picture elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nstrt.plugins.cli.console import print_err
from nstrt.runtime.run.events import Event, ScaleDone, Started, Step
from nstrt.runtime.run.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["JobsDisplay", "jobs_display", "run_display"]

LINE_SECONDS = 30.0
"""Seconds between two lines of progress where the output is no terminal."""

RunDisplay = Callable[[Event], None]


@contextmanager
def run_display(*, quiet: bool) -> Iterator[RunDisplay]:
    """Give a function that shows the events of one run."""
    if quiet:
        yield lambda event: None
    elif not sys.stderr.isatty():
        yield _RunLines().show
    else:
        with _run_bar() as show:
            yield show


@contextmanager
def _run_bar() -> Iterator[RunDisplay]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("painted {task.fields[painted]:>3.0f} %"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("preparing", total=1.0, painted=0.0, left="")
        scales = 0

        def show(event: Event) -> None:
            nonlocal scales
            if isinstance(event, Started):
                scales = len(event.plan.scales)
            with contextlib.suppress(OSError):
                bar.update(
                    task,
                    completed=event.fraction,
                    description=f"scale {event.scale}/{scales}  {event.width}x{event.height}",
                    painted=100 * event.painted,
                    left=_time_left(event),
                )

        yield show


class _Interval:
    """True once every half minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < LINE_SECONDS:
            return False
        self._last = now
        return True


class _RunLines:
    """A line for each scale, and one every half minute."""

    def __init__(self) -> None:
        self._scales = self._steps = 0
        self._interval = _Interval()

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._scales, self._steps = len(event.plan.scales), event.plan.steps
        elif isinstance(event, Step) and self._interval.due():
            line = f"step {event.step} of {self._steps}  {100 * event.fraction:.0f} %"
            print_err("  ".join(filter(None, [line, _time_left(event)])))
        elif isinstance(event, ScaleDone):
            left = _time_left(event)
            steps = f"{event.iteration} step{'s' * (event.iteration != 1)}"
            print_err(
                f"scale {event.scale} of {self._scales}  {event.width}x{event.height}  {steps}  "
                f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
                + (f"  {left}" if left else "")
            )


class JobsDisplay:
    """Shows several pictures, numbered from 1; this one shows nothing."""

    def update(self, number: int, name: str, progress: Progress | None) -> None:
        """Show a picture that is being painted; its progress is None before the first step."""

    def finish(self, number: int, name: str, outcome: str) -> None:
        """Show a picture that was painted, skipped or failed."""


@contextmanager
def jobs_display(total: int, *, quiet: bool) -> Iterator[JobsDisplay]:
    """Show the progress of ``total`` pictures: a line for each at its end, and on a terminal a bar
    over all of them."""
    if quiet:
        yield JobsDisplay()
    elif not sys.stderr.isatty():
        yield _JobLines(total)
    else:
        with _job_bar(total) as display:
            yield display


class _JobLines(JobsDisplay):
    """A line for each picture, and one every half minute."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._interval = _Interval()

    def update(self, number: int, name: str, progress: Progress | None) -> None:
        if progress is not None and self._interval.due():
            words = [f"{100 * progress.fraction:.0f} %", _time_left(progress)]
            print_err(_job_line(number, self._total, name, "  ".join(filter(None, words))))

    def finish(self, number: int, name: str, outcome: str) -> None:
        print_err(_job_line(number, self._total, name, outcome))


@contextmanager
def _job_bar(total: int) -> Iterator[JobsDisplay]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        yield _JobBar(total, bar)


class _JobBar(JobsDisplay):
    """A bar over all pictures, in which one that is being painted counts as a part of one."""

    def __init__(self, total: int, bar: Bar) -> None:
        self._total = total
        self._bar = bar
        self._task = bar.add_task("preparing", total=total)
        self._running: dict[int, float] = {}
        self._finished = 0

    def update(self, number: int, name: str, progress: Progress | None) -> None:
        fraction = 0.0 if progress is None else progress.fraction
        self._running[number] = fraction
        self._draw(f"{name}  {100 * fraction:.0f} %  {_time_left(progress)}")

    def finish(self, number: int, name: str, outcome: str) -> None:
        self._running.pop(number, None)
        self._finished += 1
        with contextlib.suppress(OSError):
            line = _job_line(number, self._total, name, outcome)
            self._bar.console.print(line, markup=False, highlight=False)
        self._draw(name)

    def _draw(self, description: str) -> None:
        from rich.markup import escape

        completed = self._finished + sum(self._running.values())
        with contextlib.suppress(OSError):
            self._bar.update(self._task, completed=completed, description=escape(description))


def _job_line(number: int, total: int, name: str, outcome: str) -> str:
    return f"{number} of {total}  {name}  {outcome}"


def _time_left(progress: Progress | None) -> str:
    seconds = None if progress is None else progress.seconds_left
    if not seconds or seconds < 1:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} to go" if minutes else f"{rest} s to go"
