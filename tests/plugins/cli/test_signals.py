"""Signals that end a program: what is painted so far is kept, and temporary folders go."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support import CAT, NIGHT
from support.command_line import SMALL, start_nstrt, wait_until

LONG = (*SMALL, "--iterations", "100000", "--tolerance", "0", "--checkpoint-seconds", "0")


class _Painting:
    """A long run with a film, and a folder of its own for temporary files."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.out, self.temporary = folder / "out.png", folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        log = folder / "log"
        log.unlink(missing_ok=True)
        outputs = ("-o", self.out, "--log", log, "--timelapse", folder / "film.gif", "--force")
        self.process = start_nstrt(
            *("stylize", CAT, NIGHT, *outputs, *LONG),
            env={**os.environ, "TMPDIR": str(self.temporary)},
            **more,
        )
        wait_until(lambda: log.exists() and log.read_text().count("\n") >= 3, self.process)

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and what was printed."""
        report, errors = self.process.communicate(timeout=60)
        return self.process.returncode, report + errors

    def left_frames(self) -> list[Path]:
        return list(self.temporary.glob("nstrt*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_keeps_picture_state_and_film_and_removes_the_frames(
    name: str, tmp_path: Path
) -> None:
    number = getattr(signal, name)
    painting = _Painting(tmp_path)
    painting.process.send_signal(number)
    if name == "SIGHUP":
        # A terminal that closes sends it twice.
        painting.process.send_signal(number)
    code, printed = painting.end()
    assert code == 128 + number, printed
    assert Image.open(painting.out).size == (64, 43)
    assert (tmp_path / "out.png.checkpoint").exists()
    assert (tmp_path / "film.gif").exists()
    assert painting.left_frames() == []


def test_an_ignored_signal_stays_ignored_as_under_nohup(tmp_path: Path) -> None:
    painting = _Painting(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    painting.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        painting.process.wait(0.5)
    painting.process.send_signal(signal.SIGTERM)
    assert painting.end()[0] == 143


def test_frames_of_a_killed_run_are_removed_by_the_next_one(tmp_path: Path) -> None:
    killed = _Painting(tmp_path)
    killed.process.kill()
    killed.end()
    assert len(killed.left_frames()) == 1
    others = ["nstrt-keep", "nstrt-frames-", "nstrt-frames-0-²-x", "nstrt-frames-0-1-x"]
    for name in others:
        (killed.temporary / name).mkdir()
    following = _Painting(tmp_path)
    following.process.send_signal(signal.SIGTERM)
    assert following.end()[0] == 143
    assert sorted(path.name for path in following.left_frames()) == sorted(others)


def test_a_signal_before_the_first_step_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = start_nstrt(
        *("stylize", CAT, NIGHT, "-o", tmp_path / "out.png", "--timelapse", tmp_path / "film.gif"),
        *LONG,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    wait_until(lambda: any(temporary.glob("nstrt*")), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert not [path for path in tmp_path.rglob("*") if path.name[0] in "no.f"]
