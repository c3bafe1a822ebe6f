"""The kinds of file made from one network: plain, optimised by ONNX Runtime, half precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

__all__ = ["optimized"]


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after ONNX Runtime's extended optimisations (fused convolution and ReLU).

    The level ALL would also lay the weights out for this machine's processor and write another
    file each time; a session does that itself when it loads this one.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(target)
