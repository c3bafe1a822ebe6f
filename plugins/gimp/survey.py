"""What this machine has of GIMP: folders, programs, and what to say where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nstrt.plugins.gimp.errors import GimpError
from nstrt.plugins.gimp.folders import (
    FLATPAK,
    SNAP,
    GimpFolder,
    default_folder,
    flatpak_signs,
    gimp_folders,
    named_folder,
    snap_signs,
    without_flatpak,
)
from nstrt.plugins.gimp.programs import GimpProgram, find_programs, make_user_folder

__all__ = ["Survey", "as_sentence", "nothing_found", "survey"]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found of GIMP."""

    folders: tuple[GimpFolder, ...]
    """Folders of GIMP 3, also those in which the filter cannot work."""

    programs: tuple[GimpProgram, ...]
    """Programs that were found, GIMP 2 among them."""

    lack: str = ""
    """What to say if there is no folder, one sentence."""

    @property
    def usable(self) -> tuple[GimpFolder, ...]:
        """The folders in which the filter can work."""
        return tuple(folder for folder in self.folders if not folder.obstacle)


def survey(named: Path | None = None, *, start: bool = False) -> Survey:
    """Look for GIMP 3, or only at a folder that was ``named``.

    With ``start``, a GIMP 3 that never ran is started once without its windows, so that it makes
    its folder. Raises :class:`GimpError` for a named folder that cannot be one.
    """
    if named is not None:
        return Survey(folders=(_checked(named),), programs=())
    chosen = os.environ.get("GIMP3_DIRECTORY")
    home, environment = Path.home(), os.environ
    if chosen:
        folders = gimp_folders(sys.platform, home, environment, _listing)
        lack = (
            f"GIMP3_DIRECTORY names {home / chosen}, which is not there; start GIMP 3 once, then "
            "run this again."
        )
        return Survey(folders=folders, programs=(), lack="" if folders else lack)
    programs = find_programs(sys.platform)
    serving = [program for program in programs if program.serves]
    for program in serving if start else ():
        if not default_folder(sys.platform, home, environment, program.version).is_dir():
            make_user_folder(program)
    flatpak = sys.platform == "linux" and _any_there(flatpak_signs(home))
    folders = without_flatpak(
        gimp_folders(sys.platform, home, environment, _listing),
        flatpak=flatpak,
        program=bool(serving),
    )
    old = default_folder(sys.platform, home, environment, "2.10").is_dir()
    lack = nothing_found(
        programs,
        flatpak=flatpak,
        snap=sys.platform == "linux" and _any_there(snap_signs()),
        old_folder=old,
    )
    return Survey(folders=folders, programs=programs, lack="" if folders else lack)


def nothing_found(
    programs: Sequence[GimpProgram], *, flatpak: bool, snap: bool, old_folder: bool
) -> str:
    """What to say where no folder of a GIMP 3 was found."""
    again = "start it once, then run this again, or name its folder with --folder."
    serving = [program for program in programs if program.serves]
    if serving:
        return f"GIMP {serving[0].version} was never started here; {again}"
    if flatpak:
        return as_sentence(FLATPAK)
    if snap:
        return as_sentence(SNAP)
    if programs:
        return f"Only GIMP {programs[0].version} is here, and this filter needs GIMP 3."
    if old_folder:
        return (
            "Only GIMP 2.10 was ever started here, and this filter needs GIMP 3; if that is "
            f"installed, {again}"
        )
    return f"No GIMP 3 was found; if it is installed, {again}"


def _checked(named: Path) -> GimpFolder:
    path = Path(os.path.abspath(named.expanduser()))
    if path.name == "plug-ins":
        path = path.parent
    if not path.is_dir():
        raise GimpError(f"There is no folder {path}; name the one in which GIMP 3 keeps plug-ins.")
    if path.name.startswith("2."):
        raise GimpError(f"{path} belongs to GIMP {path.name}, and this filter needs GIMP 3.")
    return named_folder(path)


def _listing(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _any_there(paths: Sequence[Path]) -> bool:
    return any(path.exists() for path in paths)


def as_sentence(clause: str) -> str:
    """A clause with a capital at its start."""
    return clause[0].upper() + clause[1:]
