"""A process killed at a system call of saving leaves the old or the new result, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nstrt.runtime.pictures import read_picture
from nstrt.runtime.system.files import remove_stale_temporaries

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

SAVE = """
import sys
from pathlib import Path
import numpy as np
from nstrt.runtime.pictures import Picture, save
from nstrt.runtime.system.words import spelled
target, value = Path(sys.argv[1]), int(sys.argv[2])
picture = Picture.from_array(np.full((16, 16, 3), value, np.uint8))
# The first saving loads libraries, which another process need not be killed at.
save(picture, target.with_name(f"first-{value}.png"), recipe=None, overwrite=True)
sys.stdout.write("begin\\n"); sys.stdout.flush()
save(picture, target, recipe=None, overwrite=True)
sys.stdout.write("end\\n"); sys.stdout.flush()
"""
OLD, NEW, OTHER = 10, 20, 30
CALLS = "openat,write,pwrite64,ftruncate,fsync,rename,unlink,close,newfstatat,getdents64,lseek"


def save_command(target: Path, value: int) -> list[str]:
    return [sys.executable, "-c", SAVE, str(target), str(value)]


def traced(target: Path, log: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["strace", "-qq", "-o", str(log), "-e", f"trace={CALLS}", *options]
    return subprocess.run(
        [*command, *save_command(target, NEW)], capture_output=True, check=False, timeout=60
    )


def value_of(target: Path) -> int:
    """The gray of a whole picture of one colour."""
    values = np.rint(read_picture(target).rgb * 255).astype(int)
    assert values.shape == (16, 16, 3)
    assert len(np.unique(values)) == 1
    return int(values[0, 0, 0])


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """Each system call of saving, by its name and its number among those of that name."""
    folder = tmp_path_factory.mktemp("recorded")
    done = traced(folder / "a.png", folder / "log")
    assert done.returncode == 0, done.stderr
    counts: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    saving = False
    for line in (folder / "log").read_text().splitlines():
        call = re.match(r"(\w+)\(", line)
        if call is None:
            continue
        counts[call[1]] += 1
        if saving:
            found.append((call[1], counts[call[1]]))
        if '"end\\n"' in line:
            break
        saving |= '"begin\\n"' in line
    assert {"openat", "write", "fsync", "rename"} <= {name for name, _ in found}
    return found


def test_each_system_call_leaves_the_old_or_the_new_picture(
    moments: list[tuple[str, int]], tmp_path: Path
) -> None:
    subprocess.run(save_command(tmp_path / "old.png", OLD), check=True, stdout=subprocess.DEVNULL)
    seen: Counter[int] = Counter()
    killed = 0
    for name, number in moments:
        folder = tmp_path / f"{name}-{number}"
        folder.mkdir()
        target = folder / "a.png"
        shutil.copyfile(tmp_path / "old.png", target)
        done = traced(target, folder / "log", "-e", f"inject={name}:signal=KILL:when={number}")
        # Libraries may ask a few times more or less than when the calls were recorded.
        killed += done.returncode != 0
        seen[value_of(target)] += 1
        remove_stale_temporaries(folder)
        names = {path.name for path in folder.iterdir()} - {"log", f"first-{NEW}.png"}
        assert names == {"a.png"}, (name, number)
    assert seen.keys() == {OLD, NEW}
    assert killed > 0.9 * len(moments)


def test_two_processes_that_save_one_picture_leave_that_of_one(
    moments: list[tuple[str, int]], tmp_path: Path
) -> None:
    target = tmp_path / "a.png"
    for name, number in moments[:: max(1, len(moments) // 10)]:
        other = subprocess.Popen(save_command(target, OTHER), stdout=subprocess.DEVNULL)
        traced(target, tmp_path / "log", "-e", f"inject={name}:signal=KILL:when={number}")
        assert other.wait(60) == 0
        assert value_of(target) in (NEW, OTHER)
    remove_stale_temporaries(tmp_path)
    assert not list(tmp_path.glob(".*"))
