"""Command-line flags made from :class:`StylizeOptions`: no default stands here a second time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import typer

from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.options import StylizeOptions

__all__ = ["OUTPUT", "QUIET", "given_options", "given_values", "with_option_flags"]

OUTPUT = "Output"
"""The panel of the help for what a command writes and prints."""

QUIET: bool = typer.Option(
    False, "-q", "--quiet", help="Print nothing but errors.", rich_help_panel=OUTPUT
)
"""The flag of every command that paints."""


def with_option_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one flag for each option, passed on as its keyword argument ``given``.

    ``given`` holds only what was named on the command line, so that presets fill in the rest.
    """
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.name != "given"
    ]
    flags = [_parameter(item) for item in fields(StylizeOptions)]
    names = [flag.name for flag in flags]

    def wrapper(**values: Any) -> Any:
        given = {name: values.pop(name) for name in names}
        return command(**values, given={k: v for k, v in given.items() if v is not None})

    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return wrapper


def given_options(given: dict[str, Any]) -> StylizeOptions:
    """Validated options from the flags that were named."""
    return StylizeOptions.of(**given_values(given))


def given_values(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that were named, as :meth:`StylizeOptions.of` takes them."""
    values = dict(given)
    if "iterations" in values:
        values["iterations"] = _numbers(values["iterations"])
    if "style_blend" in values:
        values["style_blend"] = _weights(values["style_blend"])
    return values


def _parameter(item: Any) -> inspect.Parameter:
    rule = item.metadata
    flag = "--" + item.name.replace("_", "-")
    kind, metavar = _kind(item)
    names = [f"{flag}/--no-{flag[2:]}"] if item.default is True else [flag]
    choices = "|".join(rule["choices"])
    option = typer.Option(
        None,
        *names,
        help=_help(item),
        rich_help_panel=rule["group"],
        metavar=choices if choices and len(choices) < 40 else metavar,
        show_default=False,
    )
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None
    )


def _kind(item: Any) -> tuple[Any, str | None]:
    match item.type:
        case "bool":
            return bool, None
        case "int" | "int | None":
            return int, "N"
        case "float" | "float | None":
            return float, "X"
        case "LayerWeights":
            return str, "LAYERS"
        case "tuple[int, ...]":
            return str, "N[,N...]"
        case "tuple[float, ...]":
            return str, "X[,X...]"
    return str, "TEXT"


def _help(item: Any) -> str:
    """The option's words, with its default where one value is it."""
    text: str = item.metadata["help"]
    default = item.default
    if default is None or default == () or isinstance(default, bool) or "Default:" in text:
        return text
    if isinstance(default, tuple):
        default = ",".join(name for name, _ in default)
    shown = f"{default:g}" if isinstance(default, float) else default
    return f"{text} [{shown}]"


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(
            f"--iterations cannot be '{text}'; give one number, or a list such as 100,50,25."
        ) from error


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(
            f"--style-blend cannot be '{text}'; give a weight for each painting, such as 2,1,1."
        ) from error
