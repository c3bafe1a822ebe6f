"""A computation on a card, recorded once as a CUDA graph: one launch for its hundreds of kernels.

A step at a coarse scale is hundreds of kernels of some microseconds each, and launching them one by
one from Python takes longer than they run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["capture_cuda_graph"]

Outputs = TypeVar("Outputs", bound=tuple[Tensor, ...])

_WARM_UP = 3
"""Calls before it is recorded, in which libraries choose their algorithms and take their memory."""


def capture_cuda_graph(
    compute: Callable[[Tensor], Outputs], example: Tensor
) -> Callable[[Tensor], Outputs]:
    """``compute`` for inputs of the shape of ``example``, which is on a card, as one launch.

    It must be made of torch's own operations on that card alone, with no value read back and no
    decision that depends on one. What it gives is valid until the next call. Where CUDA refuses to
    record it, it is called as it is.
    """
    given = example.clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            compute(given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            found = compute(given)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return compute

    def replay(image: Tensor) -> Outputs:
        given.copy_(image)
        graph.replay()
        return found

    return replay
