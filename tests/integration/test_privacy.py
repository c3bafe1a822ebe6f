"""Nothing leaves the machine: no reporting service's files, no look-up of names, no connection."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nstrt.runtime.model import ModelStore

from support import CAT, EMBER
from support.command_line import NSTRT, SMALL

_UNWANTED = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD")
"""Variables that switch ONNX Runtime's telemetry off from outside."""

LIBRARY = f"""
import sys
from nstrt.runtime import stylize
stylize({str(CAT)!r}, {str(EMBER)!r}, size=48, scales=1, iterations=1, engine="onnx")
"""

WORKER = f"""
import sys
sys.path[:0] = {sys.path!r}
from support.worker_host import standard_streams
with standard_streams() as (host, process):
    host.hello()
    assert host.paint({str(CAT)!r}, {str(EMBER)!r})[-1]["event"] == "result"
"""


def run_at_home(command: Sequence[str | Path], home: Path) -> None:
    """Run a command with an empty home folder and check that it keeps to itself.

    The command must neither write a reporting service's files nor open a connection.
    """
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    folders = {"HOME": home, "XDG_CACHE_HOME": home / ".cache", "XDG_STATE_HOME": home / ".state"}
    environment = {**kept, **{name: str(folder) for name, folder in folders.items()}}
    trace, strace = home / "trace", shutil.which("strace")
    traced = [strace, "-f", "-qq", "-e", "trace=network", "-o", trace] if strace else []
    done = subprocess.run(
        [*map(str, traced), *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path for path in home.rglob("*") if "icrosoft" in str(path)] == []
    if strace:
        lines = trace.read_text().splitlines()
        assert [line for line in lines if "AF_INET" in line] == []


@pytest.mark.parametrize("engine", ["onnx", "graph"])
def test_a_run_reports_to_nobody(engine: str, tmp_path: Path, models: ModelStore) -> None:
    command = [*NSTRT, "stylize", CAT, EMBER, "-o", tmp_path / "out.png", *SMALL]
    run_at_home([*command, "--engine", engine], tmp_path / "home")


def test_info_reports_to_nobody(tmp_path: Path) -> None:
    run_at_home([*NSTRT, "info"], tmp_path / "home")


def test_a_library_run_reports_to_nobody(tmp_path: Path) -> None:
    run_at_home([sys.executable, "-c", LIBRARY], tmp_path / "home")


@pytest.mark.slow
def test_the_worker_reports_to_nobody(tmp_path: Path) -> None:
    run_at_home([sys.executable, "-c", WORKER], tmp_path / "home")


@pytest.mark.slow
def test_a_batch_in_processes_reports_to_nobody(tmp_path: Path, models: ModelStore) -> None:
    command = [*NSTRT, "batch", CAT, EMBER, "--style", EMBER, "--out-dir", tmp_path / "painted"]
    run_at_home([*command, "--jobs", "2", *SMALL], tmp_path / "home")


@pytest.mark.slow
def test_an_export_reports_to_nobody(tmp_path: Path) -> None:
    command = [*NSTRT, "export", "--layers", "relu1_1", "--folder", tmp_path / "models"]
    run_at_home(command, tmp_path / "home")


def test_a_host_s_own_setting_wins() -> None:
    code = (
        "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'\n"
        "from nstrt.runtime.system.onnx_runtime import import_onnxruntime\n"
        "import_onnxruntime(); assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    )
    # CI keeps ONNX Runtime itself silent here.
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "CI": "1"}, check=True)
