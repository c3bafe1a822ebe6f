"""Checks that the filter is installed, that GIMP loads it, and that its worker answers."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nstrt.plugins.gimp.errors import GimpError
from nstrt.plugins.gimp.find_gimp import as_sentence
from nstrt.plugins.gimp.folders import GimpFolder
from nstrt.plugins.gimp.handshake import handshake
from nstrt.plugins.gimp.install import ENTRY, PluginPaths, filter_sources
from nstrt.plugins.gimp.settings import Settings, SettingsError, read
from nstrt.plugins.worker.messages import PROTOCOL

__all__ = ["PROCEDURE", "Status", "registration", "status"]

PROCEDURE = "plug-in-nstrt-stylize"
"""The filter's name in GIMP's procedure database."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of the filter in one GIMP's folder."""

    owner: str
    """The GIMP's name: ``GIMP 3.0``."""

    folder: Path
    """The plug-in's folder."""

    installed: bool
    """True if any file of the filter is there."""

    version: str | None
    """The version of nstrt that installed it."""

    faults: tuple[str, ...]
    """Why it does not work, as sentences; empty if it does."""

    notes: tuple[str, ...]
    """Other findings, as sentences."""

    @property
    def fine(self) -> bool:
        """True if it is installed and works."""
        return self.installed and not self.faults

    def as_dict(self) -> dict[str, object]:
        """The state as plain values."""
        return {
            "owner": self.owner,
            "folder": str(self.folder),
            "installed": self.installed,
            "fine": self.fine,
            "version": self.version,
            "faults": list(self.faults),
            "notes": list(self.notes),
        }


def status(folder: GimpFolder) -> Status:
    """Check the filter in a GIMP's folder; starts its worker to see that it answers."""
    paths = PluginPaths(gimp=folder.path)
    faults, notes = [], []
    if folder.obstacle:
        faults.append(as_sentence(folder.obstacle))
    installed = any(map(os.path.lexists, (paths.settings, paths.plugin, *paths.modules)))
    found: Settings | None = None
    if installed:
        found, fault = _settings(paths)
        file_faults, file_notes = _check_files(paths, found)
        faults += [*file_faults, *([fault] if fault else [])]
        notes += file_notes
    if found:
        outcome = handshake(found.command, found.environment, protocol=found.protocol)
        if outcome.fault:
            faults.append(f"Its worker does not answer: {outcome.fault}.")
        elif found.protocol != PROTOCOL:
            notes.append(f"It speaks protocol {found.protocol}; this nstrt speaks {PROTOCOL}.")
    if paths.plugin.exists():
        accepted, sentence = registration(folder.path, paths.plugin)
        (notes if accepted else faults).append(sentence)
    return Status(
        owner=folder.owner,
        folder=paths.folder,
        installed=installed,
        version=found.version if found else None,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def registration(gimp: Path, plugin: Path) -> tuple[bool, str]:
    """Look the plug-in up in GIMP's list of plug-ins; returns False if GIMP refused it.

    The second value is the finding as a sentence. GIMP writes its list when it starts with a new
    plug-in, and leaves out files that it could not run.
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


def _settings(paths: PluginPaths) -> tuple[Settings | None, str]:
    try:
        return read(paths.settings), ""
    except SettingsError as error:
        return None, f"nstrt.json {error}."


def _check_files(paths: PluginPaths, found: Settings | None) -> tuple[list[str], list[str]]:
    """Faults and notes on the plug-in's files: missing, not executable, changed."""
    faults, notes = [], []
    missing = not paths.plugin.exists()
    if missing:
        faults.append(f"{ENTRY} is missing.")
    # Windows goes by the file's ending.
    elif sys.platform != "win32" and not os.access(paths.plugin, os.X_OK):
        faults.append(f"{ENTRY} is not executable, so GIMP passes it over.")
    own = version("nstrt")
    other = found is not None and found.version != own
    if found and other:
        notes.append(f"It is of nstrt {found.version}, and this is nstrt {own}.")
    if paths.linked:
        notes.append("It is a link, left as it is.")
    # Another version has other files.
    for name, source in {} if other or missing else _sources().items():
        try:
            if paths.source(name).read_bytes() != source:
                notes.append(f"{name} was changed: it is not this nstrt's file.")
        except FileNotFoundError:
            # A linked checkout may have other modules.
            if not paths.linked:
                faults.append(f"{name} is missing.")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror}).")
    return faults, notes


def _sources() -> dict[str, bytes]:
    try:
        return filter_sources()
    except GimpError:
        # An incomplete installation of nstrt says nothing against the plug-in.
        return {}
