"""The one-way flow between the parts, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name

import pytest

from support import ROOT


def imports(part: str) -> Iterator[tuple[str, str]]:
    """Every import of a part, as (file, full name), wherever in the file it stands."""
    for path in sorted((ROOT / part).rglob("*.py")):
        place = path.relative_to(ROOT)
        package = ".".join(("nstrt", *place.parent.parts))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((str(place), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = resolve_name("." * node.level + (node.module or ""), package)
                yield str(place), module
                yield from ((str(place), f"{module}.{alias.name}") for alias in node.names)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("runtime", "nstrt.exporter"),
        ("runtime", "nstrt.plugins"),
        ("exporter", "nstrt.plugins"),
        ("runtime", "torchvision"),
        ("plugins", "torch"),
        ("plugins", "torchvision"),
    ],
)
def test_no_import_goes_against_the_flow(part: str, forbidden: str) -> None:
    assert (ROOT / part / "__init__.py").is_file()
    assert [pair for pair in imports(part) if inside(pair[1], forbidden)] == []


def test_the_exporter_knows_only_the_contract_of_the_runtime() -> None:
    of_runtime = [pair for pair in imports("exporter") if inside(pair[1], "nstrt.runtime")]
    assert of_runtime
    contract = ("nstrt.runtime.model", "nstrt.runtime.errors", "nstrt.runtime.system")
    others = [pair for pair in of_runtime if not any(inside(pair[1], name) for name in contract)]
    assert others == []


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
    found = {
        ".".join(["nstrt", *path.parent.relative_to(ROOT).parts])
        for half in ("exporter", "runtime", "plugins")
        for path in (ROOT / half).rglob("__init__.py")
    }
    assert set(done.stdout.split()) == found
