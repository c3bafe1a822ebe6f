"""One run as a stream of events."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nstrt.runtime.errors import PictureReadError, TooLargeError
from nstrt.runtime.options.choices import INITS
from nstrt.runtime.pictures import Picture, PictureSource, resize, upscale
from nstrt.runtime.planning.estimate import Estimate, learn_pace
from nstrt.runtime.planning.plan import LEAST_SIDE, Plan, default_size, plan_scales
from nstrt.runtime.planning.planner import Planner
from nstrt.runtime.run.checkpoint_file import Checkpoint
from nstrt.runtime.run.checkpoint_schedule import Checkpoints
from nstrt.runtime.run.color import ColorMode
from nstrt.runtime.run.eta import ProgressEstimator
from nstrt.runtime.run.events import Event, Finished, Preview, ScaleDone, Started, Step
from nstrt.runtime.run.inputs import InputSources, RunInputs, read_inputs
from nstrt.runtime.run.optimize import LoopStep, optimize
from nstrt.runtime.run.painting import read_visible
from nstrt.runtime.run.recipe import recipe_of, run_identity
from nstrt.runtime.run.result import Result, enlargement_notes
from nstrt.runtime.system.cancellation import Interrupt, Interrupted, check_interrupt
from nstrt.runtime.system.memory import LEAST_BYTES, is_out_of_memory, too_large
from nstrt.runtime.system.own_settings import OwnSettings
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstrt.runtime.engines.engine import Engine

__all__ = ["Run"]

_FIRST_PREVIEW = 5
"""Steps before the first timed preview: earlier images are nearly the photo."""

_LEANER_SHARES = (0.85, 0.95)
"""Shares of the planned memory that a second plan may take, after a run that had not that much."""

_MEASURED_WORK = 5_000_000
"""Pixels times steps of a run that repays a measured step."""

_LEARNABLE_WORK = 200_000
"""Pixels times steps of a run whose pace predicts that of other runs."""


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
        """The pictures as the caller gave them."""
        self._preview_steps = preview_steps
        self._preview_seconds = preview_seconds
        self._last_preview: float | None = None
        self._checkpoints = checkpoints
        self._started = started
        self._start = start
        self._stop = threading.Event()
        self._interrupt = Interrupt()
        self._cancelled = False
        self._last: LoopStep | None = None
        self._result: Result | None = None
        self._settings = OwnSettings()
        self._events = self._settings.within(self._paint())
        self.photo_size = 0, 0
        """Width and height of the photo in pixels, once it is read."""
        self.painting = False
        """True once there is a picture that :meth:`stop` would keep."""
        self._loading = True
        self._announced = False

    def __repr__(self) -> str:
        state = self._result or ("painting" if self.painting else "not painting")
        return f"<Run {state}>"

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def stop(self) -> None:
        """End with the best picture so far, within a layer of the network.

        Before :class:`Started` the iteration raises :class:`Interrupted`; before there is a
        picture, the run ends after its first step. Callable from any thread.
        """
        self._stop.set()
        if self.painting or self._loading:
            self._interrupt.request()

    def cancel(self) -> None:
        """End without a picture, within a layer of the network. Callable from any thread.

        The iteration then raises :class:`Interrupted`. After :meth:`stop`, the run's checkpoint
        holds its state, if it has one.
        """
        self._cancelled = True
        self._interrupt.request()

    def remove_checkpoint(self) -> None:
        """Delete the checkpoint of a complete run; a stopped run keeps it to resume from."""
        if self._checkpoints and self._result is not None and not self._result.stopped:
            self._checkpoints.remove()

    @property
    def stop_asked(self) -> bool:
        """True after :meth:`stop`."""
        return self._stop.is_set()

    def result(self) -> Result:
        """Run to the end if necessary, and return the result."""
        for event in self._events:
            if isinstance(event, Finished):
                self._result = event.result
        assert self._result is not None
        return self._result

    def _paint(self) -> Iterator[Event]:
        with self._interrupt.governing():
            prepared = self._prepare()
        self._loading = False
        if prepared.checkpoint is not None:
            self._started -= prepared.checkpoint.seconds
        estimator = ProgressEstimator(prepared.plan, self._started)
        try:
            prepared = yield from self._optimize_within_memory(prepared, estimator)
        except Interrupted:
            self._save_stopped()
            if self._cancelled or self._last is None:
                raise
        finally:
            # The step refers to the optimiser's images: they end with the run, not with its object.
            last, self._last = self._last, None
        assert last is not None
        plan = self._planner.as_run(prepared.plan, prepared.engine)
        progress = estimator.at(last)
        self._result = self._finish(last, replace(prepared, plan=plan), estimator)
        if self._cancelled:
            raise Interrupted
        progress = replace(progress, seconds=estimator.seconds())
        yield Finished(**vars(progress), result=self._result)

    def _optimize_within_memory(
        self, prepared: _Prepared, estimator: ProgressEstimator
    ) -> Generator[Event, None, _Prepared]:
        """Optimise; a run that has no memory for its first step is planned once more with less.

        Returns the preparation that was carried out. Raises :class:`TooLargeError` if there is no
        leaner plan.
        """
        for again in (False, True):
            engine = prepared.engine
            engine.interrupt = self._interrupt
            try:
                yield from self._optimize(prepared, estimator)
                return prepared
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            finally:
                engine.release()
                engine.interrupt = Interrupt()
            if self._last is not None:
                reasons = (
                    *prepared.plan.reasons,
                    "ended early: the memory did not suffice for more",
                )
                return replace(prepared, plan=replace(prepared.plan, reasons=reasons))
            # Outside of the handler, whose error would keep the memory that was taken.
            gc.collect()
            leaner = None if again or prepared.checkpoint else self._leaner(prepared)
            if leaner is None:
                finest = prepared.plan.scales[-1]
                smaller = max(LEAST_SIDE, max(finest.width, finest.height) // 2)
                raise TooLargeError(
                    f"The memory did not suffice for {prepared.plan.memory / 1e9:.1f} GB; try "
                    f"{spelled('size', smaller)}, or close other programs."
                )
            prepared = leaner
        raise AssertionError

    def _leaner(self, prepared: _Prepared) -> _Prepared | None:
        """A preparation with less memory than was planned; None if there is none."""
        for share in _LEANER_SHARES:
            planner = self._planner.within(int(share * prepared.plan.memory))
            try:
                with self._interrupt.governing():
                    plan, engine = _plan(planner, prepared.inputs)
                return replace(prepared, plan=plan, engine=engine)
            except (MemoryError, TooLargeError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
        return None

    def estimate(self) -> Estimate:
        """Read the pictures and plan the run, without painting; for a resumed run, its rest.

        Raises the errors of the run.
        """
        with self._settings.active():
            prepared = self._prepare()
            estimate = self._planner.estimate(prepared.plan, prepared.engine)
            return replace(estimate, seconds=estimate.seconds * (1 - prepared.fraction))

    def _expected_seconds(self, prepared: _Prepared) -> float | None:
        """Seconds of the whole run; None for a short one if nothing is known of the time."""
        known, checkpoint = self._planner.known_seconds(prepared.plan), prepared.checkpoint
        if known is None and checkpoint and checkpoint.seconds:
            return checkpoint.seconds / prepared.fraction
        # A resumed run measures nothing, and a short one is over soon.
        if known is not None or checkpoint or prepared.plan.work < _MEASURED_WORK:
            return known
        return self._planner.estimate(prepared.plan, prepared.engine).seconds

    def _prepare(self) -> _Prepared:
        """Read the pictures, then plan the run, or take the plan of the checkpoint to resume.

        Raises :class:`TooLargeError` where the memory does not suffice for that.
        """
        try:
            return self._read_and_plan()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_large("Loading pictures and network", LEAST_BYTES) from error

    def _read_and_plan(self) -> _Prepared:
        options = self._planner.options
        inputs = read_inputs(self.sources, options)
        content, (style, *others) = inputs.content, inputs.paintings
        self.photo_size = content.size
        start = _start_picture(options.init, self._start)
        color = ColorMode(options, content, style)
        paintings = [color.style, *map(color.prepared_style, others)]
        inputs = inputs.with_colors(color.content, paintings, color.as_seen)
        check_interrupt()
        checkpoint = None
        if self._checkpoints:
            identity = run_identity(options, inputs.checksums(), start)
            checkpoint = self._checkpoints.find(identity)
        if checkpoint is None:
            plan, engine = _plan(self._planner, inputs)
        else:
            plan = checkpoint.plan
            sizes = [painting.size for painting in inputs.paintings]
            default = default_size(plan.provider)
            checkpoint.check_scales(
                plan_scales(options, photo=content.size, painting=sizes, default=default)
            )
            engine = self._planner.load_planned(plan)
            engine.pin_algorithms(checkpoint.algorithms)
        return _Prepared(
            inputs=inputs,
            photo=content,
            color=color,
            start=start,
            checkpoint=checkpoint,
            plan=plan,
            engine=engine,
        )

    def _optimize(self, prepared: _Prepared, estimator: ProgressEstimator) -> Iterator[Event]:
        """Optimise, with an event for each step, scale and preview."""
        plan, engine, checkpoint = prepared.plan, prepared.engine, prepared.checkpoint
        start = prepared.start
        done = 0, 0, 0
        if checkpoint:
            done = checkpoint.scale, checkpoint.iteration, checkpoint.step
        if not self._announced:
            self._announced = True
            expected = self._expected_seconds(prepared)
            yield Started(**vars(estimator.at_start(*done, expected=expected)), plan=plan)
        if self._checkpoints:
            self._planner.choose_algorithms(plan, engine)
            self._checkpoints.begin(plan, engine)
        estimator.begin()
        for step in optimize(
            engine,
            self._planner.options,
            plan,
            inputs=prepared.inputs,
            start=None if start is None else prepared.color.as_seen(start),
            resumed=None if checkpoint is None else checkpoint.state(engine.arrays),
            stopped=self._stop.is_set,
        ):
            self._last = step
            self.painting = True
            progress = vars(estimator.at(step))
            if self._checkpoints and self._checkpoints.due(scale_done=step.scale_done):
                self._checkpoints.save(step.state(), seconds=estimator.seconds())
            if step.scale_done:
                yield ScaleDone(**progress)
                continue

            def picture(step: LoopStep = step) -> NDArray[np.float32]:
                with self._settings.active():
                    return prepared.finished(step.picture())

            yield Step(**progress, picture=picture)
            if self._preview_due(step):
                self._last_preview = time.perf_counter()
                yield Preview(**progress, rgb=picture())
        self._save_stopped()
        self._learn_pace(prepared, estimator)

    def _save_stopped(self) -> None:
        """Write a stopped run's last state, so that nothing of it is lost."""
        if self._checkpoints and self._last is not None and self._stop.is_set():
            self._checkpoints.save(self._last.state(), seconds=time.perf_counter() - self._started)

    def _learn_pace(self, prepared: _Prepared, estimator: ProgressEstimator) -> None:
        """Store the pace of a whole, plain run for later estimates."""
        plan = prepared.plan
        whole = (
            prepared.checkpoint is None and self._last is not None and self._last.step == plan.steps
        )
        # Masks and tiles take time of their own.
        plain = not prepared.inputs.masks and not any(scale.tile for scale in plan.scales)
        if whole and plain and plan.work > _LEARNABLE_WORK:
            learn_pace(self._planner.pace_key(plan), estimator.mean_rate())

    def _preview_due(self, step: LoopStep) -> bool:
        if self._preview_steps and step.step % self._preview_steps == 0:
            return True
        if self._preview_seconds is None:
            return False
        if self._last_preview is None:
            return step.step >= _FIRST_PREVIEW
        return time.perf_counter() - self._last_preview >= self._preview_seconds

    def _finish(self, last: LoopStep, prepared: _Prepared, estimator: ProgressEstimator) -> Result:
        """The result from the last step's picture."""
        options, plan, photo = self._planner.options, prepared.plan, prepared.photo
        rgb = last.picture()
        finest = plan.scales[-1]
        if rgb.shape[:2] != (finest.height, finest.width):
            rgb = resize(rgb, finest.width, finest.height)
        if options.original_size:
            content = prepared.color.content
            rgb = upscale(rgb, content.rgb, content.alpha)
        rgb = prepared.finished(rgb)
        alpha = photo.alpha
        if alpha is not None and alpha.shape != rgb.shape[:2]:
            alpha = resize(alpha, rgb.shape[1], rgb.shape[0])
        seconds = estimator.seconds()
        complete = last.complete and last.scale_done and last.scale == len(plan.scales) - 1
        recipe = recipe_of(
            options,
            plan,
            weights=prepared.engine.weights,
            inputs=prepared.inputs,
            start=prepared.start,
            terms=last.terms,
            painted=last.painted,
            steps=last.step,
            stopped=not complete,
            seconds=seconds,
        )
        return Result(
            picture=Picture(
                rgb=rgb,
                alpha=alpha,
                depth=photo.depth,
                metadata=photo.metadata.scaled(
                    rgb.shape[1] / photo.width, rgb.shape[0] / photo.height
                ),
            ),
            options=options,
            plan=plan,
            terms=last.terms,
            painted=last.painted,
            seconds=seconds,
            stopped=not complete,
            steps=last.step,
            recipe=recipe,
            notes=(
                *prepared.inputs.notes(prepared.start),
                *plan.notes,
                *enlargement_notes(max(finest.width, finest.height), max(rgb.shape[:2])),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A run that is ready for its first step."""

    inputs: RunInputs
    photo: Picture
    """The photo as it was read."""
    color: ColorMode
    start: Picture | None
    checkpoint: Checkpoint | None
    """The checkpoint to resume from."""
    plan: Plan
    engine: Engine

    @property
    def fraction(self) -> float:
        """Share of the work that a checkpoint holds, 0 to 1."""
        if self.checkpoint is None:
            return 0.0
        return self.plan.fraction(self.checkpoint.scale, self.checkpoint.iteration)

    def finished(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        """An image of the network in the colours of the result, with the photo where it stays."""
        return self.inputs.composite(self.color.finished(rgb), self.photo)


def _plan(planner: Planner, inputs: RunInputs) -> tuple[Plan, Engine]:
    """The plan of a run of these pictures, and its engine."""
    return planner.load_and_plan(
        inputs.content.size,
        *(painting.size for painting in inputs.paintings),
        masks=inputs.masks,
        part_of_paintings=inputs.part_of_paintings,
    )


def _start_picture(name: str, given: PictureSource | None) -> Picture | None:
    """The picture to start from: the one given, or the file that ``name`` is a path of."""
    if given is not None:
        return read_visible(given, "picture to start from").smoothed()
    if name in INITS:
        return None
    try:
        return read_visible(name, "picture to start from").smoothed()
    except PictureReadError as error:
        raise PictureReadError(
            f"{error} Or start from {', '.join(INITS)} ({spelled('init')})."
        ) from error
