"""A program that imports nstrt finds all that belongs to it as it was, and paints in any mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nstrt.runtime.model import ModelStore

HOST = Path(__file__).with_name("host_program.py")


def run_host(*cases: str, **environment: str) -> str:
    """Run cases of :mod:`host_program` in one process; returns what it prints."""
    done = subprocess.run(
        [sys.executable, HOST, *cases],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_belongs_to_the_host_is_as_it_was(models: ModelStore) -> None:
    run_host("whole", "left_half_way", "interrupted", "failed", "settings_between_steps")


def test_a_run_left_at_the_program_s_end_says_nothing(models: ModelStore) -> None:
    assert run_host("left_at_the_end") == ""


def test_pictures_are_the_same_in_all_of_torch_s_modes(models: ModelStore) -> None:
    run_host("modes")


def test_the_host_s_threads_are_the_most_that_a_run_uses(models: ModelStore) -> None:
    run_host("set_threads")
    run_host("omp_threads", OMP_NUM_THREADS="1")


def test_two_threads_of_a_host_paint_at_once(models: ModelStore) -> None:
    run_host("two_threads")


@pytest.mark.slow
def test_an_export_leaves_the_host_s_settings_too(tmp_path: Path) -> None:
    run_host("whole", NSTRT_CACHE=str(tmp_path))
