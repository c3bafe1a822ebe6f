"""Whether the filter is in a GIMP's folder, whether GIMP would load it, and why not."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nstrt.plugins.gimp.errors import GimpError
from nstrt.plugins.gimp.folders import GimpFolder
from nstrt.plugins.gimp.greeting import greet
from nstrt.plugins.gimp.install import Place, filter_source
from nstrt.plugins.gimp.settings import Settings, SettingsError, read
from nstrt.plugins.gimp.survey import as_sentence
from nstrt.plugins.worker.connection import PROTOCOL

__all__ = ["PROCEDURE", "Status", "registration", "status"]

PROCEDURE = "plug-in-nstrt-stylize"
"""What the filter is called in GIMP's procedure database."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How the filter fares in one folder of a GIMP."""

    owner: str
    """Whose folder it is: ``GIMP 3.0``."""

    folder: Path
    """The plug-in's folder in it."""

    installed: bool
    """Whether any part of the filter is there."""

    version: str | None
    """The version of nstrt that put it there."""

    faults: tuple[str, ...]
    """Why it does not work, in sentences; none if it does."""

    notes: tuple[str, ...]
    """What else is worth knowing, in sentences."""

    @property
    def fine(self) -> bool:
        """Whether it is there and works."""
        return self.installed and not self.faults

    def as_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "owner": self.owner,
            "folder": str(self.folder),
            "installed": self.installed,
            "fine": self.fine,
            "version": self.version,
            "faults": list(self.faults),
            "notes": list(self.notes),
        }


def status(folder: GimpFolder, source: bytes | None = None) -> Status:
    """Look at the filter in a GIMP's folder, starting its worker to see whether it answers.

    ``source`` is the plug-in's file as it should be; None for this installation's.
    """
    place = Place(gimp=folder.path)
    faults, notes = [], []
    if folder.obstacle:
        faults.append(as_sentence(folder.obstacle))
    there = [path for path in (place.settings, place.plugin) if os.path.lexists(path)]
    found: Settings | None = None
    if there:
        faults += _plugin_faults(place)
        found, fault = _settings(place)
        faults += [fault] if fault else []
        notes += _differences(place, found, source)
    if found:
        greeting = greet(found.command, found.environment, protocol=found.protocol)
        if greeting.fault:
            faults.append(f"Its worker does not answer: {greeting.fault}.")
        elif found.protocol != PROTOCOL:
            notes.append(f"It speaks protocol {found.protocol}; this nstrt speaks {PROTOCOL}.")
    if there and place.plugin.exists():
        taken, sentence = registration(folder.path, place.plugin)
        (notes if taken else faults).append(sentence)
    return Status(
        owner=folder.owner,
        folder=place.folder,
        installed=bool(there),
        version=found.version if found else None,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def registration(gimp: Path, plugin: Path) -> tuple[bool, str]:
    """Whether GIMP's own list of plug-ins speaks for the file or not at all, and what it says.

    GIMP writes the list when it finds a file that is new to it, and leaves out files that it
    could not run.
    """
    try:
        listed = gimp.joinpath("pluginrc").read_text(errors="replace")
        written = gimp.joinpath("pluginrc").stat().st_mtime
    except OSError:
        return True, "GIMP has not listed any plug-in yet; it does when it starts."
    entry = re.search(r'\(plug-in-def "[^"]*[/\\]+nstrt[/\\]+nstrt\.py" (\d+)', listed)
    modified = plugin.stat().st_mtime
    if entry and int(entry[1]) == int(modified):
        following = listed[entry.end() :].partition("(plug-in-def ")[0]
        if f'"{PROCEDURE}"' in following:
            return True, "GIMP has loaded it."
        return False, f"GIMP has loaded it, without {PROCEDURE}."
    if not entry and written > modified:
        return False, (
            "GIMP was started since and could not run it; what a terminal says after "
            "'gimp --verbose' tells why."
        )
    return True, "GIMP has not seen this file yet; restart GIMP."


def _plugin_faults(place: Place) -> list[str]:
    if not place.plugin.exists():
        return ["nstrt.py is missing."]
    # Windows goes by the file's ending.
    if sys.platform != "win32" and not os.access(place.plugin, os.X_OK):
        return ["nstrt.py is not executable, so GIMP passes it over."]
    return []


def _settings(place: Place) -> tuple[Settings | None, str]:
    try:
        return read(place.settings), ""
    except SettingsError as error:
        return None, f"nstrt.json {error}."


def _differences(place: Place, found: Settings | None, source: bytes | None) -> list[str]:
    own, notes = version("nstrt"), []
    other = found is not None and found.version != own
    if found and other:
        notes.append(f"It is of nstrt {found.version}, and this is nstrt {own}.")
    if place.linked:
        notes.append("It is a link, left as it is.")
    try:
        if place.plugin.read_bytes() != (filter_source() if source is None else source):
            # Another version's file is bound to differ.
            notes += [] if other else ["nstrt.py was changed: it is not this nstrt's file."]
    except (OSError, GimpError):
        pass
    return notes
