"""Time lapse of a run: animated WebP, GIF or MP4.

Frames are stored on the disk during the run, at the sizes of their scales. At the end they are
resized and encoded, with one frame in memory.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime.errors import OptionError, PictureWriteError
from nstrt.runtime.pictures import (
    check_target,
    recipe_to_xmp,
    resize,
    write_error_sentence,
)
from nstrt.runtime.pictures.values import quantize
from nstrt.runtime.run.events import Event, Finished, Started, Step
from nstrt.runtime.run.recipe import recipe_of_kind
from nstrt.runtime.system.files import atomic_write, remove_stale_temporaries, temporary_folder
from nstrt.runtime.system.memory import import_failure
from nstrt.runtime.system.temporary_error import temporary_error

if TYPE_CHECKING:
    from typing import Self

__all__ = ["FILM_SUFFIXES", "Timelapse", "check_film", "write_film"]

FILM_SUFFIXES = (".webp", ".gif", ".mp4")
"""File name endings of films."""

MAX_FRAMES = 120
"""Default for the most frames of a film; long runs leave out steps."""

FRAME_RATE = 15
"""Frames per second."""

HOLD = 2.0
"""Default seconds for which the finished picture is shown."""

# Pillow keeps all frames of a GIF in memory as 8-bit indices: about 35 MB for MAX_FRAMES of them.
LONGEST_SIDE = {".webp": 1080, ".gif": 640, ".mp4": 1920}
"""Most pixels along a film's long side, by file name ending."""


def check_film(path: str | Path, *, overwrite: bool) -> None:
    """Raise :class:`PictureWriteError` if no film can be written to ``path``.

    Raises :class:`PackageMissingError` if the package for MP4 is not installed.
    """
    target = Path(path)
    if target.suffix.lower() not in FILM_SUFFIXES:
        raise PictureWriteError(
            f"A film is saved as {', '.join(FILM_SUFFIXES)}; let the name '{target.name}' end in "
            "one of them."
        )
    check_target(target, overwrite=overwrite, what="film")
    if target.suffix.lower() == ".mp4":
        _av()


class Timelapse:
    """Collects the pictures of one run and writes them as a film.

    Pass each event of the run to :meth:`update`, then call :meth:`save`::

        with Timelapse("painting.webp") as film:
            for event in run:
                film.update(event)
            film.save()

    The film has the size of the finest scale, limited by :data:`LONGEST_SIDE`, and at most
    ``frames`` pictures of steps. Transparent parts are white. The finished picture is shown for
    ``hold`` seconds.

    Raises :class:`PictureWriteError` at once if the film cannot be written, and
    :class:`PackageMissingError` if the package for MP4 is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        frames: int = MAX_FRAMES,
        hold: float = HOLD,
    ) -> None:
        if frames < 1 or not hold >= 0:
            raise OptionError("A film has at least one of its frames, held for 0 seconds or more.")
        check_film(path, overwrite=overwrite)
        self.path = Path(path)
        self._max_frames = frames
        self._hold = hold
        self._interval = 1
        """Steps from one frame to the next."""
        self._size = (0, 0)
        self._error: PictureWriteError | None = None
        self._stack = ExitStack()
        try:
            self._folder = self._stack.enter_context(temporary_folder())
        except OSError as error:
            raise _frame_error(error) from error
        self._frames: list[Path] = []
        self._finished = False

    def update(self, event: Event) -> None:
        """Process an event of the run; :meth:`save` raises the error of a frame not stored."""
        if isinstance(event, Started):
            finest = event.plan.scales[-1]
            self._size = _film_size((finest.width, finest.height), self.path.suffix)
            self._interval = math.ceil(event.plan.steps / self._max_frames)
        elif isinstance(event, Step) and (event.step - 1) % self._interval == 0:
            self._store(event.picture())
        elif isinstance(event, Finished):
            rgb = event.result.picture.opaque().rgb
            # With original_size the result is larger than the finest scale.
            self._store(resize(rgb, *self._size))
            self._finished = True

    def save(self) -> None:
        """Write the film, whole or not at all.

        Raises :class:`PictureWriteError` if that fails, or if the run did not finish.
        """
        if not self._finished:
            raise PictureWriteError("There is no film of a painting that was not finished.")
        if self._error is not None:
            raise self._error
        try:
            write_film(
                self.path,
                self._size,
                [*self._frames, *self._frames[-1:] * round(self._hold * FRAME_RATE)],
            )
        except OSError as error:
            raise PictureWriteError(write_error_sentence(self.path, error)) from error

    def close(self) -> None:
        """Delete the stored frames."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _store(self, rgb: NDArray[np.float32]) -> None:
        """Store a frame on the disk."""
        path = self._folder / f"{len(self._frames):05}.png"
        samples = np.empty(rgb.shape, np.uint8)
        quantize(rgb, samples)
        try:
            Image.fromarray(samples).save(path, compress_level=1)
        except OSError as error:
            self._error = _frame_error(error)
            return
        self._frames.append(path)


def write_film(target: Path, size: tuple[int, int], frames: list[Path]) -> None:
    """Write picture files as a film of ``size`` (width, height), whole or not at all.

    Consecutive equal paths become one frame of a longer duration. Raises :class:`OSError` if the
    disk is full or not there.
    """
    sequence = _LazySequence(size, frames)
    remove_stale_temporaries(target.parent)
    with atomic_write(target) as temporary:
        match target.suffix.lower():
            case ".mp4":
                _write_mp4(temporary, sequence)
            case ".gif":
                # GIF has no place for XMP data that other programs know.
                sequence.save(
                    temporary,
                    save_all=True,
                    duration=sequence.milliseconds,
                    loop=0,
                    comment=recipe_to_xmp(recipe_of_kind("film")),
                )
            case _:
                sequence.save(
                    temporary,
                    save_all=True,
                    duration=sequence.milliseconds,
                    loop=0,
                    xmp=recipe_to_xmp(recipe_of_kind("film")),
                    quality=85,
                    method=2,
                )


class _LazySequence(Image.Image):
    """Multi-frame image with only the current frame in memory.

    Pillow's writers accept a list of images, all in memory, or one image to seek in.
    """

    def __init__(self, size: tuple[int, int], frames: list[Path]) -> None:
        super().__init__()
        # Pillow's own image plugins set these two attributes as well.
        self._mode = "RGB"
        self._size = size
        self.runs: list[tuple[Path, int]] = []
        for path in frames:
            if self.runs and self.runs[-1][0] == path:
                self.runs[-1] = path, self.runs[-1][1] + 1
            else:
                self.runs.append((path, 1))
        self._index = -1
        self.seek(0)

    @property
    def n_frames(self) -> int:
        """Number of frames, runs of equal ones counted once."""
        return len(self.runs)

    @property
    def milliseconds(self) -> list[int]:
        """Duration of each frame in milliseconds."""
        return [round(1000 * count / FRAME_RATE) for _, count in self.runs]

    def seek(self, frame: int) -> None:
        """Load a frame. Raises :class:`EOFError` beyond the last."""
        if not 0 <= frame < len(self.runs):
            raise EOFError
        if frame != self._index:
            try:
                with Image.open(self.runs[frame][0]) as stored:
                    self.im = stored.convert("RGB").resize(self.size, Image.Resampling.LANCZOS).im
            except OSError as error:
                # The film's own folder has nothing to do with it.
                raise _frame_error(error) from error
            self._index = frame

    def tell(self) -> int:
        """Index of the current frame."""
        return self._index


def _write_mp4(path: Path, sequence: _LazySequence) -> None:
    av = _av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=FRAME_RATE)
        stream.width, stream.height = sequence.size
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18"}
        for number, (_, count) in enumerate(sequence.runs):
            sequence.seek(number)
            for _ in range(count):
                container.mux(stream.encode(av.VideoFrame.from_image(sequence)))
        container.mux(stream.encode())


def _frame_error(error: OSError) -> PictureWriteError:
    return PictureWriteError(temporary_error("the film's frames", error))


def _film_size(size: tuple[int, int], suffix: str) -> tuple[int, int]:
    """``size`` (width, height) within the limits of the file format."""
    longest = LONGEST_SIDE[suffix.lower()]
    factor = min(1.0, longest / max(size))
    width, height = (max(1, round(side * factor)) for side in size)
    if suffix.lower() == ".mp4":
        # The pixel format yuv420p needs even sides.
        return max(2, width // 2 * 2), max(2, height // 2 * 2)
    return width, height


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise import_failure(
            error,
            'Writing MP4 needs PyAV; install it with: pip install "nstrt[video]" - or choose '
            ".webp.",
        ) from error
    return av
