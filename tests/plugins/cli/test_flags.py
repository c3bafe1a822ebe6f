"""The flags of the command line give the options that they were formatted from."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nstrt.plugins.cli.flags import given_options, with_option_flags
from nstrt.runtime import StylizeOptions
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.options.spec import OptionSpec
from nstrt.runtime.options.text import format_flags

from support.option_values import option_values


@with_option_flags
def command(given: dict[str, Any]) -> StylizeOptions:
    """Return the options of a command with the flags of all options."""
    return given_options(given)


APP = typer.Typer()
APP.command()(command)


def parse_flags(arguments: list[str]) -> StylizeOptions:
    """The options of a command line."""
    options: StylizeOptions = APP(arguments, standalone_mode=False)
    return options


def has_flag(name: str, value: object) -> bool:
    """False for flags that are off by default: they have no form with ``--no-``."""
    return value is not False or OPTIONS[name].default is True


@pytest.mark.parametrize("spec", OPTIONS.values(), ids=lambda spec: spec.name)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_flags_give_the_options_that_they_were_formatted_from(
    spec: OptionSpec, data: st.DataObject
) -> None:
    value = data.draw(option_values(spec))
    assume(has_flag(spec.name, value))
    assert parse_flags(format_flags({spec.name: value})) == StylizeOptions.of(**{spec.name: value})


def test_no_flags_give_the_defaults() -> None:
    assert parse_flags([]) == StylizeOptions.of()


def test_flags_of_all_options_together() -> None:
    options = StylizeOptions.of("classic", iterations=(9,), max_memory=1.5, style_blend=(2.0, 1.0))
    values = {name: value for name, value in options.as_dict().items() if has_flag(name, value)}
    assert parse_flags(format_flags(values)) == options
