"""The filter refuses with one sentence, and leaves no layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gimp import CAT, NIGHT, QUICK, Answer, Gimp, Photo, Profile, is_sentence

OpenPhoto = Callable[..., Photo]


def refused(photo: Photo, *drawables: int, **options: object) -> str:
    """Run the filter, which must refuse, and return its sentence."""
    before = photo.layers()
    answer = photo.stylize(*drawables, **{**QUICK, **options})
    assert_refused(answer)
    assert photo.layers() == before
    return answer.message


def assert_refused(answer: Answer) -> None:
    assert answer.status == "execution-error", answer
    assert is_sentence(answer.message), answer


def test_an_indexed_image(open_photo: OpenPhoto) -> None:
    assert "Image > Mode > RGB" in refused(open_photo(indexed=True), style=NIGHT)


def test_a_channel(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    assert "layer" in refused(photo, console.do("add_channel", photo.image), style=NIGHT)


def test_two_layers(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    copy = console.do("duplicate", photo.layer)
    assert "one layer" in refused(photo, photo.layer, copy, style=NIGHT)


def test_a_selection_that_misses_the_layer(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    console.do("grow_canvas", photo.image, 700, 500, 0, 0)
    console.do("select_rectangle", photo.image, 500, 350, 100, 100)
    assert "selection" in refused(photo, style=NIGHT).lower()


def test_no_painting(open_photo: OpenPhoto) -> None:
    assert "painting" in refused(open_photo()).lower()


def test_a_painting_that_is_no_picture(open_photo: OpenPhoto, profile: Profile) -> None:
    text = profile.folder / "text.jpg"
    text.write_text("This is no picture.\n")
    assert "text.jpg" in refused(open_photo(), style=text)


def test_a_painting_that_is_not_there(open_photo: OpenPhoto, profile: Profile) -> None:
    """GIMP itself refuses a folder, or a file that is not there, in its own words."""
    photo = open_photo()
    for path in (profile.folder / "not there.jpg", profile.folder):
        answer = photo.stylize(style=path, **QUICK)
        assert answer.status in ("calling-error", "execution-error")
        assert is_sentence(answer.message), answer
        assert len(photo.layers()) == 1


@pytest.fixture
def settings(profile: Profile) -> Iterator[Path]:
    """``nstrt.json``, restored after the test."""
    file = profile.gimp_folder / "plug-ins" / "nstrt" / "nstrt.json"
    text = file.read_text()
    yield file
    file.write_text(text)


def refused_afresh(profile: Profile) -> str:
    """The refusal in a GIMP without a worker."""
    with Gimp.console(profile) as gimp, Photo.loaded(gimp, CAT) as photo:
        message = refused(photo, style=NIGHT)
        assert not gimp.workers()
        return message


@pytest.mark.parametrize(
    "changes",
    [
        # The folder with the Python has moved.
        {"command": ["/nowhere/bin/python", "-I", "-m", "nstrt.plugins.cli", "worker"]},
        # A Python without nstrt.
        {"command": ["/usr/bin/python3", "-I", "-m", "nstrt.plugins.cli", "worker"]},
        {"protocol": 999},
        {"format": 999},
    ],
    ids=["moved", "no-nstrt", "protocol", "format"],
)
def test_the_installation_is_not_what_it_was(
    profile: Profile, settings: Path, changes: dict[str, Any]
) -> None:
    """The sentence names the command that repairs it."""
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes))
    assert "nstrt gimp install" in refused_afresh(profile)


def test_the_installation_is_broken(profile: Profile, settings: Path) -> None:
    settings.write_text(settings.read_text()[:100])
    assert "nstrt gimp install" in refused_afresh(profile)


def test_the_installation_is_gone(profile: Profile, settings: Path) -> None:
    settings.unlink()
    assert "nstrt gimp install" in refused_afresh(profile)


@pytest.mark.parametrize(
    ("option", "value"), [("strength", 2.0), ("detail", "enormous"), ("color", "green")]
)
def test_values_out_of_range_are_not_taken(
    console: Gimp, open_photo: OpenPhoto, option: str, value: object
) -> None:
    """GIMP keeps the old value, because the arguments have ranges."""
    assert not console.do("takes", option, value)


def test_a_pasted_piece_that_floats(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    (piece,) = console.do("paste_floating", photo.layer)
    assert "Anchor" in refused(photo, piece, style=NIGHT)
