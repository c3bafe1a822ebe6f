"""Scheduling of compiled loops on threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise

import torch

__all__ = ["equal_chunks", "guided_chunks", "parallel_for", "run_tasks"]

_MIN_CHUNKS_PER_THREAD = 12
"""Chunks in an equal share of one thread, if all chunks had the smallest size."""


def parallel_for(count: int, work: Callable[[int, int], None]) -> None:
    """Run ``work(first, last)`` on threads, for chunks that cover ``range(count)``."""
    chunks = guided_chunks(count)
    run_tasks(len(chunks), lambda _, number: work(*chunks[number]))


def equal_chunks(count: int, most: int) -> list[tuple[int, int]]:
    """Split ``range(count)`` into at most ``most`` equal chunks (first, last), last excluded."""
    most = min(most, count)
    return list(pairwise(count * number // max(1, most) for number in range(most + 1)))


def guided_chunks(count: int) -> list[tuple[int, int]]:
    """Split ``range(count)`` into chunks (first, last), last excluded, of decreasing size.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987): threads that other programs delay
    still finish at about the same time.
    """
    threads = torch.get_num_threads()
    least = max(1, count // (_MIN_CHUNKS_PER_THREAD * threads))
    chunks, first = [], 0
    while first < count:
        size = count if threads < 2 else max(least, (count - first) // (2 * threads))
        last = min(count, first + size)
        chunks.append((first, last))
        first = last
    return chunks


def run_tasks(count: int, work: Callable[[int, int], None]) -> None:
    """Run ``work(thread, number)`` for each number below ``count``, in this order.

    The next free thread takes the next number. ``work`` must release the GIL, which also guards
    the numbers. After an exception no further number starts, and the exception is raised when all
    threads have stopped.
    """
    numbers = iter(range(count))
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        for number in numbers:
            work(0, number)
        return
    futures: list[Future[None]] = []
    try:
        for thread in range(1, threads):
            pool = _thread_pool(torch.get_num_threads() - 1)
            futures.append(pool.submit(_run_next, work, thread, numbers))
        _run_next(work, 0, numbers)
    finally:
        # After an exception the remaining numbers are dropped.
        for _ in numbers:
            pass
        wait(futures)
    for future in futures:
        future.result()


def _run_next(work: Callable[[int, int], None], thread: int, numbers: Iterator[int]) -> None:
    """Run tasks until no number is left."""
    try:
        for number in numbers:
            work(thread, number)
    except BaseException:
        for _ in numbers:
            pass
        raise


@lru_cache(maxsize=1)
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nstrt")
