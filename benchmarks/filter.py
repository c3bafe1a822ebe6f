"""Measure the GIMP filter's time to the first preview and to its end (after make test-gimp).

Uses a photo of 1200 x 800 pixels and the default options. Measures three times: from OK
to the first preview, with a cold and a warm worker; from Cancel to the plug-in's end and an idle
worker; from kill -9 of GIMP to the worker's end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "gimp"))

import prepare
from gimp import CAT, NIGHT, Photo, Profile, Screen, processor_seconds, wait_for, wait_until_gone
from PIL import Image
from test_screen import open_dialog, press_ok, progress_window, remember

from nstrt.runtime.system.files import cache_folder


def measure_preview(screen: Screen, photo: Photo) -> tuple[float, str]:
    """Return the seconds from OK to the first preview, and the progress window."""
    remember(screen.profile, style=NIGHT.as_uri())
    dialog = open_dialog(screen)
    # OK follows at once, so that the worker has no time to warm up.
    press_ok(screen, dialog)
    started = time.monotonic()
    wait_for(lambda: len(photo.layers()) == 2, "a preview", every=0.02)
    return time.monotonic() - started, progress_window(screen, dialog)


def measure_cancel(screen: Screen, photo: Photo, window: str) -> tuple[float, float]:
    """Return the seconds from Cancel to the end of the plug-in and to an idle worker."""
    plugins = screen.plugins()
    screen.keys("alt+c", window=window)
    started = time.monotonic()
    wait_until_gone(plugins)
    gone = time.monotonic() - started
    while True:
        looked = time.monotonic()
        if processor_seconds(screen.workers(), during=0.1) < 0.02:
            assert len(photo.layers()) == 1
            return gone, looked - started
        assert looked < started + 60


def main() -> None:
    """Print the times of three GIMP processes."""
    place = prepare.find()
    if not place:
        sys.exit("There is no GIMP 3: run tests/gimp/prepare.py first.")
    cache = cache_folder().absolute()
    for _ in range(3):
        with Profile.temporary(place, cache) as profile:
            install = [sys.executable, "-m", "nstrt.plugins.cli", "gimp", "install", "--folder"]
            subprocess.run(
                [*install, str(profile.gimp_folder)],
                env={**os.environ, "NSTRT_CACHE": str(cache)},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            file = profile.folder / "large.png"
            with Image.open(CAT) as cat:
                cat.resize((1200, 800)).save(file)
            with Screen.opened(profile, CAT) as screen, Photo.loaded(screen, file) as photo:
                cold, window = measure_preview(screen, photo)
                first = measure_cancel(screen, photo, window)
                warm, window = measure_preview(screen, photo)
                second = measure_cancel(screen, photo, window)
                measure_preview(screen, photo)
                processes = screen.plugins() + screen.workers()
                screen.kill()
                started = time.monotonic()
                wait_until_gone(processes)
                killed = time.monotonic() - started
        print(
            f"first preview {cold:.1f} s cold, {warm:.1f} s warm; Cancel: plug-in gone after "
            f"{first[0]:.2f} and {second[0]:.2f} s, worker idle by {first[1]:.2f} and "
            f"{second[1]:.2f} s; worker gone {killed:.2f} s after kill -9 of GIMP"
        )


if __name__ == "__main__":
    main()
