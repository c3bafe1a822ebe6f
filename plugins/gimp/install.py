"""Installs the plug-in into a GIMP's folder, and uninstalls it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nstrt.plugins.gimp.errors import GimpError
from nstrt.plugins.gimp.settings import Settings
from nstrt.runtime.system.files import remove_stale_temporaries, write_atomically

__all__ = ["ENTRY", "PluginPaths", "filter_sources", "install", "uninstall"]

ENTRY = "nstrt.py"
"""The file that GIMP starts; it imports its modules from the folder it is in."""

MODULES = "nstrt_*.py"
"""Names of those modules. In the plug-in's folder these names are nstrt's alone."""


@dataclass(frozen=True, kw_only=True)
class PluginPaths:
    """Paths of the plug-in in a GIMP's folder, installed or not."""

    gimp: Path
    """The GIMP's folder."""

    @property
    def folder(self) -> Path:
        """The plug-in's own folder; GIMP requires the name of the plug-in's file."""
        return self.gimp / "plug-ins" / "nstrt"

    @property
    def plugin(self) -> Path:
        """The file that GIMP starts."""
        return self.folder / ENTRY

    @property
    def settings(self) -> Path:
        """The file that tells the plug-in how to start nstrt."""
        return self.folder / "nstrt.json"

    @property
    def modules(self) -> list[Path]:
        """The modules in the folder, of any version."""
        return sorted(self.folder.glob(MODULES))

    @property
    def linked(self) -> bool:
        """True if the folder or the file is a link that a developer made."""
        return self.folder.is_symlink() or self.plugin.is_symlink()

    def source(self, name: str) -> Path:
        """The path from which Python reads the file ``name`` of the plug-in.

        Python imports from the folder of the file that the link leads to.
        """
        return self.plugin if name == ENTRY else self.plugin.resolve().with_name(name)


def filter_sources() -> dict[str, bytes]:
    """The plug-in's files in this installation of nstrt, by name."""
    folder = resources.files("nstrt.plugins.gimp").joinpath("filter")
    try:
        sources = {
            file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(".py")
        }
    except OSError:
        sources = {}
    if ENTRY not in sources:
        raise GimpError(
            "The plug-in's file is missing from this installation of nstrt; install nstrt again."
        )
    return sources


def install(paths: PluginPaths, sources: Mapping[str, bytes], settings: Settings) -> None:
    """Install the plug-in over an older one; a link that is there is kept and used.

    Raises :class:`GimpError` if the folder cannot be written.
    """
    with _os_errors(paths, "written"):
        paths.folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(paths.folder)
        write_atomically(paths.settings, settings.as_bytes())
        before = _modified(paths.plugin)
        if not (paths.linked and paths.plugin.exists()):
            _write_sources(paths, sources)
        if not os.access(paths.plugin, os.X_OK):
            paths.plugin.chmod(0o755)
        # GIMP asks the file for its procedures again only if its time in whole seconds changed.
        now = max(int(time.time()), before + 1)
        os.utime(paths.plugin, (now, now))


def uninstall(paths: PluginPaths) -> bool:
    """Remove what :func:`install` wrote, and nothing else; returns False if nothing was there."""
    found = any(map(os.path.lexists, (paths.settings, paths.plugin, *paths.modules)))
    with _os_errors(paths, "cleared"):
        paths.settings.unlink(missing_ok=True)
        if paths.folder.is_symlink():
            # The link's target belongs to whoever made the link.
            paths.folder.unlink()
            return True
        for path in (paths.plugin, *paths.modules):
            path.unlink(missing_ok=True)
        _remove_bytecode(paths)
        remove_stale_temporaries(paths.folder)
        with suppress(OSError):
            paths.folder.rmdir()
    return found


def _write_sources(paths: PluginPaths, sources: Mapping[str, bytes]) -> None:
    for module in paths.modules:
        if module.name not in sources:
            # Of another version.
            module.unlink()
    _remove_bytecode(paths)
    # The file that GIMP starts comes last: a new one never runs with old modules.
    for name in sorted(sources, key=lambda name: name == ENTRY):
        write_atomically(paths.folder / name, sources[name])


def _remove_bytecode(paths: PluginPaths) -> None:
    """Remove bytecode that Python may have written for the plug-in's files."""
    folder = paths.folder / "__pycache__"
    for pattern in ("nstrt.*.pyc", "nstrt_*.pyc"):
        for path in folder.glob(pattern):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _modified(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0


@contextmanager
def _os_errors(paths: PluginPaths, verb: str) -> Iterator[None]:
    """Turn an OSError into a :class:`GimpError` that names the file."""
    try:
        yield
    except OSError as error:
        raise GimpError(
            f"{error.filename or paths.folder} cannot be {verb} ({error.strerror or error}); see "
            "who owns it and whether the disk is full, then run this again."
        ) from error
