"""Trace a feature network to ONNX bytes that depend on nothing but the network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Mapping

import onnx
import torch

from nstrt.exporter.vgg import FeatureNet

__all__ = ["serialized", "trace", "with_metadata"]

INPUT = "image"
SMALLEST, LARGEST = 16, 1 << 16
"""Bounds of height and width in pixels: four poolings need sixteen."""


_SMALL = 1 << 12
"""Numbers of a tensor, as of a bias, that exporters look at."""

_traced: dict[Hashable, onnx.ModelProto] = {}
"""What was traced in this process, without the networks' own numbers."""


def trace(net: FeatureNet) -> onnx.ModelProto:
    """The network as an ONNX model with the input ``image`` and one output for each tap.

    Height and width are dynamic, with names; the opset is torch's default. torch takes seconds to
    trace a network: those that differ in nothing but their numbers are traced once in a process.
    """
    kind = repr(net), net.taps, net.half_precision, _likeness(net)
    if kind not in _traced:
        model = _trace(net)
        for item in model.graph.initializer:
            if item.name in net.state_dict():
                item.ClearField("raw_data")
        _traced[kind] = model
    return _with_numbers(_traced[kind], net)


def _likeness(net: FeatureNet) -> Hashable:
    """Which of a network's tensors are zeros and which are equal: what an exporter may leave out,
    or keep once."""
    first: dict[Hashable, str] = {}
    return tuple(
        (bool(tensor.any()), first.setdefault((tensor.dtype, tensor.shape, _raw(tensor)), name))
        for name, tensor in net.state_dict().items()
        if tensor.numel() <= _SMALL
    )


def _raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def _with_numbers(blank: onnx.ModelProto, net: FeatureNet) -> onnx.ModelProto:
    """A copy in which each of the network's tensors has its numbers."""
    model = onnx.ModelProto()
    model.CopyFrom(blank)
    own = net.state_dict()
    for item in model.graph.initializer:
        if item.name in own:
            item.raw_data = _raw(own[item.name])
    return model


def _trace(net: FeatureNet) -> onnx.ModelProto:
    sides = {
        axis: torch.export.Dim(name, min=SMALLEST, max=LARGEST)
        for axis, name in ((2, "height"), (3, "width"))
    }
    # The example's sides are unlike each other and no multiples, so that nothing is baked in.
    example = torch.rand(1, 3, 96, 112)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
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


def with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The same model with ``metadata`` as its only custom metadata, in the order of the keys."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    return model


def serialized(model: onnx.ModelProto) -> bytes:
    """The model's bytes, the same for the same model."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _without_sources(model: onnx.ModelProto) -> onnx.ModelProto:
    # The exporter writes stack traces with absolute paths into every node: two checkouts in
    # different folders would give different files.
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    model.doc_string = ""
    return model
