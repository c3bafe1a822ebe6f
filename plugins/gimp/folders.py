"""Where GIMP 3 keeps what belongs to its user: one folder for each version and kind of package.

GIMP looks for plug-ins in ``plug-ins`` in that folder. Nothing here touches the disk; what exists
is asked of a ``listing`` of the folder names in a folder.
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
    "flatpak_signs",
    "gimp_folders",
    "named_folder",
    "snap_signs",
    "without_flatpak",
]

Listing = Callable[[Path], Sequence[str]]
"""The names of the folders in a folder; none if it is not there."""

FLATPAK = (
    "a GIMP installed as a Flatpak may not start programs outside its own box, so the filter "
    "cannot reach nstrt; install GIMP from your distribution or as an AppImage, and name that "
    "GIMP's folder with --folder if it is not found."
)
"""Why a Flatpak's GIMP gets no filter."""

SNAP = (
    "a GIMP installed as a Snap may not start programs outside its own box, so the filter cannot "
    "reach nstrt; install GIMP from your distribution or as an AppImage."
)
"""Why a Snap's GIMP gets no filter."""

_VERSION = re.compile(r"3\.\d+")


@dataclass(frozen=True, kw_only=True)
class GimpFolder:
    """A folder in which a GIMP keeps settings and plug-ins."""

    path: Path
    """The folder; the filter goes into ``plug-ins/nstrt`` in it."""

    owner: str
    """Whose it is, in words for a person: ``GIMP 3.0``, ``GIMP 3.0 (Snap)``."""

    obstacle: str = ""
    """Why the filter cannot work from there, as a clause; empty where it can."""


def gimp_folders(
    system: str, home: Path, environment: Mapping[str, str], listing: Listing
) -> tuple[GimpFolder, ...]:
    """The folders of every GIMP 3 that was started once, on ``linux``, ``darwin`` or ``win32``.

    ``GIMP3_DIRECTORY`` counts alone if it is set, as it does for GIMP.
    """
    chosen = environment.get("GIMP3_DIRECTORY")
    if chosen:
        # A relative one is in the home folder, as GIMP reads it.
        path = home / chosen
        return (named_folder(path),) if path.name in listing(path.parent) else ()
    found = []
    for base, package, obstacle in _bases(system, home, environment):
        versions = sorted(filter(_VERSION.fullmatch, listing(base)), key=_numbers)
        for version in versions:
            owner = f"GIMP {version}" + (f" ({package})" if package else "")
            found.append(GimpFolder(path=base / version, owner=owner, obstacle=obstacle))
    return tuple(found)


def named_folder(path: Path) -> GimpFolder:
    """A folder that a person named as a GIMP's."""
    known = _VERSION.fullmatch(path.name)
    return GimpFolder(path=path, owner=f"GIMP {path.name}" if known else "GIMP")


def default_folder(system: str, home: Path, environment: Mapping[str, str], version: str) -> Path:
    """Where a GIMP that is not in a box, such as ``3.0.4``, keeps its user's things."""
    base, *_ = _bases(system, home, environment)[0]
    return base / ".".join(version.split(".")[:2])


def without_flatpak(
    folders: Sequence[GimpFolder], *, flatpak: bool, program: bool
) -> tuple[GimpFolder, ...]:
    """The folders, refused where a Flatpak is the only GIMP 3 to be seen.

    Its manifest shares ``~/.config/GIMP`` with the system's GIMP, so that the folder alone does
    not say whose it is; a ``program`` outside the box does.
    """
    if not flatpak or program:
        return tuple(folders)
    return tuple(
        folder if folder.obstacle else replace(folder, obstacle=FLATPAK) for folder in folders
    )


def flatpak_signs(home: Path) -> tuple[Path, ...]:
    """Folders of which one is there where GIMP is installed as a Flatpak."""
    return (
        home / ".local/share/flatpak/app/org.gimp.GIMP",
        Path("/var/lib/flatpak/app/org.gimp.GIMP"),
    )


def snap_signs() -> tuple[Path, ...]:
    """Folders of which one is there where GIMP is installed as a Snap."""
    return (Path("/snap/gimp"), Path("/var/lib/snapd/snap/gimp"))


def _bases(
    system: str, home: Path, environment: Mapping[str, str]
) -> tuple[tuple[Path, str, str], ...]:
    """Folders of GIMP's folders, the kind of package they are of, and what keeps it from working.

    The first is that of a GIMP that is in no box.
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


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
