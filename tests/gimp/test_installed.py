"""The installed files: GIMP loads them, leaves nothing beside them, and follows links."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from gimp import CAT, NIGHT, QUICK, REPOSITORY, Gimp, Photo, Profile

FILTER = REPOSITORY / "plugins" / "gimp" / "filter"

NewProfile = Callable[[], AbstractContextManager[Profile]]


def paints(profile: Profile) -> None:
    with Gimp.console(profile) as gimp, Photo.loaded(gimp, CAT) as photo:
        answer = photo.stylize(style=NIGHT, **QUICK)
        assert (answer.status, answer.message) == ("success", "")


def test_python_writes_nothing_into_the_folder(new_profile: NewProfile) -> None:
    with new_profile() as profile:
        folder = profile.gimp_folder / "plug-ins" / "nstrt"
        installed = sorted(folder.rglob("*"))
        assert len(installed) == len([*FILTER.glob("*.py")]) + 1
        paints(profile)
        assert sorted(folder.rglob("*")) == installed


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_link_to_a_checkout_works(new_profile: NewProfile, whole_folder: bool) -> None:
    with new_profile() as profile:
        folder = profile.gimp_folder / "plug-ins" / "nstrt"
        settings = (folder / "nstrt.json").read_bytes()
        shutil.rmtree(folder)
        if whole_folder:
            checkout = profile.folder / "checkout"
            shutil.copytree(FILTER, checkout)
            folder.symlink_to(checkout)
        else:
            folder.mkdir()
            (folder / "nstrt.py").symlink_to(FILTER / "nstrt.py")
        (folder / "nstrt.json").write_bytes(settings)
        paints(profile)
