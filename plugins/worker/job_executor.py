"""Executes jobs with the runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nstrt.plugins.worker.jobs import Job
from nstrt.plugins.worker.pixels import FORMATS, from_pixels, to_pixels
from nstrt.plugins.worker.preload import load_libraries
from nstrt.plugins.worker.requests import (
    Estimate,
    FilePicture,
    InputPicture,
    PictureSize,
    PixelPicture,
    Prepare,
    Stylize,
)

if TYPE_CHECKING:
    from nstrt.runtime.options.options import StylizeOptions
    from nstrt.runtime.pictures import Picture
    from nstrt.runtime.run.events import Event, Finished, Preview
    from nstrt.runtime.style_transfer import StyleTransfer

__all__ = ["JobExecutor"]

MAX_CACHED_SIZES = 64
"""Picture files whose sizes are cached."""


class JobExecutor:
    """Executes one job at a time; networks stay loaded between jobs."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        """``notify`` is called with a line for each step of the preparation that takes long."""
        self._notify = notify
        self._root: StyleTransfer | None = None
        self._sizes: dict[tuple[str, int, int], tuple[int, int]] = {}

    def execute(self, job: Job) -> None:
        """Execute a job; its errors are raised."""
        job.start()
        request = job.request
        match request:
            case Prepare():
                with job.loading.governing():
                    self._transfer(request.options).prepare()
                job.finish("ready", {})
            case Estimate():
                with job.loading.governing():
                    self._estimate(job, request)
            case Stylize():
                self._stylize(job, request)

    def _transfer(self, options: StylizeOptions) -> StyleTransfer:
        from nstrt.runtime.style_transfer import StyleTransfer

        if self._root is None:
            load_libraries()
            self._root = StyleTransfer(options, notify=self._notify)
        return self._root.with_options(options)

    def _estimate(self, job: Job, request: Estimate) -> None:
        from nstrt.runtime.planning.estimate import duration

        of_regions = [style for style in request.regions if style is not None]
        estimate = self._transfer(request.options).estimate(
            self._size(request.content),
            None if request.style is None else self._size(request.style),
            *map(self._size, (*request.add_styles, *of_regions)),
            regions=len(request.regions),
            protect=request.protect,
        )
        plan = estimate.plan
        finest = plan.scales[-1]
        job.finish(
            "estimate",
            {
                "seconds": round(estimate.seconds, 2),
                "memory": plan.memory,
                "available": estimate.available,
                "width": finest.width,
                "height": finest.height,
                "steps": plan.steps,
                "message": f"About {duration(estimate.seconds)} for {finest.width} x "
                f"{finest.height} pixels, with {plan.memory / 1e9:.1f} GB of memory.",
            },
        )

    def _size(self, picture: FilePicture | PictureSize) -> tuple[int, int]:
        """A picture's size; a file is decoded, so that a damaged one raises."""
        if isinstance(picture, PictureSize):
            return picture.width, picture.height
        from nstrt.runtime.pictures import read_picture

        try:
            status = os.stat(picture.path)
            key = picture.path, status.st_mtime_ns, status.st_size
        except (OSError, ValueError):
            return read_picture(picture.path).size
        if key not in self._sizes:
            if len(self._sizes) >= MAX_CACHED_SIZES:
                self._sizes.clear()
            self._sizes[key] = read_picture(picture.path).size
        return self._sizes[key]

    def _stylize(self, job: Job, request: Stylize) -> None:
        from nstrt.runtime.run.events import Finished, Preview, Started, Step

        with job.loading.governing():
            pictures = _pictures(job, request)
            content = next(pictures)
            styles, masks = [], []
            for mask in request.style_masks:
                styles.append(next(pictures))
                masks.append(_next(pictures, mask))
            regions = [
                (next(pictures), _next(pictures, each.style), _next(pictures, each.style_mask))
                for each in request.regions
            ]
            protect = _next(pictures, request.protect)
        run = self._transfer(request.options).run(
            content,
            styles,
            style_mask=masks,
            regions=regions,
            protect=protect,
            preview_seconds=request.previews or None,
            started=job.requested,
        )
        # These names would keep the pictures, and the payload under them, until the job ends.
        del pictures, styles, masks, regions, protect
        job.attach(run)
        steps = 0
        for event in run:
            if isinstance(event, Started):
                steps = event.plan.steps
                job.mark_running()
            if isinstance(event, Started | Step):
                job.report_progress(
                    event.fraction, event.seconds_left, _progress_message(event, steps)
                )
            elif isinstance(event, Preview):
                _send_preview(job, event, content)
            elif isinstance(event, Finished):
                _finish(job, request, event)


def _next(pictures: Iterator[Picture], given: InputPicture | None) -> Picture | None:
    """The next picture if the request has one in this place."""
    return None if given is None else next(pictures)


def _pictures(job: Job, request: Stylize) -> Iterator[Picture]:
    """The pictures of a request in their order; the payload is freed with the last of them."""
    from nstrt.runtime.pictures import read_picture

    payload = job.take_pixels()
    start = 0
    for picture in request.pictures:
        if isinstance(picture, PixelPicture):
            pixels = payload[start : start + picture.nbytes]
            start += picture.nbytes
            yield from_pixels(
                pixels, width=picture.width, height=picture.height, format=picture.format
            )
        else:
            yield read_picture(picture.path)


def _send_preview(job: Job, event: Preview, content: Picture) -> None:
    from nstrt.runtime.pictures import resize

    height, width = event.rgb.shape[:2]
    alpha = content.alpha
    if alpha is not None and alpha.shape != (height, width):
        alpha = resize(alpha, width, height)
    pixels = to_pixels(event.rgb, alpha, FORMATS["rgba8"])
    job.send_preview({"width": width, "height": height, "format": "rgba8"}, pixels)


def _finish(job: Job, request: Stylize, event: Finished) -> None:
    result = event.result
    picture = result.picture
    job.finish(
        "result",
        {
            "width": picture.width,
            "height": picture.height,
            "format": request.result_name,
            "stopped": result.stopped,
            "seconds": round(job.seconds, 2),
            "painted": round(result.painted, 4),
            "notes": list(result.notes),
            "recipe": _finite(result.recipe),
        },
        to_pixels(picture.rgb, picture.alpha, request.result),
    )


def _progress_message(event: Event, steps: int) -> str:
    return f"Painting at {event.width} x {event.height} pixels, step {event.step} of {steps}"


def _finite(value: Any) -> Any:
    """A recipe with null for infinite numbers and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
