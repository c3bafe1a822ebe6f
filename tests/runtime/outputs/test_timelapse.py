"""Time lapses: frames of each file format, and refused films."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import (
    OptionError,
    PackageMissingError,
    PictureReadError,
    PictureWriteError,
    Timelapse,
)
from nstrt.runtime.batch.find_photos import find_photos
from nstrt.runtime.outputs import timelapse

from support import CAT
from support.observed_run import ObservedRun


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_has_a_frame_per_step_and_ends_with_the_result(
    observed_run: ObservedRun, suffix: str, tmp_path: Path
) -> None:
    with Image.open(observed_run.folder / f"film{suffix}") as film:
        assert film.size == (64, 43)
        # If the last step's picture is the result, the two are one frame.
        assert film.n_frames in (8, 9)
        film.seek(film.n_frames - 1)
        film.load()
        last = np.asarray(film.convert("RGB"), float)
        assert film.info["duration"] >= 1000
        film.seek(0)
        first = np.asarray(film.convert("RGB"), float)
    # A batch knows films as made by nstrt, and takes none for a photo.
    with pytest.raises(PictureReadError, match="only results of nstrt"):
        find_photos(str(observed_run.folder / f"film*{suffix}"), results=tmp_path)
    result = np.asarray(observed_run.result.to_pillow(), float)
    photo = np.asarray(Image.open(CAT).resize((64, 43)), float)
    assert np.abs(last - result).mean() < 12
    assert np.abs(first - photo).mean() < np.abs(first - result).mean()


@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is not installed")
def test_mp4_has_the_same_frames(observed_run: ObservedRun) -> None:
    import av

    with av.open(str(observed_run.folder / "film.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    # Eight steps, the result, and a second of it.
    assert len(frames) == 9 + timelapse.FRAME_RATE
    assert frames[-1].shape == (42, 64, 3)
    result = np.asarray(observed_run.result.to_pillow().resize((64, 42)), float)
    assert np.abs(frames[-1] - result).mean() < 12


def test_a_long_run_leaves_out_steps(observed_run: ObservedRun) -> None:
    with Image.open(observed_run.folder / "short.webp") as film:
        assert film.n_frames in (2, 3)


def test_a_run_that_did_not_finish_has_no_film(tmp_path: Path) -> None:
    with (
        Timelapse(tmp_path / "film.webp") as film,
        pytest.raises(PictureWriteError, match="not finished"),
    ):
        film.save()
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_pyav_is_an_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PackageMissingError, match=r"nstrt\[video\]"):
        Timelapse(tmp_path / "film.mp4")


FULL = """
import resource, signal, sys, tempfile
from pathlib import Path
import numpy as np
from nstrt.runtime import Picture, PictureWriteError, Timelapse

class Done:
    picture = Picture(rgb=np.random.default_rng(0).random((64, 64, 3), np.float32))

film = Timelapse(sys.argv[1])
film._size = 64, 64
film._store(Done.picture.rgb)
if sys.argv[2] == "full":
    # Writing fails as on a full disk, in the temporary folder alone.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    film._store(Done.picture.rgb)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
else:
    film._frames[0].unlink()
film._finished = True
try:
    film.save()
except PictureWriteError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits here")
@pytest.mark.parametrize("fault", ["full", "gone"])
def test_the_folder_of_the_frames_is_named_if_it_fails(tmp_path: Path, fault: str) -> None:
    frames, films = tmp_path / "frames", tmp_path / "films"
    frames.mkdir()
    films.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(films / "film.webp"), fault],
        env={**os.environ, "TMPDIR": str(frames)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"temporary files, '{frames}', cannot keep the film's frames (" in done.stdout
    assert "TMPDIR" in done.stdout
    assert str(films) not in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(films.iterdir()) == list(frames.iterdir()) == []


def test_zero_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="frames"):
        Timelapse(tmp_path / "film.webp", frames=0)
