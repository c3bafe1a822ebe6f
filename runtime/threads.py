"""Compiled loops, shared among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    return list(pairwise(count * number // threads for number in range(threads + 1)))


def together(calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls, each in a thread of its own; they must let go of Python's lock. The threads
    sleep between two of these."""
    here, *elsewhere = calls
    if not elsewhere:
        here()
        return
    others = [_pool(torch.get_num_threads() - 1).submit(call) for call in elsewhere]
    here()
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nstrt")
