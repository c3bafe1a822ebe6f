"""Each option has one specification; its text form returns every value unchanged."""

from __future__ import annotations

import json
import re
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstrt.runtime import PRESETS, StylizeOptions
from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.options.spec import (
    Boolean,
    Integer,
    LayerList,
    Number,
    NumberList,
    OptionSpec,
    Range,
)
from nstrt.runtime.options.text import format_flags, option_name, parse_option

from support.option_values import option_values

SPECS = pytest.mark.parametrize("spec", OPTIONS.values(), ids=lambda spec: spec.name)


@SPECS
@settings(deadline=None)
@given(data=st.data())
def test_parsing_a_formatted_value_returns_it(spec: OptionSpec, data: st.DataObject) -> None:
    value = data.draw(option_values(spec))
    spec.validate(value)
    parsed = spec.parse(spec.format(value))
    assert parsed == value
    assert type(parsed) is type(value)


@SPECS
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_table_s_cell_and_json_give_the_same_options(
    spec: OptionSpec, data: st.DataObject
) -> None:
    value = data.draw(option_values(spec))
    options = options_with(spec, value)
    assert options_with(spec, parse_option(spec.name, f" {spec.format(value)} ")) == options
    assert options_with(spec, json.loads(json.dumps(value))) == options


def options_with(spec: OptionSpec, value: Any) -> StylizeOptions:
    """The default options with another value of one."""
    return StylizeOptions.of(**{spec.name: value})


def test_the_specifications_are_those_of_the_fields() -> None:
    types = get_type_hints(StylizeOptions)
    assert list(OPTIONS) == list(types)
    defaults = StylizeOptions()
    for name, spec in OPTIONS.items():
        optional = spec.kind.python_type | None if spec.default is None else spec.kind.python_type
        assert types[name] == optional
        assert getattr(defaults, name) == spec.default
        assert spec.flag == f"--{name.replace('_', '-')}"
        assert option_name(spec.flag) == option_name(spec.dashed_name) == name


def test_kinds_follow_from_the_types() -> None:
    kinds = {"size": Integer, "clamp": Boolean, "strength": Number, "style_layers": LayerList}
    for name, kind in kinds.items():
        assert type(OPTIONS[name].kind) is kind
    for name, item in (("iterations", Integer), ("style_blend", Number)):
        kind = OPTIONS[name].kind
        assert isinstance(kind, NumberList)
        assert type(kind.item) is item


def test_presets_have_values_of_their_options() -> None:
    assert OPTIONS["preset"].choices == tuple(PRESETS)
    for preset in PRESETS.values():
        for name, value in preset.values.items():
            OPTIONS[name].validate(value)


def test_only_options_without_a_default_take_none() -> None:
    for name, spec in OPTIONS.items():
        if spec.default is None:
            spec.validate(None)
        elif not isinstance(spec.kind, LayerList):
            with pytest.raises(OptionError, match=f"{name}= must be"):
                spec.validate(None)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("size", "big", "size= cannot be 'big'; it must be a whole number."),
        ("strength", "much", "strength= cannot be 'much'; it must be a number."),
        ("clamp", "maybe", "clamp= cannot be 'maybe'; it must be yes or no."),
        ("iterations", "9,x", "iterations= cannot be '9,x'; it must be a whole number, or "
         "several with commas between them."),
        ("style_blend", "2,x", "style_blend= cannot be '2,x'; it must be a number, or several "
         "with commas between them."),
    ],
)  # fmt: skip
def test_a_malformed_text_is_one_sentence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_option(name, text)
    assert str(caught.value) == sentence


def test_a_flag_s_sentence_may_end_with_an_example() -> None:
    spec = OPTIONS["iterations"]
    with pytest.raises(OptionError) as caught:
        spec.parse("9,x", advice=spec.flag_advice)
    assert str(caught.value) == (
        "iterations= cannot be '9,x'; give one number, or a list such as 100,50,25."
    )


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"There is no option 'strenth'; did you mean 'strength'"):
        option_name("strenth")


def test_bounds_are_checked() -> None:
    bounds = Range(minimum=1, maximum=3)
    for number in (1, 2.5, 3):
        bounds.check("It", number)
    for number in (0.5, 4):
        with pytest.raises(OptionError, match=f"It must be from 1 to 3, not {number}."):
            bounds.check("It", number)
    with pytest.raises(OptionError, match="It must be above 0, not 0"):
        Range(exclusive_minimum=0).check("It", 0)


def test_every_range_error_names_both_bounds() -> None:
    for name, spec in OPTIONS.items():
        bounds = spec.range
        if not isinstance(spec.kind, Number) or bounds == Range():
            continue
        least = bounds.minimum if bounds.minimum is not None else bounds.exclusive_minimum
        assert least is not None
        assert bounds.maximum is not None
        for value in (least - 1, bounds.maximum + 1):
            value = int(value) if isinstance(spec.kind, Integer) else value
            with pytest.raises(OptionError) as caught:
                spec.validate(value)
            sentence = str(caught.value)
            assert sentence.startswith(f"{name}= must be ")
            for bound in (least, bounds.maximum):
                assert float(bound) in numbers_in(sentence), sentence


def numbers_in(sentence: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", sentence)]


def test_values_that_the_runtime_chooses_have_no_flag() -> None:
    assert format_flags({"size": None, "iterations": (), "max_memory": None}) == []
