"""``kill -9`` at any moment: no broken result, no broken model."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nstrt.runtime import ModelStore, StylizeOptions
from nstrt.runtime.pictures import read_picture

from support import EXAMPLES

CAT, NIGHT = str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "night.jpg")


def _kill_after(seconds: float, arguments: list[str], cache: Path) -> bool:
    """Whether the command was still running when it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nstrt.plugins.cli", *arguments],
        env={**os.environ, "NSTRT_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    return running


def test_a_killed_run_leaves_the_old_result_or_a_whole_one(
    tmp_path: Path, models: ModelStore, own_cache: Path
) -> None:
    models.obtain(StylizeOptions.of().spec)
    models.obtain(StylizeOptions.of().spec.as_variant("optimized"))
    out = tmp_path / "out.png"
    arguments = ["stylize", CAT, NIGHT, "-o", str(out), "--force", "--engine", "onnx"]
    arguments += ["--size", "48", "--scales", "1", "--iterations", "2", "--original-size"]
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "nstrt.plugins.cli", *arguments], check=True)
    whole = time.monotonic() - started
    size = read_picture(out).size
    source = random.Random(5)
    # Most of the moments near the end, where the file is written.
    for share in [source.uniform(0.3, 1.0)] + [source.uniform(0.85, 1.05) for _ in range(3)]:
        _kill_after(whole * share, arguments, own_cache)
        assert read_picture(out).size == size


def test_a_killed_export_leaves_no_model_that_is_not_whole(tmp_path: Path) -> None:
    arguments = ["export", "--layers", "relu1_1,relu2_1", "--variant", "plain"]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "nstrt.plugins.cli", *arguments],
        env={**os.environ, "NSTRT_CACHE": str(tmp_path / "first")},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    whole = time.monotonic() - started
    cache = tmp_path / "cache"
    source = random.Random(7)
    for _ in range(2):
        _kill_after(whole * source.uniform(0.7, 1.0), arguments, cache)
        for path in (cache / "models").glob("vgg19*.onnx"):
            # Either it counts, and then it opens, or it does not count and is built again.
            counted = [model.path for model in ModelStore(cache / "models").list()]
            if path in counted:
                import onnxruntime

                onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    subprocess.run(
        [sys.executable, "-m", "nstrt.plugins.cli", *arguments],
        env={**os.environ, "NSTRT_CACHE": str(cache)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    # The next export clears what the killed ones left.
    assert len(list((cache / "models").iterdir())) == 2


@pytest.mark.parametrize("moment", ["encoding", "renaming"])
def test_a_failure_while_saving_leaves_nothing(
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
