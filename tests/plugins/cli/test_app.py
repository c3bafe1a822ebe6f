"""Help, version, completion and usage errors."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from nstrt.plugins.cli import app
from nstrt.runtime import StylizeOptions, errors

from support import CAT, NIGHT, ROOT, Capture
from support.command_line import nstrt, run_nstrt, run_without


def test_stylize_help_lists_all_options_in_groups() -> None:
    shown = run_nstrt("stylize", "--help").stdout
    for item in fields(StylizeOptions):
        assert "--" + item.name.replace("_", "-") in shown
    groups = ["Arguments:", "Most used:", "Output:", "Look:", "Effort:", "Machine:", "Examples:"]
    places = [shown.index(f"\n{group}") for group in groups]
    assert places == sorted(places)
    first = re.findall(r"^  (?:-\w, )?--([a-z-]+)", shown[places[1] : places[2]], re.MULTILINE)
    assert len(first) <= 14
    assert {"output", "size", "preset", "strength", "color", "protect", "dry-run"} <= set(first)


def test_the_program_alone_shows_whole_sentences_and_three_examples(capsys: Capture) -> None:
    assert nstrt() == 0
    shown = capsys.readouterr().out
    text = " ".join(shown.split())
    for sentence in app._COMMANDS.values():
        assert sentence in text
    examples = shown.partition("Examples:")[2].strip().splitlines()
    assert len(examples) == 3
    assert all(line.strip().startswith("nstrt ") for line in examples)


@pytest.mark.parametrize(
    ("command", "words"), [("explore", "small picture in pixels. [192]"), ("compare", "own size.")]
)
def test_help_on_size_says_what_the_command_does(command: str, words: str, capsys: Capture) -> None:
    assert nstrt(command, "--help") == 0
    shown = capsys.readouterr().out
    text = " ".join(shown[shown.index("  --size N") :].split())
    assert words in text[:200]
    assert "suits this machine" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stylize", "a.jpg"], "Missing argument 'STYLE' (the painting). Try"),
        (["stylize"], "Missing argument 'CONTENT' (the photo). Try"),
        (["stylize", "a", "b"], "(the result). Try"),
        (["stylize", "a", "b", "--strenth", "1"], "--strenth. Did you mean --strength? Try"),
        (["stylize", "a", "b", "--stren", "1"], "--stren. Did you mean --strength? Try"),
        (["batch", "a", "--out-dirr", "b"], "--out-dirr. Did you mean --out-dir? Try"),
        (["stylise"], "'stylise'. Did you mean 'stylize'? Try"),
        (["stylize", "a", "b", "--size", "0"], "--size must be from 16 to 65536, not 0."),
        (["stylize", "a", "b", "-o", "c", "--save-every", "-1"], "it must be at least 0."),
    ],
)
def test_usage_errors_are_whole_sentences(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    if "must be from" in words:
        arguments = [*arguments, "-o", "out.png"]
    assert nstrt(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["stylize", "https://example.org//a/b.jpg", NIGHT, "-o", "out.png"],
        ["stylize", CAT, "http://example.org/b.jpg", "-o", "out.png"],
        ["stylize", CAT, NIGHT, "-o", "ftp://example.org/out.png"],
        ["stylize", CAT, NIGHT, "-o", "out.png", "--region", "m.png:https://example.org/b.jpg"],
        ["stylize", CAT, NIGHT, "-o", "out.png", "--init=https://example.org/b.jpg"],
        ["batch", "https://example.org/trip/", "--style", NIGHT, "--out-dir", "out"],
        ["info", "https://example.org//a.png"],
        ["compare", CAT, "file:///home/ada/a.png"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_address_is_refused_as_it_was_typed(
    arguments: list[str | Path], capsys: Capture
) -> None:
    assert nstrt(*arguments) == 2
    error = capsys.readouterr().err
    (address,) = (word for text in map(str, arguments) for word in re.findall(r"[a-z]+://.*", text))
    sentence = f"'{address}' is an address; save the picture first, and name its file."
    assert error == f"nstrt: {sentence}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["stylize", "--help"], ["export", "--help"]],
    ids=" ".join,
)
def test_help_and_version_import_no_heavy_package(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['nstrt', *sys.argv[1:]]\n"
        "from nstrt.plugins.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
    )
    run_without({"torch", "onnxruntime", "numpy", "pyvips", "rich"}, code, *arguments)


def test_version_is_one_line() -> None:
    assert re.fullmatch(r"nstrt \d+\.\d+\.\d+\n", run_nstrt("--version").stdout)


def test_show_completion_prints_a_script() -> None:
    # Without this, typer looks for the shell among the parent processes.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run_nstrt("--show-completion", "bash", env=environment)
    assert "_NSTRT_COMPLETE" in done.stdout or "complete" in done.stdout.lower()


def test_missing_command_and_bad_number_are_explained(capsys: Capture) -> None:
    assert nstrt() == 0
    assert capsys.readouterr().out.startswith("Usage: nstrt")
    assert nstrt(CAT, NIGHT) == 2
    assert "nstrt stylize PHOTO PAINTING" in capsys.readouterr().err
    assert nstrt("stylize", CAT, NIGHT, "-o", "out.png", "--size", "big") == 2
    error = capsys.readouterr().err
    assert "--size" in error
    assert "it must be a whole number." in error


def test_sentences_of_the_help_are_those_of_the_commands(capsys: Capture) -> None:
    """The help of all commands imports none of them."""
    for name, sentence in app._COMMANDS.items():
        assert app.run([name, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert sentence in text


def test_a_command_after_a_double_dash_is_found(capsys: Capture) -> None:
    assert app.run(["--", "info", str(CAT)]) == 2
    assert "does not say how it was made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["stylize", "missing.jpg", NIGHT, "-o", "out.png"], "picture", "missing.jpg"),
        (["stylize", CAT, NIGHT, "-o", "out.xyz"], "picture", ".xyz"),
        (["stylize", CAT, NIGHT, "-o", "out.png", "--strength", "2"], "option", "strength"),
        (["stylize", CAT, NIGHT, "-o", "out.png", "--strenght", "1"], "usage", "strenght"),
        (["stylize", CAT, NIGHT], "usage", "output"),
        (["batch", CAT, "--out-dir", "out"], "option", "style"),
        (["batch", "nowhere", "--style", NIGHT, "--out-dir", "out"], "picture", "nowhere"),
        (["explore", CAT, "missing.jpg"], "usage", ""),
        (["compare", CAT, "missing.jpg"], "picture", "missing.jpg"),
        (["info", "missing.jpg"], "usage", ""),
        (["export", "--layers", "relu9_9"], "option", "relu9_9"),
    ],
    ids=str,
)
def test_errors_are_json_too(
    arguments: list[str | Path], code: str, word: str, tmp_path: Path, capsys: Capture
) -> None:
    with contextlib.chdir(tmp_path):
        assert nstrt(*arguments, "--json") == 2
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert sorted(facts) == ["code", "error"]
    assert facts["code"] == code or not word
    assert word in facts["error"].lower()
    assert printed.err == f"nstrt: {facts['error']}\n"
    assert not list(tmp_path.iterdir())


def test_a_fault_is_json_with_its_traceback(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("nstrt.runtime.style_transfer.StyleTransfer.run", fail)
    with pytest.raises(ZeroDivisionError):
        nstrt("stylize", CAT, NIGHT, "-o", tmp_path / "out.png", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["code"] == "internal"
    assert "ZeroDivisionError" in facts["error"]


def test_every_error_and_its_code_is_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        if kind is not errors.NstrtError and issubclass(kind, errors.NstrtError):
            rows = [line for line in page.splitlines() if f"`{kind.__name__}`" in line]
            assert [row for row in rows if f"`{kind.code}`" in row], kind
