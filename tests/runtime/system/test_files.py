"""Atomic writes and stale temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nstrt.runtime.system import files
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


APART = ("unshare", "-Upf", "--mount-proc", "sh", "-c")
"""Runs a shell's commands as a container does that has the machine's name."""


def _counts_processes_apart() -> bool:
    try:
        return subprocess.run([*APART, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _counts_processes_apart(), reason="no process numbers of one's own")
def test_files_of_a_running_process_in_another_container_stay(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from nstrt.runtime.system.files import atomic_write, remove_stale_temporaries\n"
        "folder = Path(sys.argv[1])\n"
        "if len(sys.argv) == 2: sys.exit(remove_stale_temporaries(folder))\n"
        "with atomic_write(folder / 'a') as temporary:\n"
        "    temporary.write_bytes(b'new'); print(flush=True); sys.stdin.read()\n"
    )
    python = f'"{sys.executable}" -c "$0" "$1"'
    # The processes before give the writer a number that the reader's container has not.
    many = "; ".join(["/bin/true"] * 20)
    command = [*APART, f"{many}; {python} write; exit $?", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        subprocess.run([*APART, f"{python}; exit $?", code, str(tmp_path)], check=True)
        writer.communicate()
    assert writer.returncode == 0
    assert (tmp_path / "a").read_bytes() == b"new"


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


def _ended_process() -> int:
    """Number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def _stale_name(suffix: str = ".png") -> str:
    host = files._host()
    return f".a.nstrt-{host}-{_ended_process()}-0123abcd{suffix}"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("process", ["²", "1" * 23, "0x1", "-1", "", "٣", "999999999", "0"])
def test_names_of_any_process_number_stop_no_saving(process: str, tmp_path: Path) -> None:
    (tmp_path / f".a.nstrt-{files._host()}-{process}-0.png").write_bytes(b"")
    remove_stale_temporaries(tmp_path)
    write_atomically(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_folders_and_links_of_a_stale_name_stay(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"kept")
    (tmp_path / _stale_name()).mkdir()
    (tmp_path / _stale_name(".link")).symlink_to(elsewhere)
    stale = tmp_path / _stale_name()
    stale.write_bytes(b"")
    remove_stale_temporaries(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert not stale.exists()
    assert elsewhere.read_bytes() == b"kept"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("sticky", [True, False])
def test_stale_files_of_another_user_stay_and_stop_no_saving(sticky: bool, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for folder in shared.parents:
        # pytest keeps its folders for one user.
        if folder.stat().st_mode & 0o005 != 0o005:
            os.chmod(folder, 0o755)
    os.chmod(shared, 0o1777 if sticky else 0o777)
    theirs, ours = shared / _stale_name(), shared / _stale_name()
    for path, user in ((theirs, 12_345), (ours, 65_534)):
        path.write_bytes(b"")
        os.chown(path, user, user)
    child = os.fork()
    if not child:
        os.seteuid(65_534)
        code = 1
        try:
            remove_stale_temporaries(shared)
            write_atomically(shared / "a.png", b"new")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(shared.iterdir()) == sorted([theirs, shared / "a.png"])


def test_saving_removes_the_folders_that_killed_processes_left(
    tmp_path: Path, temporary: Path
) -> None:
    owner = f"{files._host()}-{_ended_process()}-"
    for name in (f"nstrt-temporary-{owner}a", f"nstrt-rescued-{owner}b", f"nstrt-rescued-{owner}c"):
        (temporary / name).mkdir()
    frames, half, safe = (
        temporary / f"nstrt-temporary-{owner}a" / "frame.png",
        temporary / f"nstrt-rescued-{owner}b" / f".a.nstrt-{owner}0.png",
        temporary / f"nstrt-rescued-{owner}c" / "picture.png",
    )
    for path in (frames, half, safe):
        path.write_bytes(b"content")
    foreign = temporary / "nstrt-temporary-00000000-1-a"
    foreign.mkdir()
    with files.temporary_folder() as running:
        remove_stale_temporaries(tmp_path)
        assert sorted(temporary.iterdir()) == sorted([safe.parent, foreign, running])
    assert safe.read_bytes() == b"content"


def test_a_rescue_folder_stays_only_with_a_file(temporary: Path) -> None:
    with files.rescue_folder() as empty:
        pass
    with files.rescue_folder() as full:
        (full / "a.png").write_bytes(b"")
    assert not empty.exists()
    assert list(temporary.iterdir()) == [full]
