"""GIMP 3's folders of a user: one for each version and kind of package.

GIMP loads plug-ins from ``plug-ins`` in that folder. Nothing here reads the disk: the caller gives
a function that lists folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = [
    "FLATPAK",
    "SNAP",
    "GimpFolder",
    "Listing",
    "default_folder",
    "flatpak_paths",
    "gimp_folders",
    "mark_flatpak",
    "named_folder",
    "snap_paths",
]

Listing = Callable[[Path], Sequence[str]]
"""Returns the names of the folders in a folder; none if it does not exist."""

FLATPAK = (
    "a GIMP installed as a Flatpak may not start programs outside its own box, so the filter "
    "cannot reach nstrt; install GIMP from your distribution or as an AppImage, and name that "
    "GIMP's folder with --folder if it is not found."
)
"""The reason why the filter cannot work in a Flatpak."""

SNAP = (
    "a GIMP installed as a Snap may not start programs outside its own box, so the filter cannot "
    "reach nstrt; install GIMP from your distribution or as an AppImage."
)
"""The reason why the filter cannot work in a Snap."""

_VERSION = re.compile(r"3\.\d+")


@dataclass(frozen=True, kw_only=True)
class GimpFolder:
    """A folder with a GIMP's settings and plug-ins."""

    path: Path
    """The folder; the filter is installed into ``plug-ins/nstrt`` in it."""

    owner: str
    """The GIMP's name for the user: ``GIMP 3.0``, ``GIMP 3.0 (Snap)``."""

    obstacle: str = ""
    """Why the filter cannot work there, as a clause; empty if it can."""


def gimp_folders(
    system: str, home: Path, environment: Mapping[str, str], listing: Listing
) -> tuple[GimpFolder, ...]:
    """The folders of every GIMP 3 that was ever started, on ``linux``, ``darwin`` or ``win32``.

    If ``GIMP3_DIRECTORY`` is set it is the only one, as for GIMP itself.
    """
    chosen = environment.get("GIMP3_DIRECTORY")
    if chosen:
        # GIMP reads a relative path from the home folder.
        path = home / chosen
        return (named_folder(path),) if path.name in listing(path.parent) else ()
    found = []
    for base, package, obstacle in _bases(system, home, environment):
        versions = sorted(filter(_VERSION.fullmatch, listing(base)), key=_version_key)
        for version in versions:
            owner = f"GIMP {version}" + (f" ({package})" if package else "")
            found.append(GimpFolder(path=base / version, owner=owner, obstacle=obstacle))
    return tuple(found)


def named_folder(path: Path) -> GimpFolder:
    """A folder that the user named."""
    known = _VERSION.fullmatch(path.name)
    return GimpFolder(path=path, owner=f"GIMP {path.name}" if known else "GIMP")


def default_folder(system: str, home: Path, environment: Mapping[str, str], version: str) -> Path:
    """The folder of a GIMP ``version``, such as ``3.0.4``, outside Flatpak and Snap."""
    base, *_ = _bases(system, home, environment)[0]
    return base / ".".join(version.split(".")[:2])


def mark_flatpak(
    folders: Sequence[GimpFolder], *, flatpak: bool, program: bool
) -> tuple[GimpFolder, ...]:
    """The folders, with an obstacle if a Flatpak is the only GIMP 3.

    A Flatpak shares ``~/.config/GIMP`` with the system's GIMP. The folder is the system's if there
    is a ``program`` outside the Flatpak.
    """
    if not flatpak or program:
        return tuple(folders)
    return tuple(
        folder if folder.obstacle else replace(folder, obstacle=FLATPAK) for folder in folders
    )


def flatpak_paths(home: Path) -> tuple[Path, ...]:
    """Folders of which one exists if GIMP is installed as a Flatpak."""
    return (
        home / ".local/share/flatpak/app/org.gimp.GIMP",
        Path("/var/lib/flatpak/app/org.gimp.GIMP"),
    )


def snap_paths() -> tuple[Path, ...]:
    """Folders of which one exists if GIMP is installed as a Snap."""
    return (Path("/snap/gimp"), Path("/var/lib/snapd/snap/gimp"))


def _bases(
    system: str, home: Path, environment: Mapping[str, str]
) -> tuple[tuple[Path, str, str], ...]:
    """The parents of GIMP's folders, each with its kind of package and its obstacle.

    The first is that of a GIMP outside Flatpak and Snap.
    """
    if system == "win32":
        roaming = environment.get("APPDATA")
        return (((Path(roaming) if roaming else home / "AppData/Roaming") / "GIMP", "", ""),)
    if system == "darwin":
        return ((home / "Library/Application Support/GIMP", "", ""),)
    config = Path(environment.get("XDG_CONFIG_HOME") or ".")
    return (
        ((config if config.is_absolute() else home / ".config") / "GIMP", "", ""),
        (home / ".var/app/org.gimp.GIMP/config/GIMP", "Flatpak", FLATPAK),
        (home / "snap/gimp/current/.config/GIMP", "Snap", SNAP),
    )


def _version_key(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
