"""Finds a GIMP 3 with Python and an X server; builds one if there is none.

A system's own GIMP 3 is used. Else, as root on a system with apt, a Debian with GIMP 3 is built
once in a folder of its own; the system itself only gets ``debootstrap``.

``python tests/gimp/prepare.py`` does that, or prints one sentence on what is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SUITE = "trixie"
"""The Debian release that is built."""

PACKAGES = (
    *("gimp", "python3-gi", "gir1.2-gimp-3.0"),
    *("xvfb", "xauth", "xdotool", "imagemagick", "openbox"),
)

PATH = "/usr/bin:/bin"
"""Excludes other Pythons than the system's, with which GIMP's Python plug-ins do not run."""

MARKER = "etc/nstrt-gimp-root"
"""File that is written last: a folder without it is incomplete."""

WHAT_TO_INSTALL = (
    "GIMP 3 with Python (gimp, python3-gi, gir1.2-gimp-3.0), Xvfb, openbox, xdotool, ImageMagick"
)


_IN_ROOT = ("gimp-console-3.0", "gimp-3.0")


class CannotPrepareError(Exception):
    """GIMP 3 cannot be prepared; the text is one sentence."""


@dataclass(frozen=True)
class Place:
    """A GIMP to test with."""

    root: Path | None
    """Root folder of GIMP's system; None for this system."""

    console: str
    """The command without windows."""

    gimp: str
    """The command with windows."""

    @property
    def system_plugins(self) -> Path:
        """The folder of GIMP's own plug-ins, as a path in GIMP's system."""
        root = self.root or Path("/")
        for pattern in ("usr/lib/*/gimp/3.0/plug-ins", "usr/lib*/gimp/3.0/plug-ins"):
            for folder in root.glob(pattern):
                return Path("/") / folder.relative_to(root)
        raise CannotPrepareError("GIMP's own plug-ins are not under /usr/lib.")


def find() -> Place | None:
    """The GIMP to test with; None if there is none."""
    commands = _system_commands()
    if commands:
        return Place(None, *commands)
    root = root_folder()
    if os.geteuid() == 0 and _recipe_of(root) == _recipe():
        return Place(root, *_IN_ROOT)
    return None


def prepare() -> Place:
    """The GIMP to test with; builds it if there is none."""
    found = find()
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CannotPrepareError(
            f"Install {WHAT_TO_INSTALL}, or run this as root on a Debian, where it makes a GIMP "
            "of its own."
        )
    if _run("unshare", "-m", "true", check=False).returncode:
        raise CannotPrepareError(
            f"Install {WHAT_TO_INSTALL}: this system does not allow private mounts, which a GIMP "
            "in a folder of its own needs."
        )
    root = root_folder()
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root.with_name(root.name + ".lock")):
        if _recipe_of(root) != _recipe():
            _build(root)
    return Place(root, *_IN_ROOT)


def root_folder() -> Path:
    """Root folder of the Debian with GIMP, built or not."""
    return Path(os.environ.get("NSTRT_GIMP_ROOT") or "/var/cache/nstrt/gimp-root").absolute()


def mirror_for(sources: Iterable[tuple[str, str]], codename: str) -> str | None:
    """The mirror from which apt installs ``codename``.

    ``sources`` are names and contents of apt's source files, in both formats.
    """
    for name, text in sources:
        for uri, suites in _entries(name, text):
            if codename in suites and uri.startswith(("http://", "https://")):
                return uri
    return None


def _entries(name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    if name.endswith(".list"):
        for line in text.splitlines():
            found = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line)
            if found:
                yield found[1], [found[2]]
        return
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", plain):
        fields = {
            key.lower(): value.split()
            for key, value in re.findall(r"^([\w-]+):((?:.|\n[ \t])*)$", paragraph, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            for uri in fields.get("uris", []):
                yield uri, fields.get("suites", [])


def _build(root: Path) -> None:
    if root.exists() and any(root.iterdir()) and not (root / MARKER).exists():
        raise CannotPrepareError(
            f"{root} is there and is not a GIMP that was made here: remove it, or name another "
            "folder in NSTRT_GIMP_ROOT."
        )
    part = root.with_name(root.name + ".part")
    log = root.with_name(root.name + ".log")
    print(f"Building a Debian with GIMP 3 in {root}: 1.1 GB, some minutes; {log}", flush=True)
    for old in (root, part):
        if old.exists():
            shutil.rmtree(old)
    with log.open("wb") as out:
        if not shutil.which("debootstrap"):
            _logged(out, "apt-get", "update")
            _logged(out, "apt-get", "install", "-y", "--no-install-recommends", "debootstrap")
        mirror = mirror_for(_apt_sources(), _codename())
        _logged(
            out,
            *("unshare", "-m", "--propagation", "private"),
            *("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(part)),
            *([mirror] if mirror else []),
        )
        settings = part / "etc/apt/apt.conf.d"
        for file in Path("/etc/apt/apt.conf.d").glob("*"):
            shutil.copy(file, settings)
        shutil.copy("/etc/resolv.conf", part / "etc/resolv.conf")
        inside = (
            f'mount --rbind /proc "{part}/proc"; mount --rbind /dev "{part}/dev"\n'
            f'exec chroot "{part}" sh -ec "apt-get update\n'
            f"apt-get install -y --no-install-recommends {' '.join(PACKAGES)}\n"
            'apt-get clean"'
        )
        _logged(out, "unshare", "-m", "--propagation", "private", "sh", "-ec", inside)
    (part / MARKER).write_text(_recipe())
    part.rename(root)


def _recipe() -> str:
    """Hash of the release and the packages."""
    return hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()


def _recipe_of(root: Path) -> str | None:
    try:
        return (root / MARKER).read_text()
    except OSError:
        return None


def _system_commands() -> tuple[str, str] | None:
    tools = ("Xvfb", "openbox", "xdotool", "import")
    if not all(shutil.which(tool, path=PATH) for tool in tools):
        return None
    typelib = "import gi; gi.require_version('Gimp', '3.0'); from gi.repository import Gimp"
    for console in ("gimp-console-3.0", "gimp-console"):
        gimp = console.replace("-console", "")
        if not (shutil.which(console, path=PATH) and shutil.which(gimp, path=PATH)):
            continue
        version = _run(console, "--version", check=False).stdout
        if re.search(r"\b3\.\d+\.\d+", version) and not (
            _run("python3", "-c", typelib, check=False).returncode
        ):
            return console, gimp
    return None


def _apt_sources() -> Iterator[tuple[str, str]]:
    folder = Path("/etc/apt")
    for file in (folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))):
        if file.suffix in (".list", ".sources") and file.is_file():
            yield file.name, file.read_text(errors="replace")


def _codename() -> str:
    found = re.search(r'^VERSION_CODENAME="?(\w+)', Path("/etc/os-release").read_text(), re.M)
    return found[1] if found else SUITE


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{PATH}:/usr/sbin:/sbin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=check, timeout=60
    )


def _logged(out: BinaryIO, *command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    result = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode:
        raise CannotPrepareError(f"{command[0]} failed; the last lines of {out.name} say why.")


def main() -> int:
    try:
        place = prepare()
    except CannotPrepareError as error:
        print(error, file=sys.stderr)
        return 2
    where = f"in {place.root}" if place.root else "of this system"
    print(f"GIMP: {place.console} {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
