"""Trace a feature network to ONNX, with bytes that depend on the network alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager

import onnx
import torch

from nstrt.exporter.vgg import FeatureNet

__all__ = ["serialized", "trace", "with_metadata"]

INPUT = "image"
MIN_SIDE, MAX_SIDE = 16, 1 << 16
"""Bounds of height and width in pixels; four poolings need 16."""

_MAX_INSPECTED = 1 << 12
"""Largest number of elements for which torch's exporter may inspect a tensor's values."""

_cache: dict[Hashable, onnx.ModelProto] = {}
"""Traced models without their weights, by network structure."""


def trace(net: FeatureNet) -> onnx.ModelProto:
    """Return the network as an ONNX model with the input ``image`` and an output for each tap.

    Height and width are dynamic axes; the opset is torch's default. A trace takes seconds, so each
    process traces networks that differ only in their weights once.
    """
    kind = repr(net), net.taps, net.half_precision, _weight_pattern(net)
    if kind not in _cache:
        model = _trace(net)
        for item in model.graph.initializer:
            if item.name in net.state_dict():
                item.ClearField("raw_data")
        _cache[kind] = model
    return _with_weights(_cache[kind], net)


def _weight_pattern(net: FeatureNet) -> Hashable:
    """Return which small tensors are zero and which are equal.

    torch's exporter may omit zero tensors and share equal ones.
    """
    first: dict[Hashable, str] = {}
    return tuple(
        (bool(tensor.any()), first.setdefault((tensor.dtype, tensor.shape, _raw(tensor)), name))
        for name, tensor in net.state_dict().items()
        if tensor.numel() <= _MAX_INSPECTED
    )


def _raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def _with_weights(template: onnx.ModelProto, net: FeatureNet) -> onnx.ModelProto:
    """Copy a traced model and insert the network's weights."""
    model = onnx.ModelProto()
    model.CopyFrom(template)
    weights = net.state_dict()
    for item in model.graph.initializer:
        if item.name in weights:
            item.raw_data = _raw(weights[item.name])
    return model


def _trace(net: FeatureNet) -> onnx.ModelProto:
    sides = {
        axis: torch.export.Dim(name, min=MIN_SIDE, max=MAX_SIDE)
        for axis, name in ((2, "height"), (3, "width"))
    }
    # The example's sides differ, so that the trace does not take them for equal.
    example = torch.rand((1, 3, 96, 112), generator=torch.Generator().manual_seed(19))
    with warnings.catch_warnings(), _logging_errors_only("torch.onnx"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            dynamic_shapes={INPUT: sides},
            input_names=[INPUT],
            output_names=list(net.taps),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model: onnx.ModelProto = program.model_proto
    return _without_sources(model)


@contextmanager
def _logging_errors_only(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Replace the model's custom metadata by ``metadata``, sorted by key."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    return model


def serialized(model: onnx.ModelProto) -> bytes:
    """Serialise the model deterministically."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _without_sources(model: onnx.ModelProto) -> onnx.ModelProto:
    # torch's exporter writes stack traces with absolute paths into every node, so the bytes would
    # depend on the checkout's folder.
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    model.doc_string = ""
    return model
