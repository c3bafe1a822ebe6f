"""Reports of each command and host name once all that reading repaired or converted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import stylize

from support import CAT, NIGHT, Capture
from support.command_line import SMALL, nstrt
from support.picture_files import chunk, cicp, encoded, png
from support.worker_host import standard_streams

pytestmark = pytest.mark.slow

PHOTO_NOTE = "'photo.jpg' lacks its end marker, but all of its rows are there."
PAINTING_NOTE = "'sun.png' is an HDR picture (BT.2100 PQ)"
MASK_NOTE = "'mask.png' has foreign data behind its end, which was left out."
INIT_NOTE = "'start.png' has damaged additions (tEXt), but all of its rows are there."


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a photo, a painting, a mask and a start that have something to tell."""
    small = Image.open(CAT).resize((96, 64))
    (tmp_path / "photo.jpg").write_bytes(encoded(small, "JPEG")[:-2])
    painting = np.asarray(Image.open(NIGHT).convert("RGB").resize((96, 64)))
    (tmp_path / "sun.png").write_bytes(png(painting, cicp(9, 16)))
    mask = np.zeros((64, 96, 1), np.uint8)
    mask[:, 30:] = 255
    (tmp_path / "mask.png").write_bytes(png(mask) + b"foreign")
    broken = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    (tmp_path / "start.png").write_bytes(png(np.asarray(small), broken))
    return tmp_path


def assert_each_once(notes: list[str], *expected: str) -> None:
    for words in expected:
        assert sum(words in note for note in notes) == 1, notes


def test_stylize_tells_them_in_its_summary_and_json(pictures: Path, capsys: Capture) -> None:
    photo, painting, mask = (pictures / name for name in ("photo.jpg", "sun.png", "mask.png"))
    arguments = ["stylize", photo, painting, "-o", pictures / "out.png", *SMALL, "--force"]
    arguments += ["--engine", "torch", "--protect", mask, "--region", f"{mask}:{painting}"]
    arguments += ["--init", pictures / "start.png"]
    expected = PHOTO_NOTE, PAINTING_NOTE, MASK_NOTE, INIT_NOTE
    assert nstrt(*arguments) == 0
    assert_each_once(capsys.readouterr().out.splitlines(), *expected)
    assert nstrt(*arguments, "--json") == 0
    assert_each_once(json.loads(capsys.readouterr().out)["notes"], *expected)


def test_batch_explore_and_compare_tell_them(pictures: Path, capsys: Capture) -> None:
    photo, painting = pictures / "photo.jpg", pictures / "sun.png"
    out = pictures / "out"
    assert nstrt("batch", photo, "--style", painting, "--out-dir", out, *SMALL, "--json") == 0
    job = json.loads(capsys.readouterr().out.splitlines()[0])
    assert_each_once(job["notes"], PHOTO_NOTE, PAINTING_NOTE)
    sheet = ["explore", photo, painting, "-o", pictures / "sheet.png", "--size", "48", "--force"]
    sheet += ["--vary", "strength=0.3,0.6", "--scales", "1", "--iterations", "1"]
    assert nstrt(*sheet, "--json") == 0
    assert_each_once(json.loads(capsys.readouterr().out)["notes"], PHOTO_NOTE, PAINTING_NOTE)
    assert nstrt(*sheet) == 0
    assert_each_once(capsys.readouterr().out.splitlines(), PHOTO_NOTE, PAINTING_NOTE)
    assert nstrt("compare", photo, painting, "--json") == 0
    assert_each_once(json.loads(capsys.readouterr().out)["notes"], PHOTO_NOTE, PAINTING_NOTE)


def test_python_and_the_worker_tell_them(pictures: Path) -> None:
    photo, painting = str(pictures / "photo.jpg"), str(pictures / "sun.png")
    result = stylize(photo, painting, size=48, scales=1, iterations=1)
    assert_each_once(list(result.notes), PHOTO_NOTE, PAINTING_NOTE)
    with standard_streams() as (host, _):
        host.hello()
        assert_each_once(host.paint(photo, painting)[-1]["notes"], PHOTO_NOTE, PAINTING_NOTE)
