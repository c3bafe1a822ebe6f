"""The user changes the image while the dialog is open, or while the worker paints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest
from gimp import (
    CAT,
    NIGHT,
    QUICK,
    Photo,
    Profile,
    Screen,
    is_sentence,
    wait_for,
    wait_until_gone,
)
from test_screen import (
    LONG,
    assert_over,
    error_said,
    open_dialog,
    press_ok,
    preview,
    progress_window,
    remember,
    start,
)


@pytest.fixture(scope="module")
def wide(profile: Profile) -> Iterator[Screen]:
    with Screen.opened(profile, CAT) as screen:
        yield screen


@pytest.fixture
def canvas(wide: Screen) -> Iterator[Photo]:
    with Photo.loaded(wide, CAT) as photo:
        try:
            yield photo
        finally:
            for plugin in wide.plugins():
                plugin.kill()
        assert wide.alive()


def stop(screen: Screen, window: str) -> None:
    plugins = screen.plugins()
    screen.keys("alt+s", window=window)
    wait_until_gone(plugins)


def test_the_mask_is_the_selection_that_was_painted(wide: Screen, canvas: Photo) -> None:
    """A selection made later does not count."""
    wide.do("select_ellipse", canvas.image, 60, 30, 300, 200, 30.0)
    selected = canvas.selection()
    window = start(wide, canvas)
    wide.do("select_none", canvas.image)
    stop(wide, window)
    new = canvas.above(canvas.layer)
    mask = wide.pixels(new["mask"], mask=True)[..., 0]
    x, y, width, height = (new[name] for name in ("x", "y", "width", "height"))
    assert np.abs(mask - selected[y : y + height, x : x + width]).max() < 0.5 / 255


def test_what_is_selected_while_the_dialog_is_open_counts(wide: Screen, canvas: Photo) -> None:
    remember(wide.profile, style=NIGHT.as_uri(), **QUICK)
    dialog = open_dialog(wide)
    wide.do("select_rectangle", canvas.image, 100, 80, 90, 70)
    press_ok(wide, dialog)
    wait_for(lambda: len(canvas.layers()) == 2 and not wide.plugins(), "the layer")
    assert canvas.above(canvas.layer)["mask"]


def test_the_layer_is_deleted_while_the_dialog_is_open(wide: Screen, canvas: Photo) -> None:
    """The user gets one sentence, and GIMP does not kill the plug-in."""
    remember(wide.profile, style=NIGHT.as_uri(), **QUICK)
    wide.do("duplicate", canvas.layer)
    wide.do("select_layer", canvas.image, canvas.layer)
    dialog = open_dialog(wide)
    said = len(wide.output())
    wide.do("remove_layer", canvas.layer)
    press_ok(wide, dialog)
    wait_for(lambda: not wide.plugins(), "the end of the plug-in")
    assert is_sentence(error_said(wide, said))
    assert "killing" not in wide.output()[said:]


def test_a_layer_locked_while_it_paints_is_left_alone(wide: Screen, canvas: Photo) -> None:
    """GIMP kills a plug-in that writes into a locked layer; the result comes all the same."""
    window = start(wide, canvas)
    preview = canvas.above(canvas.layer)["id"]
    wide.do("lock", preview)
    before = wide.do("fingerprint", preview)
    time.sleep(5)
    assert wide.do("fingerprint", preview) == before
    stop(wide, window)
    assert len(canvas.layers()) == 2
    assert canvas.above(canvas.layer)["id"] != preview


def test_the_photo_stays_the_layer_that_is_worked_on(wide: Screen, canvas: Photo) -> None:
    """The user's strokes go to the photo, not to the preview."""
    start(wide, canvas)
    assert wide.do("selected_layers", canvas.image) == [canvas.layer]


def test_cancel_while_the_worker_starts(
    new_profile: Callable[[], AbstractContextManager[Profile]],
) -> None:
    """Cancel works while a worker does not answer."""
    with new_profile() as profile:
        settings = profile.gimp_folder / "plug-ins" / "nstrt" / "nstrt.json"
        content = json.loads(settings.read_text())
        content["command"] = ["/bin/sh", "-c", "exec sleep 60", "sh"]
        settings.write_text(json.dumps(content))
        with Screen.opened(profile, CAT) as screen, Photo.loaded(screen, CAT) as photo:
            remember(profile, style=NIGHT.as_uri(), **QUICK)
            dialog = open_dialog(screen)
            press_ok(screen, dialog)
            window = progress_window(screen, dialog)
            plugins = screen.plugins()
            screen.keys("alt+c", window=window)
            wait_until_gone(plugins)
            assert len(photo.layers()) == 1


def test_two_layers_at_once(wide: Screen, canvas: Photo) -> None:
    """The second run waits for the first one, then paints."""
    other = wide.do("duplicate", canvas.layer)
    wide.do("select_layer", canvas.image, canvas.layer)
    remember(wide.profile, style=NIGHT.as_uri(), **LONG)
    dialog = open_dialog(wide)
    press_ok(wide, dialog)
    window = progress_window(wide, dialog)
    preview(canvas, before=2)
    second = wide.ask("stylize", canvas.image, [other], style=str(NIGHT), **QUICK)
    time.sleep(2)
    assert not second.done()
    wide.keys("alt+s", window=window)
    assert second.result()["status"] == "success"
    wait_for(lambda: not wide.plugins(), "the end of both")
    assert len(canvas.layers()) == 4
    assert len(wide.workers()) == 1


def test_another_version_has_a_worker_of_its_own(wide: Screen, canvas: Photo) -> None:
    """An updated filter neither uses nor ends the worker of the version before."""
    assert canvas.stylize(style=NIGHT, **QUICK).status == "success"
    old = wait_for(wide.workers, "a worker")
    settings = wide.profile.gimp_folder / "plug-ins" / "nstrt" / "nstrt.json"
    before = settings.read_text()
    try:
        settings.write_text(json.dumps({**json.loads(before), "version": "9.9"}))
        assert canvas.stylize(style=NIGHT, **QUICK).status == "success"
    finally:
        settings.write_text(before)
    assert set(old) < set(wide.workers())
    assert_over(wide, [])
