"""``nstrt stylize`` and the files that it writes."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.plugins.cli import progress
from nstrt.plugins.cli.plan_report import plan_lines
from nstrt.runtime import StyleTransfer, StylizeOptions

from support import CAT, NIGHT, Capture
from support.command_line import SMALL, nstrt, start_nstrt, wait_until
from support.photo_data import exif_data, photo_image


def test_stylize_writes_picture_report_and_log(tmp_path: Path, capsys: Capture) -> None:
    out, log = tmp_path / "out.png", tmp_path / "run.jsonl"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--log", log) == 0
    assert Image.open(out).size == (64, 43)
    report = capsys.readouterr().out
    assert report.startswith(f"Saved {out}: 64x43 pixels, painted ")
    assert re.search(r" %, in .*(second|minute)s?\.\n  settings: size 64", report)
    assert not re.search(r"engine onnx|loss|provider|1 scales", report)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    keys = ["scale", "width", "height", "iteration", "step", "loss", "content", "style", "tv"]
    assert list(lines[0]) == [*keys, "seconds"]


def test_verbose_adds_engine_losses_scales_and_reasons(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--verbose") == 0
    report = capsys.readouterr().out
    for words in ("engine onnx on cpu", "GB planned", "loss ", "64x43 (3)", "provider cpu chosen"):
        assert words in report


def test_summary_echoes_the_settings_that_matter(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    given = ["--strength", "0.75", "--color", "content", "--protect", CAT]
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, *given) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "settings: " in line)
    for words in ("strength 0.75", "color content", f"protect {CAT.name}"):
        assert words in line
    assert "engine" not in line


def test_a_run_says_time_and_memory_before_it_starts(tmp_path: Path, capsys: Capture) -> None:
    assert nstrt("stylize", CAT, NIGHT, "-o", tmp_path / "out.png", *SMALL) == 0
    before = capsys.readouterr().err.splitlines()
    (first,) = (place for place, line in enumerate(before) if line.startswith("Painting "))
    assert before[first].endswith(": 64x43 pixels, 1 scale, 3 steps.")
    assert re.fullmatch(
        r"(A few|About \d+) seconds, \d\.\d GB of memory, on the processor\.", before[first + 1]
    )


def test_a_dry_run_paints_nothing_and_tells_what_the_worker_tells(
    tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out.png"
    arguments = ["stylize", CAT, NIGHT, "-o", out, "--size", "1000", "--engine", "onnx"]
    assert nstrt(*arguments, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"1000x\d+ pixels, 7 scales, 195 steps\.$", lines[0])
    assert re.search(
        r"^About (\d+ minutes|[\d.]+ hours), \d\.\d GB of memory, on the processor\.$", lines[1]
    )
    assert "--size 1000 enlarges the photo 2.2 times: it has 451 pixels" in lines[2]
    assert nstrt(*arguments, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []
    options = StylizeOptions.of(size=1000, engine="onnx")
    sizes = [Image.open(path).size for path in (CAT, NIGHT)]
    estimate = StyleTransfer(options).estimate(*sizes)
    assert plan["memory"] == estimate.plan.memory
    assert plan["steps"] == estimate.plan.steps == 195
    assert plan["width"] == 1000


@pytest.mark.parametrize("case", ["missing photo", "black mask", "too small", "no folder"])
def test_a_dry_run_refuses_what_the_run_refuses(case: str, tmp_path: Path, capsys: Capture) -> None:
    black = tmp_path / "black.png"
    Image.new("L", (64, 43)).save(black)
    out = tmp_path / "out.png"
    arguments = {
        "missing photo": [tmp_path / "none.jpg", NIGHT, "-o", out],
        "black mask": [CAT, NIGHT, "-o", out, "--protect", black],
        "too small": [CAT, NIGHT, "-o", out, "--size", "20", "--scales", "4"],
        "no folder": [CAT, NIGHT, "-o", tmp_path / "none" / "out.png"],
    }[case]
    sentences = []
    for more in ([], ["--dry-run"]):
        assert nstrt("stylize", *arguments, *more, "--engine", "onnx") == 2
        sentences.append(capsys.readouterr().err)
    assert sentences[0] == sentences[1]


def test_more_than_ten_minutes_have_a_line_of_their_own() -> None:
    run = StyleTransfer(StylizeOptions.of(size=64, engine="onnx")).run(CAT, NIGHT)
    plan = run.estimate().plan
    assert len(list(plan_lines(run, plan, 599.0))) == 2
    (*_, line) = plan_lines(run, plan, 2400.0)
    assert line.startswith("That is more than ten minutes: --size 32 takes about 10 minutes")


def test_without_a_terminal_a_line_tells_the_progress_every_half_minute(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.png"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL) == 0
    assert "step 1 of 3" not in capsys.readouterr().err
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--force") == 0
    assert re.search(r"^step 2 of 3  67 %", capsys.readouterr().err, re.MULTILINE)


def test_json_summary_is_all_of_stdout(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.jpg"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["output"] == str(out)
    assert summary["plan"]["provider"] == "cpu"
    assert summary["losses"]["loss"] > 0
    assert summary["options"]["size"] == 64


def test_quiet_prints_nothing(tmp_path: Path, capfd: Capture) -> None:
    assert nstrt("stylize", CAT, NIGHT, "-o", tmp_path / "o.png", *SMALL, "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_existing_result_is_replaced_only_with_force(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--force") == 0
    assert Image.open(out).size == (64, 43)


def test_save_every_saves_step_pictures_and_refuses_earlier_ones(tmp_path: Path) -> None:
    out = tmp_path / "out[1].png"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--save-every", "2") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out[1]-step00002.png",
        "out[1].png",
    ]
    out.unlink()
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--save-every", "2") == 2


def test_unsaved_step_picture_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from nstrt.runtime import pictures
    from nstrt.runtime.errors import PictureWriteError

    def full(*_: object, **__: object) -> None:
        raise PictureWriteError("There is no room on the disk.")

    monkeypatch.setattr(pictures, "save", full)
    out = tmp_path / "out.png"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--save-every", "1") == 0
    assert "no room on the disk" in capsys.readouterr().err
    assert out.exists()


def test_result_without_its_folder_is_saved_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from nstrt.runtime.errors import OutputExistsError
    from nstrt.runtime.pictures import write

    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    check, checked = write.check_writable, []

    def vanished(path: Path, **given: bool) -> None:
        """Fail as if the folder were there at the start of the run and gone at its end."""
        checked.append(path)
        if len(checked) == 1:
            raise OutputExistsError("The folder is gone.")
        check(path, **given)

    monkeypatch.setattr(write, "check_writable", vanished)
    assert nstrt("stylize", CAT, NIGHT, "-o", tmp_path / "out.png", *SMALL) == 2
    error = capsys.readouterr().err
    (rescued,) = (tmp_path / "elsewhere").rglob("out.png")
    assert str(rescued.parent) in error
    assert Image.open(rescued).size == (64, 43)


def test_ctrl_c_saves_the_best_picture_so_far(tmp_path: Path) -> None:
    out, log = tmp_path / "out.png", tmp_path / "log"
    arguments = ["stylize", CAT, NIGHT, "-o", out, "--log", log, *SMALL]
    process = start_nstrt(*arguments, "--iterations", "100000")
    wait_until(lambda: log.exists() and log.read_text().count("\n") >= 8, process)
    process.send_signal(signal.SIGINT)
    report, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "steps, as you asked; this is the best picture so far." in report
    assert str(out) in report
    assert f"--resume goes on from {out}.checkpoint" in report
    assert Image.open(out).size == (64, 43)
    photo = np.asarray(Image.open(CAT).resize((64, 43)), float)
    assert np.abs(np.asarray(Image.open(out), float) - photo).mean() > 2


def test_ctrl_c_before_the_first_picture_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from nstrt.runtime import style_transfer

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(style_transfer.StyleTransfer, "run", interrupted)
    assert nstrt("stylize", CAT, NIGHT, "-o", tmp_path / "out.png") == 130
    assert capsys.readouterr().err.startswith("nstrt: Stopped before")
    assert list(tmp_path.iterdir()) == []


def test_closed_stdout_and_stderr_do_not_stop_the_run(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    process = start_nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stderr.close()
    assert process.wait(120) == 0
    assert Image.open(out).size == (64, 43)


@pytest.mark.parametrize("command", ["stylize", "batch"])
def test_strip_metadata_leaves_the_photos_data_out(command: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo_image((96, 64)).save(photo, exif=exif_data(), dpi=(300, 300))
    for flags in ([], ["--strip-metadata"]):
        target = tmp_path / f"out{len(flags)}" / "photo.jpg"
        target.parent.mkdir()
        names = ["-o", target] if command == "stylize" else ["--out-dir", target.parent]
        style = [NIGHT] if command == "stylize" else ["--style", NIGHT]
        assert nstrt(command, photo, *style, *names, *SMALL, *flags) == 0
        assert (b"Maker" in target.read_bytes()) == (not flags)
        assert Image.open(target).info.get("dpi") == (None if flags else (200, 200))
