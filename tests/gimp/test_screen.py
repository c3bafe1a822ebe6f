"""The filter as a painter sees it: menu, dialog, preview, Stop, Cancel, Undo.

Screenshots go to ``out/gimp/``: they are for eyes, nothing compares them.
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
"""The dialog and the window with the progress are called so."""

LONG = {"size": 300, "iterations": 400, "seed": 1}
"""Options with which there is a preview soon, and the end is minutes away."""


@pytest.fixture(scope="module")
def screen(profile: Profile) -> Iterator[Screen]:
    with Screen.opened(profile, CAT) as screen:
        yield screen


@pytest.fixture
def photo(screen: Screen) -> Iterator[Photo]:
    """A photo in front, with one step in its history: its layer got the name Photo."""
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
    """Have the dialog open with these values, as if they were the last used ones."""
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
    """Start a run from the menu and wait for its preview; the window with the progress."""
    remember(screen.profile, style=NIGHT.as_uri(), **{**LONG, **options})
    dialog = open_dialog(screen)
    press_ok(screen, dialog)
    window = progress_window(screen, dialog)
    preview(photo)
    return window


def assert_over(screen: Screen, plugins: list[psutil.Process]) -> None:
    """The plug-in is gone soon, and the worker is there and idle."""
    wait_until_gone(plugins)
    workers = screen.workers()
    assert workers
    wait_for(lambda: processor_seconds(workers, during=0.3) < 0.03, "an idle worker", SOON)
    assert screen.workers() == workers


def undo(screen: Screen) -> None:
    screen.keys("ctrl+z", window=screen.window(MAIN))


def is_named(photo: Photo) -> bool:
    """Whether the step that was in the history from the start still stands."""
    return photo.names()[-1] == "Photo"


def assert_one_step(screen: Screen, photo: Photo, before: int = 1) -> None:
    """Ctrl+Z takes the new layer away and nothing else, Ctrl+Y brings it back as it was.

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
    # GIMP's own Ctrl+Y has the mask edited.
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
    """Nothing was added to the history: Ctrl+Z undoes the step that was there."""
    assert len(photo.layers()) == 1
    assert is_named(photo)
    undo(screen)
    wait_for(lambda: not is_named(photo), "the step before")


def error_said(screen: Screen, since: int) -> str:
    """What the filter's one error message says that GIMP has shown ``since`` then."""
    output = screen.output()[since:]
    messages = re.findall(r"Execution error for 'Neural Style':\s*(.+)", output)
    assert len(messages) == 1, output
    return str(messages[0])


def discard_changes(screen: Screen, title: str) -> None:
    """Answer GIMP's question whether to save first."""
    screen.keys("ctrl+d", window=screen.window(title))


def test_the_menu_opens_the_dialog(screen: Screen, photo: Photo) -> None:
    """Escape closes it, and nothing has happened."""
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
    """From the menu over the dialog and the preview to the layer with its mask."""
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
    """Take a picture of the screen at each preview until the run has ended."""
    pictures: list[bytes] = []
    seen = None

    def over() -> bool:
        nonlocal seen
        # The preview's layer goes when the finished one comes.
        now = screen.do("fingerprint_if_there", layer)
        if now and now != seen:
            seen = now
            pictures.append(screen.screenshot("preview").read_bytes())
        return not screen.plugins()

    wait_for(over, "the end of the run", timeout=240.0, every=0.5)
    return pictures


def wait_until_estimated(screen: Screen) -> None:
    """Wait until the dialog shows how long it would take: the worker then has nothing to do."""
    wait_for(screen.workers, "a worker")
    wait_for(lambda: processor_seconds(screen.workers(), during=1.0) < 0.1, "the estimate")


def choose_painting(screen: Screen, file: Path) -> None:
    """Choose a file with the dialog's first button."""
    title = "^(Select|Open|Choose).*"
    screen.keys("alt+p", "space")
    chooser = screen.window(title)
    screen.focus(chooser)
    # The slash makes the entry for the rest appear, which looks for completions in turn. Return
    # only once: the button behind would open the chooser again.
    screen.type("/")
    time.sleep(0.5)
    screen.type(str(file).removeprefix("/"))
    time.sleep(0.5)
    screen.keys("Return")
    screen.gone(title, timeout=10.0)


def test_ctrl_f_repeats(screen: Screen, photo: Photo) -> None:
    """With the values of the last run, without the dialog."""
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
    """In one undo step."""
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
    """No layer, no process, no busy worker, no undo step; Escape and closing the window alike."""
    window = start(screen, photo)
    plugins = screen.plugins()
    screen.keys(key, window=window)
    assert_over(screen, plugins)
    screen.gone(TITLE)
    assert_no_step(screen, photo)


def test_undo_while_it_paints(screen: Screen, photo: Photo) -> None:
    """Ctrl+Z undoes the painter's own last step; the run goes on."""
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
    """Deleting the layer that is being painted is no harm."""
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
    """One sentence, no layer, and the next run works."""
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
    """Without one, or if the last one was deleted since, OK waits for another."""
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
    """Of a photo of 1200 x 800, with a cold worker and with a warm one."""
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
