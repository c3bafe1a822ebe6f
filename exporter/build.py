"""Export the model file of a specification and check it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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
from nstrt.runtime.model import FORMAT, VARIANTS, ModelSpec, ModelStore, Variant
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.onnx_runtime import switch_off_telemetry
from nstrt.runtime.system.own_settings import OwnSettings, restored_globals

__all__ = ["Export", "build_model", "export", "export_all", "specs_of"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Written and checked model file."""

    path: Path
    """Path of the file."""

    spec: ModelSpec
    """Specification of the model."""

    size: int
    """Size in bytes."""

    check: Check
    """Largest error against the PyTorch network."""

    seconds: float
    """Duration of the export."""


def export(spec: ModelSpec, target: Path) -> Export:
    """Write the checked model of ``spec`` to ``target``; a failed check writes no file.

    Raises :class:`WeightsError` for unusable weights and :class:`ExportCheckError` for a model
    that differs from the reference network.
    """
    # torch's exporter may import ONNX Runtime by itself.
    switch_off_telemetry()
    with OwnSettings().active(), restored_globals():
        return _export(spec, target)


def _export(spec: ModelSpec, target: Path) -> Export:
    started = time.perf_counter()
    deepest = [name for name in spec.layers if name.startswith("conv")][-1]
    weights = load_weights(spec.weights, deepest=deepest)
    reference = FeatureNet(spec, weights)
    check_interrupt()
    half = spec.variant.endswith("fp16")
    model = trace(FeatureNet(spec, weights, half=True) if half else reference)
    check_interrupt()
    if spec.variant == "optimized":
        model = optimized(model)
    elif spec.is_step:
        build = step_graph if spec.variant.startswith("step") else tile_graph
        model = build(model, spec.content_layers, spec.style_layers)
    model = with_metadata(model, metadata(spec, weights, model))
    content = serialized(model)
    check_interrupt()
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
    """Build a model for the store; the entry point that implements :class:`ModelBuilder`."""
    return export(spec, target)


def specs_of(spec: ModelSpec, variants: Iterable[Variant] | None = None) -> list[ModelSpec]:
    """Specifications of the files that :func:`export_all` writes."""
    names = variants or (STEP_TOLERANCES if spec.is_step else VARIANTS)
    return [spec.as_variant(variant) for variant in names]


def export_all(
    spec: ModelSpec, store: ModelStore, variants: Iterable[Variant] | None = None
) -> Iterator[Export]:
    """Export variants of one network into ``store`` and yield each once it is written.

    The default is all feature variants, or all step variants for a step specification.
    """
    for variant_spec in specs_of(spec, variants):
        result = store.build(variant_spec, build_model)
        assert isinstance(result, Export)
        yield replace(result, path=store.path(variant_spec))


def metadata(spec: ModelSpec, weights: Weights, model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata of a model file: all fields of its specification, and its weights."""
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
