"""The command line as people use it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.plugins.cli.app import run
from nstrt.runtime import StylizeOptions

from support import EXAMPLES

CAT, NIGHT = str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "night.jpg")
SMALL = ["--size", "64", "--scales", "1", "--iterations", "3", "--engine", "onnx"]

Capture = pytest.CaptureFixture[str]


def nstrt(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nstrt.plugins.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,  # type: ignore[call-overload]
    )


def test_stylize_writes_the_picture_and_says_what_ran(tmp_path: Path, capsys: Capture) -> None:
    out, log = tmp_path / "out.png", tmp_path / "run.jsonl"
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--log", str(log)]) == 0
    assert Image.open(out).size == (64, 43)
    said = capsys.readouterr().out
    for words in (str(out), "64x43", "engine onnx", "cpu", "painted", "loss", "3 steps"):
        assert words in said
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    keys = ["scale", "width", "height", "iteration", "step", "loss", "content", "style", "tv"]
    assert list(lines[0]) == [*keys, "seconds"]


def test_json_is_one_object_alone_on_stdout(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.jpg"
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["output"] == str(out)
    assert summary["plan"]["provider"] == "cpu"
    assert summary["losses"]["loss"] > 0
    assert summary["options"]["size"] == 64


def test_quiet_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["stylize", CAT, NIGHT, "-o", str(tmp_path / "o.png"), *SMALL, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_an_existing_result_stays_unless_forced(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--force"]) == 0
    assert Image.open(out).size == (64, 43)


def test_save_every_keeps_pictures_on_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out[1].png"
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--save-every", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out[1]-step00002.png",
        "out[1].png",
    ]
    out.unlink()
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--save-every", "2"]) == 2


def test_info_reads_how_a_picture_was_made(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.webp"
    run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--content-weight", "0.123", "-q"])
    assert run(["info", str(out), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe["options"]["content_weight"] == 0.123
    assert run(["info", str(out)]) == 0
    assert "content weight: 0.123" in capsys.readouterr().out
    assert run(["info", CAT]) == 2


def test_info_says_what_would_run_here(capsys: Capture) -> None:
    assert run(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["providers"]["cpu"].startswith("runs")
    assert "8-bit quantised original weights" in facts["weights"]["oxford"]
    assert facts["would_run"]["provider"] in facts["providers"]
    assert set(facts["versions"]) >= {"nstrt", "onnxruntime", "torch", "python"}


def test_export_shows_a_table_of_what_was_checked(tmp_path: Path, capsys: Capture) -> None:
    import onnxruntime

    arguments = ["export", "--layers", "relu1_1,relu2_1", "--folder", str(tmp_path)]
    assert run([*arguments, "--variant", "plain", "--variant", "fp16"]) == 0
    table = capsys.readouterr().out
    for words in ("file", "size", "taps", "largest error", "seconds", "at most 1e-04"):
        assert words in table
    (plain,) = tmp_path.glob("*plain*.onnx")
    session = onnxruntime.InferenceSession(str(plain), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["relu1_1", "relu2_1"]


def test_every_option_has_its_flag_in_the_help() -> None:
    shown = nstrt("stylize", "--help").stdout
    for item in fields(StylizeOptions):
        assert "--" + item.name.replace("_", "-") in shown
    groups = ["Arguments:", "Output:", "Picture:", "Look:", "Effort:", "Machine:", "Examples:"]
    places = [shown.index(group) for group in groups]
    assert places == sorted(places)


def test_help_and_version_need_no_torch() -> None:
    for arguments in (["--version"], ["--help"], ["stylize", "--help"], ["export", "--help"]):
        code = (
            "import sys; sys.argv = ['nstrt', *sys.argv[1:]]\n"
            "from nstrt.plugins.cli import main\n"
            "try: main()\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "heavy = {'torch', 'onnxruntime', 'numpy', 'pyvips', 'rich'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"nstrt \d+\.\d+\.\d+\n", nstrt("--version").stdout)


def test_completion_is_offered() -> None:
    # Which shell it is would be looked for among the processes above this one.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = nstrt("--show-completion", "bash", env=environment)
    assert "_NSTRT_COMPLETE" in done.stdout or "complete" in done.stdout.lower()


def test_a_result_that_cannot_be_saved_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from nstrt.runtime.errors import OutputExistsError
    from nstrt.runtime.pictures import write

    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    check, checked = write.check_writable, []

    def vanished(path: Path, **given: bool) -> None:
        """The folder is there when the run starts, and gone when it ends."""
        checked.append(path)
        if len(checked) == 1:
            raise OutputExistsError("The folder is gone.")
        check(path, **given)

    monkeypatch.setattr(write, "check_writable", vanished)
    assert run(["stylize", CAT, NIGHT, "-o", str(tmp_path / "out.png"), *SMALL]) == 2
    said = capsys.readouterr().err
    (kept,) = (tmp_path / "elsewhere").rglob("out.png")
    assert str(kept.parent) in said
    assert Image.open(kept).size == (64, 43)


def test_ctrl_c_keeps_the_best_picture_so_far(tmp_path: Path) -> None:
    out, log = tmp_path / "out.png", tmp_path / "log"
    arguments = ["stylize", CAT, NIGHT, "-o", str(out), "--log", str(log), *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "nstrt.plugins.cli", *arguments, "--iterations", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 8):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    assert "Stopped" in said
    assert str(out) in said
    assert Image.open(out).size == (64, 43)
    photo = np.asarray(Image.open(CAT).resize((64, 43)), float)
    assert np.abs(np.asarray(Image.open(out), float) - photo).mean() > 2


def test_ctrl_c_before_there_is_a_picture_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from nstrt.runtime import style_transfer as transfer

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer.StyleTransfer, "run", interrupted)
    assert run(["stylize", CAT, NIGHT, "-o", str(tmp_path / "out.png")]) == 130
    assert capsys.readouterr().err.startswith("nstrt: Stopped before")
    assert list(tmp_path.iterdir()) == []


def test_nobody_listening_costs_no_picture(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    arguments = ["stylize", CAT, NIGHT, "-o", str(out), *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "nstrt.plugins.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stderr.close()
    assert process.wait(120) == 0
    assert Image.open(out).size == (64, 43)


def test_a_picture_on_the_way_that_cannot_be_saved_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from nstrt.runtime import pictures
    from nstrt.runtime.errors import PictureWriteError

    def full(*_: object, **__: object) -> None:
        raise PictureWriteError("There is no room on the disk.")

    monkeypatch.setattr(pictures, "save", full)
    out = tmp_path / "out.png"
    assert run(["stylize", CAT, NIGHT, "-o", str(out), *SMALL, "--save-every", "1"]) == 0
    assert "no room on the disk" in capsys.readouterr().err
    assert out.exists()


def test_what_people_type_first_is_answered(capsys: Capture) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: nstrt")
    assert run([CAT, NIGHT]) == 2
    assert "nstrt stylize PHOTO PAINTING" in capsys.readouterr().err
    assert run(["stylize", CAT, NIGHT, "-o", "out.png", "--size", "big"]) == 2
    assert "--size" in (said := capsys.readouterr().err)
    assert "it must be a whole number." in said


def test_a_stopped_picture_says_so(tmp_path: Path, capsys: Capture) -> None:
    from nstrt.runtime import Step, StyleTransfer

    options = StylizeOptions.of(size=64, iterations=9, scales=1, engine="torch")
    painting = StyleTransfer(options).run(CAT, NIGHT)
    for event in painting:
        if isinstance(event, Step) and event.step == 2:
            painting.stop()
    painting.result().save(tmp_path / "out.png")
    assert run(["info", str(tmp_path / "out.png")]) == 0
    assert "stopped after 2 steps" in capsys.readouterr().out.splitlines()[0]


@pytest.fixture
def small_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default options' losses as far as the first layer, which is quickly exported."""
    from nstrt.runtime.model import ModelSpec

    spec = ModelSpec.for_step(("relu1_1",), ("relu1_1",))
    monkeypatch.setattr(StylizeOptions, "step_spec", property(lambda self: spec))


@pytest.mark.usefixtures("small_step")
def test_models_travel_to_a_machine_that_cannot_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder, cache = tmp_path / "models", tmp_path / "cache"
    assert run(["export", "--for", "lite", "--folder", str(folder)]) == 0
    assert f"nstrt import {folder}" in capsys.readouterr().out
    names = sorted(path.name for path in folder.glob("*.onnx"))
    assert sorted(name.split("-")[5] for name in names) == ["plain", "step", "tile"]
    assert len(list(folder.iterdir())) == 6

    code = (
        "import sys; from nstrt.plugins.cli.app import run\n"
        "assert run(['import', sys.argv[1]]) == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "NSTRT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"{name}: copied" in done.stdout
        assert (cache / "models" / name).read_bytes() == (folder / name).read_bytes()
    monkeypatch.setenv("NSTRT_CACHE", str(cache))
    assert run(["import", str(folder)]) == 0
    assert capsys.readouterr().out.count("was there already") == 3

    out = tmp_path / "out.png"
    code = (
        "import runpy, sys\n"
        "runpy.run_path(sys.argv[0])\n"
        "heavy = {'torch', 'onnx', 'nstrt'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    arguments = [str(EXAMPLES / "step.py"), str(folder), CAT, NIGHT, str(out)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = {arguments}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(out).size == (256, 170)
    losses = [float(line.split()[2]) for line in done.stdout.splitlines()]
    assert losses[-1] < losses[0] / 2

    (folder / names[0]).write_bytes(b"damage")
    assert run(["import", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "is damaged; nothing was copied" in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("small_step")
def test_a_step_is_one_of_the_kinds_to_export(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["export", "--folder", str(tmp_path), "--variant", "step-fp16", "--json"]
    assert run(arguments) == 0
    (done,) = json.loads(capsys.readouterr().out)
    assert "-step-fp16-" in done["path"]
    assert done["largest_error"] <= done["tolerance"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--for", "lite"], "--folder"),
        (["--for", "phones", "--folder", "models"], "it can be lite"),
        (["--for", "lite", "--folder", "models", "--variant", "plain"], "leave out"),
        (["--for", "lite", "--folder", "models", "--layers", "relu1_1"], "leave out"),
        (["--layers", "relu1_1", "--variant", "step"], "a step gives out none"),
        (["--variant", "int8"], "step-fp16"),
        (["--variant", "step-bf16"], "use step-fp16"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_exported_is_one_sentence(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    assert run(["export", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
