"""``nstrt.json``: what the plug-in in GIMP knows of this installation of nstrt.

The plug-in runs in GIMP's own Python and imports nothing of nstrt; it starts the command found
here and speaks the worker's protocol.
"""

from __future__ import annotations

import json
import os
import shlex
import site
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nstrt.plugins.gimp.errors import GimpError
from nstrt.plugins.worker.connection import PROTOCOL
from nstrt.plugins.worker.log import log_file

__all__ = ["FORMAT", "Settings", "SettingsError", "current", "read"]

FORMAT = 1
"""The form of ``nstrt.json``; the plug-in refuses any other."""


class SettingsError(GimpError):
    """A file ``nstrt.json`` that is of no use."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The contents of ``nstrt.json``."""

    version: str
    """The version of nstrt that wrote it."""

    protocol: int
    """The worker's protocol."""

    command: tuple[str, ...]
    """What starts the worker."""

    environment: Mapping[str, str]
    """What the worker's environment has besides GIMP's."""

    log: str
    """Where the worker writes its log."""

    mend: str
    """The command that a person types if the worker is not to be found."""

    arguments: tuple[Mapping[str, Any], ...]
    """What the dialog offers, as plain values."""

    def as_bytes(self) -> bytes:
        """The file's content."""
        content = {
            "format": FORMAT,
            "version": self.version,
            "protocol": self.protocol,
            "command": list(self.command),
            "environment": dict(self.environment),
            "log": self.log,
            "mend": self.mend,
            "arguments": list(self.arguments),
        }
        return json.dumps(content, indent=1, ensure_ascii=False).encode()


def current() -> Settings:
    """The settings that this installation of nstrt would write."""
    from nstrt.plugins.gimp.arguments import arguments

    # Not resolved: a virtual environment's Python is a link, and is that environment by its path.
    python = os.path.abspath(sys.executable)
    cache = os.environ.get("NSTRT_CACHE")
    return Settings(
        version=version("nstrt"),
        protocol=PROTOCOL,
        command=(python, *_isolated(), "-m", "nstrt.plugins.cli", "worker"),
        environment={"NSTRT_CACHE": str(Path(cache).expanduser().absolute())} if cache else {},
        log=str(log_file()),
        mend=_mend(python),
        arguments=tuple(arguments()),
    )


def read(path: Path) -> Settings:
    """The settings in a file.

    Raises :class:`SettingsError`, whose text goes on after "nstrt.json".
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise SettingsError("is missing") from error
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SettingsError("is damaged") from error
    try:
        if content["format"] != FORMAT:
            raise SettingsError(f"is of another form ({content['format']}, not {FORMAT})")
        found = Settings(
            version=str(content["version"]),
            protocol=int(content["protocol"]),
            command=tuple(str(part) for part in content["command"]),
            environment={str(k): str(v) for k, v in content["environment"].items()},
            log=str(content["log"]),
            mend=str(content["mend"]),
            arguments=tuple(dict(item) for item in content["arguments"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError("is damaged") from error
    if not found.command:
        raise SettingsError("is damaged")
    return found


def _isolated() -> tuple[str, ...]:
    """Options with which Python finds this nstrt, and nothing that GIMP's environment names."""
    place, own = Path(__file__).resolve(), site.getusersitepackages()
    if site.ENABLE_USER_SITE and place.is_relative_to(Path(own).resolve()):
        # Isolation would hide what pip installed for one user alone.
        return ("-E", "-P")
    return ("-I",)


def _mend(python: str) -> str:
    beside = Path(python).with_name("nstrt.exe" if sys.platform == "win32" else "nstrt")
    command = [str(beside) if beside.is_file() else "nstrt", "gimp", "install"]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
