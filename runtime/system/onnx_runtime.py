"""Imports ONNX Runtime with its telemetry off."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["import_onnxruntime", "switch_off_telemetry"]

_VARIABLE = "ORT_DISABLE_TELEMETRY"
"""Variable that ONNX Runtime reads when it is imported."""


def switch_off_telemetry() -> None:
    """Switch ONNX Runtime's telemetry off before its import, unless the environment decides."""
    os.environ.setdefault(_VARIABLE, "1")


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, with its telemetry off unless the environment decides otherwise."""
    switch_off_telemetry()
    import onnxruntime

    if os.environ[_VARIABLE] == "1" and hasattr(onnxruntime, "disable_telemetry_events"):
        # A host may have imported it before, and versions before 1.29 know no variable.
        onnxruntime.disable_telemetry_events()
    return onnxruntime
