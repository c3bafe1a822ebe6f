"""Grid search: axes, cells and their commands, contact sheets, and the look at full size."""

from __future__ import annotations

import errno
import json
import math
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nstrt.runtime import (
    Axis,
    Exploration,
    OptionError,
    Picture,
    StyleTransfer,
    StylizeOptions,
    contact_sheet,
    parse_axis,
)
from nstrt.runtime.analysis.compare import compare
from nstrt.runtime.analysis.grid_search import sheet_paths
from nstrt.runtime.options.text import format_flags, parse_option
from nstrt.runtime.pictures import resize, write

from support import CAT as CAT_PATH
from support import NIGHT as NIGHT_PATH
from support import Capture
from support.batches import FLAGS
from support.command_line import nstrt

pytestmark = pytest.mark.slow

CAT, NIGHT = str(CAT_PATH), str(NIGHT_PATH)


def axes(*texts: str) -> list[Axis]:
    return [parse_axis(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "option", "values"),
    [
        ("strength=0.2,0.5,1", "strength", (0.2, 0.5, 1.0)),
        ("style-scale=2", "style_scale", (2.0,)),
        ("--color=style,content", "color", ("style", "content")),
        ("scales=1, 2", "scales", (1, 2)),
        ("average=yes,no", "average", (True, False)),
        ("iterations=10;20,10", "iterations", ((10,), (20, 10))),
        ("content-layers=relu4_2;relu3_1,relu4_2:0.5", "content_layers",
         ("relu4_2", "relu3_1,relu4_2:0.5")),
    ],
)  # fmt: skip
def test_parse_axis_reads_options_and_values(
    text: str, option: str, values: tuple[object, ...]
) -> None:
    assert parse_axis(text) == Axis(option=option, values=values)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["strength"], "strength=0.2"),
        (["strength="], "strength=0.2"),
        (["strenth=0.5"], "did you mean 'strength'"),
        (["strength=much"], "must be a number"),
        (["strength=0.5,1.5"], "from 0 to 1"),
        (["size=100,200"], "one size"),
        (["strength=0.5", "strength=0.7"], "once"),
        (["seed=" + ",".join(map(str, range(25))), "strength=" + ",".join("1" * 25)], "most"),
        ([], "axes="),
    ],
    ids=str,
)
def test_invalid_axes_are_refused_at_once(texts: list[str], message: str) -> None:
    with pytest.raises(OptionError) as error:
        Exploration(CAT, NIGHT, axes(*texts))
    assert message in str(error.value)


def test_axes_become_columns_rows_and_sheets() -> None:
    cells = Exploration(
        CAT, NIGHT, axes("strength=0.1,0.2,0.3", "style-scale=1,2", "preset=fast,best")
    ).cells
    assert [cell.number for cell in cells] == list(range(1, 13))
    assert [(cell.page, cell.row, cell.column) for cell in cells] == [
        (page, row, column) for page in (0, 1) for row in (0, 1) for column in (0, 1, 2)
    ]
    assert cells[0].changes == {"strength": 0.1, "style_scale": 1.0, "preset": "fast"}
    assert cells[1].changes["strength"] == 0.2
    assert cells[3].changes["style_scale"] == 2.0
    assert cells[6].options.preset == "best"
    assert cells[6].options.history == 30
    single = Exploration(CAT, NIGHT, axes("seed=1,2,3,4,5")).cells
    assert [dict(cell.full_size) for cell in single] == [{"seed": n} for n in range(1, 6)]
    assert [(cell.row, cell.column) for cell in single] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert sheet_paths("a/s.jpg", 1) == [Path("a/s.jpg")]
    assert sheet_paths("a/s.jpg", 12)[0] == Path("a/s-01.jpg")


def test_a_cell_s_command_has_its_options_without_the_size() -> None:
    shared = {"preset": "fast", "style_layers": {"relu1_1": 1, "relu3_1": 0.5}, "average": False}
    exploration = Exploration("my cat.jpg", NIGHT, axes("strength=0.2,0.8"), given=shared, size=64)
    words = shlex.split(exploration.cells[1].command("my cat.jpg", NIGHT, "out.png"))
    assert words[:6] == ["nstrt", "stylize", "my cat.jpg", NIGHT, "-o", "out.png"]
    assert words[6:8] == ["--strength", "0.8"]
    assert "--size" not in words
    assert "--no-average" in words
    values: dict[str, object] = {}
    rest = iter(words[6:])
    for flag in rest:
        if flag == "--no-average":
            values["average"] = False
        else:
            name = flag.removeprefix("--").replace("-", "_")
            values[name] = parse_option(name, next(rest))
    expected = StylizeOptions.of(**{**shared, "strength": 0.8})
    assert StylizeOptions.of(**values) == expected
    assert exploration.cells[1].options == StylizeOptions.of(**{**shared, "strength": 0.8}, size=64)


def test_a_cell_s_command_has_the_painting_s_mask() -> None:
    exploration = Exploration(CAT, NIGHT, axes("strength=0.2,0.8"), style_mask="a mask.png")
    words = shlex.split(exploration.cells[0].command("cat.jpg", "night.jpg", "out.png"))
    assert words[6:] == ["--style-mask", "a mask.png", "--strength", "0.2", "--seed", "0"]


def test_flags_of_options() -> None:
    assert format_flags(
        {"original_size": True, "clamp": False, "size": None, "iterations": ()}
    ) == [
        "--original-size",
        "--no-clamp",
    ]
    assert format_flags({"style_layers": (("relu1_1", 1.0), ("relu2_1", 0.25))}) == [
        "--style-layers",
        "relu1_1,relu2_1:0.25",
    ]


def test_a_large_picture_is_nearest_to_its_own_cell() -> None:
    shared = {"iterations": (20, 12), "scales": 2, "engine": "onnx"}
    exploration = Exploration(
        CAT, NIGHT, axes("strength=0,1", "style-scale=0.5,2"), given={**shared, "scales": 1,
        "iterations": (20,)}, size=64,
    )  # fmt: skip
    for _ in exploration:
        pass
    assert len(exploration.results) == 4
    for cell in (exploration.cells[0], exploration.cells[3]):
        options = StylizeOptions.of(**shared, **cell.changes, size=91)
        large = StyleTransfer(options).stylize(CAT, NIGHT).picture
        distances = {}
        for number, result in exploration.results.items():
            small = result.picture
            shrunk = Picture(rgb=resize(large.rgb, small.width, small.height))
            distances[number] = compare(shrunk, small).delta_e
        assert min(distances, key=distances.__getitem__) == cell.number, distances


def test_the_command_writes_a_sheet_and_prints_commands(tmp_path: Path, capsys: Capture) -> None:
    sheet = tmp_path / "sheet.png"
    vary = ["--vary", "strength=0.2,0.9", "--vary", "tv-weight=0,1"]
    assert nstrt("explore", CAT, NIGHT, *vary, "-o", sheet, *FLAGS, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sheets"] == [str(sheet)]
    assert [cell["options"]["tv_weight"] for cell in facts["cells"]] == [0, 0, 1, 1]
    picture = np.asarray(Image.open(sheet))
    # White margins separate the cells.
    assert picture.shape[1] == 12 + 2 * (240 + 12)
    assert (picture[:, :12] == 255).all()
    assert (picture[80:, 12 + 240 : 12 + 252] == 255).all()
    command = shlex.split(facts["cells"][3]["command"])
    # The printed command paints the cell.
    out = tmp_path / "out.png"
    command[command.index("-o") + 1] = str(out)
    assert nstrt(*command[1:], "--size", "48", "-q") == 0
    cell = np.asarray(enlarged(Image.open(out)))
    assert 12 + 252 in found(picture, cell, first_row=picture.shape[0] // 2)
    assert nstrt("explore", CAT, NIGHT, *vary, "-o", sheet, *FLAGS) == 2
    assert "--force" in capsys.readouterr().err


def test_the_command_says_time_and_memory_before_it_paints(tmp_path: Path, capsys: Capture) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["explore", CAT, NIGHT, "--vary", "strength=0.2,0.9", "-o", sheet, *FLAGS]
    assert nstrt(*arguments, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2 pictures of 48x\d+ pixels on 1 sheet\.", lines[0])
    assert re.fullmatch(r".* seconds?, \d\.\d GB of memory, on the processor\.", lines[1])
    assert nstrt(*arguments, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert list(tmp_path.iterdir()) == []
    assert nstrt(*arguments) == 0
    assert "\n".join(lines) in capsys.readouterr().err


def enlarged(picture: Image.Image) -> Image.Image:
    """The picture as a sheet shows it, 240 pixels wide."""
    height = round(picture.height * 240 / picture.width)
    return picture.resize((240, height), Image.Resampling.LANCZOS)


def found(sheet: np.ndarray, picture: np.ndarray, *, first_row: int = 0) -> list[int]:
    """The columns at which the sheet shows the picture, below its first rows."""
    height, width = picture.shape[:2]
    return [
        x
        for y in range(first_row, sheet.shape[0] - height + 1)
        for x in range(12, sheet.shape[1] - width, 4)
        if np.array_equal(sheet[y, x : x + width], picture[0])
        and np.array_equal(sheet[y : y + height, x : x + width], picture)
    ]


def painted(exploration: Exploration, *missing: int) -> dict[int, Picture]:
    """Give the cells pictures of random colours at the cells' size in place of painted ones."""
    width, height = exploration.pictures[0].size
    factor = exploration.cells[0].options.size / max(width, height)
    shape = round(height * factor), round(width * factor), 3
    random = np.random.default_rng(1)
    pictures = {
        cell.number: Picture.from_array(random.integers(0, 255, shape, np.uint8))
        for cell in exploration.cells
        if cell.number not in missing
    }
    exploration.results = {
        number: SimpleNamespace(picture=picture, notes=()) for number, picture in pictures.items()
    }
    return pictures


def captions_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Texts of the sheets that are made from now on, line by line, with their widths."""
    lines: list[tuple[str, int]] = []
    draw = ImageDraw.ImageDraw.text

    def text(self: Any, at: tuple[int, int], line: str, *, font: Any, **how: Any) -> None:
        lines.append((line, math.ceil(at[0] + font.getlength(line))))
        draw(self, at, line, font=font, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return lines


@pytest.mark.parametrize(("wide", "high"), [(96, 64), (64, 96), (96, 20), (24, 96), (400, 300)])
def test_a_sheet_begins_with_photo_and_painting(wide: int, high: int) -> None:
    """Both are whole, as large as the cells, and pictures are enlarged to 240 x 480 at most."""
    random = np.random.default_rng(2)
    photo, night = random.integers(0, 255, (2 * high, 2 * wide, 3), np.uint8), Image.open(NIGHT)
    exploration = Exploration(photo, NIGHT, axes("strength=0,1"), size=max(wide, high))
    cells = painted(exploration)
    sheet = contact_sheet(exploration, content="photo.png", style="night.jpg").to_array(np.uint8)
    zoom = max(1, min(240 / wide, 480 / high))
    shown = round(wide * zoom), round(high * zoom)
    second = 12 + max(240, shown[0]) + 12
    for number, column in ((1, 12), (2, second)):
        picture = cells[number].to_pillow().resize(shown, Image.Resampling.LANCZOS)
        assert found(sheet, np.asarray(picture)) == [column]
    first = Image.fromarray(photo).resize(shown, Image.Resampling.LANCZOS)
    room = second - 24, max(shown[1], (second - 24) * 3 // 4)
    factor = min(room[0] / night.width, room[1] / night.height)
    size = round(night.width * factor), round(night.height * factor)
    painting = night.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    assert found(sheet[: sheet.shape[0] // 2 + 60], np.asarray(first)) == [12]
    assert found(sheet, np.asarray(painting)) == [second]


def test_a_transparent_photo_stands_on_white() -> None:
    photo = np.zeros((160, 240, 4), np.uint8)
    photo[:80, :, 3] = 255
    exploration = Exploration(photo, NIGHT, axes("strength=0,1"), size=240)
    painted(exploration)
    sheet = contact_sheet(exploration, content="photo.png", style="night.jpg").to_array(np.uint8)
    over_white = np.full((160, 240, 3), 255, np.uint8)
    over_white[:80] = 0
    assert found(sheet, over_white) == [12]


@pytest.mark.parametrize("page", [0, 1])
def test_captions_say_what_differs_and_the_title_what_is_shared(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = captions_of(monkeypatch)
    exploration = Exploration(
        CAT, NIGHT,
        axes("strength=0.2,0.8", "style-scale=1.5", "average=yes,no"),
        given={"preset": "fast", "tv_weight": 0.25}, size=96,
    )  # fmt: skip
    painted(exploration)
    contact_sheet(exploration, page, content="cat.jpg", style="night.jpg", stem="cat")
    texts = [line for line, _ in lines]
    number = 2 * page
    assert texts[-2:] == [f"{number + 1}  strength 0.2", f"{number + 2}  strength 0.8"]
    assert texts[-4:-2] == ["photo, 451x300 pixels", "painting, 900x675 pixels"]
    assert texts[0] == "cat.jpg in the style of night.jpg"
    assert texts[1] == "pictures of 96x64 pixels, shown at 240x160"
    title = " ".join(texts[2:-4])
    average = "--average" if page == 0 else "--no-average"
    command = f"nstrt stylize cat.jpg night.jpg -o cat-N.png --style-scale 1.5 {average} --seed 0"
    assert title.startswith(f"at full size: {command} --preset fast --tv-weight 0.25, with")
    assert "strength" not in title


def test_words_stay_within_their_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = captions_of(monkeypatch)
    layers = [",".join(f"relu{block}_{n}" for block in (1, 2, 3, 4) for n in (1, 2)), "relu4_2"]
    exploration = Exploration(
        CAT, NIGHT, axes(f"style-layers={';'.join(layers)}", "average=yes,no"), size=32
    )
    painted(exploration, 3)
    sheet = contact_sheet(exploration, content="c" * 80, style="night.jpg")
    assert sheet.width == 12 + 2 * 252
    assert max(width for _, width in lines[-8:]) <= 240
    assert max(width for _, width in lines) <= sheet.width - 24
    # Lists are broken between their items, and each option begins a line.
    first = next(at for at, (line, _) in enumerate(lines) if line.startswith("1  style layers"))
    caption = [line for line, _ in lines[first : first + 4]]
    assert " ".join(caption[:3]).replace(", ", ",") == f"1  style layers {layers[0]}"
    assert caption[3] == "average"


def test_a_stop_while_the_next_cell_is_prepared_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exploration = Exploration(
        CAT, NIGHT, axes("strength=0.2,0.8"),
        given={"scales": 1, "iterations": 2, "engine": "onnx"}, size=48,
    )  # fmt: skip
    run = StyleTransfer.run

    def stopping_run(self: StyleTransfer, *arguments: Any, **settings: Any) -> Any:
        if exploration.results:
            exploration.stop()
        return run(self, *arguments, **settings)

    monkeypatch.setattr(StyleTransfer, "run", stopping_run)
    assert {cell.number for cell, _ in exploration} == {1}


def test_cells_after_stop_stay_empty(tmp_path: Path) -> None:
    exploration = Exploration(
        CAT, NIGHT, axes("strength=0.2,0.9"),
        given={"scales": 1, "iterations": 3, "engine": "onnx"}, size=48,
    )  # fmt: skip
    for cell, event in exploration:
        if cell.number == 2 and event.step == 1:
            exploration.stop()
    assert list(exploration.results) == [1]
    sheet = contact_sheet(exploration, content="cat.jpg", style="night.jpg")
    assert sheet.width == 12 + 2 * 252
    values = sheet.to_array(np.uint8)
    frame = np.full((160, 240, 3), 255, np.uint8)
    frame[[0, -1]] = frame[:, [0, -1]] = 110
    assert found(values, frame) == [12 + 252]


def test_invalid_sheet_paths_are_refused_before_the_run(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the run started")

    monkeypatch.setattr(StyleTransfer, "run", fail)
    (tmp_path / "s-2.jpg").write_bytes(b"precious")
    vary = ["--vary", "strength=0,1", "--vary", "tv-weight=0,1", "--vary", "seed=1,2"]
    several = ["explore", CAT, NIGHT, *vary]
    for arguments in (
        [*several, "-o", str(tmp_path / "s.jpg")],
        [*several, "-o", str(tmp_path / "s.gif")],
        [*several[:-2], "-o", CAT, "--force"],
    ):
        assert nstrt(*arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_sheet_that_cannot_be_written_is_saved_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    written = write.write_atomically

    def full(target: Path, content: bytes) -> None:
        if target.parent == tmp_path:
            raise OSError(errno.ENOSPC, "")
        written(target, content)

    monkeypatch.setattr(write, "write_atomically", full)
    sheet = tmp_path / "sheet.jpg"
    assert nstrt("explore", CAT, NIGHT, "--vary", "strength=0.2,0.9", "-o", sheet, *FLAGS) == 2
    (rescued,) = (tmp_path / "elsewhere").rglob("sheet.png")
    assert str(rescued.parent) in capfd.readouterr().err
