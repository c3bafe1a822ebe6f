"""The filter with windows: menu, dialog, preview, Stop, Cancel, Undo.

Screenshots go to ``out/gimp/``; no test compares them.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from gimp import (
    CAT,
    MAIN,
    NIGHT,
    PICTURES,
    QUICK,
    SOON,
    GimpError,
    Photo,
    Profile,
    Screen,
    is_sentence,
    processor_seconds,
    wait_for,
    wait_until_gone,
)
from PIL import Image

TITLE = "^Neural Style"
"""Pattern of the titles of the dialog and the progress window."""

LONG = {"size": 300, "iterations": 400, "seed": 1}
"""Options with which the preview comes soon, and the end after minutes."""


@pytest.fixture(scope="module")
def screen(profile: Profile) -> Iterator[Screen]:
    with Screen.opened(profile, CAT) as screen:
        yield screen


@pytest.fixture
def photo(screen: Screen) -> Iterator[Photo]:
    """A photo in front, with one undo step: its layer was renamed to Photo."""
    with Photo.loaded(screen, CAT) as photo:
        screen.do("rename", photo.layer, "Photo")
        said = len(screen.output())
        try:
            yield photo
        finally:
            for plugin in screen.plugins():
                plugin.kill()
        assert screen.alive()
        output = screen.output()[said:]
        assert "inconsistent" not in output
        assert "Traceback" not in output


@pytest.fixture
def own(profile: Profile) -> Iterator[Photo]:
    """A photo on a screen of its own, whose GIMP the test may end."""
    with Screen.opened(profile, CAT) as screen, Photo.loaded(screen, CAT) as photo:
        yield photo


def remember(profile: Profile, **options: object) -> None:
    """Store these values as the last used ones, with which the dialog opens."""
    folder = profile.gimp_folder / "plug-in-settings"
    folder.mkdir(exist_ok=True)
    lines = [
        f'({name.replace("_", "-")} "{value}")'
        if isinstance(value, str)
        else f"({name.replace('_', '-')} {value})"
        for name, value in options.items()
    ]
    file = folder / "GimpProcedureConfigRun-plug-in-nstrt-stylize.last"
    file.write_text("# settings\n\n" + "\n".join(lines) + "\n\n# end of settings\n")


def open_dialog(screen: Screen) -> str:
    screen.gone(TITLE)
    screen.keys("alt+r", "a", "n", window=screen.window(MAIN))
    window = screen.window(TITLE)
    screen.focus(window)
    return window


def press_ok(screen: Screen, dialog: str) -> None:
    screen.keys("alt+o", window=dialog)


def progress_window(screen: Screen, dialog: str = "") -> str:
    """Wait for the window that shows the progress."""
    return wait_for(
        lambda: next((window for window in screen.windows(TITLE) if window != dialog), None),
        "the window with the progress",
    )


def preview(photo: Photo, before: int = 1) -> dict[str, Any]:
    """Wait for the layer with the preview."""
    wait_for(lambda: len(photo.layers()) > before, "a preview")
    return photo.above(photo.layer)


def start(screen: Screen, photo: Photo, **options: object) -> str:
    """Start a run from the menu, wait for its preview, and return the progress window."""
    remember(screen.profile, style=NIGHT.as_uri(), **{**LONG, **options})
    dialog = open_dialog(screen)
    press_ok(screen, dialog)
    window = progress_window(screen, dialog)
    preview(photo)
    return window


def assert_over(screen: Screen, plugins: list[psutil.Process]) -> None:
    """The plug-in ends soon, and the worker idles."""
    wait_until_gone(plugins)
    workers = screen.workers()
    assert workers
    wait_for(lambda: processor_seconds(workers, during=0.3) < 0.03, "an idle worker", SOON)
    assert screen.workers() == workers


def undo(screen: Screen) -> None:
    screen.keys("ctrl+z", window=screen.window(MAIN))


def is_named(photo: Photo) -> bool:
    """True if the first undo step is not undone."""
    return photo.names()[-1] == "Photo"


def assert_one_step(screen: Screen, photo: Photo, before: int = 1) -> None:
    """Ctrl+Z removes the new layer and nothing else, Ctrl+Y restores it.

    ``before`` is how many steps were in the history.
    """
    new = photo.above(photo.layer)
    pixels = screen.do("fingerprint", new["id"])
    undo(screen)
    wait_for(lambda: len(photo.layers()) == 1, "the end of the layer after Ctrl+Z")
    assert is_named(photo)
    screen.keys("ctrl+y")
    wait_for(lambda: len(photo.layers()) == 2, "the layer after Ctrl+Y")
    again = photo.above(photo.layer)
    assert bool(again["mask"]) == bool(new["mask"])
    # GIMP's Ctrl+Y selects the mask for editing.
    same = set(new) - {"id", "mask", "edit_mask"}
    assert {key: again[key] for key in same} == {key: new[key] for key in same}
    assert screen.do("fingerprint", again["id"]) == pixels
    for _ in range(before):
        undo(screen)
        assert is_named(photo)
    undo(screen)
    wait_for(lambda: not is_named(photo), "the step before")
    assert len(photo.layers()) == 1


def assert_no_step(screen: Screen, photo: Photo) -> None:
    """The history has no new step: Ctrl+Z undoes the first one."""
    assert len(photo.layers()) == 1
    assert is_named(photo)
    undo(screen)
    wait_for(lambda: not is_named(photo), "the step before")


def error_said(screen: Screen, since: int) -> str:
    """The one error message of the filter in GIMP's output from ``since``."""
    output = screen.output()[since:]
    messages = re.findall(r"Execution error for 'Neural Style':\s*(.+)", output)
    assert len(messages) == 1, output
    return str(messages[0])


def discard_changes(screen: Screen, title: str) -> None:
    """Answer GIMP's question whether to save first."""
    screen.keys("ctrl+d", window=screen.window(title))


def test_the_menu_opens_the_dialog(screen: Screen, photo: Photo) -> None:
    """Escape closes it and changes nothing."""
    remember(screen.profile)
    screen.keys("alt+r", "a", "End", window=screen.window(MAIN))
    time.sleep(0.5)  # A menu has no title to wait for.
    screen.screenshot("menu")
    screen.keys("n")
    dialog = screen.window(TITLE)
    time.sleep(1.0)
    screen.screenshot("dialog-empty")
    screen.keys("Escape", window=dialog)
    screen.gone(TITLE)
    wait_until_gone(screen.plugins())
    assert_no_step(screen, photo)


def test_a_painter_paints_the_part_that_is_selected(screen: Screen, photo: Photo) -> None:
    """The whole path from the menu to the layer with its mask."""
    remember(screen.profile, preset="fast", detail="draft", seed=1)
    screen.do("select_ellipse", photo.image, 60, 30, 330, 240, 40.0)
    selected = photo.selection()
    screen.keys("ctrl+shift+j", window=screen.window(MAIN))  # Fit the image in the window.
    dialog = open_dialog(screen)
    choose_painting(screen, NIGHT)
    screen.rest_mouse()
    wait_until_estimated(screen)
    screen.screenshot("dialog")
    press_ok(screen, dialog)
    window = progress_window(screen, dialog)
    layer = preview(photo)
    screen.screenshot("progress", window)
    left, top, right, bottom = screen.place_of(window)
    assert min(left, top) >= 0
    assert right <= 1280
    assert bottom <= 800
    pictures = watch(screen, layer["id"])
    assert len(pictures) > 2
    (PICTURES / "preview.png").write_bytes(pictures[len(pictures) // 2])
    screen.gone(TITLE)
    time.sleep(1.0)  # The thumbnails of the layers come a little later.
    screen.screenshot("result")
    new = photo.above(photo.layer)
    assert new["name"] == "Neural Style: night"
    assert new["mask"]
    mask = screen.pixels(new["mask"], mask=True)[..., 0]
    x, y, width, height = (new[name] for name in ("x", "y", "width", "height"))
    assert abs(mask - selected[y : y + height, x : x + width]).max() < 0.5 / 255
    assert_one_step(screen, photo, before=3)  # The selection and its feather are two more.


def watch(screen: Screen, layer: int) -> list[bytes]:
    """Take a screenshot at each preview until the run has ended."""
    pictures: list[bytes] = []
    seen = None

    def over() -> bool:
        nonlocal seen
        # The result's layer replaces the preview's.
        now = screen.do("fingerprint_if_there", layer)
        if now and now != seen:
            seen = now
            pictures.append(screen.screenshot("preview").read_bytes())
        return not screen.plugins()

    wait_for(over, "the end of the run", timeout=240.0, every=0.5)
    return pictures


def wait_until_estimated(screen: Screen) -> None:
    """Wait for the dialog's estimate: the worker idles from then on."""
    wait_for(screen.workers, "a worker")
    wait_for(lambda: processor_seconds(screen.workers(), during=1.0) < 0.1, "the estimate")


def choose_painting(screen: Screen, file: Path) -> None:
    """Choose a file with the dialog's first button."""
    title = "^(Select|Open|Choose).*"
    screen.keys("alt+p", "space")
    chooser = screen.window(title)
    screen.focus(chooser)
    # The slash opens an entry, which searches completions. A second Return would reach the button
    # behind, which opens the chooser again.
    screen.type("/")
    time.sleep(0.5)
    screen.type(str(file).removeprefix("/"))
    time.sleep(0.5)
    screen.keys("Return")
    screen.gone(title, timeout=10.0)


def test_ctrl_f_repeats(screen: Screen, photo: Photo) -> None:
    """Ctrl+F uses the values of the last run, without the dialog."""
    remember(screen.profile, style=NIGHT.as_uri(), **QUICK)
    press_ok(screen, open_dialog(screen))
    wait_for(lambda: len(photo.layers()) == 2 and not screen.plugins(), "the first layer")
    screen.do("select_layer", photo.image, photo.layer)
    screen.keys("ctrl+f", window=screen.window(MAIN))
    wait_for(lambda: len(photo.layers()) == 3 and not screen.plugins(), "the second layer")
    first, second = (
        screen.do("fingerprint", layer["id"])
        for layer in photo.layers()
        if layer["id"] != photo.layer
    )
    assert first == second


def test_ctrl_f_says_when_the_painting_is_gone(screen: Screen, photo: Photo) -> None:
    painting = screen.profile.folder / "painting.jpg"
    shutil.copy(NIGHT, painting)
    remember(screen.profile, style=painting.as_uri(), **QUICK)
    press_ok(screen, open_dialog(screen))
    wait_for(lambda: len(photo.layers()) == 2 and not screen.plugins(), "the first layer")
    painting.unlink()
    said = len(screen.output())
    screen.keys("ctrl+f", window=screen.window(MAIN))
    wait_for(lambda: "Execution error" in screen.output()[said:], "a message")
    wait_for(lambda: not screen.plugins(), "the end of the run")
    sentence = error_said(screen, said)
    assert is_sentence(sentence)
    assert "painting.jpg" in sentence
    assert len(photo.layers()) == 2


def test_stop_keeps_the_layer(screen: Screen, photo: Photo) -> None:
    """The layer is one undo step."""
    window = start(screen, photo)
    plugins = screen.plugins()
    screen.keys("alt+s", window=window)
    wait_until_gone(plugins)
    assert photo.names()[0].startswith("Neural Style: night")
    new = photo.above(photo.layer)
    size = screen.do("describe", photo.layer)
    assert all(new[key] == size[key] for key in ("x", "y", "width", "height"))
    assert_over(screen, plugins)
    assert_one_step(screen, photo)


@pytest.mark.parametrize("key", ["alt+c", "Escape", "alt+F4"])
def test_cancel_leaves_nothing(screen: Screen, photo: Photo, key: str) -> None:
    """No layer, process, busy worker or undo step stays; Escape and Alt+F4 cancel too."""
    window = start(screen, photo)
    plugins = screen.plugins()
    screen.keys(key, window=window)
    assert_over(screen, plugins)
    screen.gone(TITLE)
    assert_no_step(screen, photo)


def test_undo_while_it_paints(screen: Screen, photo: Photo) -> None:
    """Ctrl+Z undoes the user's own last step; the run goes on."""
    window = start(screen, photo)
    plugins = screen.plugins()
    undo(screen)
    wait_for(lambda: not is_named(photo), "the step before")
    assert len(photo.layers()) == 2
    screen.keys("alt+s", window=window)
    wait_until_gone(plugins)
    assert len(photo.layers()) == 2
    undo(screen)
    wait_for(lambda: len(photo.layers()) == 1, "the end of the layer after Ctrl+Z")


def test_removing_the_preview_ends_the_run(screen: Screen, photo: Photo) -> None:
    """The run ends without an error."""
    start(screen, photo)
    plugins = screen.plugins()
    screen.do("remove_layer", preview(photo)["id"])
    wait_until_gone(plugins)
    screen.gone(TITLE)
    assert_over(screen, plugins)
    assert len(photo.layers()) == 1


def test_closing_the_image_while_it_paints(screen: Screen, photo: Photo) -> None:
    start(screen, photo)
    plugins = screen.plugins()
    screen.keys("ctrl+w", window=screen.window(MAIN))
    discard_changes(screen, "^Close ")
    wait_until_gone(plugins)
    screen.gone(TITLE)
    assert_over(screen, plugins)
    wait_for(lambda: photo.image not in screen.do("images"), "the end of the image")


def test_the_worker_is_killed_while_it_paints(screen: Screen, photo: Photo) -> None:
    """The user gets one sentence and no layer; the next run succeeds."""
    start(screen, photo)
    plugins, said = screen.plugins(), len(screen.output())
    for worker in screen.workers():
        worker.kill()
    wait_until_gone(plugins)
    screen.gone(TITLE)
    assert_no_step(screen, photo)
    assert is_sentence(error_said(screen, said))
    remember(screen.profile, style=NIGHT.as_uri(), **QUICK)
    press_ok(screen, open_dialog(screen))
    wait_for(lambda: len(photo.layers()) == 2 and not screen.plugins(), "the layer")


@pytest.mark.parametrize("last", ["nothing", "gone.jpg"])
def test_ok_needs_a_painting(screen: Screen, photo: Photo, last: str) -> None:
    """OK is disabled without a painting, also if the last used one was deleted."""
    gone = {} if last == "nothing" else {"style": (screen.profile.folder / last).as_uri()}
    remember(screen.profile, **gone, **QUICK)
    dialog = open_dialog(screen)
    press_ok(screen, dialog)
    time.sleep(0.5)
    assert screen.windows(TITLE) == [dialog]
    screen.keys("Escape", window=dialog)
    screen.gone(TITLE)
    assert_no_step(screen, photo)


def test_gimp_is_killed_while_it_paints(own: Photo) -> None:
    screen = on_screen(own)
    start(screen, own)
    processes = screen.plugins() + screen.workers()
    assert len(processes) >= 2
    screen.kill()
    wait_until_gone(processes)


def test_gimp_quits_while_it_paints(own: Photo) -> None:
    screen = on_screen(own)
    start(screen, own)
    processes = screen.plugins() + screen.workers()
    assert len(processes) >= 2
    screen.ask("end")
    screen.keys("ctrl+q", window=screen.window(MAIN))
    discard_changes(screen, "^Quit GIMP")
    wait_for(lambda: screen.process.poll() is not None, "the end of GIMP", 10.0)
    assert screen.process.returncode == 0
    wait_until_gone(processes)


def test_the_first_preview_comes_long_before_the_end(profile: Profile) -> None:
    """The photo has 1200 x 800 pixels; the worker is cold, then warm."""
    file = profile.folder / "large.png"
    with Image.open(CAT) as cat:
        cat.resize((1200, 800)).save(file)
    with Screen.opened(profile, CAT) as screen, Photo.loaded(screen, file) as photo:
        for _ in ("cold", "warm"):
            remember(profile, style=NIGHT.as_uri())
            dialog = open_dialog(screen)
            press_ok(screen, dialog)
            wait_for(lambda: len(photo.layers()) == 2, "a preview")
            assert screen.plugins()
            screen.keys("alt+c", window=progress_window(screen, dialog))
            wait_for(lambda: not screen.plugins(), "the end of the run")


def on_screen(photo: Photo) -> Screen:
    if not isinstance(photo.gimp, Screen):
        raise GimpError("the photo is not on a screen")
    return photo.gimp
