"""Putting the plug-in where GIMP finds it, and taking it away again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nstrt.plugins.gimp.errors import GimpError
from nstrt.plugins.gimp.settings import Settings
from nstrt.runtime.system.files import remove_leftovers, write_whole

__all__ = ["Place", "filter_source", "install", "uninstall"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the filter is, or would be, in a GIMP's folder."""

    gimp: Path
    """The GIMP's folder."""

    @property
    def folder(self) -> Path:
        """The plug-in's own folder; GIMP wants it to have the name of the plug-in's file."""
        return self.gimp / "plug-ins" / "nstrt"

    @property
    def plugin(self) -> Path:
        """The file that GIMP starts."""
        return self.folder / "nstrt.py"

    @property
    def settings(self) -> Path:
        """What that file knows of nstrt."""
        return self.folder / "nstrt.json"

    @property
    def linked(self) -> bool:
        """Whether somebody put a link there, to work on the file that it leads to."""
        return self.folder.is_symlink() or self.plugin.is_symlink()


def filter_source() -> bytes:
    """The plug-in's file as this installation of nstrt has it."""
    try:
        file = resources.files("nstrt.plugins.gimp").joinpath("filter", "nstrt.py")
        return file.read_bytes()
    except OSError as error:
        raise GimpError(
            "The plug-in's file is missing from this installation of nstrt; install nstrt again."
        ) from error


def install(place: Place, source: bytes, settings: Settings) -> None:
    """Put the filter in place, over an older one; a link that is there stays and is used.

    Raises :class:`GimpError` if the folder cannot be written.
    """
    with _named_errors(place, "written"):
        place.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place.folder)
        write_whole(place.settings, settings.as_bytes())
        before = _modified(place.plugin)
        if not (place.linked and place.plugin.exists()):
            write_whole(place.plugin, source)
        if not os.access(place.plugin, os.X_OK):
            place.plugin.chmod(0o755)
        # GIMP asks the file again what it offers only if its time, in whole seconds, is another.
        now = max(int(time.time()), before + 1)
        os.utime(place.plugin, (now, now))


def uninstall(place: Place) -> bool:
    """Take away what :func:`install` put there, and nothing else; gives whether it was there."""
    found = place.settings.exists() or os.path.lexists(place.plugin)
    with _named_errors(place, "cleared"):
        place.settings.unlink(missing_ok=True)
        if place.folder.is_symlink():
            # What it leads to belongs to whoever made the link.
            place.folder.unlink()
            return True
        place.plugin.unlink(missing_ok=True)
        compiled = place.folder / "__pycache__"
        for path in compiled.glob("nstrt.*.pyc"):
            path.unlink()
        remove_leftovers(place.folder)
        for folder in (compiled, place.folder):
            with suppress(OSError):
                folder.rmdir()
    return found


def _modified(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0


@contextmanager
def _named_errors(place: Place, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GimpError(
            f"{error.filename or place.folder} cannot be {verb} ({error.strerror or error}); see "
            "who owns it and whether the disk is full, then run this again."
        ) from error
