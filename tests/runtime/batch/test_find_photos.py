"""Photos that a file name, a folder or a pattern stands for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import Batch, Picture, PictureReadError, jobs_from
from nstrt.runtime.batch.find_photos import find_photos
from nstrt.runtime.pictures import read_picture, save
from nstrt.runtime.run.recipe import recipe_of_kind

from support import NIGHT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    made = tmp_path / "trip"
    made.mkdir()
    return made


def photo(path: Path, format_: str = "JPEG") -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (24, 16), "red").save(path, format_)
    return path


def result(path: Path, **recipe: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    picture = Picture.from_array(np.zeros((16, 24, 3), np.uint8))
    save(picture, path, recipe={**recipe, "nstrt": "1"}, overwrite=False)
    return path


def names(source: Path | str, results: Path) -> list[str]:
    return [path.name for path in find_photos(source, results=results)]


def test_a_folder_stands_for_every_readable_file_whatever_its_ending(
    folder: Path, tmp_path: Path
) -> None:
    formats = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c": "PNG", "d.dat": "TIFF", "e.JPG": "JPEG"}
    formats |= {"f.gif": "GIF", "g.bmp": "BMP", "h.webp": "WEBP", "i.jpg~": "PNG", "j.tmp": "BMP"}
    for name, format_ in formats.items():
        photo(folder / name, format_)
    for name in ("notes.txt", "film.mp4", "list.csv", "BMW.txt", "photo.jpg.xmp"):
        (folder / name).write_text("BM and no picture")
    photo(folder / ".hidden.jpg")
    photo(folder / "below" / "k.jpg")
    assert names(folder, tmp_path / "out") == sorted(formats)
    assert names(str(folder / "*"), tmp_path / "out") == sorted(
        [*formats, "k.jpg"], key=lambda name: name.replace("k.jpg", "below")
    )


def test_files_that_only_look_like_pictures_are_listed_so_that_they_are_named(
    folder: Path, tmp_path: Path
) -> None:
    looks = ["a.heic", "b.CR2", "c.jxl", "d.psd", "e.jpg", "f.svg", "g.tga"]
    for name in looks:
        (folder / name).write_bytes(b"")
    (folder / "h.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "i.jpg")
    # A pipe of another name is not opened, which would wait for ever.
    os.mkfifo(folder / "pipe")
    assert names(folder, tmp_path) == [*looks, "h.jpg", "i.jpg"]


def test_folders_with_the_name_of_a_picture_are_folders(folder: Path, tmp_path: Path) -> None:
    photo(folder / "trip.jpg" / "a.png", "PNG")
    photo(folder / "b.jpg")
    assert names(folder, tmp_path / "out") == ["b.jpg"]
    assert names(folder / "trip.jpg", tmp_path / "out") == ["a.png"]
    assert names(str(folder / "*.jpg"), tmp_path / "out") == ["b.jpg", "a.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_results_are_never_taken_for_photos(folder: Path, tmp_path: Path, suffix: str) -> None:
    photo(folder / "a.jpg")
    out = folder / "painted"
    made = result(out / f"a{suffix}")
    for kind in ("preview", "sheet", "film"):
        result(folder / f"{kind}{suffix}", **recipe_of_kind(kind))
    assert names(str(folder / "**" / "*"), out) == ["a.jpg"]
    assert names(folder, out) == ["a.jpg"]
    # A shell lists the results of the first run by their names, or their folder.
    assert find_photos(made, results=out) == []
    assert find_photos(out, results=out) == []
    # Elsewhere a name means the file.
    assert find_photos(made, results=tmp_path / "other") == [made]
    with pytest.raises(PictureReadError, match="only results of nstrt"):
        find_photos(out, results=tmp_path / "other")


def test_results_take_a_format_from_the_content_where_the_ending_names_none(
    folder: Path, tmp_path: Path
) -> None:
    for name, format_ in {"a.jfif": "JPEG", "b.dat": "TIFF", "c": "PNG", "d.gif": "GIF"}.items():
        photo(folder / name, format_)
    jobs = jobs_from([folder], style=NIGHT, out_dir=tmp_path)
    assert [job.output.name for job in jobs] == ["a.jpg", "b.tif", "c.png", "d.png"]


def test_sources_without_photos_stop_nothing_that_has_some(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    lines: list[str] = []
    sources = [empty, photo(folder / "a.jpg"), "nothing-*.jpg"]
    jobs = jobs_from(sources, style=NIGHT, out_dir=tmp_path, notify=lines.append)
    assert [job.content.name for job in jobs] == ["a.jpg"]
    assert lines == [
        f"There are no pictures in the folder '{empty}'.",
        "No file's name is like 'nothing-*.jpg'; check the pattern.",
    ]
    with pytest.raises(PictureReadError, match="no pictures in the folder"):
        jobs_from([empty], style=NIGHT, out_dir=tmp_path / "out", notify=lines.append)


def test_a_missing_folder_fails_as_a_missing_photo_does(folder: Path, tmp_path: Path) -> None:
    sources = [photo(folder / "a.jpg"), tmp_path / "holidy"]
    jobs = jobs_from(sources, style=NIGHT, out_dir=tmp_path, notify=print)
    assert [job.content.name for job in jobs] == ["a.jpg", "holidy"]
    with pytest.raises(PictureReadError, match="no picture or folder"):
        read_picture(jobs[1].content)
    with pytest.raises(PictureReadError, match="no picture or folder 'holidy'"):
        jobs_from(["holidy"], style=NIGHT, out_dir=tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_of_another_ending_leaves_the_results_name_to_a_photo(
    folder: Path, tmp_path: Path, suffix: str
) -> None:
    for name in ("a.CR2", "a.JPG", "a.heic", "b.jfif", "b.jpe"):
        photo(folder / name)
    jobs = jobs_from([str(folder / "*")], style=NIGHT, out_dir=tmp_path, suffix=suffix)
    expected = ["a.CR2", "a", "a.heic", "b", "b.jpe"]
    assert [job.output.name for job in jobs] == [name + suffix for name in expected]
    Batch(jobs)


def test_readable_photos_of_one_stem_have_results_of_different_names(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "a.jpg", "a.tif"):
        photo(folder / name)
    jobs = jobs_from([folder], style=NIGHT, out_dir=tmp_path, suffix=".jpg")
    assert [job.output.name for job in jobs] == ["a.jpg", "a.png.jpg", "a.tif.jpg"]
    Batch(jobs)
    for below in ("b", "c"):
        photo(folder / below / "a.jpg")
    jobs = jobs_from([str(folder / "**" / "*.jpg")], style=NIGHT, out_dir=tmp_path)
    assert [job.output.name for job in jobs] == ["a.jpg", "b-a.jpg", "c-a.jpg"]
    Batch(jobs)


def test_a_folder_with_the_name_of_a_table_is_a_folder(tmp_path: Path) -> None:
    photo(tmp_path / "trip.csv" / "a.jpg")
    jobs = jobs_from([tmp_path / "trip.csv"], style=NIGHT, out_dir=tmp_path)
    assert [job.content.name for job in jobs] == ["a.jpg"]
