"""``nstrt info --report``: facts that help to find a fault, as one text to paste."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nstrt.plugins.cli.facts import describe_weights, format_facts

__all__ = ["LOG_LINES", "report_lines", "without_home"]

LOG_LINES = 60
"""Most lines of each of the worker's logs that are shown."""

_PACKAGES = (
    ("nstrt",),
    # Two packages of one module; only one of them should be installed.
    ("onnxruntime", "onnxruntime-gpu"),
    *(("numpy",), ("onnx",), ("onnxscript",), ("pyvips",), ("torch",), ("torchvision",)),
)
_VARIABLES = ("NSTRT_CACHE", "GIMP3_DIRECTORY", "XDG_CONFIG_HOME", "PYTHONPATH")


def report_lines() -> Iterator[str]:
    """Lines of the report; a part that fails is one line with its error."""
    homes = {str(Path.home()), os.path.realpath(Path.home())}
    parts: tuple[tuple[str, Callable[[], Iterable[str]]], ...] = (
        ("Versions", _versions),
        ("This machine", _machine),
        ("Weights", _weights),
        # The part about GIMP starts workers, which write into the log.
        ("The worker's log", _log),
        ("GIMP", _gimp),
    )
    yield "nstrt report"
    for title, part in parts:
        yield ""
        yield title
        try:
            lines = list(part())
        except Exception as error:
            # People ask for a report when something is broken: other parts must still appear.
            lines = [f"not to be had: {type(error).__name__}: {error}"]
        for line in lines:
            yield without_home(f"  {line}", homes)


def without_home(line: str, homes: Iterable[str]) -> str:
    """Replace home folders, which contain a person's name, by ``~``."""
    for home in sorted(homes, key=len, reverse=True):
        if len(home) > 1:
            # Logs and JSON write a backslash twice.
            line = line.replace(home, "~").replace(home.replace("\\", "\\\\"), "~")
    return line


def _versions() -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    for names in _PACKAGES:
        installed = []
        for name in names:
            with suppress(PackageNotFoundError):
                installed.append(f"{name}: {version(name)}")
        yield from installed or [f"{names[0]}: not installed"]
    yield f"python: {platform.python_version()} ({sys.executable})"
    yield f"system: {platform.platform()}"
    for name in _VARIABLES:
        if name in os.environ:
            yield f"{name}={os.environ[name]}"


def _machine() -> Iterator[str]:
    from nstrt.runtime.analysis.environment import describe

    facts = describe()
    del facts["versions"]
    return format_facts(facts)


def _weights() -> Iterator[str]:
    return format_facts(describe_weights())


def _gimp() -> Iterator[str]:
    from nstrt.plugins.cli.gimp import status_lines
    from nstrt.plugins.gimp.find_gimp import find_gimp
    from nstrt.plugins.gimp.status import status

    gimp = find_gimp()
    yield from status_lines(gimp, [status(folder) for folder in gimp.folders])


def _log() -> Iterator[str]:
    from nstrt.plugins.worker.log import log_file

    paths = dict.fromkeys([log_file(), *_logs_of_filters()])
    for path in paths:
        yield str(path)
        # The log may have been rotated just now.
        parts = [path.with_name(path.name + ".1"), path]
        lines = [
            line
            for part in parts
            if part.is_file()
            for line in part.read_text(errors="replace").splitlines()
        ]
        yield from lines[-LOG_LINES:] or ["There is none: no worker has run yet."]


def _logs_of_filters() -> Iterator[Path]:
    """Logs of the installed filters' workers, whose cache may be another one."""
    from nstrt.plugins.gimp import settings
    from nstrt.plugins.gimp.find_gimp import find_gimp

    try:
        folders = find_gimp().folders
    except Exception:
        # The part about GIMP shows the error.
        return
    for folder in folders:
        try:
            yield Path(settings.read(folder.path / "plug-ins" / "nstrt" / "nstrt.json").log)
        except settings.SettingsError:
            continue
