"""From a specification to a checked model file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx

from nstrt.exporter.check import Check, check_model
from nstrt.exporter.step import step_graph, tile_graph
from nstrt.exporter.step_check import STEP_TOLERANCES, check_step
from nstrt.exporter.trace import serialized, trace, with_metadata
from nstrt.exporter.variants import optimized
from nstrt.exporter.vgg import FeatureNet
from nstrt.exporter.weights import Weights, load_weights
from nstrt.runtime.errors import ExportCheckError
from nstrt.runtime.model import FORMAT, VARIANTS, ModelSpec, ModelStore, Variant

__all__ = ["Export", "build_model", "export", "export_all"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """One model file that was written and checked."""

    path: Path
    """The file."""

    spec: ModelSpec
    """What it holds."""

    size: int
    """Bytes."""

    check: Check
    """How well it agrees with the PyTorch network."""

    seconds: float
    """Time it took."""


def export(spec: ModelSpec, target: Path) -> Export:
    """Write the model of ``spec`` to ``target``; a failed check leaves no file.

    Raises :class:`WeightsError` for weights that cannot be used, and
    :class:`ExportCheckError` for a model that does not agree with them, or
    cannot be compared.
    """
    started = time.perf_counter()
    if spec.is_step and spec.variant not in STEP_TOLERANCES:
        raise ExportCheckError(
            f"A {spec.variant} model cannot be checked, because ONNX Runtime convolves no bfloat16 "
            f"on a processor; use {spec.variant.replace('bf16', 'fp16')}. No file was written."
        )
    deepest = [name for name in spec.layers if name.startswith("conv")][-1]
    weights = load_weights(spec.weights, deepest=deepest)
    reference = FeatureNet(spec, weights)
    half = spec.variant.endswith("fp16")
    model = trace(FeatureNet(spec, weights, half=True) if half else reference)
    if spec.variant == "optimized":
        model = optimized(model)
    elif spec.is_step:
        build = step_graph if spec.variant.startswith("step") else tile_graph
        model = build(model, spec.content_layers, spec.style_layers)
    model = with_metadata(model, metadata(spec, weights, model))
    content = serialized(model)
    check = (
        check_step(model, content, reference, spec)
        if spec.is_step
        else check_model(model, content, reference, spec.variant)
    )
    target.write_bytes(content)
    return Export(
        path=target,
        spec=spec,
        size=len(content),
        check=check,
        seconds=time.perf_counter() - started,
    )


def build_model(spec: ModelSpec, target: Path, store: ModelStore) -> Export:
    """The :class:`ModelBuilder` that the runtime finds by entry point."""
    return export(spec, target)


def export_all(
    spec: ModelSpec, store: ModelStore, variants: Iterable[Variant] | None = None
) -> Iterator[Export]:
    """Export the variants of one network into ``store``, each given out as it is done: by default
    all that give out features, or for a step all that can be checked."""
    for variant in variants or (STEP_TOLERANCES if spec.is_step else VARIANTS):
        chosen = spec.as_variant(variant)
        done = store.build(chosen, build_model)
        assert isinstance(done, Export)
        yield Export(
            path=store.path(chosen),
            spec=chosen,
            size=done.size,
            check=done.check,
            seconds=done.seconds,
        )


def metadata(spec: ModelSpec, weights: Weights, model: onnx.ModelProto) -> dict[str, str]:
    """What a model file says of itself: everything that shaped it, and whose weights it holds."""
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    layers = {
        "nstrt.content_layers": ",".join(spec.content_layers),
        "nstrt.style_layers": ",".join(spec.style_layers),
    }
    return {
        **(layers if spec.is_step else {}),
        "nstrt.format": str(FORMAT),
        "nstrt.normalize": str(spec.normalize).lower(),
        "nstrt.opset": str(opset),
        "nstrt.padding": spec.padding,
        "nstrt.pooling": spec.pooling,
        "nstrt.taps": ",".join(spec.taps),
        "nstrt.variant": spec.variant,
        "nstrt.version": version("nstrt"),
        "nstrt.weights": weights.description,
        "nstrt.weights.licence": weights.licence,
        "nstrt.weights.origin": weights.origin,
        "nstrt.weights.sha256": weights.sha256,
    }
