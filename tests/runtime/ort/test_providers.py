"""Choice and options of providers without their hardware; providers available on this machine."""

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


def only(*available: str) -> Callable[[str], bool]:
    return lambda provider: provider in available


@given(st.sets(st.sampled_from(ORDER[:-1])))
def test_auto_chooses_the_first_available_provider_and_names_missing_ones(
    available: set[str],
) -> None:
    choice = choose_provider("auto", only(*available, "cpu"))
    assert choice.provider == next(name for name in ORDER if name in available or name == "cpu")
    missing = ORDER[: ORDER.index(choice.provider)]
    assert choice.reason.startswith(f"provider {choice.provider} chosen automatically")
    assert ("here" in choice.reason) == bool(missing)
    named = choice.reason.partition(": no ")[2]
    assert [name for name in ORDER if name in named] == list(missing)


def test_auto_tries_no_provider_after_its_choice() -> None:
    tried: list[str] = []

    def records(provider: str) -> bool:
        tried.append(provider)
        return provider == "cuda"

    choose_provider("auto", records)
    assert tried == ["tensorrt", "cuda"]


def test_auto_without_any_provider_raises() -> None:
    with pytest.raises(ProviderUnavailableError, match="pip install"):
        choose_provider("auto", only())


@pytest.mark.parametrize("requested", ORDER)
def test_a_requested_provider_is_chosen_without_a_reason(requested: str) -> None:
    choice = choose_provider(requested, only(*ORDER))
    assert (choice.provider, choice.reason) == (requested, "")


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("tensorrt", r'pip install "nstrt\[tensorrt\]"'),
        ("cuda", r'pip install "nstrt\[cuda\]"'),
        ("coreml", "Macs"),
    ],
)
def test_a_requested_provider_that_is_not_available_raises(requested: str, message: str) -> None:
    others = [name for name in ORDER if name != requested]
    with pytest.raises(ProviderUnavailableError, match=f"provider='{requested}' cannot.*{message}"):
        choose_provider(requested, only(*others))


@pytest.mark.parametrize(
    ("provider", "default"),
    [("tensorrt", "tf32"), ("cuda", "tf32"), ("coreml", "fp32"), ("cpu", "fp32")],
)
def test_automatic_precision_depends_on_the_provider(provider: str, default: str) -> None:
    assert choose_precision("auto", provider) == default
    assert choose_precision("fp32", provider) == "fp32"


@pytest.mark.parametrize("provider", ["cpu", "coreml"])
@pytest.mark.parametrize("requested", ["tf32", "fp16"])
def test_an_unsupported_precision_raises(provider: str, requested: str) -> None:
    with pytest.raises(ProviderUnavailableError, match=f"precision='{requested}'.*NVIDIA"):
        choose_precision(requested, provider)


def test_nvidias_providers_support_every_precision() -> None:
    for provider, precision in itertools.product(["tensorrt", "cuda"], PRECISIONS):
        if precision != "auto":
            assert choose_precision(precision, provider) == precision


def test_execution_providers_end_with_the_processor() -> None:
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


def test_each_execution_provider_has_options() -> None:
    for provider in ORDER:
        settings = options(provider)
        assert len(settings) == len(execution_providers(provider))
        assert all(isinstance(value, str) for part in settings for value in part.values())


def test_tensorrts_profile_spans_all_shapes() -> None:
    settings = options()[0]
    assert settings["trt_profile_min_shapes"] == "image:1x3x128x96"
    assert settings["trt_profile_max_shapes"] == "image:1x3x512x384"
    assert settings["trt_profile_opt_shapes"] == "image:1x3x512x384"
    # A wide content image and a high style image are both within the profile.
    mixed = options(shapes=((100, 300), (200, 150)))[0]
    assert mixed["trt_profile_min_shapes"] == "image:1x3x100x150"
    assert mixed["trt_profile_max_shapes"] == "image:1x3x200x300"


def test_tensorrts_cache_folder_depends_on_all_that_engines_depend_on() -> None:
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
def test_options_contain_the_precision(provider: str) -> None:
    def cuda(precision: str) -> dict[str, str]:
        return options(provider, precision=precision)[-2]

    assert cuda("tf32")["use_tf32"] == "1"
    assert cuda("fp32")["use_tf32"] == "0"
    assert options("tensorrt", precision="fp16")[0]["trt_fp16_enable"] == "1"
    assert options("tensorrt", precision="fp32")[0]["trt_fp16_enable"] == "0"


def test_the_processor_is_always_available(capfd: pytest.CaptureFixture[str]) -> None:
    is_available.cache_clear()
    assert is_available("cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(
    bool(ctypes.util.find_library("cuda") or shutil.which("nvidia-smi")),
    reason="there is an NVIDIA driver",
)
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("detect", [True, False], ids=["detected", "not detected"])
def test_without_a_driver_nvidias_providers_are_not_available_and_print_nothing(
    provider: str,
    detect: bool,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_available.cache_clear()
    # In the process of a host, ONNX Runtime's default logger is the host's.
    monkeypatch.setattr(providers, "owns_process", lambda: True)
    if not detect:
        # ONNX Runtime itself fails to load its libraries.
        monkeypatch.setattr(providers, "_has_driver", lambda: True)
    assert not is_available(provider)
    assert capfd.readouterr() == ("", "")
