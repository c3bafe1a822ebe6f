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

RunDisplay = Callable[[Event], None]

LINE_SECONDS = 30
"""Seconds between two lines of progress where there is no terminal."""


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
                    left=time_left(event.seconds_left),
                )

        yield show


class _RunLines:
    """A line for each scale, and one every half minute."""

    def __init__(self) -> None:
        self._scales = self._steps = 0
        self._printed = time.monotonic()

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._scales, self._steps = len(event.plan.scales), event.plan.steps
        elif isinstance(event, Step) and time.monotonic() - self._printed >= LINE_SECONDS:
            line = f"step {event.step} of {self._steps}  {100 * event.fraction:.0f} %"
            self._print(line, time_left(event.seconds_left))
        elif isinstance(event, ScaleDone):
            left = time_left(event.seconds_left)
            steps = f"{event.iteration} step{'s' * (event.iteration != 1)}"
            line = (
                f"scale {event.scale} of {self._scales}  {event.width}x{event.height}  {steps}  "
                f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
            )
            self._print(line, left)

    def _print(self, *words: str) -> None:
        print_err("  ".join(filter(None, words)))
        self._printed = time.monotonic()


class JobsDisplay:
    """Shows several pictures, numbered from 1; this one shows nothing."""

    def update(
        self, number: int, name: str, progress: Progress | None, seconds_left: float | None = None
    ) -> None:
        """Show a picture that is being painted; its progress is None before the first step.

        ``seconds_left`` are those until all pictures are painted.
        """

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
    """A line for each picture that ends, and one every half minute."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._printed = time.monotonic()

    def update(
        self, number: int, name: str, progress: Progress | None, seconds_left: float | None = None
    ) -> None:
        if time.monotonic() - self._printed >= LINE_SECONDS:
            self._print(number, name, _progress_words(progress, seconds_left))

    def finish(self, number: int, name: str, outcome: str) -> None:
        self._print(number, name, outcome)

    def _print(self, number: int, name: str, words: str) -> None:
        print_err(_job_line(number, self._total, name, words))
        self._printed = time.monotonic()


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

    def update(
        self, number: int, name: str, progress: Progress | None, seconds_left: float | None = None
    ) -> None:
        self._running[number] = 0.0 if progress is None else progress.fraction
        self._draw(f"{name}  {_progress_words(progress, seconds_left)}")

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


def _progress_words(progress: Progress | None, all_seconds_left: float | None) -> str:
    share = f"{0 if progress is None else 100 * progress.fraction:.0f} %"
    own = "" if progress is None else time_left(progress.seconds_left)
    all_ = time_left(all_seconds_left)
    return "  ".join([share, (all_ and f"all {all_}") or own]).rstrip()


def time_left(seconds: float | None) -> str:
    """``4:10 to go``; empty for an unknown time and for less than a second."""
    if not seconds or seconds < 1:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02} to go"
    return f"{minutes}:{rest:02} to go" if minutes else f"{rest} s to go"
