"""Films painted by a batch of frames: flicker, resuming and refused frames."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import (
    Batch,
    JobDone,
    JobFailed,
    PackageMissingError,
    StyleTransfer,
    StylizeOptions,
    jobs_from,
)
from nstrt.runtime.video.frames import frame_options

from support import NIGHT, ROOT, Capture
from support.batches import OPTIONS, last_events
from support.command_line import nstrt
from support.films import needs_opencv, pan

sys.path.append(str(ROOT / "benchmarks"))

import film

pytestmark = pytest.mark.slow

FLAGS = ["--size", "64", "--scales", "1", "--iterations", "2", "--engine", "onnx"]


def save_frames(frames: list[np.ndarray], folder: Path) -> None:
    """Write frames as f0.png, f1.png and so on."""
    for number, frame in enumerate(frames):
        Image.fromarray((255 * frame).astype(np.uint8)).save(folder / f"f{number}.png")


@needs_opencv
def test_frames_of_a_batch_flicker_less_than_frames_alone(tmp_path: Path) -> None:
    frames = pan(3, (64, 48))
    # Noise as start: with the photo, all paintings would stay near their frames.
    options = {
        "size": 64,
        "scales": 2,
        "iterations": (24, 10),
        "init": "noise",
        "engine": "onnx",
        "precision": "fp32",
    }
    painted = film.paint_film(frames, NIGHT, StylizeOptions.of(**options), tmp_path)
    transfer = StyleTransfer()
    alone = [
        transfer.with_options(StylizeOptions.of(**options, seed=seed)).stylize(
            tmp_path / f"frame-{seed}.png", NIGHT
        )
        for seed in range(len(frames))
    ]
    # The first frame has no previous one.
    first = painted[0][0].to_array(np.uint16)
    assert np.array_equal(first, alone[0].to_array(np.uint16))
    flicker = film.flicker([picture for picture, _ in painted], frames)
    flicker_alone = film.flicker([result.picture for result in alone], frames)
    print(f"flicker: batch {flicker:.4f}, alone {flicker_alone:.4f}")
    assert flicker < 0.5 * flicker_alone
    # Without its temporal part, the loss is about as low.
    for (_, recipe), other in zip(painted, alone, strict=True):
        assert film.loss_without_temporal(recipe) < 1.1 * other.terms.loss


def test_flicker_needs_two_frames() -> None:
    with pytest.raises(ValueError, match="two frames"):
        film.flicker(pan(1), pan(1))


@needs_opencv
def test_a_frame_of_another_size_fails(tmp_path: Path) -> None:
    save_frames([pan(1)[0], pan(1, (64, 64))[0]], tmp_path)
    sources = [tmp_path / "f0.png", tmp_path / "f1.png"]
    (tmp_path / "out").mkdir()
    jobs = jobs_from(sources, style=NIGHT, out_dir=tmp_path / "out", **OPTIONS)
    first, second = last_events(jobs, frames=True)
    assert isinstance(first, JobDone)
    assert isinstance(second, JobFailed)
    assert "one size" in second.reason


def test_later_frames_have_one_scale_and_the_steps_of_a_frame() -> None:
    options = frame_options(StylizeOptions.of("balanced"))
    assert options.scales == 1
    assert options.schedule == (35,)
    assert frame_options(options) == options
    assert frame_options(StylizeOptions.of("fast", optimizer="adam")).schedule == (45,)
    assert frame_options(StylizeOptions.of(iterations=(9, 4))).schedule == (4,)


def test_a_batch_of_frames_needs_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    jobs = jobs_from([tmp_path / "f0.png"], style=NIGHT, out_dir=tmp_path / "out")
    with pytest.raises(PackageMissingError, match=r"nstrt\[video\]"):
        next(iter(Batch(jobs, frames=True)))


@needs_opencv
def test_a_batch_of_frames_resumes_after_the_last_finished_frame(
    tmp_path: Path, capsys: Capture
) -> None:
    save_frames(pan(3), tmp_path)
    out = tmp_path / "out"
    arguments = ["batch", str(tmp_path / "f*.png"), "--style", str(NIGHT), "--out-dir", str(out)]
    arguments += [*FLAGS, "--frames"]

    def run_batch(exit_code: int, *flags: str) -> dict[str, Any]:
        assert nstrt(*arguments, "--json", *flags) == exit_code
        counts: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return counts

    counts = run_batch(0)
    assert counts["done"] == 3
    last = (out / "f2.png").read_bytes()
    # Without --frames the start is the frame itself, and the result differs.
    assert nstrt(*arguments[:-1], "--force", "-q") == 0
    assert (out / "f2.png").read_bytes() != last
    assert run_batch(0, "--force")["done"] == 3
    assert run_batch(0)["skipped"] == 3
    (out / "f2.png").unlink()
    counts = run_batch(0)
    assert (counts["skipped"], counts["done"]) == (2, 1)
    # The pixels are those of the uninterrupted batch.
    (tmp_path / "last.png").write_bytes(last)
    resumed, uninterrupted = (
        np.asarray(Image.open(path)) for path in (out / "f2.png", tmp_path / "last.png")
    )
    assert np.array_equal(resumed, uninterrupted)
    # After a repainted frame, the results of later frames count as different.
    (out / "f0.png").unlink()
    counts = run_batch(3)
    assert (counts["done"], counts["differs"], counts["failed"]) == (1, 2, 0)
    # A dry run tells the same of frames behind one whose result is another picture.
    (out / "f0.png").write_bytes((tmp_path / "f0.png").read_bytes())
    assert run_batch(3, "--dry-run")["differs"] == run_batch(3)["differs"] == 3
    assert nstrt(*arguments, "--jobs", "2") == 2
    assert "--jobs" in capsys.readouterr().err
