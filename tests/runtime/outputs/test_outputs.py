"""Watching a picture come into being: a preview file while it is painted, a film afterwards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.plugins.cli.app import run
from nstrt.runtime import (
    Finished,
    OptionError,
    OutputExistsError,
    PackageMissingError,
    PictureWriteError,
    PreviewFile,
    Result,
    Step,
    StyleTransfer,
    StylizeOptions,
    Timelapse,
)
from nstrt.runtime.outputs import preview_file as preview
from nstrt.runtime.outputs import timelapse
from nstrt.runtime.pictures import read_picture, save

from support import EXAMPLES

CAT, NIGHT = str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "night.jpg")
SMALL = ["--size", "64", "--scales", "1", "--iterations", "3", "--engine", "onnx"]
NO_AV = importlib.util.find_spec("av") is None

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, list[bytes]]:
    """One run of two scales with 4 steps each, watched in every way."""
    folder = tmp_path_factory.mktemp("watched")
    options = StylizeOptions.of(size=64, scales=2, iterations=4, engine="onnx", tolerance=0)
    suffixes = [".webp", ".gif", *([] if NO_AV else [".mp4"])]
    films = [Timelapse(folder / f"film{suffix}", hold=1.0) for suffix in suffixes]
    films.append(Timelapse(folder / "short.webp", frames=2, hold=0.0))
    shown = PreviewFile(folder / "live.png", seconds=1e-9)
    seen: list[bytes] = []
    result = None
    for event in StyleTransfer(options).run(CAT, NIGHT):
        shown.update(event)
        if isinstance(event, Step) and shown.path.exists():
            # Whole at any time: a viewer may look now.
            with Image.open(shown.path) as picture:
                assert picture.size == (64, 43)
                seen.append(picture.tobytes())
        for film in films:
            film.update(event)
        if isinstance(event, Finished):
            result = event.result
    for film in films:
        film.save()
        film.close()
    assert result is not None
    return folder, result, seen


Watched = tuple[Path, Result, list[bytes]]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_has_each_step_and_ends_with_the_result_held(watched: Watched, suffix: str) -> None:
    folder, result, _ = watched
    with Image.open(folder / f"film{suffix}") as film:
        assert film.size == (64, 43)
        # The last step may be the best picture, and then the result: one frame.
        assert film.n_frames in (8, 9)
        film.seek(film.n_frames - 1)
        film.load()
        last = np.asarray(film.convert("RGB"), float)
        assert film.info["duration"] >= 1000
        film.seek(0)
        first = np.asarray(film.convert("RGB"), float)
    made = np.asarray(result.to_pillow(), float)
    photo = np.asarray(Image.open(CAT).resize((64, 43)), float)
    assert np.abs(last - made).mean() < 12
    assert np.abs(first - photo).mean() < np.abs(first - made).mean()


@pytest.mark.skipif(NO_AV, reason="PyAV is not installed")
def test_mp4_has_the_same_frames(watched: Watched) -> None:
    import av

    folder, result, _ = watched
    with av.open(str(folder / "film.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    # Eight steps, the result, and a second of it.
    assert len(frames) == 9 + timelapse.PER_SECOND
    assert frames[-1].shape == (42, 64, 3)
    made = np.asarray(result.to_pillow().resize((64, 42)), float)
    assert np.abs(frames[-1] - made).mean() < 12


def test_a_long_run_leaves_out_steps(watched: Watched) -> None:
    with Image.open(watched[0] / "short.webp") as film:
        assert film.n_frames in (2, 3)


def test_the_preview_changes_while_it_is_painted_and_ends_as_the_result(watched: Watched) -> None:
    folder, result, seen = watched
    assert len(set(seen)) >= 3
    shown = np.asarray(Image.open(folder / "live.png"))
    assert np.array_equal(shown, result.to_array(np.uint8))


def test_an_unfinished_painting_is_no_film(tmp_path: Path) -> None:
    with (
        Timelapse(tmp_path / "film.webp") as film,
        pytest.raises(PictureWriteError, match="not finished"),
    ):
        film.save()
    assert list(tmp_path.iterdir()) == []


def test_only_previews_are_replaced_without_asking(watched: Watched, tmp_path: Path) -> None:
    PreviewFile(watched[0] / "live.png")
    precious = tmp_path / "precious.png"
    save(read_picture(CAT), precious, recipe=None, overwrite=False)
    with pytest.raises(OutputExistsError):
        PreviewFile(precious)
    PreviewFile(precious, overwrite=True)


def test_a_preview_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise PictureWriteError("There is no room.")

    said: list[str] = []
    shown = PreviewFile(tmp_path / "live.png", seconds=1e-9, notify=said.append)
    monkeypatch.setattr(preview, "save", full)
    options = StylizeOptions.of(size=64, scales=1, iterations=8, engine="onnx", tolerance=0)
    events = []
    for event in StyleTransfer(options).run(CAT, NIGHT):
        shown.update(event)
        events.append(event)
    assert isinstance(events[-1], Finished)
    assert said == ["There are no more previews: There is no room."]


def test_the_command_writes_both(tmp_path: Path, capsys: Capture) -> None:
    out, film, live = (tmp_path / name for name in ("out.png", "film.webp", "live.jpg"))
    watching = ["--preview", str(live), "--timelapse", str(film)]
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, *watching]) == 0
    assert f"the film is {film}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.webp", "live.jpg", "out.png"]
    assert run(["info", str(live)]) == 2
    assert "is a preview" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--timelapse", "film.avi"], ".webp, .gif, .mp4"),
        (["--timelapse", "nowhere/film.webp"], "no folder"),
        (["--timelapse", "exists.gif"], "--force"),
        (["--timelapse", CAT], "written over"),
        (["--preview", "live.gif"], "does not save .gif"),
        (["--preview", "out.png"], "written over"),
        (["--preview", "nowhere/live.png"], "no folder"),
        (["--preview", "live.png", "--preview-seconds", "0"], "--preview-seconds"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_watched_is_refused_before_painting(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists.gif").write_bytes(b"precious")

    def painted(*_: object, **__: object) -> None:
        raise AssertionError("painting began")

    monkeypatch.setattr(StyleTransfer, "run", painted)
    assert run(["stylize", CAT, NIGHT, "-o", "out.png", *SMALL, *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["exists.gif"]


def test_without_its_package_mp4_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PackageMissingError, match=r"nstrt\[video\]"):
        Timelapse(tmp_path / "film.mp4")


def test_bad_times_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seconds"):
        PreviewFile(tmp_path / "live.png", seconds=0)
    with pytest.raises(OptionError, match="frames"):
        Timelapse(tmp_path / "film.webp", frames=0)
