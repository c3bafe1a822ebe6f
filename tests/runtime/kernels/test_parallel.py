"""Chunks, and tasks on threads."""

from __future__ import annotations

import threading
import time

import pytest

from nstrt.runtime.kernels.parallel import equal_chunks, guided_chunks, parallel_for, run_tasks


@pytest.mark.parametrize(("count", "most"), [(7, 3), (2, 5), (1, 1), (0, 4)])
def test_equal_chunks_cover_the_range_evenly(count: int, most: int) -> None:
    chunks = equal_chunks(count, most)
    assert [number for first, last in chunks for number in range(first, last)] == [*range(count)]
    assert len(chunks) == min(count, most)
    sizes = {last - first for first, last in chunks}
    assert not sizes or max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [0, 1, 5, 44, 4096])
def test_guided_chunks_cover_the_range_in_decreasing_sizes(count: int, threads: int) -> None:
    chunks = guided_chunks(count)
    assert [number for first, last in chunks for number in range(first, last)] == [*range(count)]
    sizes = [last - first for first, last in chunks]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert len(sizes) <= 14 * threads
    if threads > 1 and count > 1:
        # The first chunk does not exceed one thread's equal share.
        assert sizes[0] <= max(1, count // threads)


def test_each_task_runs_once_and_each_thread_has_its_number(threads: int) -> None:
    calls: list[tuple[int, int, int]] = []
    run_tasks(20, lambda thread, number: calls.append((thread, number, threading.get_ident())))
    assert sorted(number for _, number, _ in calls) == [*range(20)]
    assert {thread for thread, _, _ in calls} <= set(range(threads))
    # No two threads share a number, and so a buffer.
    for name in range(threads):
        assert len({ident for thread, _, ident in calls if thread == name}) <= 1


def test_free_thread_takes_the_next_task(threads: int) -> None:
    if threads == 1:
        return
    done: list[int] = []
    last_started = threading.Event()

    def work(_: int, number: int) -> None:
        if number == 0:
            assert last_started.wait(30)
        elif number == 19:
            last_started.set()
        done.append(number)

    run_tasks(20, work)
    assert done.index(0) >= 18


def test_no_task_starts_after_an_exception(threads: int) -> None:
    done: list[int] = []

    def work(_: int, number: int) -> None:
        if number == 3:
            raise ValueError("three")
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(ValueError, match="three"):
        run_tasks(100, work)
    count = len(done)
    assert count <= 3 + threads
    time.sleep(0.05)
    assert len(done) == count


def test_zero_tasks_call_nothing() -> None:
    run_tasks(0, lambda *_: pytest.fail("There is nothing to do."))
    parallel_for(0, lambda *_: pytest.fail("There is nothing to do."))


def test_parallel_for_covers_all_channels(threads: int) -> None:
    channels: list[int] = []
    parallel_for(50, lambda first, last: channels.extend(range(first, last)))
    assert sorted(channels) == [*range(50)]
