"""Check exported models: run them in ONNX Runtime and compare with the PyTorch network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from nstrt.exporter.vgg import FeatureNet
from nstrt.runtime.errors import ExportCheckError
from nstrt.runtime.model import Variant
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.onnx_runtime import import_onnxruntime

__all__ = ["SIZES", "TOLERANCES", "Check", "check_model"]

TOLERANCES: Mapping[Variant, float] = {"plain": 1e-4, "optimized": 1e-4, "fp16": 2e-3}
"""Largest relative error of a tap, ||a - b|| / ||b||, between export and reference."""

SIZES = ((64, 64), (96, 160), (101, 75))
"""Heights and widths of the test pictures; the last has odd sides."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of a check against the reference network."""

    largest_error: float
    """Largest relative error over all taps and sizes."""

    worst_tap: str
    """Tap with the largest error; for a step the term or gradient."""

    tolerance: float
    """Largest error allowed."""

    largest_value: float
    """Largest activation of all taps and sizes."""


def check_model(model: onnx.ModelProto, content: bytes, net: FeatureNet, variant: Variant) -> Check:
    """Compare the serialised model with ``net``, the single-precision reference.

    Raises :class:`ExportCheckError` for invalid ONNX, outputs other than the taps, an error above
    the tolerance or an activation that is not finite.
    """
    try:
        onnx.checker.check_model(model, full_check=variant != "optimized")
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportCheckError(f"The exported model is not valid ONNX: {error}") from error
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = tuple(output.name for output in session.get_outputs())
    if names != net.taps:
        raise ExportCheckError(f"The exported model gives out {names} instead of {net.taps}.")

    tolerance = TOLERANCES[variant]
    worst, worst_tap, largest = 0.0, net.taps[0], 0.0
    for height, width in SIZES:
        check_interrupt()
        picture = check_picture(height, width)
        with torch.inference_mode():
            expected = [tensor.numpy() for tensor in net(torch.from_numpy(picture))]
        outputs = session.run(None, {"image": picture})
        for tap, ours, reference in zip(net.taps, outputs, expected, strict=True):
            if ours.shape != reference.shape:
                raise ExportCheckError(f"{tap} has the shape {ours.shape}, not {reference.shape}.")
            if not np.isfinite(ours).all():
                raise ExportCheckError(f"{tap} is not finite in the exported {variant} model.")
            difference = relative_error(ours, reference)
            largest = max(largest, float(np.abs(reference).max()))
            if difference > worst:
                worst, worst_tap = difference, tap
    if not worst <= tolerance:
        raise ExportCheckError(
            f"The exported {variant} model differs from the network by {worst:.1e} at "
            f"{worst_tap}; at most {tolerance:.0e} is allowed. No file was written."
        )
    return Check(
        largest_error=worst, worst_tap=worst_tap, tolerance=tolerance, largest_value=largest
    )


def relative_error(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Return ||actual - expected|| / ||expected||, in double precision."""
    reference = expected.astype(np.float64)
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(actual.astype(np.float64) - reference)) / max(norm, 1e-12)


def check_picture(height: int, width: int) -> NDArray[np.float32]:
    """Return a test picture with saturated edges, lines and noise; 1 x 3 x height x width, 0..1.

    Its activations are as large as those of photos and paintings (see ``docs/method.md``), which
    matters for half precision.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack(
        [
            (rows // 16 + columns // 16) % 2,
            (rows + 2 * columns) // 12 % 2,
            (rows * rows + columns * columns) // 700 % 2,
        ]
    ).astype(np.float32)
    noise = np.random.default_rng(19).random((3, height, width), dtype=np.float32)
    smooth = (np.sin(rows / 9) * np.cos(columns / 11) + 1) / 2
    mixed = np.where(columns < width // 2, picture, 0.6 * smooth + 0.4 * noise)
    return mixed.astype(np.float32)[None]
