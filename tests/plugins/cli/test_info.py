"""``nstrt info``: this machine, and recipes of results."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import Step, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import Picture, save

from support import CAT, EMBER, NIGHT, Capture
from support.command_line import SMALL, nstrt


def test_info_shows_the_recipe_of_a_result(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.webp"
    nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--content-weight", "0.123", "-q")
    assert nstrt("info", out, "--json") == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe["options"]["content_weight"] == 0.123
    assert nstrt("info", out) == 0
    assert "content weight 0.123" in capsys.readouterr().out
    assert nstrt("info", CAT) == 2


def test_info_fits_ten_lines_and_names_the_command_that_repeats_the_picture(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (CAT, NIGHT, EMBER):
        shutil.copy(path, tmp_path)
    parts = ("--region", f"{CAT.name}:{EMBER.name}:{NIGHT.name}", "--style-mask", EMBER.name)
    masks = ("--region", f"{CAT.name}:{EMBER.name}", *parts, "--protect", CAT.name)
    several = ("--add-style", EMBER.name, "--style-mask", "", "--style-blend", "2,1")
    options = (*SMALL, "--strength", "0.75", "--no-clamp", *masks, *several)
    assert nstrt("stylize", CAT.name, NIGHT.name, "-o", "a.png", *options, "-q") == 0
    capsys.readouterr()
    assert nstrt("info", "a.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    text = "\n".join(lines)
    for words in ("64x43 pixels", "1 scale", "3 steps", " GB", " %", "strength 0.75", "no clamp"):
        assert words in text
    assert not re.search(r"winograd|direct|im2col|sha256|ExecutionProvider|1 scales", text)
    (again,) = (line.partition(": ")[2] for line in lines if line.startswith("again: "))
    command = shlex.split(again)
    command[command.index("a.png")] = "b.png"
    assert command[0] == "nstrt"
    assert nstrt(*command[1:], "-q") == 0
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))
    capsys.readouterr()
    assert nstrt("info", "a.png", "--full") == 0
    full = capsys.readouterr().out
    assert full.startswith("\n".join(lines[:-1]))
    for words in ("kernels", "sha256", "adam beta2: 0.99", "versions"):
        assert words in full


def test_info_on_this_machine_fits_ten_lines(capsys: Capture) -> None:
    assert nstrt("info") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    text = "\n".join(lines)
    for words in ("nstrt ", "on the processor", " GB of memory free", " pixels", "network: "):
        assert words in text
    assert "ExecutionProvider" not in text
    assert nstrt("info", "--full") == 0
    assert "onnxruntime: " in capsys.readouterr().out


def test_recipe_of_another_version_is_shown_as_it_is(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "later.png"
    picture = Picture.from_array(np.zeros((20, 20, 3), np.uint8))
    save(picture, path, recipe={"nstrt": "9.0", "plan": "by heart"}, overwrite=False)
    assert nstrt("info", path) == 0
    assert "plan: by heart" in capsys.readouterr().out


def test_info_lists_providers_weights_and_versions(capsys: Capture) -> None:
    assert nstrt("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["providers"]["cpu"].startswith("runs")
    assert "8-bit quantised original weights" in facts["weights"]["oxford"]
    assert facts["would_run"]["provider"] in facts["providers"]
    assert set(facts["versions"]) >= {"nstrt", "onnxruntime", "torch", "python"}


def test_info_shows_that_a_run_was_stopped(tmp_path: Path, capsys: Capture) -> None:
    options = StylizeOptions.of(size=64, iterations=9, scales=1, engine="torch")
    run = StyleTransfer(options).run(CAT, NIGHT)
    for event in run:
        if isinstance(event, Step) and event.step == 2:
            run.stop()
    run.result().save(tmp_path / "out.png")
    assert nstrt("info", tmp_path / "out.png") == 0
    assert "2 steps, stopped early, of 9" in capsys.readouterr().out
