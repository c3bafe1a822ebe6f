"""Compiled loops shared among threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from nstrt.runtime.kernels.parallel import equal_chunks, guided_chunks, parallel_for, run_tasks


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "most"), [(7, 3), (2, 5), (1, 1), (0, 4)])
def test_parts_are_all_and_of_like_size(count: int, most: int) -> None:
    spans = equal_chunks(count, most)
    assert [number for first, last in spans for number in range(first, last)] == [*range(count)]
    assert len(spans) == min(count, most)
    sizes = {last - first for first, last in spans}
    assert not sizes or max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [0, 1, 5, 44, 4096])
def test_pieces_are_all_and_get_smaller(count: int, threads: int) -> None:
    spans = guided_chunks(count)
    assert [number for first, last in spans for number in range(first, last)] == [*range(count)]
    sizes = [last - first for first, last in spans]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert len(sizes) <= 14 * threads
    if threads > 1 and count > 1:
        # The first thread never has more than it could share.
        assert sizes[0] <= max(1, count // threads)


def test_each_number_is_done_once_by_a_thread_with_a_number_of_its_own(threads: int) -> None:
    seen: list[tuple[int, int, int]] = []
    run_tasks(20, lambda thread, number: seen.append((thread, number, threading.get_ident())))
    assert sorted(number for _, number, _ in seen) == [*range(20)]
    assert {thread for thread, _, _ in seen} <= set(range(threads))
    # Memory by number of thread is nobody else's.
    for name in range(threads):
        assert len({ident for thread, _, ident in seen if thread == name}) <= 1


def test_who_is_free_takes_the_next(threads: int) -> None:
    if threads == 1:
        return
    done: list[int] = []
    held = threading.Event()

    def work(_: int, number: int) -> None:
        if number == 0:
            assert held.wait(30)
        elif number == 19:
            held.set()
        done.append(number)

    run_tasks(20, work)
    assert done.index(0) >= 18


def test_whatever_is_raised_nothing_goes_on_afterwards(threads: int) -> None:
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


def test_nothing_to_do_is_done() -> None:
    run_tasks(0, lambda *_: pytest.fail("There is nothing to do."))
    parallel_for(0, lambda *_: pytest.fail("There is nothing to do."))


def test_all_channels_are_shared_out(threads: int) -> None:
    seen: list[int] = []
    parallel_for(50, lambda first, last: seen.extend(range(first, last)))
    assert sorted(seen) == [*range(50)]
