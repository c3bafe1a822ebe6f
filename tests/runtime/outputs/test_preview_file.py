"""The preview file: content, replaced files and write errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import (
    Finished,
    OptionError,
    OutputExistsError,
    PictureWriteError,
    PreviewFile,
    StyleTransfer,
    StylizeOptions,
)
from nstrt.runtime.outputs import preview_file
from nstrt.runtime.pictures import read_picture, save

from support import CAT, NIGHT
from support.observed_run import ObservedRun


def test_the_preview_changes_during_the_run_and_ends_as_the_result(
    observed_run: ObservedRun,
) -> None:
    assert len(set(observed_run.previews)) >= 3
    last = np.asarray(Image.open(observed_run.folder / "live.png"))
    assert np.array_equal(last, observed_run.result.to_array(np.uint8))


def test_only_previews_are_replaced_without_overwrite(
    observed_run: ObservedRun, tmp_path: Path
) -> None:
    PreviewFile(observed_run.folder / "live.png")
    other = tmp_path / "other.png"
    save(read_picture(CAT), other, recipe=None, overwrite=False)
    with pytest.raises(OutputExistsError):
        PreviewFile(other)
    PreviewFile(other, overwrite=True)


def test_a_write_error_ends_the_previews_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PictureWriteError("There is no room.")

    lines: list[str] = []
    preview = PreviewFile(tmp_path / "live.png", seconds=1e-9, notify=lines.append)
    monkeypatch.setattr(preview_file, "save", fail)
    options = StylizeOptions.of(size=64, scales=1, iterations=8, engine="onnx", tolerance=0)
    events = []
    for event in StyleTransfer(options).run(CAT, NIGHT):
        preview.update(event)
        events.append(event)
    assert isinstance(events[-1], Finished)
    assert lines == ["There are no more previews: There is no room."]


def test_seconds_of_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seconds"):
        PreviewFile(tmp_path / "live.png", seconds=0)
