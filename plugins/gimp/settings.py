"""``nstrt.json``: tells the plug-in in GIMP how to start this installation's worker.

The plug-in runs in GIMP's own Python, which cannot import nstrt.
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
from nstrt.plugins.worker.log import log_file
from nstrt.plugins.worker.messages import PROTOCOL

__all__ = ["FORMAT", "Settings", "SettingsError", "current", "read"]

FORMAT = 1
"""Version of the file's format; the plug-in refuses any other."""


class SettingsError(GimpError):
    """``nstrt.json`` is missing, damaged or of another format."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The contents of ``nstrt.json``."""

    version: str
    """The version of nstrt that wrote it."""

    protocol: int
    """Version of the worker's protocol."""

    command: tuple[str, ...]
    """The worker's command line."""

    environment: Mapping[str, str]
    """Variables added to GIMP's environment for the worker."""

    log: str
    """Path of the worker's log."""

    mend: str
    """The command line that installs the filter again."""

    arguments: tuple[Mapping[str, Any], ...]
    """The dialog's arguments, as plain values."""

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
    """The settings of this installation of nstrt."""
    from nstrt.plugins.gimp.dialog_options import arguments

    # Links are kept: a virtual environment is known by the path of its Python, which is a link.
    python = os.path.abspath(sys.executable)
    cache = os.environ.get("NSTRT_CACHE")
    return Settings(
        version=version("nstrt"),
        protocol=PROTOCOL,
        command=(python, *_isolation_flags(), "-m", "nstrt.plugins.cli", "worker"),
        environment={"NSTRT_CACHE": str(Path(cache).expanduser().absolute())} if cache else {},
        log=str(log_file()),
        mend=_install_command(python),
        arguments=tuple(arguments()),
    )


def read(path: Path) -> Settings:
    """Read the settings in a file.

    Raises :class:`SettingsError`; its text is a predicate whose subject is "nstrt.json".
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


def _isolation_flags() -> tuple[str, ...]:
    """Options with which Python imports this nstrt, whatever GIMP's environment says."""
    here, user_site = Path(__file__).resolve(), site.getusersitepackages()
    if site.ENABLE_USER_SITE and here.is_relative_to(Path(user_site).resolve()):
        # -I would hide the user's own site-packages.
        return ("-E", "-P")
    return ("-I",)


def _install_command(python: str) -> str:
    beside = Path(python).with_name("nstrt.exe" if sys.platform == "win32" else "nstrt")
    command = [str(beside) if beside.is_file() else "nstrt", "gimp", "install"]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
