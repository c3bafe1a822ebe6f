"""The public interface: short descriptions, and calls of ``stylize`` that share a network."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nstrt.runtime import (
    Finished,
    OptionError,
    Picture,
    Preview,
    StyleTransfer,
    StylizeOptions,
    style_transfer,
    stylize,
)
from nstrt.runtime.engines.factory import EngineFactory

from support import CAT, NIGHT

SMALL: dict[str, Any] = {"size": 48, "scales": 1, "iterations": 2, "engine": "onnx"}


def test_descriptions_take_one_short_line() -> None:
    transfer = StyleTransfer(StylizeOptions.of(**SMALL))
    events = list(transfer.run(CAT, NIGHT, preview_steps=1))
    finished = events[-1]
    assert isinstance(finished, Finished)
    result = finished.result
    estimate = transfer.estimate((300, 200))
    described = [result, estimate, estimate.plan, transfer.options, result.picture, *events]
    described += [Picture.from_array(np.zeros((16, 16, 4), np.uint8))]
    for value in described:
        assert "\n" not in repr(value)
        assert len(repr(value)) < 600, value
    assert any(isinstance(event, Preview) for event in events)
    assert repr(replace(result, painted=0.5, seconds=1.25)) == (
        "<Result 48x32, painted 50 % in 2 steps, 1.2 s>"
    )
    assert repr(replace(estimate, seconds=3.5, available=2 * 10**9)).startswith("<Estimate 3.5 s, ")
    assert repr(result.plan).startswith("<Plan 48x32, 1 scale, 2 steps, engine onnx on cpu in ")


def test_the_description_of_options_names_those_that_were_changed() -> None:
    options = StylizeOptions.of("fast", size=300, content_layers="relu4_2")
    assert repr(options) == (
        "StylizeOptions.of('fast', size=300, content_layers=(('relu4_2', 1.0),))"
    )
    assert eval(repr(options)) == options
    assert repr(StylizeOptions.of()) == "StylizeOptions.of('balanced')"


def test_calls_of_stylize_share_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_transfer, "_kept", [])
    built: list[str] = []
    build = EngineFactory._build

    def counting(self: EngineFactory, name: str, *arguments: Any) -> Any:
        built.append(name)
        return build(self, name, *arguments)

    monkeypatch.setattr(EngineFactory, "_build", counting)
    first = stylize(CAT, NIGHT, **SMALL)
    again = stylize(CAT, NIGHT, **SMALL)
    stylize(CAT, NIGHT, **{**SMALL, "strength": 0.9})
    assert built == ["onnx"]
    np.testing.assert_array_equal(first.picture.rgb, again.picture.rgb)
    # An error costs the network that was loaded at most, and later calls work.
    with pytest.raises(OptionError):
        stylize(CAT, NIGHT, strength=2)
    np.testing.assert_array_equal(stylize(CAT, NIGHT, **SMALL).picture.rgb, first.picture.rgb)


def test_stylize_notices_another_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style_transfer, "_kept", [])
    first = style_transfer._take_transfer(StylizeOptions.of())
    style_transfer._kept.append(first)
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path))
    assert style_transfer._take_transfer(StylizeOptions.of()).store.folder.is_relative_to(tmp_path)


def test_threads_that_call_stylize_at_once_get_equal_pictures() -> None:
    pictures: list[Any] = []

    def paint() -> None:
        pictures.append(stylize(CAT, NIGHT, **SMALL).picture.rgb)

    threads = [threading.Thread(target=paint) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pictures) == 3
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
