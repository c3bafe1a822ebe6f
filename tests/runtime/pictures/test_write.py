"""Saving pictures: formats, recipes, and paths that are refused."""

from __future__ import annotations

import errno
import json
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nstrt.runtime.errors import OutputExistsError, PictureReadError, PictureWriteError
from nstrt.runtime.pictures import (
    SUFFIXES,
    Picture,
    check_writable,
    read_picture,
    read_recipe,
    recipe_from_xmp,
    recipe_to_xmp,
    save,
    write,
)

RANDOM = np.random.default_rng(3)
SMOOTH = np.stack(
    np.broadcast_arrays(
        np.linspace(0.1, 0.9, 64)[None, :], np.linspace(0.9, 0.1, 48)[:, None], np.float64(0.5)
    ),
    axis=-1,
).astype(np.float32)
RECIPE: dict[str, Any] = {
    "photo": 'Käthe "at home" <&> \\ 東京 🎨.jpg',
    "quote": "it's ]]> fine\n\ttabs",
    "odd": "\u0000\u001f\ufffe",
    "style_weight": 1e6,
    "steps": 500,
    "none": None,
    "yes": True,
    "losses": [0.25, 0.125],
    "nested": {"layers": ["conv1_1", "conv2_1"]},
}
FORMATS = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif"]


def picture(depth: int = 8, alpha: bool = False) -> Picture:
    opacity = np.ascontiguousarray(SMOOTH[..., 0]) if alpha else None
    return Picture(rgb=SMOOTH, alpha=opacity, depth=depth)


def refusal(path: Path, kind: type[PictureWriteError] = PictureWriteError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        check_writable(path, **{"overwrite": False, **options})
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


# Formats


def test_these_tests_cover_all_formats() -> None:
    assert sorted(SUFFIXES) == sorted(FORMATS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_saved_pictures_and_recipes_are_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"result{suffix}"
    assert save(picture(), path, recipe=RECIPE, overwrite=False) == []
    back = read_picture(path)
    tolerance = 0.5 if suffix in (".png", ".tif", ".tiff") else 8
    assert np.abs(back.rgb - SMOOTH).max() <= (tolerance + 0.01) / 255
    assert back.depth == 8
    assert back.alpha is None
    assert read_recipe(path) == RECIPE
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_hold_the_srgb_profile(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"result{suffix}"
    save(picture(), path, recipe=None, overwrite=False)
    image = pyvips.Image.new_from_file(str(path))
    assert image.get("icc-profile-data") == pyvips.Image.profile_load("srgb")
    assert read_recipe(path) is None
    with Image.open(path) as other:
        assert other.size == (64, 48)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    deep = Picture.from_array(np.stack([ramp, ramp.T, ramp[::-1], ramp], axis=-1))
    path = tmp_path / f"deep{suffix}"
    assert save(deep, path, recipe=None, overwrite=False) == []
    back = read_picture(path)
    assert back.depth == 16
    assert np.array_equal(back.rgb, deep.rgb)
    assert back.alpha is not None
    assert deep.alpha is not None
    assert np.array_equal(back.alpha, deep.alpha)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_formats_without_16_bits_give_a_note(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    (note,) = save(picture(depth=16), path, recipe=None, overwrite=False)
    assert "8 bits" in note
    assert read_picture(path).depth == 8


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_transparency_is_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clear{suffix}"
    assert save(picture(alpha=True), path, recipe=None, overwrite=False) == []
    alpha = read_picture(path).alpha
    assert alpha is not None
    assert np.abs(alpha - SMOOTH[..., 0]).max() <= 3 / 255


def test_jpeg_blends_transparent_parts_over_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.jpg"
    (note,) = save(picture(alpha=True), path, recipe=None, overwrite=False)
    assert "transparency" in note
    opacity = SMOOTH[..., :1]
    back = read_picture(path)
    assert back.alpha is None
    assert np.abs(back.rgb - (SMOOTH * opacity + 1 - opacity)).max() < 8 / 255


def test_nothing_is_said_of_transparency_where_all_is_opaque(tmp_path: Path) -> None:
    """Screenshots and animated GIF files have an opaque alpha channel."""
    opaque = Picture.from_array(np.dstack([SMOOTH, np.ones_like(SMOOTH[..., 0])]), depth=8)
    assert opaque.alpha is not None
    assert save(opaque, tmp_path / "a.jpg", recipe=None, overwrite=False) == []


def test_jpeg_has_no_chroma_subsampling(tmp_path: Path) -> None:
    save(picture(), tmp_path / "a.jpg", recipe=None, overwrite=False)
    image = pyvips.Image.new_from_file(str(tmp_path / "a.jpg"))
    assert image.get("jpeg-chroma-subsample") == "4:4:4"


@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_results_give_equal_files(tmp_path: Path, suffix: str) -> None:
    one, two = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
    for path in (one, two):
        save(picture(), path, recipe=RECIPE, overwrite=False)
    assert one.read_bytes() == two.read_bytes()


def test_upper_case_suffixes_are_accepted(tmp_path: Path) -> None:
    save(picture(), tmp_path / "A.JPG", recipe=None, overwrite=False)
    assert (tmp_path / "A.JPG").read_bytes().startswith(b"\xff\xd8\xff")


def test_reading_and_saving_changes_nothing(tmp_path: Path) -> None:
    noise = RANDOM.integers(1, 256, (32, 32, 4), dtype=np.uint8)
    save(Picture.from_array(noise), tmp_path / "1.png", recipe=None, overwrite=False)
    save(read_picture(tmp_path / "1.png"), tmp_path / "2.png", recipe=None, overwrite=False)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "2.png")), noise)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


# Refusals


def test_unusable_names_are_refused(tmp_path: Path) -> None:
    assert "in which format" in refusal(tmp_path / "result")
    assert ".gif" in refusal(tmp_path / "result.gif")
    assert ".png" in refusal(tmp_path / ".png")
    assert "too long" in refusal(tmp_path / f"{'ä' * 120}.png")
    assert "no file can have" in refusal(tmp_path / "a\0b.png")


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "none" / "a.png")
    (tmp_path / "file").touch()
    assert "no folder" in refusal(tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.png", overwrite=True)


def test_existing_files_need_force(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    assert "overwrite=True" in refusal(path, OutputExistsError)
    with pytest.raises(OutputExistsError):
        save(picture(), path, recipe=None, overwrite=False)
    assert path.read_bytes() == b"old"
    check_writable(path, overwrite=True)
    save(picture(), path, recipe=None, overwrite=True)
    assert read_picture(path).size == (64, 48)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_special_files_and_dangling_links_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "ordinary" in refusal(tmp_path / "pipe.png", overwrite=True)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    refusal(tmp_path / "link.png", OutputExistsError)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_read_only_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def denied(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    # chmod does not help: tests may run as root.
    monkeypatch.setattr(write.tempfile, "TemporaryFile", denied)
    assert "may not be written" in refusal(tmp_path / "a.png")


def test_check_writable_leaves_no_file(tmp_path: Path) -> None:
    check_writable(tmp_path / "a.png", overwrite=False)
    assert os.listdir(tmp_path) == []


def test_sides_above_the_format_limit_are_refused(tmp_path: Path) -> None:
    assert "16383" in refusal(tmp_path / "a.webp", size=(20000, 100))
    assert "65500" in refusal(tmp_path / "a.jpg", size=(100, 70000))
    check_writable(tmp_path / "a.png", overwrite=False, size=(20000, 100))
    long = Picture(rgb=np.zeros((16, 17000, 3), np.float32))
    with pytest.raises(PictureWriteError, match="16383"):
        save(long, tmp_path / "a.webp", recipe=None, overwrite=False)


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    noise = Picture.from_array(RANDOM.random((120, 120, 3)))
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(PictureWriteError, match="larger than a file may be"):
            save(noise, path, recipe=None, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no room"),
        (errno.EFBIG, "larger than a file may be"),
        (errno.EACCES, "may not"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_write_errors_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def failing(self: Path, content: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(PictureWriteError, match=message):
        save(picture(), tmp_path / "a.png", recipe=None, overwrite=False)
    assert os.listdir(tmp_path) == []


# Recipes

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, VALUES, max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_recipe_round_trips_through_its_packet(recipe: dict[str, Any]) -> None:
    assert recipe_from_xmp(recipe_to_xmp(recipe)) == recipe


def test_recipes_convert_values_that_json_does_not_hold() -> None:
    recipe = {
        "path": Path("a") / "b.jpg",
        "number": np.float32(0.5),
        "array": np.arange(3),
        "size": (3, 4),
        "nan": float("nan"),
        "inf": np.float64("inf"),
        "other": {
            1,
        },
        7: "key",
    }
    assert recipe_from_xmp(recipe_to_xmp(recipe)) == {
        "path": str(Path("a") / "b.jpg"),
        "number": 0.5,
        "array": [0, 1, 2],
        "size": [3, 4],
        "nan": None,
        "inf": None,
        "other": "{1}",
        "7": "key",
    }


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_long_recipes_are_kept(tmp_path: Path, suffix: str) -> None:
    recipe = RECIPE | {"losses": [round(v, 6) for v in RANDOM.random(20_000).tolist()]}
    assert save(picture(), tmp_path / f"a{suffix}", recipe=recipe, overwrite=False) == []
    assert read_recipe(tmp_path / f"a{suffix}") == recipe


def test_jpeg_drops_losses_of_long_recipes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    (note,) = save(picture(), path, recipe=RECIPE | {"losses": [0.5] * 20_000}, overwrite=True)
    assert "losses" in note
    assert read_recipe(path) == {key: value for key, value in RECIPE.items() if key != "losses"}
    (note,) = save(picture(), path, recipe={"notes": "x" * 70_000}, overwrite=True)
    assert "no room for the recipe" in note
    assert read_recipe(path) is None


def test_jpeg_keeps_recipes_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    bare = len(recipe_to_xmp({"notes": ""}))
    recipe = {"notes": "x" * (60_000 - bare)}
    assert len(recipe_to_xmp(recipe)) == 60_000
    assert save(picture(), path, recipe=recipe, overwrite=True) == []
    assert read_recipe(path) == recipe


@pytest.mark.parametrize("length", [60_001, 60_500, 62_000, 65_400])
def test_jpeg_gives_a_note_for_recipes_above_its_limit(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.jpg"
    bare = len(recipe_to_xmp({"steps": 5, "losses": ""}))
    recipe = {"steps": 5, "losses": "x" * (length - bare)}
    (note,) = save(picture(), path, recipe=recipe, overwrite=True)
    assert "losses" in note
    assert read_recipe(path) == {"steps": 5}


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff\xfe\x00",
        b"<unclosed",
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
        recipe_to_xmp({"a": 1}).replace(b"{", b"["),
        recipe_to_xmp({"a": 1}).replace(b"{&quot;a&quot;: 1}", b"3").replace(b'{"a": 1}', b"3"),
        recipe_to_xmp({"a": 1}).replace(b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY e "1">]><x:xmpmeta'),
        b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
        recipe_to_xmp({"a": 1}).replace(b'{"a": 1}', b"[" * 100_000),
    ],
)
def test_packets_without_a_valid_recipe_give_none(packet: bytes) -> None:
    assert recipe_from_xmp(packet) is None


def test_padded_packets_are_read() -> None:
    assert recipe_from_xmp(recipe_to_xmp({"a": 1}) + b" " * 2000 + b"\n\0") == {"a": 1}


def test_other_programs_find_the_recipe(tmp_path: Path) -> None:
    save(picture(), tmp_path / "a.png", recipe={"steps": 5}, overwrite=False)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        packet = image.info["XML:com.adobe.xmp"]
    assert "nstrt:recipe" in packet
    assert json.dumps({"steps": 5}) in packet


def test_files_without_a_recipe_give_none(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a.gif"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
        assert read_recipe(tmp_path / name) is None
    (tmp_path / "a.txt").write_text(string.printable)
    for name in ("a.txt", "none.png", "."):
        with pytest.raises(PictureReadError):
            read_recipe(tmp_path / name)
