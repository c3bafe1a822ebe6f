"""Which GIMP programs are here, asked of themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GimpProgram", "find_programs", "make_user_folder", "program_names", "version_in"]

_SECONDS = 20
"""How long a GIMP may take to say its version: the first start of a machine reads many files."""

_FIRST_START_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class GimpProgram:
    """A GIMP that can be started."""

    path: Path
    """Its program file."""

    version: str
    """What it said: ``3.0.4``."""

    @property
    def serves(self) -> bool:
        """Whether the filter is made for it."""
        return int(self.version.split(".")[0]) >= 3


def program_names(system: str) -> tuple[str, ...]:
    """What a GIMP may be called in PATH, or where it lies, the likeliest first."""
    console = ("gimp-console", "gimp-console-3", "gimp-console-3.2", "gimp-console-3.0")
    if system == "win32":
        # The windowed one opens a console of its own and waits for a key in it.
        return console
    bundled = "/Applications/GIMP.app/Contents/MacOS/"
    apps = (bundled + "gimp-console", bundled + "gimp") if system == "darwin" else ()
    return ("gimp", "gimp-3", "gimp-3.2", "gimp-3.0", *console, *apps)


def version_in(text: str) -> str:
    """The version in the answer to ``gimp --version``; empty if there is none."""
    found = re.search(r"\b\d+\.\d+(\.\d+)*", text)
    return found[0] if found else ""


def find_programs(
    system: str, which: Callable[[str], str | None] = shutil.which
) -> tuple[GimpProgram, ...]:
    """Every GIMP in PATH that answers, each once; those in a Snap's box are left out."""
    files: dict[Path, str] = {}
    for path in _places(system, which):
        files.setdefault(Path(path).resolve(), path)
    return tuple(_answering(files.values()))


def make_user_folder(program: GimpProgram) -> None:
    """Have a GIMP that was never started make its user's folder, if it can.

    GIMP does it, not we: it brings over the settings of an older GIMP, and does so only where the
    folder is not there yet.
    """
    # Only this one needs no display.
    name = program.path.name.replace("gimp-console", "gimp").replace("gimp", "gimp-console", 1)
    console = program.path.with_name(name)
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [str(console), "--no-interface", "--no-data", "--no-fonts", "--quit"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_FIRST_START_SECONDS,
            check=False,
            env=_plain(),
        )


def _places(system: str, which: Callable[[str], str | None]) -> Iterator[str]:
    for name in program_names(system):
        path = which(name)
        if path and not path.startswith(("/snap/", "/var/lib/snapd/")):
            yield path


def _answering(paths: Iterable[str]) -> Iterator[GimpProgram]:
    seen = set()
    for path in paths:
        try:
            done = subprocess.run(
                [path, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
                env=_plain(),
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        version = version_in(done.stdout)
        # gimp and gimp-console of one installation are one GIMP.
        if version and (Path(path).parent, version) not in seen:
            seen.add((Path(path).parent, version))
            yield GimpProgram(path=Path(path), version=version)


def _plain() -> dict[str, str]:
    """The environment, speaking English, with no Python of somebody else's in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "LC_ALL": "C.UTF-8"}
