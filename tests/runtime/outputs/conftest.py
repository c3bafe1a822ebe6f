"""One run with a preview file and films, for the tests of both."""

from __future__ import annotations

import importlib.util

import pytest
from PIL import Image

from nstrt.runtime import (
    Finished,
    PreviewFile,
    Step,
    StyleTransfer,
    StylizeOptions,
    Timelapse,
)

from support import CAT, NIGHT
from support.observed_run import ObservedRun


@pytest.fixture(scope="session")
def observed_run(tmp_path_factory: pytest.TempPathFactory) -> ObservedRun:
    folder = tmp_path_factory.mktemp("outputs")
    options = StylizeOptions.of(size=64, scales=2, iterations=4, engine="onnx", tolerance=0)
    suffixes = [".webp", ".gif"]
    if importlib.util.find_spec("av"):
        suffixes.append(".mp4")
    films = [Timelapse(folder / f"film{suffix}", hold=1.0) for suffix in suffixes]
    films.append(Timelapse(folder / "short.webp", frames=2, hold=0.0))
    preview = PreviewFile(folder / "live.png", seconds=1e-9)
    previews: list[bytes] = []
    result = None
    for event in StyleTransfer(options).run(CAT, NIGHT):
        preview.update(event)
        if isinstance(event, Step) and preview.path.exists():
            # The file is complete after every event.
            with Image.open(preview.path) as picture:
                assert picture.size == (64, 43)
                previews.append(picture.tobytes())
        for film in films:
            film.update(event)
        if isinstance(event, Finished):
            result = event.result
    for film in films:
        film.save()
        film.close()
    assert result is not None
    return ObservedRun(folder, result, previews)
