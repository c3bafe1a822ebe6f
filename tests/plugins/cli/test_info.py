"""``nstrt info``: this machine, and recipes of results."""

from __future__ import annotations

import json
from pathlib import Path

from nstrt.runtime import Step, StyleTransfer, StylizeOptions

from support import CAT, NIGHT, Capture
from support.command_line import SMALL, nstrt


def test_info_shows_the_recipe_of_a_result(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.webp"
    nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--content-weight", "0.123", "-q")
    assert nstrt("info", out, "--json") == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe["options"]["content_weight"] == 0.123
    assert nstrt("info", out) == 0
    assert "content weight: 0.123" in capsys.readouterr().out
    assert nstrt("info", CAT) == 2


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
    assert "stopped after 2 steps" in capsys.readouterr().out.splitlines()[0]
