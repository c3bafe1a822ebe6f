"""Atomic writes and stale temporary files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nstrt.runtime.system.files import atomic_write, remove_stale_temporaries, write_atomically


def test_killed_writers_do_not_change_the_target(
    tmp_path: Path,
) -> None:
    target = tmp_path / "result.png"
    target.write_bytes(b"earlier")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from nstrt.runtime.system.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert target.read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 2
    remove_stale_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_files_lie_beside_the_target_with_its_suffix(tmp_path: Path) -> None:
    target = tmp_path / "a.b.png"
    with atomic_write(target) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert list(tmp_path.iterdir()) == [target]


def test_files_have_default_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode
