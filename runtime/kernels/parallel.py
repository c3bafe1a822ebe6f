"""Compiled loops, shared among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise

import torch

__all__ = ["equal_chunks", "guided_chunks", "parallel_for", "run_tasks"]

_LEAST = 12
"""The smallest pieces that are dealt out: so many would be a thread's equal share."""


def parallel_for(count: int, work: Callable[[int, int], None]) -> None:
    """Do ``work(first, last)`` for all of ``count`` channels, a part of them at a time."""
    spans = guided_chunks(count)
    run_tasks(len(spans), lambda _, number: work(*spans[number]))


def equal_chunks(count: int, most: int) -> list[tuple[int, int]]:
    """First and last, which is left out, of ``most`` equal parts, or of as many as there are
    things to share out."""
    most = min(most, count)
    return list(pairwise(count * number // max(1, most) for number in range(most + 1)))


def guided_chunks(count: int) -> list[tuple[int, int]]:
    """First and last, which is left out, of pieces to be dealt out: large ones first, then smaller
    ones, so that threads that are held up by what else the machine does end at about the same time
    (guided self-scheduling, Polychronopoulos and Kuck, 1987)."""
    threads = torch.get_num_threads()
    least = max(1, count // (_LEAST * threads))
    found, first = [], 0
    while first < count:
        size = count if threads < 2 else max(least, (count - first) // (2 * threads))
        last = min(count, first + size)
        found.append((first, last))
        first = last
    return found


def run_tasks(count: int, work: Callable[[int, int], None]) -> None:
    """Do ``work(thread, number)`` for each number up to ``count``, in this order; the next one is
    for the thread that is free first.

    It must let go of Python's lock, which also shares out the numbers; threads sleep until there is
    work again. Whatever is raised, none goes on afterwards.
    """
    numbers = iter(range(count))
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        for number in numbers:
            work(0, number)
        return
    others: list[Future[None]] = []
    try:
        for thread in range(1, threads):
            others.append(_pool(torch.get_num_threads() - 1).submit(_take, work, thread, numbers))
        _take(work, 0, numbers)
    finally:
        # Where something was raised, what is left is not done.
        for _ in numbers:
            pass
        wait(others)
    for other in others:
        other.result()


def _take(work: Callable[[int, int], None], thread: int, numbers: Iterator[int]) -> None:
    try:
        for number in numbers:
            work(thread, number)
    except BaseException:
        for _ in numbers:
            pass
        raise


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nstrt")
