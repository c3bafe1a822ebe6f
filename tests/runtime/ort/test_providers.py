"""Which provider runs the network: choices without the hardware, and what really loads here."""

from __future__ import annotations

import ctypes.util
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstrt.runtime.errors import ProviderUnavailableError
from nstrt.runtime.ort import providers
from nstrt.runtime.ort.providers import (
    PRECISIONS,
    PROVIDERS,
    choose_precision,
    choose_provider,
    execution_providers,
    is_available,
    provider_options,
)

ORDER = ("tensorrt", "cuda", "coreml", "cpu")
IDENTITY = {"model": "abc", "onnxruntime": "1.0", "card": "some"}


def only(*present: str) -> Callable[[str], bool]:
    return lambda provider: provider in present


@given(st.sets(st.sampled_from(ORDER[:-1])))
def test_auto_takes_the_first_that_loads_and_says_what_is_missing(there: set[str]) -> None:
    choice = choose_provider("auto", only(*there, "cpu"))
    assert choice.provider == next(name for name in ORDER if name in there or name == "cpu")
    missing = ORDER[: ORDER.index(choice.provider)]
    assert choice.reason.startswith(f"provider {choice.provider} chosen automatically")
    assert ("here" in choice.reason) == bool(missing)
    named = choice.reason.partition(": no ")[2]
    assert [name for name in ORDER if name in named] == list(missing)


def test_auto_tries_nothing_beyond_its_choice() -> None:
    tried: list[str] = []

    def records(provider: str) -> bool:
        tried.append(provider)
        return provider == "cuda"

    choose_provider("auto", records)
    assert tried == ["tensorrt", "cuda"]


def test_auto_with_nothing_at_all_is_a_named_error() -> None:
    with pytest.raises(ProviderUnavailableError, match="pip install"):
        choose_provider("auto", only())


@pytest.mark.parametrize("asked", ORDER)
def test_what_was_asked_for_is_taken_without_a_word(asked: str) -> None:
    choice = choose_provider(asked, only(*ORDER))
    assert (choice.provider, choice.reason) == (asked, "")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("tensorrt", r'pip install "nstrt\[tensorrt\]"'),
        ("cuda", r'pip install "nstrt\[cuda\]"'),
        ("coreml", "Macs"),
    ],
)
def test_what_was_asked_for_and_does_not_load_is_a_named_error(asked: str, says: str) -> None:
    others = [name for name in ORDER if name != asked]
    with pytest.raises(ProviderUnavailableError, match=f"--provider {asked} cannot.*{says}"):
        choose_provider(asked, only(*others))


@pytest.mark.parametrize(
    ("provider", "default"),
    [("tensorrt", "tf32"), ("cuda", "tf32"), ("coreml", "fp32"), ("cpu", "fp32")],
)
def test_precision_is_chosen_for_the_provider(provider: str, default: str) -> None:
    assert choose_precision("auto", provider) == default
    assert choose_precision("fp32", provider) == "fp32"


@pytest.mark.parametrize("provider", ["cpu", "coreml"])
@pytest.mark.parametrize("asked", ["tf32", "fp16"])
def test_a_precision_that_the_provider_lacks_is_a_named_error(provider: str, asked: str) -> None:
    with pytest.raises(ProviderUnavailableError, match=f"--precision {asked}.*NVIDIA"):
        choose_precision(asked, provider)


def test_nvidias_providers_have_every_precision() -> None:
    for provider, precision in itertools.product(["tensorrt", "cuda"], PRECISIONS):
        if precision != "auto":
            assert choose_precision(precision, provider) == precision


def test_names_end_with_the_processor_for_what_is_left_over() -> None:
    assert execution_providers("cpu") == ["CPUExecutionProvider"]
    for provider in PROVIDERS:
        if provider != "auto":
            names = execution_providers(provider)
            assert names[-1] == "CPUExecutionProvider"
            assert len(names) == len(set(names))
    assert execution_providers("tensorrt")[:2] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
    ]


def options(
    provider: str = "tensorrt",
    *,
    precision: str = "fp32",
    shapes: tuple[tuple[int, int], ...] = ((128, 96), (512, 384), (256, 192)),
    identity: dict[str, str] = IDENTITY,
) -> list[dict[str, str]]:
    return provider_options(
        provider, precision=precision, shapes=shapes, cache=Path("/cache"), identity=identity
    )


def test_there_is_one_set_of_options_for_each_name() -> None:
    for provider in ORDER:
        found = options(provider)
        assert len(found) == len(execution_providers(provider))
        assert all(isinstance(value, str) for part in found for value in part.values())


def test_tensorrts_profile_spans_the_shapes_of_the_run() -> None:
    found = options()[0]
    assert found["trt_profile_min_shapes"] == "image:1x3x128x96"
    assert found["trt_profile_max_shapes"] == "image:1x3x512x384"
    assert found["trt_profile_opt_shapes"] == "image:1x3x512x384"
    # The content may be wide where the style is high: the profile holds for both.
    mixed = options(shapes=((100, 300), (200, 150)))[0]
    assert mixed["trt_profile_min_shapes"] == "image:1x3x100x150"
    assert mixed["trt_profile_max_shapes"] == "image:1x3x200x300"


def test_tensorrts_engines_are_kept_apart_by_all_that_they_hold_for() -> None:
    def folder(**changes: object) -> str:
        return options(**changes)[0]["trt_engine_cache_path"]  # type: ignore[arg-type]

    base = folder()
    assert Path(base).parent == Path("/cache")
    assert folder(shapes=((256, 192), (512, 384), (128, 96))) == base
    assert folder(identity=dict(reversed(IDENTITY.items()))) == base
    others = [
        folder(precision="fp16"),
        folder(precision="tf32"),
        folder(shapes=((128, 96), (512, 384))),
        *(folder(identity={**IDENTITY, name: "another"}) for name in IDENTITY),
    ]
    assert len({base, *others}) == 1 + len(others)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_precision_reaches_the_options(provider: str) -> None:
    def cuda(precision: str) -> dict[str, str]:
        return options(provider, precision=precision)[-2]

    assert cuda("tf32")["use_tf32"] == "1"
    assert cuda("fp32")["use_tf32"] == "0"
    assert options("tensorrt", precision="fp16")[0]["trt_fp16_enable"] == "1"
    assert options("tensorrt", precision="fp32")[0]["trt_fp16_enable"] == "0"


def test_the_processor_always_loads(capfd: pytest.CaptureFixture[str]) -> None:
    is_available.cache_clear()
    assert is_available("cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(
    bool(ctypes.util.find_library("cuda") or shutil.which("nvidia-smi")),
    reason="there is an NVIDIA driver",
)
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "thought to be there"])
def test_without_a_driver_nvidias_providers_do_not_load_and_say_nothing(
    provider: str,
    asked: bool,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_available.cache_clear()
    if not asked:
        # ONNX Runtime finds out by itself, with more libraries.
        monkeypatch.setattr(providers, "_has_driver", lambda: True)
    assert not is_available(provider)
    assert capfd.readouterr() == ("", "")
