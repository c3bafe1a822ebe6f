"""Optimising a traced model needs room for a copy of it."""

from __future__ import annotations

import tempfile

import onnx
import pytest

from nstrt.exporter import variants
from nstrt.runtime.errors import ModelFileError


def test_the_folder_for_temporary_files_is_named_if_it_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(variants, "_ROOM", 1e15)
    with pytest.raises(ModelFileError, match="temporary files") as caught:
        variants.optimized(onnx.ModelProto(producer_name="nobody"))
    assert f"'{tempfile.gettempdir()}'" in str(caught.value)
    assert "TMPDIR" in str(caught.value)
