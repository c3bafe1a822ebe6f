"""Memory that may be used: limits of control groups and of this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nstrt.runtime.errors import TooLargeError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.system.memory import available_memory, is_out_of_memory, tightest_limit

from support import CAT, NIGHT
from support.command_line import NSTRT

GB = 1_000_000_000

HUGE = 9_223_372_036_854_771_712
"""The number that version 1 shows for no limit."""


def group(folder: Path, limit: object, used: int, cached: int, *, version: int) -> None:
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"active_file 5\n{names[2]} {cached}\nswap 7\n")


@pytest.mark.parametrize(
    ("membership", "mount", "version"),
    [
        ("9:name=systemd:/\n4:memory:/docker/ab\n0::/\n", "memory/docker/ab", 1),
        # A container sees its own group as the root, and its path outside.
        ("4:cpu,memory:/docker/ab\n", "memory", 1),
        # The limit of a group above holds too.
        ("4:memory:/slice/unit/process\n", "memory/slice", 1),
        ("0::/\n", ".", 2),
        ("0::/user.slice/run-1.scope\n", "user.slice/run-1.scope", 2),
        ("0::/user.slice/run-1.scope\n", "user.slice", 2),
        ("0::/../other\n", ".", 2),
    ],
)
def test_limits_of_control_groups_count(
    membership: str, mount: str, version: int, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    groups = tmp_path / "sys/fs/cgroup"
    group(groups / mount, GB, 600_000_000, 100_000_000, version=version)
    limit = tightest_limit(tmp_path)
    assert limit.left == 500_000_000
    assert "container" in limit.name
    assert "container" in limit.advice(GB)
    resident = psutil.Process().memory_info().rss
    assert abs(available_memory(tmp_path) - 500_000_000 - resident) < 50_000_000


@pytest.mark.parametrize("limit", ["max", HUGE, "nonsense", ""])
@pytest.mark.parametrize("version", [1, 2])
def test_groups_without_a_limit_leave_the_machine_s_memory(
    limit: object, version: int, tmp_path: Path
) -> None:
    group(tmp_path / "sys/fs/cgroup/memory", limit, GB, 0, version=version)
    group(tmp_path / "sys/fs/cgroup", limit, GB, 0, version=version)
    assert tightest_limit(tmp_path).name in ("", "ulimit -v", "ulimit -d")
    assert available_memory(tmp_path) > 0


def test_a_damaged_list_of_groups_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("\n:::\nmemory\n4:memory\n")
    assert available_memory(tmp_path) > 0


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (TooLargeError("The picture does not fit."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("Exception during initialization: std::bad_alloc"), True),
        (ImportError("libtorch_cuda.so: failed to map segment from shared object"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libgomp.so.1: cannot allocate memory in static TLS block"), False),
        (ModuleNotFoundError("No module named 'torch'"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


@pytest.fixture(scope="module")
def options(models: ModelStore) -> list[str]:
    """Options of a small network, all of whose models are there."""
    chosen = StylizeOptions.of(content_layers="relu2_1", style_layers="relu1_1")
    for spec in (chosen.spec, chosen.step_spec, chosen.step_spec.features):
        models.obtain(spec)
    layers = ["--content-layers", "relu2_1", "--style-layers", "relu1_1"]
    return [*layers, "--size", "48", "--scales", "1", "--iterations", "2", "--precision", "fp32"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces these limits")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize("size", [0.1, 0.2, 0.5, 0.8, 1.5, 2.5, 3.5, 4.0, 6.0])
def test_little_memory_gives_a_picture_or_a_true_sentence(
    size: float, limit: str, tmp_path: Path, options: list[str]
) -> None:
    import resource

    if limit == "RLIMIT_DATA" and size > 2:
        pytest.skip("it does not bind")

    def set_limit() -> None:
        resource.setrlimit(getattr(resource, limit), (int(size * GB), int(size * GB)))

    out = tmp_path / "out.png"
    done = subprocess.run(
        [*NSTRT, "stylize", CAT, NIGHT, "-o", out, *options],
        preexec_fn=set_limit,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    if size >= 1.5:
        assert done.returncode == 0, done.stderr
        assert out.exists()
        return
    assert done.returncode == 2, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert f"may be used (ulimit {'-v' if limit == 'RLIMIT_AS' else '-d'})" in sentence
    assert "at least" in sentence
    assert not any(word in sentence for word in ("install", "delete", "damaged"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces these limits")
@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["info", str(CAT)],
        ["compare", str(CAT), str(CAT), "--size", "64"],
        ["export", "--variant", "plain", "--folder", "models"],
        ["stylize", str(CAT), str(NIGHT), "-o", "out.png", "--engine", "torch"],
    ],
)
def test_no_command_asks_to_install_what_is_there(command: list[str], tmp_path: Path) -> None:
    import resource

    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (int(1.5 * GB), int(1.5 * GB)))

    done = subprocess.run(
        [*NSTRT, *command],
        preexec_fn=set_limit,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "install" not in done.stderr + done.stdout.replace("installed", "")
