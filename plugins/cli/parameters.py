"""Parameters that several commands share, and dataclasses as parameters of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial, wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

__all__ = [
    "ARGUMENTS",
    "OUTPUT",
    "AsJson",
    "Content",
    "DryRun",
    "Quiet",
    "StripMetadata",
    "Style",
    "input_argument",
    "input_option",
    "output_option",
    "takes",
]

ARGUMENTS = "Arguments"
"""Heading in the help for the pictures that a command reads."""

OUTPUT = "Output"
"""Heading in the help for files and lines that a command writes."""

input_argument = partial(typer.Argument, rich_help_panel=ARGUMENTS, show_default=False)
input_option = partial(typer.Option, rich_help_panel=ARGUMENTS, show_default=False)
output_option = partial(typer.Option, rich_help_panel=OUTPUT, show_default=False)

Content = Annotated[Path, input_argument(metavar="CONTENT", help="The photo.")]
Style = Annotated[Path, input_argument(metavar="STYLE", help="The painting.")]
AsJson = Annotated[bool, output_option("--json", help="Print one JSON object on stdout.")]
DryRun = Annotated[
    bool,
    output_option("--dry-run", help="Say how much time and memory it takes, and paint nothing."),
]
StripMetadata = Annotated[
    bool,
    output_option(
        "--strip-metadata",
        help="Leave the photo's own data out of the result: place (GPS), time, camera, author, "
        "keywords, resolution. The recipe stays.",
    ),
]
Quiet = Annotated[bool, output_option("-q", "--quiet", help="Print nothing but errors.")]


def takes(arguments: type[Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorator: typer sees the fields of the dataclass ``arguments`` as the parameters of a
    command, and the command gets an instance as its first parameter."""
    types = get_type_hints(arguments, include_extras=True)
    flags = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=types[field.name],
        )
        for field in fields(arguments)
    ]

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        _, *others = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def wrapper(**values: Any) -> int:
            own = {flag.name: values.pop(flag.name) for flag in flags}
            return command(arguments(**own), **values)

        signature = inspect.Signature([*flags, *others])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return wrapper

    return decorate
