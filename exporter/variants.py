"""Optimise a traced model with ONNX Runtime."""

from __future__ import annotations

import errno
import os
import shutil

import onnx

from nstrt.runtime.errors import ModelFileError
from nstrt.runtime.system.files import temporary_folder
from nstrt.runtime.system.onnx_runtime import import_onnxruntime
from nstrt.runtime.system.temporary_error import temporary_error

__all__ = ["optimized"]

_ROOM = 1.2
"""Bytes of the copy for each byte of the model, at most."""


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Apply ONNX Runtime's extended optimisations, such as fused convolution and ReLU.

    The level ALL would also reorder the weights for this machine's processor, and the file would
    differ by machine. A session does so when it loads the model.

    Raises :class:`ModelFileError` if the folder for temporary files has no room for a copy.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    content = model.SerializeToString()
    try:
        with temporary_folder() as folder:
            if shutil.disk_usage(folder).free < _ROOM * len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            target = folder / "optimized.onnx"
            options.optimized_model_filepath = str(target)
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            return onnx.load(target)
    except OSError as error:
        raise ModelFileError(temporary_error("a copy of the network", error)) from error
