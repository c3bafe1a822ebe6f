"""Thread counts, an empty cache and a fresh self-test for tests of kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nstrt.runtime.kernels.compiled import load_compiled


@pytest.fixture(params=[1, 2, 3, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Thread count of torch during the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder without measurements, not created yet."""
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def uncached_self_tests() -> Iterator[None]:
    """Run the self-tests of compiled modules again, during the test and after it."""
    load_compiled.cache_clear()
    yield
    load_compiled.cache_clear()
