"""Every option that writes refuses a file that is there and not nstrt's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nstrt.exporter import specs_of
from nstrt.runtime import StylizeOptions
from nstrt.runtime.run.checkpoint_file import is_checkpoint

from support import CAT, NIGHT, Capture
from support.command_line import SMALL, nstrt

MINE = b"a letter to my aunt\n"

MODEL = StylizeOptions.of().spec.as_variant("plain").file_name

BATCH = ("batch", CAT, "--style", NIGHT, "--out-dir", "painted", *SMALL)

STYLIZE = ("stylize", CAT, NIGHT, "-o", "out.png", *SMALL)

EXPORT = ("export", "--variant", "plain", "--folder", "models")

CASES: dict[str, tuple[str, tuple[str | Path, ...]]] = {
    "result": ("out.png", STYLIZE),
    "log": ("mine.txt", (*STYLIZE, "--log", "mine.txt")),
    "log of a batch": ("mine.txt", (*BATCH, "--log", "mine.txt")),
    "preview": ("mine.png", (*STYLIZE, "--preview", "mine.png")),
    "film": ("mine.webp", (*STYLIZE, "--timelapse", "mine.webp")),
    "picture of a step": ("out-step00003.png", (*STYLIZE, "--save-every", "3")),
    "checkpoint": ("out.png.checkpoint", STYLIZE),
    "sheet": (
        "mine.jpg",
        ("explore", CAT, NIGHT, "-o", "mine.jpg", "--vary", "strength=0.5", *SMALL),
    ),
    "exported model": (f"models/{MODEL}", EXPORT),
    "record of an exported model": (f"models/{MODEL}.json", EXPORT),
    "port and token": ("mine.json", ("worker", "--loopback", "mine.json")),
    "socket": ("mine.sock", ("worker", "--socket", "mine.sock")),
    "socket before it listens": ("a.sock.new", ("worker", "--socket", "a.sock")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_others_is_refused_in_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    target, arguments = CASES[name]
    Path(target).parent.mkdir(exist_ok=True)
    Path(target).write_bytes(MINE)
    assert nstrt(*arguments) == 2
    assert Path(target).read_bytes() == MINE
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("nstrt: ")
    assert target.rpartition("/")[2] in error


@pytest.mark.parametrize("content", [b"{}", b'{"port": 80, "token": "x", "more": 1}', b"[]", b""])
def test_a_worker_replaces_only_files_of_port_and_token(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(content)
    assert nstrt("worker", "--loopback", tmp_path / "mine.json") == 2
    assert (tmp_path / "mine.json").read_bytes() == content


def test_a_picture_of_a_step_never_replaces_the_photo(tmp_path: Path, capfd: Capture) -> None:
    photo = tmp_path / "out-step00003.png"
    shutil.copy(CAT, photo)
    arguments = ("stylize", photo, NIGHT, "-o", tmp_path / "out.png", "--save-every", "3")
    assert nstrt(*arguments, "--force", *SMALL) == 2
    assert photo.read_bytes() == Path(CAT).read_bytes()
    assert "written over" in capfd.readouterr().err


@pytest.fixture
def own_log(tmp_path: Path) -> Callable[[], int]:
    """Paint with a log, and count its lines."""

    def paint() -> int:
        log, out = tmp_path / "log", tmp_path / "out.png"
        assert nstrt("stylize", CAT, NIGHT, "-o", out, "--log", log, "--force", *SMALL) == 0
        return log.read_text().count("\n")

    return paint


@pytest.mark.slow
def test_its_own_log_and_checkpoint_are_replaced(
    tmp_path: Path, own_log: Callable[[], int]
) -> None:
    lines = own_log()
    assert own_log() == lines
    json.loads((tmp_path / "log").read_text().splitlines()[0])
    (tmp_path / "out.png").unlink()
    out, log = tmp_path / "out.png", tmp_path / "log"
    out.with_name("out.png.checkpoint").write_bytes(b"")
    assert nstrt("stylize", CAT, NIGHT, "-o", out, "--log", log, *SMALL) == 0
    assert not list(tmp_path.glob("*.checkpoint"))


def test_checkpoints_are_told_by_their_start(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.checkpoint"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("checkpoint.json", "{}")
    assert is_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holiday.txt", "{}")
    assert not is_checkpoint(path)


def test_every_file_of_an_export_is_known_before() -> None:
    specs = specs_of(StylizeOptions.of().spec)
    assert len({spec.file_name for spec in specs}) == 3
