"""``nstrt stylize`` and the files that it writes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import CAT, NIGHT, Capture
from support.command_line import SMALL, nstrt, start_nstrt, wait_until
from support.photo_data import exif_data, photo_image


def test_stylize_writes_picture_report_and_log(tmp_path: Path, capsys: Capture) -> None:
    out, log = tmp_path / "out.png", tmp_path / "run.jsonl"
    assert nstrt("stylize", CAT, NIGHT, "-o", out, *SMALL, "--log", log) == 0
    assert Image.open(out).size == (64, 43)
    report = capsys.readouterr().out
    for words in (str(out), "64x43", "engine onnx", "cpu", "painted", "loss", "3 steps"):
        assert words in report
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    keys = ["scale", "width", "height", "iteration", "step", "loss", "content", "style", "tv"]
    assert list(lines[0]) == [*keys, "seconds"]


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
    assert "Stopped" in report
    assert str(out) in report
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
