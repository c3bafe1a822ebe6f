"""Optimise a traced model with ONNX Runtime."""

from __future__ import annotations

import onnx

from nstrt.runtime.system.files import temporary_folder
from nstrt.runtime.system.onnx_runtime import import_onnxruntime

__all__ = ["optimized"]


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Apply ONNX Runtime's extended optimisations, such as fused convolution and ReLU.

    The level ALL would also reorder the weights for this machine's processor, and the file would
    differ by machine. A session does so when it loads the model.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    with temporary_folder() as folder:
        target = folder / "optimized.onnx"
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(target)
