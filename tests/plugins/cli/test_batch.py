"""``nstrt batch``: outcomes, exit codes, the log, the dry run, and a second run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support import CAT, NIGHT, Capture
from support.batches import FLAGS
from support.command_line import nstrt

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the photos a.jpg and b.png."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        Image.open(CAT).resize((96, 64)).save(folder / name)
    return folder


def json_lines(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_second_run_with_results_inside_the_input_skips_them(
    photos: Path, capsys: Capture
) -> None:
    out = photos / "painted"
    arguments = ["batch", str(photos / "**" / "*"), "--style", NIGHT, "--out-dir", out, *FLAGS]
    assert nstrt(*arguments) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert sorted(path.name for path in before) == ["a.jpg", "b.png"]
    capsys.readouterr()
    assert nstrt(*arguments) == 0
    assert capsys.readouterr().out.startswith("0 painted, 2 done before")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_results_of_other_options_stay_and_the_summary_names_both_ways_out(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["batch", photos, "--style", NIGHT, "--out-dir", tmp_path / "out", *FLAGS]
    assert nstrt(*arguments, "-q") == 0
    assert nstrt(*arguments, "--strength", "0.9") == 3
    printed = capsys.readouterr()
    assert printed.out.startswith("0 painted, 2 made otherwise before")
    assert printed.err.splitlines()[-2:] == [
        f"nstrt: {tmp_path / 'out' / 'a.jpg'} and 1 more: strength was 0.5 and is 0.9.",
        "nstrt: Results that were made otherwise stay as they are; --force paints them again, "
        "another --out-dir keeps both.",
    ]
    assert nstrt(*arguments, "--strength", "0.9", "--json") == 3
    *lines, summary = json_lines(capsys)
    assert [(line["outcome"], line["differences"]) for line in lines] == [
        ("differs", "strength was 0.5 and is 0.9")
    ] * 2
    assert (summary["differs"], summary["failed"], summary["left"]) == (2, 0, 0)
    # A photo that fails matters more.
    (photos / "c.heic").write_bytes(b"no picture")
    assert nstrt(*arguments, "--strength", "0.9") == 1
    assert "c.heic" in capsys.readouterr().err
    assert nstrt(*arguments, "--strength", "0.9", "--force") == 1


def test_a_dry_run_plans_each_job_and_writes_nothing(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    arguments = ["batch", photos, "--style", NIGHT, "--out-dir", out, *FLAGS]
    assert nstrt(*arguments, "--dry-run") == 0
    assert not out.exists()
    printed = capsys.readouterr()
    assert "2 to be painted (" in printed.out
    assert "GB of memory" in printed.out
    assert "a.jpg  to be painted at 48 x 32, " in printed.err
    assert nstrt("batch", photos / "a.jpg", *arguments[2:], "-q") == 0
    (photos / "c.jpg").write_bytes(b"broken")
    log = tmp_path / "log.jsonl"
    assert nstrt(*arguments, "--dry-run", "--json", "--log", log) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg"]
    assert not log.exists()
    *lines, summary = json_lines(capsys)
    assert [line["outcome"] for line in lines] == ["skipped", "planned", "failed"]
    planned = lines[1]
    assert (planned["width"], planned["height"], planned["steps"]) == (48, 32, 2)
    assert planned["seconds"] > 0
    assert planned["memory"] > 1e6
    assert (summary["planned"], summary["done"]) == (1, 0)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_log_has_a_line_for_each_step_of_each_photo(
    photos: Path, tmp_path: Path, processes: str
) -> None:
    log = tmp_path / "log.jsonl"
    arguments = ["batch", photos, "--style", NIGHT, "--out-dir", tmp_path / "out", *FLAGS]
    assert nstrt(*arguments, "--log", log, "-q", "--jobs", processes) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ("a.jpg", "b.png"):
        steps = [line for line in lines if line["photo"] == str(photos / name)]
        assert [line["step"] for line in steps] == [1, 2]
        assert all(line["loss"] > 0 for line in steps)
        assert {line["output"] for line in steps} == {str(tmp_path / "out" / name)}
    # A second run adds to the log; with --force it begins anew.
    Image.open(CAT).resize((96, 64)).save(photos / "c.png")
    assert nstrt(*arguments, "--log", log, "-q", "--jobs", processes) == 0
    assert len(log.read_text().splitlines()) == 6
    assert nstrt(*arguments, "--log", log, "-q", "--jobs", processes, "--force") == 0
    assert len(log.read_text().splitlines()) == 6


def test_a_log_over_a_file_of_the_batch_is_refused(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    table = tmp_path / "list.csv"
    table.write_text(f"content\n{photos / 'a.jpg'}\n")
    init = photos / "b.png"
    arguments = ["batch", table, "--style", NIGHT, "--out-dir", tmp_path, "--init", init, *FLAGS]
    for file in (photos / "a.jpg", table, init):
        before = file.read_bytes()
        assert nstrt(*arguments, "--log", file) == 2
        assert "would be written over a file of the batch" in capsys.readouterr().err
        assert file.read_bytes() == before
