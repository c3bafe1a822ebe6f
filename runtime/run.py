"""One picture being repainted, as a stream of events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nstrt.runtime.events import Event, Finished, Preview, ScaleDone, Started, Step
from nstrt.runtime.model import PictureReadError, TooLargeError
from nstrt.runtime.options import INITS
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, enlarge, resize
from nstrt.runtime.plan import Plan
from nstrt.runtime.planner import Planner
from nstrt.runtime.recipe import recipe_of
from nstrt.runtime.result import Result

if TYPE_CHECKING:
    from nstrt.runtime.loop import Progress

__all__ = ["Run"]


class Run:
    """One picture being repainted: iterate it for its events, stop it from any thread."""

    def __init__(
        self,
        planner: Planner,
        content: PictureSource,
        style: PictureSource,
        *,
        preview_steps: int | None,
        preview_seconds: float | None,
        started: float,
    ) -> None:
        self._planner = planner
        self.sources = content, style
        """The photo and the painting, as they were given."""
        self._preview_steps = preview_steps
        self._preview_seconds = preview_seconds
        self._started = started
        self._stop = threading.Event()
        self._result: Result | None = None
        self._events = self._paint()
        self.painting = False
        """Whether a picture would be kept if the run were stopped now."""

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def stop(self) -> None:
        """End after the step that is under way, with the best picture so far. From any thread."""
        self._stop.set()

    @property
    def stop_asked(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def result(self) -> Result:
        """Run to the end, as far as that has not happened, and give the result."""
        for event in self._events:
            if isinstance(event, Finished):
                self._result = event.result
        assert self._result is not None
        return self._result

    def _paint(self) -> Iterator[Event]:
        options = self._planner.options
        content, style = (as_picture(source) for source in self.sources)
        # What lies under transparent pixels is nobody's style.
        style = style.opaque()
        start = None if options.init in INITS else _start(options.init)
        plan, engine = self._planner.prepare(content.size, style.size)
        weights = engine.weights
        from nstrt.runtime.loop import optimize

        pace = _Pace(plan)
        first = plan.scales[0]
        yield Started(
            scale=1,
            width=first.width,
            height=first.height,
            iteration=0,
            step=0,
            terms=None,
            painted=0.0,
            fraction=0.0,
            seconds=self._seconds(),
            seconds_left=None,
            plan=plan,
        )
        last: Progress | None = None
        shown = time.perf_counter()
        pace.begin()
        try:
            for progress in optimize(
                engine,
                options,
                plan,
                content=content,
                style=style,
                start=start,
                stopped=self._stop.is_set,
            ):
                last = progress
                self.painting = True
                place = self._place(progress, plan, pace)
                if progress.scale_done:
                    yield ScaleDone(**place)
                    continue
                yield Step(**place)
                if self._preview_due(progress, shown):
                    shown = time.perf_counter()
                    yield Preview(**place, rgb=progress.picture())
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if last is None:
                raise TooLargeError(
                    "This machine's memory did not suffice; use a smaller --size."
                ) from error
            plan = replace(
                plan, reasons=(*plan.reasons, "ended early: the memory did not suffice for more")
            )
        finally:
            engine.release()
        assert last is not None
        place = self._place(last, plan, pace)
        self._result = self._finish(last, plan, weights, content, style, start)
        place["seconds"] = self._seconds()
        yield Finished(**place, result=self._result)

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _place(self, progress: Progress, plan: Plan, pace: _Pace) -> dict[str, Any]:
        scale = plan.scales[progress.scale]
        fraction, left = pace.at(progress)
        return {
            "scale": progress.scale + 1,
            "width": scale.width,
            "height": scale.height,
            "iteration": progress.iteration,
            "step": progress.step,
            "terms": progress.terms,
            "painted": progress.painted,
            "fraction": fraction,
            "seconds": self._seconds(),
            "seconds_left": left,
        }

    def _preview_due(self, progress: Progress, shown: float) -> bool:
        if self._preview_steps and progress.step % self._preview_steps == 0:
            return True
        return (
            self._preview_seconds is not None
            and time.perf_counter() - shown >= self._preview_seconds
        )

    def _finish(
        self,
        last: Progress,
        plan: Plan,
        weights: dict[str, str],
        content: Picture,
        style: Picture,
        start: Picture | None,
    ) -> Result:
        options = self._planner.options
        rgb = last.picture()
        finest = plan.scales[-1]
        if rgb.shape[:2] != (finest.height, finest.width):
            rgb = resize(rgb, finest.width, finest.height)
        if options.original_size:
            rgb = enlarge(rgb, content.rgb)
        alpha = content.alpha
        if alpha is not None and alpha.shape != rgb.shape[:2]:
            alpha = resize(alpha, rgb.shape[1], rgb.shape[0])
        seconds = self._seconds()
        return Result(
            picture=Picture(rgb=rgb, alpha=alpha, depth=content.depth),
            options=options,
            plan=plan,
            terms=last.terms,
            painted=last.painted,
            seconds=seconds,
            stopped=last.step < plan.steps,
            steps=last.step,
            recipe=recipe_of(
                options,
                plan,
                weights=weights,
                content=content,
                style=style,
                start=start,
                terms=last.terms,
                painted=last.painted,
                steps=last.step,
                seconds=seconds,
            ),
        )


def _start(name: str) -> Picture:
    """The picture file that the painting starts from."""
    try:
        return as_picture(name).opaque()
    except PictureReadError as error:
        raise PictureReadError(f"{error} Or start from {', '.join(INITS)} (--init).") from error


def _out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or ONNX Runtime is about memory; they have no common type."""
    words = ("out of memory", "not enough memory", "failed to allocate", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


class _Pace:
    """How far a run is and how long it still takes, from the time its steps took."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._total = sum(scale.work for scale in plan.scales)
        self._last = 0.0
        self._rate: float | None = None

    def begin(self) -> None:
        """The first step is about to start."""
        self._last = time.perf_counter()

    def at(self, progress: Progress) -> tuple[float, float | None]:
        """The fraction of the work that is done, and the seconds to go."""
        now = time.perf_counter()
        scales = self._plan.scales
        here = scales[progress.scale]
        done = sum(scale.work for scale in scales[: progress.scale])
        done += here.width * here.height * progress.iteration
        if not progress.scale_done:
            rate = (now - self._last) / (here.width * here.height)
            # The first step of a scale also prepares its targets: it says little about the rest.
            if self._rate is None or progress.iteration > 1:
                self._rate = rate if self._rate is None else 0.8 * self._rate + 0.2 * rate
        self._last = now
        left = None if self._rate is None else (self._total - done) * self._rate
        return done / self._total, left
