"""Compiled code is cached in nstrt's folder, and compiled for one run where none can be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import CAT, NIGHT

POOLING = """
import time
from nstrt.runtime.kernels.compiled import left_out_reason, load_compiled, uncached_reason
from numba import config
print(repr(uncached_reason()))
module = load_compiled("pooling.compiled")
assert module is not None, left_out_reason()
hits = sum(sum(loop.stats.cache_hits.values()) for loop in vars(module).values()
           if hasattr(loop, "stats"))
print(hits)
"""

RUN = f"""
from nstrt.runtime import stylize
result = stylize({str(CAT)!r}, {str(NIGHT)!r}, size=256, scales=1, iterations=1, engine="torch",
                 precision="fp32", content_layers="relu2_1", style_layers="relu1_1")
print(*result.plan.reasons, *result.notes, sep="\\n")
print(sorted(set(result.plan.kernels.values())))
"""


def run(code: str, cache: Path | str, **more: str) -> list[str]:
    """Run code with a cache folder, or with none in HOME; returns what it prints."""
    environment = {**os.environ, "NSTRT_CACHE": str(cache), **more}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_second_process_loads_the_code_and_damaged_code_is_made_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(POOLING, cache) == ["''", "0"]
    files = list((cache / "compiled").rglob("*.nb?"))
    assert files
    assert int(run(POOLING, cache)[1]) > 0
    for damage in (rubbish, flip_bits):
        for file in (cache / "compiled").rglob("*.nb?"):
            damage(file)
        assert run(POOLING, cache)[1] == "0"
        run(POOLING, cache)
        assert int(run(POOLING, cache)[1]) > 0


def rubbish(file: Path) -> None:
    file.write_bytes(b"rubbish")


def flip_bits(file: Path) -> None:
    """Code that would crash the process if it ran."""
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content) - 64, 64):
        content[place] ^= 1
    content[len(content) // 2] ^= 2
    file.write_bytes(content)


@pytest.mark.parametrize("kind", ["a file", "a device", "no home"])
def test_without_a_folder_loops_are_compiled_for_this_run(kind: str, tmp_path: Path) -> None:
    cache = tmp_path / "file"
    cache.write_bytes(b"")
    places = {
        "a file": {"cache": str(cache)},
        "a device": {"cache": "/dev/null"},
        "no home": {"cache": "", "HOME": "/proc/none", "XDG_CACHE_HOME": ""},
    }
    reason, hits = run(POOLING, **places[kind])
    assert reason != "''"
    assert hits == "0"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such permissions here")
def test_code_is_neither_stored_nor_loaded_where_others_can_write(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    reason, hits = run(POOLING, cache)
    assert "can be written by other users" in reason
    assert hits == "0"
    assert not list(cache.rglob("*.nb?"))


def test_the_folder_of_numba_itself_is_left_alone(tmp_path: Path) -> None:
    run(POOLING, tmp_path / "cache", NUMBA_CACHE_DIR=str(tmp_path / "numba"))
    assert not (tmp_path / "numba").exists()


WITHOUT = "import sys; sys.modules['numba'] = None"
DIFFERING = """
from importlib import import_module
for name in ("convolution.winograd_6x6", "gram.compiled", "pooling.compiled"):
    import_module(f"nstrt.runtime.kernels.{name}").self_test = lambda: False
"""


@pytest.mark.slow
def test_the_plan_says_what_ran(tmp_path: Path, own_cache: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (own_cache / "models").mkdir(exist_ok=True)
    (cache / "models").symlink_to(own_cache / "models")
    reasons = run(RUN, cache)[:-1]
    assert not any("compiled" in reason for reason in reasons)
    # From now on stored times name the compiled algorithm.
    times = cache / "kernels.json"
    times.write_text(re.sub('"winograd6x6": [0-9.e-]+', '"winograd6x6": 1e-9', times.read_text()))
    *reasons, kernels = run(RUN, cache)
    assert "winograd6x6" in kernels
    for code, words in ((WITHOUT, "not installed"), (DIFFERING, "differ from torch's")):
        *reasons, kernels = run(code + RUN, cache)
        assert any("left out (" in reason and words in reason for reason in reasons), reasons
        assert "winograd6x6" not in kernels
    shutil.rmtree(cache / "compiled")
    (cache / "compiled").write_bytes(b"")
    *reasons, kernels = run(RUN, cache)
    assert any("compiled for this run only" in reason for reason in reasons), reasons
    assert any(reason.startswith("Compiled loops are compiled for") for reason in reasons), reasons
    assert "winograd6x6" in kernels
