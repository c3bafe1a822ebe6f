"""Job lists: photos, folders, patterns and tables, and the errors for mistakes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nstrt.runtime import NstrtError, OptionError, PictureReadError, StylizeOptions, jobs_from

from support import NIGHT

CSV = """\
content, style, output, strength, content-layers, iterations, original_size
a.jpg, , , 0.8, , , yes
b.jpg, ../other.jpg, named.png, , "relu3_1, relu4_2:0.5", "30,20", no
"""
SEMICOLONS = """\
content;style;output;strength;content_layers;--iterations;original-size
a.jpg;;;0.8;;;true

b.jpg;../other.jpg;named.png;;relu3_1, relu4_2:0.5;30,20;0
"""
TOML = """\
preset = "fast"
[[picture]]
content = "a.jpg"
strength = 0.8
original_size = true
preset = "balanced"
[[picture]]
content = "b.jpg"
style = "../other.jpg"
output = "named.png"
content_layers = "relu3_1, relu4_2:0.5"
iterations = [30, 20]
"""


def test_folders_and_overlapping_patterns_list_each_photo_once(
    photos: Path, tmp_path: Path
) -> None:
    sources = [photos, str(photos / "*.jpg"), photos / "c.png"]
    jobs = jobs_from(sources, style=NIGHT, out_dir=tmp_path)
    assert [job.output for job in jobs] == [tmp_path / name for name in ("a.jpg", "b.jpg", "c.png")]


def test_the_mask_belongs_to_the_painting(photos: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"style": NIGHT, "style_mask": "mask.png", "out_dir": tmp_path}
    for job in jobs_from([photos], **given):
        assert job.style_mask == Path("mask.png")
    table = tmp_path / "list.csv"
    table.write_text(
        "content,style,style-mask\na.jpg,,\nb.jpg,other.jpg,\nc.jpg,other.jpg,part.png\n"
        "d.jpg,,part.png\n"
    )
    part = tmp_path / "part.png"
    masks = [job.style_mask for job in jobs_from([table], **given)]
    assert masks == [Path("mask.png"), None, part, part]


def test_suffix_of_results(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos / "a.jpg"], style=NIGHT, out_dir=tmp_path, suffix=".webp")
    assert jobs[0].output.name == "a.webp"
    # nstrt does not write BMP.
    assert jobs_from(["old.bmp"], style=NIGHT, out_dir=tmp_path)[0].output.name == "old.png"


@pytest.mark.parametrize("table", ["list.csv", "semicolons.csv", "list.toml"])
def test_tables_give_pairs_and_options_per_row(table: str, tmp_path: Path) -> None:
    text = {"list.csv": CSV, "semicolons.csv": SEMICOLONS, "list.toml": TOML}[table]
    path = tmp_path / "lists" / table
    path.parent.mkdir()
    # Excel saves CSV with a byte order mark.
    path.write_text(text, encoding="utf-8-sig" if table.endswith("csv") else "utf-8")
    first, second = jobs_from([path], style=NIGHT, out_dir="out", size=300, strength=0.2)
    assert first.content == path.parent / "a.jpg"
    assert first.style == NIGHT
    assert first.output == Path("out/a.jpg")
    assert first.options == StylizeOptions.of(size=300, strength=0.8, original_size=True)
    assert second.style == path.parent / "../other.jpg"
    assert second.output == Path("out/named.png")
    preset = "fast" if table.endswith("toml") else "balanced"
    layers = {"relu3_1": 1.0, "relu4_2": 0.5}
    assert second.options == StylizeOptions.of(
        preset, size=300, strength=0.2, content_layers=layers, iterations=(30, 20)
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "photo,style\na.jpg,b.jpg\n", "'content' among them"),
        ("l.csv", "content,strenth\na.jpg,0.5\n", "did you mean 'strength'"),
        ("l.csv", "content,strength\na.jpg,0.5\nb.jpg,much\n", "Picture 2"),
        ("l.csv", "content,strength\na.jpg,1.5\n", "from 0 to 1"),
        ("l.csv", "content\na.jpg,0.5\n", "more cells"),
        ("l.csv", "content\n", "lists no pictures"),
        ("l.toml", "picture = 3", "[[picture]]"),
        ("l.toml", "[[picture]", "not TOML"),
        ("l.toml", "[[picture]]\nstyle = 'a.jpg'", "no 'content'"),
        ("l.toml", "[[picture]]\ncontent = 3", "a file's name"),
        ("l.toml", "[[picture]]\ncontent = 'a.jpg'\nsize = 'big'", "whole number"),
    ],
)
def test_errors_name_the_mistake_in_a_table(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError) as error:
        jobs_from([tmp_path / name], style=NIGHT, out_dir=tmp_path)
    assert message in str(error.value)


def test_invalid_sources_are_refused(photos: Path, tmp_path: Path) -> None:
    def error(*sources: Path | str, **changes: Any) -> str:
        arguments = {"style": NIGHT, "out_dir": tmp_path / "out", **changes}
        with pytest.raises(NstrtError) as raised:
            jobs_from(list(sources), **arguments)
        return str(raised.value)

    assert "style=" in error(photos, style=None)
    assert "choose one of" in error(photos, suffix=".bmp")
    (tmp_path / "empty").mkdir()
    assert "no pictures in the folder" in error(tmp_path / "empty")
    assert "like" in error("nothing-*.jpg")
    with pytest.raises(PictureReadError):
        jobs_from(["missing.csv"], style=NIGHT, out_dir=tmp_path)
