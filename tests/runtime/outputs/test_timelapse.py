"""Time lapses: frames of each file format, and refused films."""

from __future__ import annotations

import importlib.util
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


def test_zero_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="frames"):
        Timelapse(tmp_path / "film.webp", frames=0)
