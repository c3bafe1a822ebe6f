"""Compiled loops, shared among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from itertools import pairwise

import torch

__all__ = ["parts", "shared", "together"]


def shared(count: int, work: Callable[[int, int], None]) -> None:
    """Do ``work(first, last)`` for all of ``count`` channels, a part of them in each thread."""
    together([partial(work, *part) for part in parts(count)])


def parts(count: int) -> list[tuple[int, int]]:
    """First and last, which is left out, of as many parts as torch has threads, or as there are
    things to share out."""
    threads = min(torch.get_num_threads(), count)
    return list(pairwise(count * number // max(1, threads) for number in range(threads + 1)))


def together(calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls at once, as far as there are threads; they must let go of Python's lock. The
    threads sleep between two of these. Whatever is raised, no call goes on afterwards."""
    if len(calls) < 2:
        for call in calls:
            call()
        return
    here, *elsewhere = calls
    others: list[Future[None]] = []
    try:
        for call in elsewhere:
            others.append(_pool(torch.get_num_threads() - 1).submit(call))
        here()
    finally:
        wait(others)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nstrt")
