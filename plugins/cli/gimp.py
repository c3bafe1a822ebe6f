"""``nstrt gimp``: install, uninstall and check the filter in GIMP."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nstrt.plugins.cli.console import print_out

if TYPE_CHECKING:
    from nstrt.plugins.gimp.find_gimp import FoundGimp
    from nstrt.plugins.gimp.status import Status

__all__ = ["COMMANDS", "status_lines"]


MENU = "Filters > Artistic > Neural Style"

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="DIR",
        help="The folder in which a GIMP 3 keeps its settings. Default: every one that is found.",
        show_default=False,
    ),
]


def install(
    folder: Folder = None,
    export: Annotated[
        bool,
        typer.Option(
            "--export/--no-export",
            help="Prepare the network too, so that the first picture starts at once.",
        ),
    ] = True,
) -> int:
    """Put the filter into GIMP 3.

    It goes into the folder of every GIMP 3 that is found; then nstrt is started as GIMP will start
    it, to see whether it answers.
    """
    from nstrt.plugins.gimp.errors import GimpError
    from nstrt.plugins.gimp.find_gimp import find_gimp
    from nstrt.plugins.gimp.handshake import handshake
    from nstrt.plugins.gimp.install import PluginPaths, filter_sources
    from nstrt.plugins.gimp.install import install as install_filter
    from nstrt.plugins.gimp.settings import current

    gimp = find_gimp(folder, start=True)
    if not gimp.usable:
        raise GimpError(_nothing_usable(gimp))
    sources, settings = filter_sources(), current()
    for item in gimp.folders:
        if item.obstacle:
            print_out(f"{item.owner}: left alone, because {item.obstacle}")
            continue
        paths = PluginPaths(gimp=item.path)
        install_filter(paths, sources, settings)
        linked = " (a link, whose nstrt.py stays as it is)" if paths.linked else ""
        print_out(f"{item.owner}: the filter is in {paths.folder}{linked}.")
    outcome = handshake(settings.command, settings.environment, protocol=settings.protocol)
    if outcome.fault:
        raise GimpError(
            f"The filter is in place, but its worker does not answer: {outcome.fault}; more may "
            f"stand in {settings.log}."
        )
    if export:
        from nstrt.runtime import StyleTransfer

        StyleTransfer(notify=print_out).prepare()
    print_out(f"Restart GIMP. Then: open a photo, {MENU}...")
    return 0


def uninstall(folder: Folder = None) -> int:
    """Take the filter out of GIMP 3."""
    from nstrt.plugins.gimp.find_gimp import find_gimp
    from nstrt.plugins.gimp.install import PluginPaths
    from nstrt.plugins.gimp.install import uninstall as remove_filter

    gimp = find_gimp(folder)
    done = [paths for item in gimp.folders if remove_filter(paths := PluginPaths(gimp=item.path))]
    for paths in done:
        print_out(f"The filter is gone from {paths.folder}.")
    if done:
        print_out("Restart GIMP if it is open.")
    else:
        print_out(gimp.lack or "The filter was not installed.")
    return 0


def status(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Say whether the filter works.

    Where it is, of which version, whether GIMP would load it, whether nstrt answers when it is
    started from there; and why not. The exit code is 1 if it works nowhere.
    """
    from importlib.metadata import version

    from nstrt.plugins.gimp.find_gimp import find_gimp
    from nstrt.plugins.gimp.status import status as check_filter

    gimp = find_gimp(folder)
    states = [check_filter(item) for item in gimp.folders]
    fine = any(state.fine for state in states)
    if as_json:
        facts = {
            "nstrt": version("nstrt"),
            "fine": fine,
            "folders": [state.as_dict() for state in states],
            "programs": [
                {"path": str(program.path), "version": program.version} for program in gimp.programs
            ],
            "lack": gimp.lack or None,
        }
        print_out(json.dumps(facts, indent=1))
    else:
        for line in status_lines(gimp, states):
            print_out(line)
        if gimp.usable and not fine:
            print_out("To put it in place: nstrt gimp install")
    return 0 if fine else 1


def status_lines(gimp: FoundGimp, states: list[Status]) -> list[str]:
    """The programs, folders and faults that were found, for people."""
    lines = [f"{program.path} is GIMP {program.version}." for program in gimp.programs]
    if gimp.lack:
        lines.append(gimp.lack)
    for state in states:
        how = "works" if state.fine else "does not work" if state.installed else "is not installed"
        of = f", nstrt {state.version}" if state.version else ""
        lines.append(f"{state.owner}: the filter {how} ({state.folder}{of}).")
        lines += [f"  {sentence}" for sentence in (*state.faults, *state.notes)]
    return lines


def _nothing_usable(gimp: FoundGimp) -> str:
    if not gimp.folders:
        return gimp.lack
    first = gimp.folders[0]
    return f"The filter cannot be put into {first.owner}: {first.obstacle}"


@dataclass(frozen=True, kw_only=True)
class Subcommand:
    """A command of the group ``nstrt gimp``."""

    function: Callable[..., int]
    """The command itself; its docstring is the help."""

    examples: str
    """Examples at the end of its help, one a line."""


COMMANDS: Mapping[str, Subcommand] = {
    "install": Subcommand(
        function=install,
        examples="nstrt gimp install\nnstrt gimp install --folder ~/.config/GIMP/3.0",
    ),
    "uninstall": Subcommand(function=uninstall, examples="nstrt gimp uninstall"),
    "status": Subcommand(function=status, examples="nstrt gimp status\nnstrt gimp status --json"),
}
