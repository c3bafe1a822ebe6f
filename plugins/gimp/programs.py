"""Finds GIMP programs and asks them for their versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GimpProgram", "create_user_folder", "find_programs", "parse_version", "program_names"]

_VERSION_SECONDS = 20
"""Seconds that ``gimp --version`` may take; the first start after a boot is slow."""

_FIRST_START_SECONDS = 120
"""Seconds that GIMP may take to create its user's folder."""


@dataclass(frozen=True, kw_only=True)
class GimpProgram:
    """A GIMP program."""

    path: Path
    """The program file."""

    version: str
    """Its version: ``3.0.4``."""

    @property
    def supported(self) -> bool:
        """True if the filter works with its version."""
        return int(self.version.split(".")[0]) >= 3


def program_names(system: str) -> tuple[str, ...]:
    """Names that GIMP may have in PATH, and its paths on macOS, the likeliest first."""
    console = ("gimp-console", "gimp-console-3", "gimp-console-3.2", "gimp-console-3.0")
    if system == "win32":
        # The other one opens a console window and waits for a key in it.
        return console
    bundled = "/Applications/GIMP.app/Contents/MacOS/"
    apps = (bundled + "gimp-console", bundled + "gimp") if system == "darwin" else ()
    return ("gimp", "gimp-3", "gimp-3.2", "gimp-3.0", *console, *apps)


def parse_version(text: str) -> str:
    """The version in the output of ``gimp --version``; empty if there is none."""
    found = re.search(r"\b\d+\.\d+(\.\d+)*", text)
    return found[0] if found else ""


def find_programs(
    system: str, which: Callable[[str], str | None] = shutil.which
) -> tuple[GimpProgram, ...]:
    """Every GIMP in PATH that prints a version, each once, except a Snap's."""
    files: dict[Path, str] = {}
    for path in _candidates(system, which):
        files.setdefault(Path(path).resolve(), path)
    return tuple(_running(files.values()))


def create_user_folder(program: GimpProgram) -> None:
    """Start a GIMP without windows, so that it creates its user's folder; ignores its errors.

    GIMP itself must create it: only then does it import the settings of an older GIMP.
    """
    # Only gimp-console needs no display.
    name = program.path.name.replace("gimp-console", "gimp").replace("gimp", "gimp-console", 1)
    console = program.path.with_name(name)
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [str(console), "--no-interface", "--no-data", "--no-fonts", "--quit"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_FIRST_START_SECONDS,
            check=False,
            env=_environment(),
        )


def _candidates(system: str, which: Callable[[str], str | None]) -> Iterator[str]:
    for name in program_names(system):
        path = which(name)
        if path and not path.startswith(("/snap/", "/var/lib/snapd/")):
            yield path


def _running(paths: Iterable[str]) -> Iterator[GimpProgram]:
    seen = set()
    for path in paths:
        try:
            done = subprocess.run(
                [path, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_VERSION_SECONDS,
                check=False,
                env=_environment(),
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        version = parse_version(done.stdout)
        # gimp and gimp-console of one installation count once.
        if version and (Path(path).parent, version) not in seen:
            seen.add((Path(path).parent, version))
            yield GimpProgram(path=Path(path), version=version)


def _environment() -> dict[str, str]:
    """This process's environment in English and without Python's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "LC_ALL": "C.UTF-8"}
