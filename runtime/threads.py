"""Compiled loops over channels, shared among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import torch

__all__ = ["shared"]


def shared(count: int, work: Callable[[int, int], None]) -> None:
    """Do ``work(first, last)`` for all of ``count`` channels, a part of them in each of torch's
    threads; it must let go of Python's lock. The threads sleep between two calls."""
    threads = min(torch.get_num_threads(), count)
    cuts = [count * number // threads for number in range(threads + 1)]
    (first, last), *rest = pairwise(cuts)
    others = [_pool(threads - 1).submit(work, *part) for part in rest]
    work(first, last)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nstrt")
