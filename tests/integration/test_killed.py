"""``kill -9`` at any moment leaves no broken result and no broken model."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import onnxruntime
import pytest

from nstrt.runtime import ModelStore, StylizeOptions
from nstrt.runtime.pictures import read_picture

from support import CAT, NIGHT
from support.command_line import run_nstrt, start_nstrt

pytestmark = pytest.mark.slow


def _kill_after(seconds: float, arguments: list[str | Path], cache: Path) -> None:
    """Start a command and kill its processes after a time, if it has not ended before."""
    process = start_nstrt(
        *arguments,
        cache=cache,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def _run_whole(arguments: list[str | Path], cache: Path) -> float:
    """Run a command to its end and return its time."""
    started = time.monotonic()
    done = run_nstrt(*arguments, cache=cache)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def test_a_killed_run_leaves_the_old_result_or_a_whole_one(
    tmp_path: Path, models: ModelStore, own_cache: Path
) -> None:
    models.obtain(StylizeOptions.of().spec)
    models.obtain(StylizeOptions.of().spec.as_variant("optimized"))
    out = tmp_path / "out.png"
    arguments: list[str | Path] = ["stylize", CAT, NIGHT, "-o", out, "--force", "--engine", "onnx"]
    arguments += ["--size", "48", "--scales", "1", "--iterations", "2", "--original-size"]
    whole = _run_whole(arguments, own_cache)
    size = read_picture(out).size
    source = random.Random(5)
    # Most of the moments are near the end, where the file is written.
    for share in [source.uniform(0.3, 1.0)] + [source.uniform(0.85, 1.05) for _ in range(3)]:
        _kill_after(whole * share, arguments, own_cache)
        assert read_picture(out).size == size


def test_a_killed_export_leaves_only_models_that_open(tmp_path: Path) -> None:
    arguments: list[str | Path] = ["export", "--layers", "relu1_1,relu2_1", "--variant", "plain"]
    whole = _run_whole(arguments, tmp_path / "first")
    cache = tmp_path / "cache"
    source = random.Random(7)
    for _ in range(2):
        _kill_after(whole * source.uniform(0.7, 1.0), arguments, cache)
        for path in (cache / "models").glob("vgg19*.onnx"):
            # A file that the store does not list is built again.
            models = [model.path for model in ModelStore(cache / "models").list()]
            if path in models:
                onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    _run_whole(arguments, cache)
    # The next export removes the files of the killed ones.
    assert len(list((cache / "models").iterdir())) == 2


@pytest.mark.parametrize("moment", ["encoding", "renaming"])
def test_a_failed_save_leaves_no_file(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nstrt.runtime.errors import PictureWriteError
    from nstrt.runtime.pictures import save
    from nstrt.runtime.system import files as file_module

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if moment == "renaming":
        monkeypatch.setattr(file_module.os, "replace", full)
    else:
        monkeypatch.setattr(file_module, "_sync", full)
    with pytest.raises(PictureWriteError):
        save(read_picture(CAT), tmp_path / "out.png", recipe=None, overwrite=False)
    assert list(tmp_path.iterdir()) == []
