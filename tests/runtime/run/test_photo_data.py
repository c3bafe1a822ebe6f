"""Results keep the photo's data, scaled to their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nstrt.runtime import Result, StyleTransfer, StylizeOptions, read_recipe
from nstrt.runtime.outputs.preview_file import PreviewFile

from support import NIGHT
from support.photo_data import exif_data, photo_image

pytestmark = pytest.mark.slow


def photo(folder: Path, suffix: str = "jpg", orientation: int = 1) -> Path:
    path = folder / f"photo.{suffix}"
    block = exif_data(dots=300, orientation=orientation)
    photo_image((96, 64)).save(path, dpi=(300, 300), exif=block)
    return path


def run(source: Any, *outputs: PreviewFile, **given: Any) -> Result:
    fixed = {"size": 48, "iterations": 2, "scales": 1, "engine": "onnx", "precision": "fp32"}
    transfer = StyleTransfer(StylizeOptions.of(**{**fixed, **given}))
    running = transfer.run(source, NIGHT)
    for event in running:
        for output in outputs:
            output.update(event)
    return running.result()


@pytest.mark.parametrize("as_object", [False, True])
def test_half_the_pixels_have_half_the_dots_per_inch(tmp_path: Path, as_object: bool) -> None:
    path = photo(tmp_path, orientation=6)
    result = run(Image.open(path) if as_object else path)
    result.save(tmp_path / "out.jpg")
    image = Image.open(tmp_path / "out.jpg")
    assert image.size == (32, 48)
    assert image.info["dpi"] == (150, 150)
    exif = image.getexif()
    assert exif.get(274, 1) == 1
    assert exif[271] == "Maker"
    assert exif.get_ifd(0x8769)[40963] == 48
    assert exif.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_original_size_has_the_photos_dots_per_inch(tmp_path: Path, suffix: str) -> None:
    result = run(photo(tmp_path), original_size=True)
    result.save(tmp_path / f"out.{suffix}")
    dots = Image.open(tmp_path / f"out.{suffix}").info["dpi"]
    assert dots == pytest.approx((300, 300), abs=0.01)


def test_data_is_left_out_of_stripped_results_and_of_previews(tmp_path: Path) -> None:
    preview = PreviewFile(tmp_path / "preview.png")
    result = run(photo(tmp_path), preview)
    result.save(tmp_path / "out.png", strip_metadata=True)
    for name in ("preview.png", "out.png"):
        assert b"Maker" not in (tmp_path / name).read_bytes()
        assert "dpi" not in Image.open(tmp_path / name).info
    recipe = read_recipe(tmp_path / "out.png")
    assert recipe is not None
    assert recipe["stripped"] is True
    result.save(tmp_path / "kept.png")
    assert "stripped" not in (read_recipe(tmp_path / "kept.png") or {})


def test_damaged_data_stops_no_run(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    photo_image((96, 64)).save(path, exif=b"Exif\0\0rubbish, not directories")
    (note,) = run(path).save(tmp_path / "out.png")
    assert note == "The EXIF data of 'photo.png' is damaged and was left out."
