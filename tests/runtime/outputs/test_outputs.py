"""The command's --preview and --timelapse."""

from __future__ import annotations

from pathlib import Path

import pytest

from nstrt.runtime import StyleTransfer

from support import CAT, NIGHT, Capture
from support.command_line import nstrt

FLAGS = ["--size", "64", "--scales", "1", "--iterations", "3", "--engine", "onnx"]


def test_the_command_writes_preview_and_film(tmp_path: Path, capsys: Capture) -> None:
    out, film, live = (tmp_path / name for name in ("out.png", "film.webp", "live.jpg"))
    outputs = ["-o", str(out), "--preview", str(live), "--timelapse", str(film)]
    assert nstrt("stylize", CAT, NIGHT, *FLAGS, *outputs) == 0
    assert f"the film is {film}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.webp", "live.jpg", "out.png"]
    assert nstrt("info", live) == 2
    assert "is a preview" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timelapse", "film.avi"], ".webp, .gif, .mp4"),
        (["--timelapse", "nowhere/film.webp"], "no folder"),
        (["--timelapse", "exists.gif"], "--force"),
        (["--timelapse", str(CAT)], "written over"),
        (["--preview", "live.gif"], "does not save .gif"),
        (["--preview", "out.png"], "written over"),
        (["--preview", "nowhere/live.png"], "no folder"),
        (["--preview", "live.png", "--preview-seconds", "0"], "--preview-seconds"),
    ],
    ids=" ".join,
)
def test_invalid_outputs_are_refused_before_the_run(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists.gif").write_bytes(b"precious")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the run started")

    monkeypatch.setattr(StyleTransfer, "run", fail)
    assert nstrt("stylize", CAT, NIGHT, "-o", "out.png", *FLAGS, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["exists.gif"]
