"""Command-line flags of the options, made from their specifications."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Annotated, Any

import typer

from nstrt.runtime.options.options import OPTIONS, StylizeOptions
from nstrt.runtime.options.spec import NumberList, OptionSpec

__all__ = ["given_options", "given_values", "with_option_flags"]

_LONGEST_METAVAR = 40
"""Longest list of choices, in characters, that the help shows as a placeholder."""


def with_option_flags(
    command: Callable[..., Any] | None = None, *, helps: Mapping[str, str] = MappingProxyType({})
) -> Callable[..., Any]:
    """Give a command one flag for each option, passed on as its keyword argument ``given``.

    ``given`` holds only the flags of the command line, so that presets supply the other values.
    ``helps`` replaces the help of options that mean something else to the command.
    """
    if command is None:
        return partial(with_option_flags, helps=helps)
    parameters = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "given"
    ]
    parameters += [
        _parameter(replace(spec, help=helps[name])) if name in helps else _shared_parameters()[name]
        for name, spec in OPTIONS.items()
    ]

    def wrapper(**values: Any) -> Any:
        flags = {name: values.pop(name) for name in OPTIONS}
        return command(**values, given={k: v for k, v in flags.items() if v is not None})

    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def given_options(given: dict[str, Any]) -> StylizeOptions:
    """Validated options from the flags of the command line."""
    return StylizeOptions.of(**given_values(given))


def given_values(given: dict[str, Any]) -> dict[str, Any]:
    """The flags of the command line as arguments of :meth:`StylizeOptions.of`."""
    return {name: _value(OPTIONS[name], argument) for name, argument in given.items()}


def _value(spec: OptionSpec, argument: Any) -> Any:
    if isinstance(spec.kind, NumberList):
        return spec.parse(argument, advice=spec.flag_advice)
    return argument


@lru_cache(maxsize=1)
def _shared_parameters() -> dict[str, inspect.Parameter]:
    """One parameter for each option, made once for all commands."""
    return {name: _parameter(spec) for name, spec in OPTIONS.items()}


def _parameter(spec: OptionSpec) -> inspect.Parameter:
    flags = f"{spec.flag}/--no-{spec.dashed_name}" if spec.default is True else spec.flag
    choices = "|".join(spec.choices)
    option = typer.Option(
        flags,
        help=_help(spec),
        rich_help_panel=spec.group,
        metavar=choices if 0 < len(choices) < _LONGEST_METAVAR else spec.kind.metavar,
        show_default=False,
    )
    return inspect.Parameter(
        spec.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[spec.kind.flag_type | None, option],
    )


def _help(spec: OptionSpec) -> str:
    """The help text, with the default in brackets if it is one value."""
    chosen_at_run = spec.default is None or spec.default == ()
    if chosen_at_run or isinstance(spec.default, bool) or "Default:" in spec.help:
        return spec.help
    return f"{spec.help} [{spec.format(spec.default)}]"
