"""How soon the filter shows something in GIMP, and how soon it is gone (after make test-gimp).

Of a photo of 1200 x 800 pixels and the default options: the first preview after OK with a cold and
a warm worker; Cancel until the plug-in is gone and the worker idle; kill -9 of GIMP until the
worker is gone.
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
from test_screen import open_dialog, press_ok, progress_window, store_measurement

from nstrt.runtime.system.files import cache_folder


def previewed(screen: Screen, photo: Photo) -> tuple[float, str]:
    """Seconds from OK to the first preview, and the window with the progress."""
    store_measurement(screen.profile, style=NIGHT.as_uri())
    dialog = open_dialog(screen)
    # At once, as somebody who repeats: the worker gets no time to warm up meanwhile.
    press_ok(screen, dialog)
    begun = time.monotonic()
    wait_for(lambda: len(photo.layers()) == 2, "a preview", every=0.02)
    return time.monotonic() - begun, progress_window(screen, dialog)


def cancelled(screen: Screen, photo: Photo, window: str) -> tuple[float, float]:
    """Seconds from Cancel until the plug-in is gone, and until the worker is idle too."""
    plugins = screen.plugins()
    screen.keys("alt+c", window=window)
    begun = time.monotonic()
    wait_until_gone(plugins)
    gone = time.monotonic() - begun
    while True:
        looked = time.monotonic()
        if processor_seconds(screen.workers(), during=0.1) < 0.02:
            assert len(photo.layers()) == 1
            return gone, looked - begun
        assert looked < begun + 60


def main() -> None:
    """Print the times of three GIMPs."""
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
                cold, window = previewed(screen, photo)
                first = cancelled(screen, photo, window)
                warm, window = previewed(screen, photo)
                second = cancelled(screen, photo, window)
                previewed(screen, photo)
                processes = screen.plugins() + screen.workers()
                screen.kill()
                begun = time.monotonic()
                wait_until_gone(processes)
                killed = time.monotonic() - begun
        print(
            f"first preview {cold:.1f} s cold, {warm:.1f} s warm; Cancel: plug-in gone after "
            f"{first[0]:.2f} and {second[0]:.2f} s, worker idle by {first[1]:.2f} and "
            f"{second[1]:.2f} s; worker gone {killed:.2f} s after kill -9 of GIMP"
        )


if __name__ == "__main__":
    main()
