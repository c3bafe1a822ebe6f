"""Sentences name options in the words of each host."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import pytest

from nstrt.plugins.cli.words import FlagSpelling
from nstrt.plugins.gimp.dialog_options import arguments
from nstrt.plugins.worker.words import LabelSpelling
from nstrt.runtime import OptionError, StylizeOptions
from nstrt.runtime.system.words import is_offered, spelled, use_spelling

from support import ROOT

COMMAND = re.compile(r"(pip install|nstrt [a-z]+)( -{1,2}[a-z][a-z-]*( [a-z]+)?)*")
"""A command to type, which is no host's word for an option."""


def texts_of(tree: ast.AST) -> Iterator[str]:
    """The texts of a module without docstrings and the help, which is the command line's."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "option_field":
            skipped |= {part for part in ast.walk(node) if isinstance(part, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.value


@pytest.mark.parametrize("part", ["runtime", "exporter"])
def test_no_sentence_has_the_words_of_one_host(part: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in sorted((ROOT / part).rglob("*.py"))
        for text in texts_of(ast.parse(path.read_text()))
        if re.search(r"\s--[a-z]|^--[a-z-]+ .*[.;,]|[Ii]n Python|\bSTYLE\b|\bCONTENT\b",
                     COMMAND.sub("", text))
    ]  # fmt: skip
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "worker").rglob("*.py")), ids=str)
def test_the_worker_speaks_of_no_flag_of_stylize(path: Path) -> None:
    flags = {f"--{field.name.replace('_', '-')}" for field in fields(StylizeOptions)}
    for text in texts_of(ast.parse(path.read_text())):
        assert not flags & set(re.findall(r"--[a-z-]+", text))


def test_each_host_has_its_own_words() -> None:
    labels = {"style_scale": "Stroke size"}

    def sentence() -> str:
        with pytest.raises(OptionError) as caught:
            StylizeOptions.of(style_scale=50)
        return str(caught.value)

    assert sentence() == "style_scale= must be from 0.1 to 10, not 50."
    with use_spelling(FlagSpelling()):
        assert sentence() == "--style-scale must be from 0.1 to 10, not 50."
    with use_spelling(LabelSpelling(labels)):
        assert sentence() == "'Stroke size' must be from 0.1 to 10, not 50."
    with use_spelling(LabelSpelling()):
        assert sentence() == "style scale must be from 0.1 to 10, not 50."
    assert sentence() == "style_scale= must be from 0.1 to 10, not 50."


def test_values_are_written_as_people_type_them() -> None:
    assert spelled("engine", "torch") == "engine='torch'"
    assert spelled("overwrite", True) == "overwrite=True"
    with use_spelling(FlagSpelling()):
        assert spelled("engine", "torch") == "--engine torch"
        assert spelled("overwrite", True) == "--force"
        assert spelled("regions") == "--region"
    with use_spelling(LabelSpelling({"size": "Work at"})):
        assert spelled("size", 640) == "'Work at' 640"
        assert spelled("max_memory") == "max memory"


def test_a_dialog_offers_what_it_has_a_label_for() -> None:
    assert is_offered("original_size")
    with use_spelling(LabelSpelling({"size": "Size"})):
        assert is_offered("size")
        assert not is_offered("original_size")


def test_a_spelling_holds_in_its_own_thread_alone() -> None:
    with ThreadPoolExecutor(1) as pool, use_spelling(FlagSpelling()):
        assert spelled("size") == "--size"
        assert pool.submit(spelled, "size").result() == "size="


def test_the_labels_of_the_dialog_are_options() -> None:
    names = {field.name for field in fields(StylizeOptions)}
    assert {item["option"] for item in arguments() if item["option"]} <= names
