"""The Python examples of the docs run as they stand, one page's after the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import Image

from nstrt.runtime import StylizeOptions
from nstrt.runtime.engines import benchmark as calibrate
from nstrt.runtime.options import options

from support import ROOT

pytestmark = pytest.mark.slow


def the_first(
    _: str, engines: Mapping[str, object], *__: object
) -> tuple[str, Mapping[str, float]]:
    """In place of ``benchmark.fastest_engine``, which makes and measures all engines."""
    return next(iter(engines)), {name: 1.0 + number for number, name in enumerate(engines)}


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("python", ("out.png", "small.jpg", "painted-photo.jpg", "live.png")),
        ("watch", ("live.png", "out.webp")),
        ("batch", ("photo.png",)),
        ("compare", ()),
        ("explore", ("sheet.jpg",)),
    ],
)
def test_python_examples_run(
    page: str, made: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source, target in (("cat.jpg", "photo.jpg"), ("night.jpg", "painting.jpg")):
        Image.open(ROOT / "examples" / source).resize((72, 48)).save(tmp_path / target)
    # The same presets with fewer steps: the examples are about names, not about the picture.
    short = {name: replace(preset, schedule=(3,)) for name, preset in options.PRESETS.items()}
    monkeypatch.setattr(options, "PRESETS", short)
    # Which engine is the quickest is no matter either.
    monkeypatch.setattr(calibrate, "fastest_engine", the_first)
    monkeypatch.chdir(tmp_path)

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.S)
    assert blocks
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, f"docs/{page}.md", "exec"), scope)
    for name in made:
        assert (tmp_path / name).stat().st_size > 0


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_worker_s_page_lists_every_option() -> None:
    page = (ROOT / "docs" / "worker.md").read_text()
    section = page.partition("## Options")[2].partition("## Errors")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert listed == [item.name for item in fields(StylizeOptions)]
