"""Fixtures of the tests in GIMP: a GIMP with the filter installed, and photos."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import prepare
import pytest
from gimp import CAT, Gimp, Photo, Profile

from nstrt.runtime.model import ModelStore
from nstrt.runtime.system.files import cache_folder

from support.command_line import NSTRT


def pytest_configure() -> None:
    """End GIMP and the screen on SIGTERM too."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Path:
    """The user's cache, or ``NSTRT_CACHE``: unlike other tests these do not export models anew."""
    return cache_folder().absolute()


@pytest.fixture(scope="session")
def place() -> prepare.Place:
    found = prepare.find()
    if not found:
        pytest.exit("There is no GIMP 3: run tests/gimp/prepare.py first.", 2)
    return found


@pytest.fixture(scope="session")
def new_profile(
    place: prepare.Place, own_cache: Path
) -> Callable[[], AbstractContextManager[Profile]]:
    """A profile in which ``nstrt gimp install`` installed the filter."""
    if not ModelStore(own_cache / "models").list():
        _nstrt("export", cache=own_cache)

    @contextmanager
    def profile() -> Iterator[Profile]:
        with Profile.temporary(place, own_cache) as made:
            folder = str(made.gimp_folder)
            _nstrt("gimp", "install", "--no-export", "--folder", folder, cache=own_cache)
            yield made

    return profile


@pytest.fixture(scope="session")
def profile(new_profile: Callable[[], AbstractContextManager[Profile]]) -> Iterator[Profile]:
    with new_profile() as made:
        yield made


@pytest.fixture(scope="session")
def console(profile: Profile) -> Iterator[Gimp]:
    """One GIMP without windows, with one worker, for all tests."""
    with Gimp.console(profile) as gimp:
        yield gimp


@pytest.fixture
def open_photo(console: Gimp) -> Iterator[Callable[..., Photo]]:
    """Opens photos that are closed after the test: ``open_photo(precision="half")``."""
    with ExitStack() as stack:

        def opened(path: Path = CAT, **kind: object) -> Photo:
            photo = stack.enter_context(Photo.loaded(console, path))
            console.do("convert", photo.image, **kind)
            return photo

        yield opened


def _nstrt(*words: str, cache: Path) -> None:
    subprocess.run(
        [*NSTRT, *words],
        env=os.environ | {"NSTRT_CACHE": str(cache)},
        check=True,
    )
