"""Cache folders that other users can write are refused, because their content is run."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstrt.runtime.system.trust import distrust_reason, make_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such permissions here")

as_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away"
)

GROUP = 4242
"""A group that is not one user's own."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache of mine"
    monkeypatch.setenv("NSTRT_CACHE", str(folder))
    make_folder(folder / "models")
    (folder / "models" / "a.onnx").write_bytes(b"")
    (folder / "models" / "a.onnx").chmod(0o644)
    return folder


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def paths(cache: Path) -> list[Path]:
    return [cache, cache / "models", cache / "models" / "a.onnx"]


def test_own_folders_are_trusted_and_missing_ones(cache: Path) -> None:
    for path in (*paths(cache), cache / "models" / "missing.onnx", cache / "compiled" / "x"):
        assert distrust_reason(path) == ""


def test_folders_that_all_can_write_are_refused(cache: Path) -> None:
    for open_one in paths(cache):
        mode = open_one.stat().st_mode
        open_one.chmod(mode | 0o002)
        reason = distrust_reason(cache / "models" / "a.onnx")
        assert f"'{open_one}' can be written by other users (mode " in reason
        assert "NSTRT_CACHE" in reason
        open_one.chmod(mode)
    assert distrust_reason(cache / "models" / "a.onnx") == ""


def test_the_command_in_the_sentence_mends_it(cache: Path) -> None:
    for path in paths(cache):
        path.chmod(0o777)
    command = distrust_reason(cache / "models" / "a.onnx").partition("or run: ")[2]
    subprocess.run(shlex.split(command.removesuffix(".")), check=True)
    assert distrust_reason(cache / "models" / "a.onnx") == ""


def test_sticky_folders_are_trusted(cache: Path) -> None:
    cache.chmod(0o1777)
    assert distrust_reason(cache / "models") == ""


def test_folders_outside_the_cache_are_the_users_choice(cache: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert distrust_reason(cache / "models") == ""
    assert distrust_reason(tmp_path) == ""


@as_root
def test_folders_of_a_group_are_refused_unless_it_is_one_users_own(cache: Path) -> None:
    cache.chmod(0o775)
    assert distrust_reason(cache) == ""
    os.chown(cache, -1, GROUP)
    assert "can be written by other users (mode 775)" in distrust_reason(cache)
    cache.chmod(0o755)
    assert distrust_reason(cache) == ""


@as_root
def test_files_of_other_users_are_refused(cache: Path) -> None:
    for path in paths(cache):
        os.chown(path, GROUP, -1)
        assert f"'{path}' belongs to another user ({GROUP})" in distrust_reason(
            cache / "models" / "a.onnx"
        )
        os.chown(path, 0, -1)


@pytest.mark.usefixtures("umask")
def test_folders_are_made_for_one_user_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    for name in ("a", "a/b", "a/b/c"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
