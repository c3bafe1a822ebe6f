"""Compiled code for narrower registers, and the key of its cache."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nstrt.runtime.kernels import simd
from nstrt.runtime.kernels.compiled import kernels_fingerprint
from nstrt.runtime.kernels.convolution.winograd_6x6_loops import convolve

NARROW = """
import torch
from nstrt.runtime.kernels import simd
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.compiled import load_compiled
from nstrt.runtime.kernels.convolution.winograd_6x6 import Winograd6x6

assert simd.REGISTER_LANES == simd.LANES, simd.REGISTER_LANES
for name in ("convolution.winograd_6x6", "gram.compiled", "pooling.compiled"):
    assert load_compiled(name), name
for inputs, outputs in ((40, 3), (3, 40), (80, 300)):
    values, weight = torch.randn(inputs, 21, 51), torch.randn(outputs, inputs, 3, 3)
    out = torch.empty(outputs, 19, 49)
    Winograd6x6(weight, BufferPool()).window(values, 0, 0, out, None)
    expected = torch.nn.functional.conv2d(values[None].double(), weight.double())[0]
    assert (out - expected).norm() < 1e-5 * expected.norm(), (inputs, outputs)
"""


def test_compiled_modules_work_with_narrower_registers() -> None:
    """Numba compiles for the processor in its settings, and code for a narrower one runs here."""
    name, features = simd.cpu_target.target_context.codegen().magic_tuple()[1:]
    if simd.REGISTER_LANES == simd.LANES:
        pytest.skip("registers are narrow here, and all other tests use them")
    fewer = [
        f"-{feature[1:]}" if feature.startswith(("+avx512", "+avx10")) else feature
        for feature in features.split(",")
    ]
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ",".join(fewer)}
    subprocess.run(
        [sys.executable, "-c", NARROW], env={**os.environ, **environment}, check=True, timeout=300
    )


def test_cached_code_depends_on_the_sources_of_all_kernels() -> None:
    """Numba itself compares the file of the function alone, not those of its intrinsics."""
    assert kernels_fingerprint() in convolve._cache.cache_path
    assert convolve._cache._cache_file._source_stamp == kernels_fingerprint()
