"""Options are validated when they are made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from nstrt.runtime import PRESETS, StylizeOptions
from nstrt.runtime.errors import LayerNameError, OptionError
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.options.spec import parse_layers


def test_options_start_from_their_preset() -> None:
    for name, preset in PRESETS.items():
        options = StylizeOptions.of(name)
        assert options.preset == name
        assert options.schedule == preset.schedule
        assert len(preset.schedule) >= 1
        for key, value in preset.values.items():
            assert getattr(options, key) == value


def test_given_values_replace_the_presets() -> None:
    options = StylizeOptions.of("classic", content_weight=7.0, iterations=5)
    assert options.content_weight == 7.0
    assert options.schedule == (5,)
    assert options.optimizer == PRESETS["classic"].values["optimizer"]


def test_adam_takes_three_steps_for_one_of_lbfgs() -> None:
    lbfgs, adam = StylizeOptions.of("fast"), StylizeOptions.of("fast", optimizer="adam")
    assert adam.schedule == tuple(3 * steps for steps in lbfgs.schedule)
    assert StylizeOptions.of("fast", optimizer="adam", iterations=4).schedule == (4,)


def test_options_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        StylizeOptions.of().size = 3  # type: ignore[misc]


def test_every_option_has_help_and_a_group() -> None:
    for spec in OPTIONS.values():
        assert spec.help.strip()
        assert spec.group


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 8}, "size= must be from 16 to 65536, not 8."),
        ({"size": 10**7}, "size= must be from 16 to 65536, not 10000000."),
        ({"content_weight": -1}, "content_weight= must be from 0 to 1000000, not -1."),
        ({"content_weight": float("nan")}, "content_weight= must be a number"),
        ({"style_weight": 0, "content_weight": 0}, "cannot both be 0"),
        ({"learning_rate": 0}, "learning_rate= must be above 0 and at most 10, not 0."),
        ({"style_scale": 100}, "style_scale= must be from 0.1 to 10, not 100."),
        ({"optimizer": "sgd"}, "choose adam, lbfgs"),
        ({"pooling": "median"}, "choose max, avg"),
        ({"engine": "jax"}, "choose auto, onnx, torch"),
        ({"scales": 0}, "scales= must be from 1 to 32, not 0."),
        ({"scales": 2, "iterations": (1, 2, 3)}, "one for each scale"),
        ({"iterations": (5, 0)}, "iterations= must be from 1 to 100000, not 0."),
        ({"history": 0}, "history= must be from 1 to 200, not 0."),
        ({"style_layers": {}, "style_weight": 1}, "Without style layers"),
        ({"content_layers": {"relu4_2": 0}}, "must be above 0"),
        ({"content_layers": [("relu4_2", "much")]}, "must be a number"),
        ({"size": "512"}, "size= must be a whole number"),
        ({"seed": 1.5}, "seed= must be a whole number"),
        ({"iterations": [2.5]}, "iterations= must be a whole number"),
        ({"iterations": "many"}, "iterations= must be a whole number"),
        ({"clamp": "no"}, "clamp= must be True or False"),
        ({"init": 5}, "init= must be a word"),
        ({"style_weight": 1e300}, "style_weight= must be from 0 to 1000000"),
        ({"contentweight": 1}, "did you mean 'content_weight'"),
        ({"preset": "quick"}, "choose fast, balanced, best"),
    ],
)
def test_a_bad_value_raises_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        StylizeOptions.of(**values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_layers_parse_with_and_without_weights() -> None:
    assert parse_layers("relu1_1, relu2_1:0.5") == (("relu1_1", 1.0), ("relu2_1", 0.5))
    assert StylizeOptions.of(style_layers="relu3_1:2").style_layers == (("relu3_1", 2.0),)
    assert StylizeOptions.of(style_layers=["relu3_1"]).style_layers == (("relu3_1", 1.0),)
    with pytest.raises(LayerNameError, match=r"did you mean 'relu4_2'\?"):
        parse_layers("rely4_2")
    with pytest.raises(OptionError, match="not a weight"):
        parse_layers("relu4_2:much")


def test_the_model_outputs_all_layers_of_the_losses() -> None:
    spec = StylizeOptions.of(content_layers="conv4_2", style_layers="relu1_1").spec
    assert {"conv4_2", "relu1_1"} <= set(spec.taps)
    assert spec.taps[-1] == "conv4_2"
