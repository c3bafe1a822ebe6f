"""Finds GIMP on this machine: folders, programs, and a sentence if there is no GIMP 3."""

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
    flatpak_paths,
    gimp_folders,
    mark_flatpak,
    named_folder,
    snap_paths,
)
from nstrt.plugins.gimp.programs import GimpProgram, create_user_folder, find_programs

__all__ = ["FoundGimp", "as_sentence", "explain_lack", "find_gimp"]


@dataclass(frozen=True, kw_only=True)
class FoundGimp:
    """The GIMPs of this machine."""

    folders: tuple[GimpFolder, ...]
    """Folders of GIMP 3, also those in which the filter cannot work."""

    programs: tuple[GimpProgram, ...]
    """Programs, GIMP 2 among them."""

    lack: str = ""
    """Why there is no folder, as a sentence; empty if there is one."""

    @property
    def usable(self) -> tuple[GimpFolder, ...]:
        """The folders in which the filter can work."""
        return tuple(folder for folder in self.folders if not folder.obstacle)


def find_gimp(named: Path | None = None, *, start: bool = False) -> FoundGimp:
    """Find GIMP 3, or check the folder that the user ``named``.

    With ``start``, a GIMP 3 that never ran is started once without windows, so that it creates its
    folder. Raises :class:`GimpError` for a named folder that cannot be a GIMP's.
    """
    if named is not None:
        return FoundGimp(folders=(_check_named(named),), programs=())
    chosen = os.environ.get("GIMP3_DIRECTORY")
    home, environment = Path.home(), os.environ
    if chosen:
        folders = gimp_folders(sys.platform, home, environment, _subfolders)
        lack = (
            f"GIMP3_DIRECTORY names {home / chosen}, which is not there; start GIMP 3 once, then "
            "run this again."
        )
        return FoundGimp(folders=folders, programs=(), lack="" if folders else lack)
    programs = find_programs(sys.platform)
    supported = [program for program in programs if program.supported]
    for program in supported if start else ():
        if not default_folder(sys.platform, home, environment, program.version).is_dir():
            create_user_folder(program)
    flatpak = sys.platform == "linux" and _any_exists(flatpak_paths(home))
    folders = mark_flatpak(
        gimp_folders(sys.platform, home, environment, _subfolders),
        flatpak=flatpak,
        program=bool(supported),
    )
    old = default_folder(sys.platform, home, environment, "2.10").is_dir()
    lack = explain_lack(
        programs,
        flatpak=flatpak,
        snap=sys.platform == "linux" and _any_exists(snap_paths()),
        old_folder=old,
    )
    return FoundGimp(folders=folders, programs=programs, lack="" if folders else lack)


def explain_lack(
    programs: Sequence[GimpProgram], *, flatpak: bool, snap: bool, old_folder: bool
) -> str:
    """Why there is no folder of a GIMP 3, and what to do, as a sentence."""
    again = "start it once, then run this again, or name its folder with --folder."
    supported = [program for program in programs if program.supported]
    if supported:
        return f"GIMP {supported[0].version} was never started here; {again}"
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


def as_sentence(clause: str) -> str:
    """A clause with its first letter in upper case."""
    return clause[0].upper() + clause[1:]


def _check_named(named: Path) -> GimpFolder:
    path = Path(os.path.abspath(named.expanduser()))
    if path.name == "plug-ins":
        path = path.parent
    if not path.is_dir():
        raise GimpError(f"There is no folder {path}; name the one in which GIMP 3 keeps plug-ins.")
    if path.name.startswith("2."):
        raise GimpError(f"{path} belongs to GIMP {path.name}, and this filter needs GIMP 3.")
    return named_folder(path)


def _subfolders(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _any_exists(paths: Sequence[Path]) -> bool:
    return any(path.exists() for path in paths)
