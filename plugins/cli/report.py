"""``nstrt info --report``: all that helps to find a fault, as one text that can be pasted."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nstrt.plugins.cli.facts import as_lines

__all__ = ["LOG_LINES", "report_lines", "weights", "without_home"]

LOG_LINES = 60
"""How much of the worker's log is shown."""

_PACKAGES = (
    ("nstrt",),
    # One module in two packages, of which only one should be there.
    ("onnxruntime", "onnxruntime-gpu"),
    *(("numpy",), ("onnx",), ("onnxscript",), ("pyvips",), ("torch",), ("torchvision",)),
)
_VARIABLES = ("NSTRT_CACHE", "GIMP3_DIRECTORY", "XDG_CONFIG_HOME", "PYTHONPATH")


def report_lines() -> Iterator[str]:
    """The report, line by line; a part that cannot be had says so in a line."""
    homes = {str(Path.home()), os.path.realpath(Path.home())}
    parts: tuple[tuple[str, Callable[[], Iterable[str]]], ...] = (
        ("Versions", _versions),
        ("This machine", _machine),
        ("Weights", _weights),
        # Looking at GIMP starts workers, which write into the log.
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
            # The report is for when things are broken; one of them must not hide the others.
            lines = [f"not to be had: {type(error).__name__}: {error}"]
        for line in lines:
            yield without_home(f"  {line}", homes)


def without_home(line: str, homes: Iterable[str]) -> str:
    """The line with a person's home folder, which has their name in it, as ``~``."""
    for home in sorted(homes, key=len, reverse=True):
        if len(home) > 1:
            # Logs and JSON write a backslash twice.
            line = line.replace(home, "~").replace(home.replace("\\", "\\\\"), "~")
    return line


def _versions() -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    for names in _PACKAGES:
        there = []
        for name in names:
            with suppress(PackageNotFoundError):
                there.append(f"{name}: {version(name)}")
        yield from there or [f"{names[0]}: not installed"]
    yield f"python: {platform.python_version()} ({sys.executable})"
    yield f"system: {platform.platform()}"
    for name in _VARIABLES:
        if name in os.environ:
            yield f"{name}={os.environ[name]}"


def _machine() -> Iterator[str]:
    from nstrt.runtime.analysis.environment import describe

    facts = describe()
    del facts["versions"]
    return as_lines(facts)


def _weights() -> Iterator[str]:

    return as_lines(weights())


def _gimp() -> Iterator[str]:
    from nstrt.plugins.cli.gimp import status_lines
    from nstrt.plugins.gimp.status import status
    from nstrt.plugins.gimp.survey import survey

    found = survey()
    yield from status_lines(found, [status(folder) for folder in found.folders])


def _log() -> Iterator[str]:
    from nstrt.plugins.worker.log import log_file

    paths = dict.fromkeys([log_file(), *_logs_of_filters()])
    for path in paths:
        yield str(path)
        # What was written last may have been moved aside just now.
        parts = [path.with_name(path.name + ".1"), path]
        lines = [
            line
            for part in parts
            if part.exists()
            for line in part.read_text(errors="replace").splitlines()
        ]
        yield from lines[-LOG_LINES:] or ["There is none: no worker has run yet."]


def _logs_of_filters() -> Iterator[Path]:
    """The logs that the installed filters' workers write, which may have another cache."""
    from nstrt.plugins.gimp import settings
    from nstrt.plugins.gimp.survey import survey

    try:
        folders = survey().folders
    except Exception:
        # The part about GIMP says what is wrong.
        return
    for folder in folders:
        try:
            yield Path(settings.read(folder.path / "plug-ins" / "nstrt" / "nstrt.json").log)
        except settings.SettingsError:
            continue


def weights() -> dict[str, str]:
    """Which weights can be had here; only the exporter knows."""
    try:
        from nstrt.exporter.weights import weights_found
    except ImportError:
        return {"exporter": 'not installed; add it with: pip install "nstrt[full]"'}
    return weights_found()
