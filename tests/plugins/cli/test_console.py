"""Standard streams that are closed, full, never read or gone do not end a command."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support import CAT, EMBER, NIGHT
from support.command_line import SMALL, run_nstrt, start_nstrt, wait_until

SHEET = ("--vary", "strength=0.2,0.8", "--size", "48", "--scales", "1", "--iterations", "2")


def _full_pipe() -> int:
    """The end to write to of a pipe that is full and that nobody reads."""
    _, target = os.pipe()
    os.set_blocking(target, False)
    try:
        while True:
            os.write(target, bytes(4096))
    except BlockingIOError:
        os.set_blocking(target, True)
    return target


def _close(*descriptors: int) -> Callable[[], None]:
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def _broken_pipe() -> int:
    source, target = os.pipe()
    os.close(source)
    return target


STREAMS: dict[str, dict[str, Any]] = {
    "no stderr": {"stderr": None, "preexec_fn": _close(2)},
    "no stdout": {"stdout": None, "preexec_fn": _close(1)},
    "no streams": {"stdout": None, "stderr": None, "preexec_fn": _close(0, 1, 2)},
    "full disk": {"stdout": "full", "stderr": "full"},
    "broken pipes": {"stdout": _broken_pipe, "stderr": _broken_pipe},
    "stderr that nobody reads": {"stderr": _full_pipe},
    "stdout that nobody reads": {"stdout": _full_pipe},
}


def _opened(streams: dict[str, Any]) -> dict[str, Any]:
    def opened(stream: Any) -> Any:
        if stream == "full":
            return os.open("/dev/full", os.O_WRONLY)
        return stream() if callable(stream) else stream

    return {
        name: stream if name == "preexec_fn" else opened(stream) for name, stream in streams.items()
    }


def _check_painting(streams: str, folder: Path, *flags: str) -> None:
    out = folder / "out.png"
    given = _opened(STREAMS[streams])
    done = run_nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, *flags, **given)
    assert done.returncode == 0, done.stderr
    assert Image.open(out).size == (64, 43)


@pytest.mark.parametrize("streams", ["no streams", "full disk", "stderr that nobody reads"])
def test_a_picture_is_painted_whatever_the_streams_are(streams: str, tmp_path: Path) -> None:
    _check_painting(streams, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("streams", [name for name in STREAMS if name[:8] != "stdout t"])
def test_a_picture_is_painted_where_json_is_asked_for(streams: str, tmp_path: Path) -> None:
    _check_painting(streams, tmp_path, "--json")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no streams", "full disk", "stderr that nobody reads"])
def test_all_commands_work_whatever_the_streams_are(name: str, tmp_path: Path) -> None:
    sheet, folder = tmp_path / "sheet.png", tmp_path / "painted"
    for command in (
        ("explore", CAT, NIGHT, "-o", sheet, *SHEET),
        ("batch", CAT, "--style", NIGHT, "--out-dir", folder, *SMALL),
        ("batch", EMBER, CAT, "--style", NIGHT, "--out-dir", folder, "--jobs", "2", *SMALL),
        ("export", "--layers", "relu1_1", "--variant", "plain", "--folder", tmp_path / "models"),
    ):
        done = run_nstrt(*command, timeout=400, **_opened(STREAMS[name]))
        assert done.returncode == 0, (command, done.stderr)
    assert sheet.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["cat.jpg", "ember.jpg"]


def test_an_error_without_stderr_is_an_error() -> None:
    done = run_nstrt("stylize", "none.jpg", NIGHT, "-o", "no.png", **_opened(STREAMS["no stderr"]))
    # Nothing of it may appear on stdout, which programs read.
    assert (done.returncode, done.stdout) == (2, "")


def test_output_on_a_full_disk_is_an_error_where_there_is_nothing_else() -> None:
    with open("/dev/full", "w") as full:
        done = run_nstrt("compare", CAT, CAT, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("arguments", [("info",), ("--help",), ("stylize", "--help")])
def test_a_reader_that_leaves_is_no_error(arguments: tuple[str, ...]) -> None:
    done = run_nstrt(*arguments, stdout=_broken_pipe())
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_vanishes_does_not_end_the_run(tmp_path: Path) -> None:
    out, log = tmp_path / "out.png", tmp_path / "log"
    ours, theirs = pty.openpty()
    process = start_nstrt(
        *("stylize", CAT, NIGHT, "-o", out, "--log", log, *SMALL, "--iterations", "40"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    wait_until(lambda: log.exists() and log.read_text().count("\n") >= 2, process)
    os.close(ours)
    assert process.wait(60) == 0
    assert Image.open(out).size == (64, 43)


def test_files_do_not_take_the_place_of_closed_streams(tmp_path: Path) -> None:
    """A library that prints to descriptor 2 must not print into a file that was opened there."""
    code = (
        "import os, sys\n"
        "from nstrt.plugins.cli.console import protect_streams\n"
        "protect_streams()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "os.write(2, b'noise'); os.write(1, b'noise')\n"
        "print('lost', file=sys.stderr); print('lost')\n"
        "file.write('whole')"
    )
    subprocess.run([sys.executable, "-c", code], preexec_fn=_close(0, 1, 2), check=True)
    assert (tmp_path / "file").read_text() == "whole"


def test_libraries_do_not_wait_for_the_reader_of_stderr() -> None:
    code = (
        "import os\n"
        "from nstrt.plugins.cli.console import protect_streams\n"
        "protect_streams()\n"
        "try:\n    os.write(2, b'warning of a library')\n"
        "except BlockingIOError:\n    print('lost')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=_full_pipe(), check=True, timeout=60
    )
    assert done.stdout == b"lost\n"


def test_the_worker_paints_without_stderr(tmp_path: Path) -> None:
    from support.worker_host import standard_streams

    with standard_streams(preexec_fn=_close(2)) as (host, _):
        host.hello()
        assert host.paint(str(CAT), str(NIGHT))[-1]["event"] == "result"
