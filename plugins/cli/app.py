"""The application: all commands, and errors as one sentence."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from typing import Annotated, Any

import typer

from nstrt.plugins.cli.console import print_err, print_out
from nstrt.plugins.cli.help import GroupedCommand, WholeSentences
from nstrt.plugins.cli.words import FlagSpelling
from nstrt.runtime.errors import NstrtError, TooLargeError
from nstrt.runtime.system.memory import (
    LEAST_BYTES,
    check_process_limits,
    is_out_of_memory,
    too_large,
)
from nstrt.runtime.system.words import use_spelling

__all__ = ["run"]

_COMMANDS = {
    "stylize": "Repaint the photo CONTENT in the style of the painting STYLE.",
    "batch": "Repaint many photos, and skip those that are done already.",
    "compare": "Show how far apart the pictures A and B are, at their own size or at --size.",
    "explore": "Try options on CONTENT at small size, for a sheet to choose from.",
    "export": "Export VGG19 to ONNX files, each checked against PyTorch.",
    "import": "Take over models that were exported elsewhere; it needs neither torch nor onnx.",
    "info": "Show what would run on this machine, or how PICTURE was made.",
    "worker": "Paint for other programs, over the protocol of docs/worker.md.",
    "gimp": "The filter in GIMP 3: Filters > Artistic > Neural Style.",
}
"""First sentence of each command's help, so that ``nstrt --help`` imports none of them."""

_PAINTING = ("stylize", "batch", "explore", "worker")
"""Commands that load a network."""

_SMALL_BYTES = 400_000_000
"""Address space in which the other commands load their libraries."""

_EXAMPLES = """
nstrt stylize photo.jpg painting.jpg -o out.png
nstrt batch holiday/ --style painting.jpg --out-dir painted
nstrt explore photo.jpg painting.jpg --vary strength=0.2,0.5,0.8 -o sheet.jpg
"""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.*")
"""An address of the web, checked as it was typed: a Path loses one of its slashes."""

_COMPLETING = "_NSTRT_COMPLETE"
"""Variable with which a shell asks for completions of any command."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    An error that people can correct is one sentence on stderr and exit code 2, and with ``--json``
    an object on stdout too. Other exceptions are bugs and propagate.
    """
    as_json = "--json" in arguments

    def fail(sentence: str, code: str) -> int:
        _print_error(sentence, code if as_json else None)
        return 2

    address = next(filter(None, map(_ADDRESS.search, arguments)), None)
    if address:
        sentence = f"'{address[0]}' is an address; save the picture first, and name its file."
        return fail(sentence, "picture")
    try:
        name = next((name for name in arguments if name in _COMMANDS), "")
        if name != "gimp":
            needed = LEAST_BYTES if name in _PAINTING else _SMALL_BYTES
            check_process_limits(f"nstrt {name}".strip(), needed)
        app = _application(arguments)
        with use_spelling(FlagSpelling()):
            code = app(list(arguments) or ["--help"], prog_name="nstrt", standalone_mode=False)
    except NstrtError as error:
        return fail(str(error), error.code)
    except Exception as error:
        # Usage errors come from typer's own copy of click, whose module differs by version.
        if hasattr(error, "format_message"):
            return fail(_usage_message(error, arguments), "usage") if error.format_message() else 2
        if type(error).__name__ == "Abort":
            return fail("Nothing was written.", "interrupted")
        if is_out_of_memory(error):
            return fail(str(too_large("This command", LEAST_BYTES)), TooLargeError.code)
        if as_json:
            _print_json_error(f"nstrt failed with {type(error).__name__}: {error}", "internal")
        raise
    return code if isinstance(code, int) else 0


def _application(arguments: Sequence[str]) -> typer.Typer:
    """The application; commands that the arguments do not name have a name and a sentence only.

    Importing one command's module takes a fraction of the time of all.
    """
    app = typer.Typer(
        name="nstrt",
        cls=WholeSentences,
        help="Repaint a photo in the style of a painting.",
        epilog=_EXAMPLES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_nstrt)
    for name, sentence in _COMMANDS.items():
        if name not in arguments and _COMPLETING not in os.environ:
            app.command(name, help=sentence)(lambda: None)
            continue
        module = import_module(f"nstrt.plugins.cli.{'import_' if name == 'import' else name}")
        if name == "gimp":
            app.add_typer(_gimp_group(module), name=name)
        else:
            app.command(name, cls=GroupedCommand, epilog=module.EXAMPLES)(
                _interruptible(module.command)
            )
    return app


def _gimp_group(module: Any) -> typer.Typer:
    """The commands ``nstrt gimp ...``."""
    group = typer.Typer(help=_COMMANDS["gimp"], rich_markup_mode=None)

    @group.callback(invoke_without_command=True)
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    for name, command in module.COMMANDS.items():
        group.command(name, cls=GroupedCommand, epilog=command.examples)(
            _interruptible(command.function)
        )
    return group


def _nstrt(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"nstrt {installed('nstrt')}")
        raise typer.Exit


def _interruptible(command: Callable[..., int]) -> Callable[..., int]:
    """Print a sentence and return 130 on a Ctrl-C that the command does not handle."""

    @wraps(command)
    def wrapper(*arguments: Any, **options: Any) -> int:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            json_code = "interrupted" if options.get("as_json") else None
            _print_error("Stopped before there was anything to keep.", json_code)
            return 130

    return wrapper


def _usage_message(error: Any, arguments: Sequence[str]) -> str:
    """A usage error in plain words, with the command that shows the help."""
    message = str(error.format_message())
    for pattern, plain in _PLAIN_WORDS:
        message = re.sub(pattern, plain, message)
    context = getattr(error, "ctx", None)
    near = get_close_matches(
        getattr(error, "option_name", ""), getattr(error, "possibilities", None) or (), 1, 0
    )
    if near:
        message += f". Did you mean {near[0]}?"
    if message.startswith("Missing"):
        # The help's first words say what is missing: 'STYLE' is the painting.
        words = re.split(r"[.,:;]", getattr(getattr(error, "param", None), "help", None) or "")[0]
        message = f"{message.rstrip('.')}{f' ({words[:1].lower()}{words[1:]})' * bool(words)}"
    if "No such command" in message and os.path.exists(arguments[0]):
        return "Say what to do with the picture first: nstrt stylize PHOTO PAINTING -o RESULT.png"
    if not message.endswith((".", "?", "!")):
        message += "."
    return message + (f" Try '{context.command_path} --help'." if context else "")


_PLAIN_WORDS = (
    (r"Input should be a valid integer.*", "it must be a whole number."),
    (r"Input should be a valid number.*", "it must be a number."),
    (r"Got unexpected extra argument\S* (\(\S*\))$", r"There is one name too many \1"),
    (
        r"Got unexpected extra argument\S* \((\S+) .* (\S+)\)$",
        r"There are too many names (\1 to \2); nstrt batch paints several photos",
    ),
    (r"Input should be greater than or equal to (.*)", r"it must be at least \1."),
    (r"Input should be less than or equal to (.*)", r"it must be at most \1."),
    (r" \((Possible options|Did you mean).*\)", ""),
)


def _print_error(sentence: str, json_code: str | None) -> None:
    """Print an error on one line, and with ``json_code`` as an object on stdout."""
    sentence = " ".join(sentence.split())
    print_err(f"nstrt: {sentence}")
    if json_code is not None:
        _print_json_error(sentence, json_code)


def _print_json_error(sentence: str, code: str) -> None:
    print_out(json.dumps({"error": sentence, "code": code}))
