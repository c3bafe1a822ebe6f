"""The painting coming into being as a short film: animated WebP, GIF or MP4.

Frames wait on the disk until the run is over, each at the size of its scale, and are enlarged and
encoded one after the other.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime.errors import OptionError, PackageMissingError, PictureWriteError
from nstrt.runtime.pictures import check_target, resize, why_not_written
from nstrt.runtime.pictures.values import quantised
from nstrt.runtime.run.events import Event, Finished, Started, Step
from nstrt.runtime.system.files import written_whole

if TYPE_CHECKING:
    from typing import Self

__all__ = ["FILM_SUFFIXES", "Timelapse", "check_film", "write_film"]

FILM_SUFFIXES = (".webp", ".gif", ".mp4")
"""The file name endings that films can have."""

FRAMES = 120
"""Most frames of a painting: long runs leave out steps, so that memory and file stay small."""

PER_SECOND = 15
"""Frames a second."""

HOLD = 2.0
"""Seconds that the finished picture stays."""

LONGEST_SIDE = {".webp": 1080, ".gif": 640, ".mp4": 1920}
"""Most pixels along a film's long side: GIF, whose frames Pillow keeps in memory as 8-bit
indices, then takes some 35 MB for :data:`FRAMES` of them."""


def check_film(path: str | Path, *, overwrite: bool) -> None:
    """Refuse in one sentence a path where no film could be written. Called before the work."""
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
    """Collects the pictures of one run and makes a film of them.

    Show it each event of the run with :meth:`update`, then :meth:`save`::

        with Timelapse("painting.webp") as film:
            for event in run:
                film.see(event)
            film.save()

    The film has the size of the finest scale, within :data:`LONGEST_SIDE`; coarser scales are
    enlarged to it, transparent parts are white, and the finished picture is held for ``hold``
    seconds. Raises :class:`PictureWriteError` at once where the film could
    not be written, and :class:`PackageMissingError` where MP4's package is
    missing.
    """

    def __init__(
        self, path: str | Path, *, overwrite: bool = False, frames: int = FRAMES, hold: float = HOLD
    ) -> None:
        if frames < 1 or not hold >= 0:
            raise OptionError("A film has at least one of its frames, held for 0 seconds or more.")
        check_film(path, overwrite=overwrite)
        self.path = Path(path)
        self._most = frames
        self._hold = hold
        self._every = 1
        self._size = (0, 0)
        self._error: OSError | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="nstrt-", ignore_cleanup_errors=True)
        self._frames: list[Path] = []
        self._finished = False

    def update(self, event: Event) -> None:
        """Take in an event of the run. A full disk stops no run: :meth:`save` tells of it."""
        if isinstance(event, Started):
            finest = event.plan.scales[-1]
            self._size = _film_size((finest.width, finest.height), self.path.suffix)
            self._every = math.ceil(event.plan.steps / self._most)
        elif isinstance(event, Step) and (event.step - 1) % self._every == 0:
            self._keep(event.picture())
        elif isinstance(event, Finished):
            rgb = event.result.picture.opaque().rgb
            # The photo's own size may be far more than a film has.
            self._keep(resize(rgb, *self._size))
            self._finished = True

    def save(self) -> None:
        """Write the film, whole or not at all."""
        if not self._finished:
            raise PictureWriteError("There is no film of a painting that was not finished.")
        try:
            if self._error is not None:
                raise self._error
            write_film(
                self.path,
                self._size,
                [*self._frames, *self._frames[-1:] * round(self._hold * PER_SECOND)],
            )
        except OSError as error:
            raise PictureWriteError(why_not_written(self.path, error)) from error

    def close(self) -> None:
        """Forget the frames."""
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _keep(self, rgb: NDArray[np.float32]) -> None:
        path = Path(self._folder.name) / f"{len(self._frames):05}.png"
        samples = np.empty(rgb.shape, np.uint8)
        quantised(rgb, samples)
        try:
            Image.fromarray(samples).save(path, compress_level=1)
        except OSError as error:
            self._error = error
            return
        self._frames.append(path)


def write_film(target: Path, size: tuple[int, int], frames: list[Path]) -> None:
    """Write picture files as a film of ``size`` (width, height), whole or not at all.

    Equal neighbours are stored once and shown for longer. Raises :class:`OSError` where the disk
    is full or away.
    """
    sequence = _Sequence(size, frames)
    with written_whole(target) as temporary:
        match target.suffix.lower():
            case ".mp4":
                _write_mp4(temporary, sequence)
            case ".gif":
                sequence.save(temporary, save_all=True, duration=sequence.milliseconds, loop=0)
            case _:
                sequence.save(
                    temporary,
                    save_all=True,
                    duration=sequence.milliseconds,
                    loop=0,
                    quality=85,
                    method=2,
                )


class _Sequence(Image.Image):
    """A picture of many frames, of which the one that was sought is in memory.

    Pillow's writers take a list of pictures, all in memory, or one that they seek in.
    """

    def __init__(self, size: tuple[int, int], frames: list[Path]) -> None:
        super().__init__()
        # How Pillow has its own formats say what they hold.
        self._mode = "RGB"
        self._size = size
        self.runs: list[tuple[Path, int]] = []
        for path in frames:
            if self.runs and self.runs[-1][0] == path:
                self.runs[-1] = path, self.runs[-1][1] + 1
            else:
                self.runs.append((path, 1))
        self._at = -1
        self.seek(0)

    @property
    def n_frames(self) -> int:
        """Different frames."""
        return len(self.runs)

    @property
    def milliseconds(self) -> list[int]:
        """How long each is shown."""
        return [round(1000 * count / PER_SECOND) for _, count in self.runs]

    def seek(self, frame: int) -> None:
        """Have another frame in memory."""
        if not 0 <= frame < len(self.runs):
            raise EOFError
        if frame != self._at:
            with Image.open(self.runs[frame][0]) as stored:
                self.im = stored.convert("RGB").resize(self.size, Image.Resampling.LANCZOS).im
            self._at = frame

    def tell(self) -> int:
        """Which frame is in memory."""
        return self._at


def _write_mp4(path: Path, sequence: _Sequence) -> None:
    av = _av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=PER_SECOND)
        stream.width, stream.height = sequence.size
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18"}
        for number, (_, count) in enumerate(sequence.runs):
            sequence.seek(number)
            for _ in range(count):
                container.mux(stream.encode(av.VideoFrame.from_image(sequence)))
        container.mux(stream.encode())


def _film_size(size: tuple[int, int], suffix: str) -> tuple[int, int]:
    longest = LONGEST_SIDE[suffix.lower()]
    factor = min(1.0, longest / max(size))
    width, height = (max(1, round(side * factor)) for side in size)
    if suffix.lower() == ".mp4":
        # Colours are stored for squares of two by two pixels.
        return max(2, width // 2 * 2), max(2, height // 2 * 2)
    return width, height


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise PackageMissingError(
            'Writing MP4 needs PyAV; install it with: pip install "nstrt[video]" - or choose .webp.'
        ) from error
    return av
