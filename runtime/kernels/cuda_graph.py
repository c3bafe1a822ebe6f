"""CUDA graphs: one launch for the hundreds of kernels of an optimisation step.

At a coarse scale each kernel runs for some microseconds, and launching them one by one from Python
takes longer than they run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["capture_cuda_graph"]

Outputs = TypeVar("Outputs", bound=tuple[Tensor, ...])

_WARM_UP = 3
"""Calls before the capture, in which libraries choose algorithms and allocate memory."""


def capture_cuda_graph(
    compute: Callable[[Tensor], Outputs], example: Tensor
) -> Callable[[Tensor], Outputs]:
    """Return ``compute`` as one launch, for inputs of the shape of ``example``, on its GPU.

    ``compute`` must consist of torch operations on that GPU, read no value back and take no
    decision that depends on one. Its outputs are valid until the next call. Returns ``compute``
    itself if CUDA cannot capture it.
    """
    static_input = example.clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            compute(static_input)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            static_outputs = compute(static_input)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return compute

    def replay(image: Tensor) -> Outputs:
        static_input.copy_(image)
        graph.replay()
        return static_outputs

    return replay
