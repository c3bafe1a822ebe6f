"""Public interface of the runtime: repaint a photo in the style of a painting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import PictureSource
from nstrt.runtime.planning.estimate import Estimate
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.planning.planner import Planner
from nstrt.runtime.run.checkpoint_schedule import SECONDS, Checkpoints
from nstrt.runtime.run.inputs import (
    InputSources,
    MaskSources,
    PreviousFrame,
    RegionSource,
    mask_count,
)
from nstrt.runtime.run.result import Result
from nstrt.runtime.run.run import Run
from nstrt.runtime.system.own_settings import OwnSettings

__all__ = ["StyleTransfer", "stylize"]

Notify = Callable[[str], None]


class StyleTransfer:
    """Repaints photos in the style of paintings, with the same options.

    One object serves many pictures: model, sessions and engine are loaded once. ``notify`` gets
    sentences about slow steps and automatic decisions.

    Not thread-safe, except for :meth:`Run.stop` and :meth:`Run.cancel`.
    """

    def __init__(
        self,
        options: StylizeOptions | None = None,
        *,
        store: ModelStore | None = None,
        notify: Notify | None = None,
    ) -> None:
        self.options = options or StylizeOptions.of()
        self._notify = notify = notify or (lambda line: None)
        self.store = store or ModelStore(notify=notify)
        """Folder of the model files."""
        self._planner = Planner(self.options, self.store, notify)

    def with_options(self, options: StylizeOptions) -> StyleTransfer:
        """A copy with other options that shares the loaded networks."""
        other = copy(self)
        other.options = options
        other._planner = self._planner.with_options(options)
        return other

    def prepare(self) -> None:
        """Load everything a run needs and take one small step, so that runs start at once."""
        from nstrt.runtime.engines.benchmark import measure_step
        from nstrt.runtime.planning.loss_weights import loss_weights

        with OwnSettings().active():
            engine = self._planner.load_small()
            measure_step(engine, loss_weights(self.options))
            engine.release()

    def estimate(
        self,
        photo: tuple[int, int],
        painting: tuple[int, int] | None = None,
        *more: tuple[int, int],
        regions: int = 0,
        protect: bool = False,
        part_of_paintings: bool = False,
    ) -> Estimate:
        """Estimate time and memory of a run.

        Sizes are (width, height) in pixels; ``more`` are further paintings, those of regions too.
        ``part_of_paintings`` says that some painting has a mask or transparency. Loads the
        network, and measures engines where no measurement is stored. The time comes from earlier
        runs on this machine, or else from a small step taken now. Raises the errors of
        :meth:`run`.
        """
        masks = mask_count(regions, protect, stays=self.options.rest == "photo")
        with OwnSettings().active():
            plan, engine = self._planner.load_and_plan(
                photo,
                painting or photo,
                *more,
                masks=masks,
                part_of_paintings=part_of_paintings,
            )
            return self._planner.estimate(plan, engine)

    def run(
        self,
        content: PictureSource,
        style: PictureSource | Sequence[PictureSource],
        *,
        style_mask: MaskSources = None,
        regions: Sequence[RegionSource] = (),
        protect: PictureSource | None = None,
        preview_steps: int | None = None,
        preview_seconds: float | None = None,
        started: float | None = None,
        start: PictureSource | None = None,
        previous: PreviousFrame | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        checkpoint_seconds: float | None = None,
    ) -> Run:
        """Create a run that repaints ``content`` in the style of ``style``; iterating it starts it.

        Pictures are paths, Pillow images, NumPy arrays, torch tensors or :class:`Picture`. A list
        or tuple of paintings is blended (``style_blend``).

        - ``style_mask``: a mask of the painting, white on the part that counts; for several
          paintings a list with a mask or None for each.
        - ``regions``: pairs of a mask, white inside the region, and its painting, or None for the
          main one. A third item is a mask of that painting; with None as painting, the region
          takes that part of the only main painting.
        - ``protect``: a mask, white where the result stays near the photo.
        - ``preview_steps``, ``preview_seconds``: interval of previews.
        - ``started``: when the command began, by ``time.perf_counter()``, if earlier than now.
        - ``start``: a picture to start from in place of ``options.init``.
        - ``previous``: the painting of a film's previous frame, warped to this one by
          :func:`warp_previous`, for the temporal loss (``options.temporal_weight``).

        The run writes its state to the file ``checkpoint`` every ``checkpoint_seconds`` (default
        30; 0: after each step), which takes at most 2 % of the time. With ``resume`` it resumes
        from that file to the same bits, or starts anew if there is none. Call
        :meth:`Run.remove_checkpoint` once the result is saved.

        The iteration raises :class:`CheckpointError` for a checkpoint that is damaged, belongs to
        other pictures or options, or cannot be resumed on this machine.
        """
        if resume and checkpoint is None:
            raise OptionError("To resume a run, name its checkpoint file too.")
        kept = None
        if checkpoint is not None:
            seconds = SECONDS if checkpoint_seconds is None else checkpoint_seconds
            kept = Checkpoints(
                Path(checkpoint), resume=resume, seconds=seconds, notify=self._notify
            )
        return Run(
            self._planner,
            InputSources.of(content, style, regions, protect, previous, style_mask),
            preview_steps=preview_steps,
            preview_seconds=preview_seconds,
            checkpoints=kept,
            started=time.perf_counter() if started is None else started,
            start=start,
        )

    def stylize(
        self,
        content: PictureSource,
        style: PictureSource | Sequence[PictureSource],
        *,
        style_mask: MaskSources = None,
        regions: Sequence[RegionSource] = (),
        protect: PictureSource | None = None,
    ) -> Result:
        """Repaint ``content`` in the style of ``style``; see :meth:`run`."""
        return self.run(
            content, style, style_mask=style_mask, regions=regions, protect=protect
        ).result()

    def plan(self, photo: tuple[int, int], painting: tuple[int, int]) -> Plan:
        """Load the network and plan a run for a photo and a painting of (width, height) pixels.

        Measures engines and algorithms where no measurement is stored, which takes seconds. Raises
        :class:`NstrtError` if it cannot run here.
        """
        with OwnSettings().active():
            return self._planner.load_and_plan(photo, painting)[0]


def stylize(
    content: PictureSource,
    style: PictureSource | Sequence[PictureSource],
    *,
    style_mask: MaskSources = None,
    regions: Sequence[RegionSource] = (),
    protect: PictureSource | None = None,
    **options: Any,
) -> Result:
    """Repaint ``content`` in the style of ``style``; see :meth:`StyleTransfer.run`.

    ``options`` are those of :class:`StylizeOptions`, ``preset`` among them. Pictures are paths,
    Pillow images, NumPy arrays or torch tensors. The loaded networks stay in memory for the next
    call; hold a :class:`StyleTransfer` to decide when they go.
    """
    transfer = _take_transfer(StylizeOptions.of(**options))
    try:
        return transfer.stylize(
            content, style, style_mask=style_mask, regions=regions, protect=protect
        )
    finally:
        _kept[:] = [transfer]


_kept: list[StyleTransfer] = []
"""The transfer of the last call of :func:`stylize`, while no call uses it."""


def _take_transfer(options: StylizeOptions) -> StyleTransfer:
    """A transfer that shares the networks of the last call, or a new one.

    Each thread that calls at the same time has one of its own.
    """
    store = ModelStore()
    while _kept:
        with suppress(IndexError):
            transfer = _kept.pop()
            # NSTRT_CACHE may name another folder by now.
            if transfer.store.folder == store.folder:
                return transfer.with_options(options)
    return StyleTransfer(options, store=store)
