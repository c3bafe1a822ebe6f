"""Directions of imports, sizes of modules, and what importing the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

from support import ROOT

PARTS = ("plugins", "runtime", "exporter")

ORDER = (
    *("plugins.cli", "plugins.gimp", "plugins.worker", "exporter"),
    *("runtime.analysis", "runtime.batch", "runtime.outputs", "runtime.video"),
    *("runtime.style_transfer", "runtime.run", "runtime.planning", "runtime.engines"),
    *("runtime.loss", "runtime.network", "runtime.options", "runtime.ort", "runtime.optim"),
    *("runtime.kernels", "runtime.pictures", "runtime.model", "runtime.arrays"),
    *("runtime.system", "runtime.errors"),
)
"""Folders from top to bottom: imports run downwards only."""

CONTRACT = ("nstrt.runtime.model", "nstrt.runtime.errors", "nstrt.runtime.system")
"""All that the exporter may import of the runtime."""

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 80
MAX_RUNTIME_ENTRIES = 20


@cache
def trees() -> dict[str, ast.Module]:
    """Syntax trees of all modules, by name."""
    modules = {}
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            name = ".".join(("nstrt", *path.relative_to(ROOT).with_suffix("").parts))
            modules[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    return modules


def imports_of(module: str, *, types: bool = True) -> Iterator[str]:
    """Full names that a module imports, anywhere in it; ``types`` includes type checking."""
    package = module if path_of(module).name == "__init__.py" else module.rpartition(".")[0]
    skipped = set() if types else set(type_checking_nodes(trees()[module]))
    for node in ast.walk(trees()[module]):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in trees() else source


def type_checking_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from ast.walk(node)


def path_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def folder_of(module: str) -> str | None:
    """The entry of :data:`ORDER` that a module belongs to."""
    name = module.removeprefix("nstrt.")
    return next((each for each in ORDER if inside(name, each)), None)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_every_folder_has_its_place_in_the_order() -> None:
    packages = {f"nstrt.{part}" for part in PARTS}
    assert {name for name in trees() if folder_of(name) is None} == packages - {"nstrt.exporter"}


def test_imports_run_downwards() -> None:
    upwards = [
        f"{module} imports {name}"
        for module in trees()
        for name in imports_of(module)
        if (own := folder_of(module)) and (other := folder_of(name))
        if ORDER.index(other) < ORDER.index(own)
    ]
    assert upwards == []


def test_no_imports_run_in_a_circle() -> None:
    imported = {
        module: {name for name in imports_of(module, types=False) if name in trees()} - {module}
        for module in trees()
    }
    # Repeatedly remove modules that import nothing that is left: the rest lies on circles.
    while leaves := {module for module, names in imported.items() if not names}:
        imported = {
            module: names - leaves for module, names in imported.items() if module not in leaves
        }
    assert imported == {}


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("runtime", "nstrt.exporter"),
        ("runtime", "torchvision"),
        ("exporter", "nstrt.plugins"),
        ("plugins", "torch"),
        ("plugins", "torchvision"),
    ],
)
def test_parts_do_not_import(part: str, forbidden: str) -> None:
    assert [
        (module, name)
        for module in trees()
        if inside(module, f"nstrt.{part}")
        for name in imports_of(module)
        if inside(name, forbidden)
    ] == []


def test_the_exporter_imports_only_the_contract_of_the_runtime() -> None:
    names = {
        name
        for module in trees()
        if inside(module, "nstrt.exporter")
        for name in imports_of(module)
        if inside(name, "nstrt.runtime")
    }
    assert names
    assert {name for name in names if not any(inside(name, each) for each in CONTRACT)} == set()


def test_modules_and_functions_are_short() -> None:
    """A longer module gives its reason in its docstring, with the word "lines"."""
    for module, tree in trees().items():
        lines = len(path_of(module).read_text().splitlines())
        assert lines <= MAX_MODULE_LINES or "lines" in (ast.get_docstring(tree) or ""), module
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{module}: {node.name}"


def test_the_runtime_has_few_entries() -> None:
    entries = [path for path in (ROOT / "runtime").iterdir() if not path.name.startswith("_")]
    assert len([path for path in entries if path.name != "py.typed"]) <= MAX_RUNTIME_ENTRIES


@pytest.mark.parametrize(
    "module",
    [
        "nstrt.runtime",
        "nstrt.runtime.model",
        "nstrt.runtime.pictures",
        "nstrt.runtime.ort.providers",
        "nstrt.runtime.ort.session",
        "nstrt.plugins.cli",
    ],
)
def test_importing_takes_no_torch(module: str) -> None:
    heavy = ["torch", "torchvision", "onnx", "onnxruntime"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_package_is_in_the_wheel() -> None:
    """Editable installs find packages that a wheel would lack."""
    code = (
        "import runpy, setuptools; setuptools.setup = lambda packages: print(*packages); "
        "runpy.run_path('setup.py')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packages = {name for name in trees() if path_of(name).name == "__init__.py"}
    assert set(done.stdout.split()) == packages
