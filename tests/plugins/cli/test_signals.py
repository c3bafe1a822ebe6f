"""Signals that end a program: what is painted so far is kept, and temporary folders go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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
        wait_until(
            lambda: log.exists() and log.read_text().count("\n") >= 3, self.process, seconds=240
        )

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
    others = ["nstrt-keep", "nstrt-temporary-", "nstrt-temporary-0-²-x", "nstrt-temporary-0-1-x"]
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_batch_keeps_what_is_finished_and_the_state_of_the_rest(
    name: str, jobs: int, tmp_path: Path
) -> None:
    number, out = getattr(signal, name), tmp_path / "out"
    table = tmp_path / "jobs.csv"
    table.write_text(
        f"content,style,output,iterations\n{CAT},{NIGHT},a.png,2\n{NIGHT},{CAT},b.png,100000\n"
    )
    process = start_nstrt(
        *("batch", table, "--out-dir", out, "--jobs", str(jobs), "--json", *SMALL[:4]),
        *("--engine", "onnx", "--tolerance", "0", "--log", tmp_path / "log"),
        # A terminal, and systemd, signal all processes of a command.
        start_new_session=True,
    )
    wait_until((out / "a.png").exists, process, seconds=120)
    log = tmp_path / "log"
    wait_until(lambda: log.read_text().count("\n") >= 4, process, seconds=120)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["outcome"] for line in lines[:-1]] == ["done"]
    assert (lines[-1]["failed"], lines[-1]["left"]) == (0, 1)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png.checkpoint"]


@pytest.mark.slow
def test_an_exploration_saves_the_sheet_of_the_finished_cells(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    cells = ("--vary", "iterations=2,100000", "--size", "64", "--scales", "1")
    command = ("explore", CAT, NIGHT, "-o", sheet, *cells, "--tolerance", "0", "--engine", "onnx")
    process = start_nstrt(*command)
    assert process.stderr
    while "1 of 2" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert sheet.exists()


@pytest.mark.slow
def test_a_signal_ends_an_export_without_half_a_file(tmp_path: Path) -> None:
    models = tmp_path / "models"
    process = start_nstrt("export", "--folder", models)
    wait_until(lambda: models.exists() and any(models.iterdir()), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert not list(models.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["import", "callback"])
def test_a_signal_is_not_lost_where_an_exception_would_be(
    place: str, number: int, tmp_path: Path
) -> None:
    """Compiled modules make ImportError of it while they are imported; cffi ignores it."""
    losing = f"""
import os, time
try:
    os.kill(os.getpid(), {number:d})
    time.sleep(0.1)
except BaseException:
    raise ImportError("lost") from None
"""
    (tmp_path / "losing.py").write_text(losing)
    started = {
        "import": "import losing",
        "callback": "exec(compile(open('losing.py').read(), 'pyvips/__init__.py', 'exec'))",
    }
    script = f"""
import sys, time
from nstrt.plugins.cli.signals import end_on_signals
sys.path.insert(0, ".")
end_on_signals()
try:
    {started[place]}
    time.sleep(10)
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")


def test_signals_while_a_command_ends_leave_no_trace(tmp_path: Path) -> None:
    script = """
import atexit, os, signal, sys, time
from nstrt.plugins.cli.signals import end_on_signals, exit_code
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(5)))
end_on_signals()
sys.exit(exit_code(0))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
