"""``nstrt export`` and ``nstrt import``."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
from PIL import Image

from nstrt.runtime import StylizeOptions
from nstrt.runtime.model import ModelSpec

from support import CAT, EXAMPLES, NIGHT, Capture
from support.command_line import nstrt, run_without

pytestmark = pytest.mark.slow


def test_export_prints_a_table_of_checked_files(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["export", "--layers", "relu1_1,relu2_1", "--folder", str(tmp_path)]
    assert nstrt(*arguments, "--variant", "plain", "--variant", "fp16") == 0
    table = capsys.readouterr().out
    for words in ("file", "size", "taps", "largest error", "seconds", "at most 1e-04"):
        assert words in table
    (plain,) = tmp_path.glob("*plain*.onnx")
    session = onnxruntime.InferenceSession(str(plain), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["relu1_1", "relu2_1"]


@pytest.fixture
def small_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the network of the default options at the first layer, which is quickly exported."""
    spec = ModelSpec.for_step(("relu1_1",), ("relu1_1",))
    monkeypatch.setattr(StylizeOptions, "step_spec", property(lambda self: spec))


@pytest.mark.usefixtures("small_step")
def test_lite_export_is_imported_and_runs_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder, cache = tmp_path / "models", tmp_path / "cache"
    assert nstrt("export", "--for", "lite", "--folder", folder) == 0
    assert f"nstrt import {folder}" in capsys.readouterr().out
    names = sorted(path.name for path in folder.glob("*.onnx"))
    assert sorted(name.split("-")[5] for name in names) == ["plain", "step", "tile"]
    assert len(list(folder.iterdir())) == 6

    code = (
        "import sys; from nstrt.plugins.cli.app import run\n"
        "assert run(['import', sys.argv[1]]) == 0\n"
    )
    output = run_without({"torch", "onnx", "onnxruntime", "numpy"}, code, folder, cache=cache)
    for name in names:
        assert f"{name}: copied" in output
        assert (cache / "models" / name).read_bytes() == (folder / name).read_bytes()
    monkeypatch.setenv("NSTRT_CACHE", str(cache))
    assert nstrt("import", folder) == 0
    assert capsys.readouterr().out.count("was there already") == 3

    out = tmp_path / "out.png"
    code = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0])"
    step = (EXAMPLES / "step.py", folder, CAT, NIGHT, out)
    output = run_without({"torch", "onnx", "nstrt"}, code, *step)
    assert Image.open(out).size == (256, 170)
    losses = [float(line.split()[2]) for line in output.splitlines()]
    assert losses[-1] < losses[0] / 2

    (folder / names[0]).write_bytes(b"damage")
    assert nstrt("import", folder) == 2
    error = capsys.readouterr().err
    assert "is damaged; nothing was copied" in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("small_step")
def test_export_makes_the_step_fp16_variant(tmp_path: Path, capsys: Capture) -> None:
    assert nstrt("export", "--folder", tmp_path, "--variant", "step-fp16", "--json") == 0
    (export,) = json.loads(capsys.readouterr().out)
    assert "-step-fp16-" in export["path"]
    assert export["largest_error"] <= export["tolerance"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "lite"], "--folder"),
        (["--for", "phones", "--folder", "models"], "it can be lite"),
        (["--for", "lite", "--folder", "models", "--variant", "plain"], "leave out"),
        (["--for", "lite", "--folder", "models", "--layers", "relu1_1"], "leave out"),
        (["--layers", "relu1_1", "--variant", "step"], "a step gives out none"),
        (["--variant", "int8"], "step-fp16"),
        (["--variant", "step-bf16"], "cannot be 'step-bf16'; choose plain"),
    ],
    ids=" ".join,
)
def test_export_refuses_in_one_sentence_and_writes_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    assert nstrt("export", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
