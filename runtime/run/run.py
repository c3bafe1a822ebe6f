"""One picture being repainted, as a stream of events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nstrt.runtime.errors import PictureReadError, TooLargeError
from nstrt.runtime.options.options import INITS
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, enlarge, resize
from nstrt.runtime.planning.estimate import learn_pace
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.planning.planner import Planner
from nstrt.runtime.run.checkpointing import Checkpoints
from nstrt.runtime.run.color import ColorMode
from nstrt.runtime.run.eta import ProgressEstimator
from nstrt.runtime.run.events import Event, Finished, Preview, ScaleDone, Started, Step
from nstrt.runtime.run.inputs import InputSources, RunInputs, read_inputs
from nstrt.runtime.run.recipe import recipe_of, run_identity
from nstrt.runtime.run.result import Result
from nstrt.runtime.system.interrupt import Interrupt, Interrupted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstrt.runtime.run.optimize import Progress

__all__ = ["Run"]

_SEEN = 5
"""Steps after which there is something to see: the first are nearly the photo."""

_TELLING = 200_000
"""Pixels times steps of a run whose time says something about other runs."""


class Run:
    """One picture being repainted: iterate it for its events, stop it from any thread."""

    def __init__(
        self,
        planner: Planner,
        sources: InputSources,
        *,
        preview_steps: int | None,
        preview_seconds: float | None,
        checkpoints: Checkpoints | None = None,
        started: float,
        start: PictureSource | None = None,
    ) -> None:
        self._planner = planner
        self.sources = sources
        """The pictures as they were given."""
        self._preview_steps = preview_steps
        self._preview_seconds = preview_seconds
        self._checkpoints = checkpoints
        self._started = started
        self._start = start
        self._stop = threading.Event()
        self._interrupt = Interrupt()
        self._cancelled = False
        self._result: Result | None = None
        self._events = self._paint()
        self.painting = False
        """Whether a picture would be kept if the run were stopped now."""

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def stop(self) -> None:
        """End with the best picture so far, within a layer of the network; before there is a
        picture, after the first step. From any thread."""
        self._stop.set()
        if self.painting:
            self._interrupt.ask()

    def cancel(self) -> None:
        """End within a layer of the network, with no picture. From any thread.

        The iteration then raises :class:`Interrupted`. After :meth:`stop`,
        the state is in the run's checkpoint, if it has one.
        """
        self._cancelled = True
        self._interrupt.ask()

    def remove_checkpoint(self) -> None:
        """Delete the checkpoint of a run whose result is saved; a run that was stopped keeps it, to
        go on from."""
        if self._checkpoints and self._result is not None and not self._result.stopped:
            self._checkpoints.remove()

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
        self._interrupt.check()
        scene = read_inputs(self.sources, options)
        content, (style, *others) = scene.content, scene.paintings
        start = _start(options.init, self._start)
        painted = ColorMode(options, content, style)
        manners = [painted.style, *map(painted.manner, others)]
        scene = scene.painted_as(painted.content, manners, painted.as_painted)
        self._interrupt.check()
        resumed = None
        if self._checkpoints:
            resumed = self._checkpoints.find(run_identity(options, scene.checksums(), start))
        if resumed is None:
            sizes = [painting.size for painting in scene.paintings]
            plan, engine = self._planner.prepare(content.size, *sizes, masks=scene.masks)
        else:
            plan, engine = resumed.plan, self._planner.carry_out(resumed.plan)
            engine.pin_algorithms(resumed.algorithms)
        self._interrupt.check()
        weights = engine.weights
        from nstrt.runtime.run.optimize import optimize

        pace = ProgressEstimator(plan)
        begun = 0 if resumed is None else resumed.scale
        first = plan.scales[begun]
        last: Progress | None = None
        shown: float | None = None
        engine.interrupt = self._interrupt
        try:
            yield Started(
                scale=begun + 1,
                width=first.width,
                height=first.height,
                iteration=0 if resumed is None else resumed.iteration,
                step=0 if resumed is None else resumed.step,
                terms=None,
                painted=0.0,
                fraction=(
                    sum(scale.work for scale in plan.scales[:begun])
                    + first.width * first.height * (resumed.iteration if resumed else 0)
                )
                / plan.work,
                seconds=self._seconds(),
                seconds_left=None,
                plan=plan,
            )
            if self._checkpoints:
                self._planner.choose_algorithms(plan, engine)
                self._checkpoints.begin(plan, engine)
            pace.begin()
            for progress in optimize(
                engine,
                options,
                plan,
                scene=scene,
                start=None if start is None else painted.as_painted(start),
                resumed=None if resumed is None else resumed.state(engine.arrays),
                stopped=self._stop.is_set,
            ):
                last = progress
                self.painting = True
                place = self._place(progress, plan, pace)
                if self._checkpoints and self._checkpoints.due(scale_done=progress.scale_done):
                    self._checkpoints.keep(progress.state())
                if progress.scale_done:
                    yield ScaleDone(**place)
                    continue

                def picture(progress: Progress = progress) -> NDArray[np.float32]:
                    return scene.composite(painted.coloured(progress.picture()), content)

                yield Step(**place, picture=picture)
                if self._preview_due(progress, shown):
                    shown = time.perf_counter()
                    yield Preview(**place, rgb=picture())
            self._keep_stopped(last)
            whole = resumed is None and last is not None and last.step == plan.steps
            # Masks and tiles take time of their own.
            plain = not scene.masks and not any(scale.tile for scale in plan.scales)
            if whole and plain and plan.work > _TELLING:
                learn_pace(self._planner.pace_key(plan), pace.mean())
        except Interrupted:
            self._keep_stopped(last)
            if self._cancelled or last is None:
                raise
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
            engine.interrupt = Interrupt()
        assert last is not None
        place = self._place(last, plan, pace)
        self._result = self._finish(last, plan, weights, painted, scene, start)
        if self._cancelled:
            raise Interrupted
        place["seconds"] = self._seconds()
        yield Finished(**place, result=self._result)

    def _keep_stopped(self, last: Progress | None) -> None:
        """Lose nothing of a run that was stopped."""
        if self._checkpoints and last is not None and self._stop.is_set():
            self._checkpoints.keep(last.state())

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _place(self, progress: Progress, plan: Plan, pace: ProgressEstimator) -> dict[str, Any]:
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

    def _preview_due(self, progress: Progress, shown: float | None) -> bool:
        if self._preview_steps and progress.step % self._preview_steps == 0:
            return True
        if self._preview_seconds is None:
            return False
        if shown is None:
            return progress.step >= _SEEN
        return time.perf_counter() - shown >= self._preview_seconds

    def _finish(
        self,
        last: Progress,
        plan: Plan,
        weights: dict[str, str],
        painted: ColorMode,
        scene: RunInputs,
        start: Picture | None,
    ) -> Result:
        options, content = self._planner.options, painted.photo
        rgb = last.picture()
        finest = plan.scales[-1]
        if rgb.shape[:2] != (finest.height, finest.width):
            rgb = resize(rgb, finest.width, finest.height)
        if options.original_size:
            rgb = enlarge(rgb, painted.content.rgb)
        rgb = scene.composite(painted.coloured(rgb), content)
        alpha = content.alpha
        if alpha is not None and alpha.shape != rgb.shape[:2]:
            alpha = resize(alpha, rgb.shape[1], rgb.shape[0])
        seconds = self._seconds()
        done = last.complete and last.scale_done and last.scale == len(plan.scales) - 1
        stopped = not done
        return Result(
            picture=Picture(rgb=rgb, alpha=alpha, depth=content.depth),
            options=options,
            plan=plan,
            terms=last.terms,
            painted=last.painted,
            seconds=seconds,
            stopped=stopped,
            steps=last.step,
            recipe=recipe_of(
                options,
                plan,
                weights=weights,
                scene=scene,
                start=start,
                terms=last.terms,
                painted=last.painted,
                steps=last.step,
                stopped=stopped,
                seconds=seconds,
            ),
        )


def _start(name: str, given: PictureSource | None) -> Picture | None:
    """The picture that the painting starts from, if it was given or ``name`` is a file's."""
    if given is not None:
        return as_picture(given).opaque()
    if name in INITS:
        return None
    try:
        return as_picture(name).opaque()
    except PictureReadError as error:
        raise PictureReadError(f"{error} Or start from {', '.join(INITS)} (--init).") from error


def _out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or ONNX Runtime is about memory; they have no common type."""
    words = ("out of memory", "not enough memory", "failed to allocate", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
