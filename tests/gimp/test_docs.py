"""The script in ``docs/gimp.md`` runs as it is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from gimp import CAT, NIGHT, REPOSITORY, Profile
from PIL import Image


def test_the_printed_script_paints_a_photo(
    new_profile: Callable[[], AbstractContextManager[Profile]],
) -> None:
    """GIMP has all of its plug-ins here, and none of the other tests' settings."""
    page = (REPOSITORY / "docs" / "gimp.md").read_text()
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    with new_profile() as profile:
        (profile.gimp_folder / "gimprc").unlink()
        folder = profile.folder / "pictures"
        folder.mkdir()
        for file, name in ((CAT, "photo"), (NIGHT, "painting")):
            with Image.open(file) as picture:
                picture.resize((144, 96)).save(folder / f"{name}.jpg")
        profile.run("sh", "-ec", f"cd {folder}; {script}", timeout=240)
        with Image.open(folder / "photo.jpg") as photo, Image.open(folder / "painted.png") as found:
            assert found.size == (144, 96)
            moved = np.asarray(found.convert("RGB"), float) - np.asarray(photo, float)
            assert np.abs(moved).mean() > 8
