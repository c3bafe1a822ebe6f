"""ONNX Runtime sessions with I/O binding to reused buffers."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.errors import ModelFileError, ProviderUnavailableError
from nstrt.runtime.model import IMAGE, shape_of, weights_metadata
from nstrt.runtime.ort.providers import (
    IMAGE_ONLY,
    InputShape,
    Shape,
    check_placement,
    execution_providers,
    preload_libraries,
    provider_options,
)
from nstrt.runtime.system.cancellation import Interrupt
from nstrt.runtime.system.files import cache_folder
from nstrt.runtime.system.host import default_threads
from nstrt.runtime.system.memory import LEAST_BYTES, is_out_of_memory, too_large
from nstrt.runtime.system.onnx_runtime import import_onnxruntime
from nstrt.runtime.system.trust import distrust_reason, make_folder
from nstrt.runtime.system.words import spelled

__all__ = [
    "BoundSession",
    "FeatureSession",
    "Session",
    "inference_session",
    "node_placements",
    "open_session",
]


class Session:
    """A model file in ONNX Runtime on one provider."""

    def __init__(self, session: Any, provider: str) -> None:
        self.session = session
        """The ``onnxruntime.InferenceSession``."""
        self.provider = provider
        """nstrt's name of its provider."""

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the model file."""
        return dict(self.session.get_modelmeta().custom_metadata_map)

    @property
    def weights(self) -> dict[str, str]:
        """The file's record of its weights: description, licence, origin, SHA-256."""
        return weights_metadata(self.metadata)

    def nodes_by_provider(self) -> dict[str, int]:
        """The number of nodes that ONNX Runtime runs on each provider."""
        return dict(Counter(provider for provider, _ in node_placements(self.session)))

    def run(self, binding: Any, interrupt: Interrupt, *, shrink: bool = False) -> None:
        """Compute the outputs of an ``onnxruntime.IOBinding``.

        ``interrupt`` stops the run between two nodes, which raises :class:`Interrupted`.
        ``shrink`` frees memory that ONNX Runtime would keep for the next run.
        """
        onnxruntime = import_onnxruntime()

        options = onnxruntime.RunOptions()
        # No message when a run is terminated.
        options.log_severity_level = 4
        if shrink and self.provider == "cpu":
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

        def terminate() -> None:
            options.terminate = True

        with interrupt.on_request(terminate):
            self.session.run_with_iobinding(binding, options)


class BoundSession:
    """A session that reads and writes arrays of the caller without copies.

    If it runs on a card, inputs in the processor's memory are copied when they are bound, and
    outputs after each run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._binding = session.session.io_binding()
        self._arrays: dict[str, Array] = {}

    def bind_input(self, name: str, array: Array) -> None:
        """Read an input from a contiguous array, and keep the array alive."""
        self._binding.bind_input(name, *_binding_arguments(array))
        self._arrays[name] = array

    def bind_output(self, name: str, array: Array) -> None:
        """Write an output into a contiguous array, and keep the array alive."""
        self._binding.bind_output(name, *_binding_arguments(array))
        self._arrays[name] = array

    def run(self, interrupt: Interrupt, *, shrink: bool = False) -> None:
        """Compute the outputs."""
        on_card = [
            array for array in self._arrays.values() if _binding_arguments(array)[0] == "cuda"
        ]
        if on_card:
            # The CUDA streams of ONNX Runtime and torch do not wait for each other.
            import torch

            torch.cuda.synchronize()
        self._session.run(self._binding, interrupt, shrink=shrink)
        if self._session.provider != "cpu":
            self._binding.synchronize_outputs()


class FeatureSession(Session):
    """A session whose outputs are the features of layers."""

    def __init__(self, session: Any, provider: str) -> None:
        super().__init__(session, provider)
        self._bound: BoundSession | None = None
        self._bound_to: tuple[tuple[int, ...], tuple[str, ...]] | None = None
        """Shape of the image and layers that outputs are bound for."""
        self._outputs: dict[str, Array] = {}

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that are outputs of the model."""
        return tuple(output.name for output in self.session.get_outputs())

    def features(
        self, image: NDArray[np.float32], layers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Features of a 1 x 3 x height x width image in 0..1, as NumPy arrays."""
        outputs = self.session.run(list(layers), {IMAGE: image})
        return dict(zip(layers, (values.astype(np.float32) for values in outputs), strict=True))

    def buffered_features(
        self,
        image: Array,
        interrupt: Interrupt | None = None,
        *,
        layers: Sequence[str] | None = None,
        shrink: bool = False,
    ) -> dict[str, Array]:
        """Features of some layers, or of all taps, for a contiguous image, without copies.

        The next call with this shape overwrites their buffers; a call with another shape
        replaces them. For ``shrink`` see :meth:`Session.run`.
        """
        names = tuple(layers or self.taps)
        target = tuple(image.shape), names
        if self._bound is None or self._bound_to != target:
            # Frees the old buffers before the new ones are allocated.
            self.release()
            self._bound, self._bound_to = BoundSession(self), target
            arrays = arrays_of(image)
            for output in self.session.get_outputs():
                if output.name in names:
                    half = output.type == "tensor(float16)"
                    shape = (1, *shape_of(output.name, image.shape[2], image.shape[3]))
                    self._outputs[output.name] = arrays.buffer(shape, half=half)
                    self._bound.bind_output(output.name, self._outputs[output.name])
        self._bound.bind_input(IMAGE, image)
        self._bound.run(interrupt or Interrupt(), shrink=shrink)
        return self._outputs

    def release(self) -> None:
        """Free the buffers."""
        self._bound, self._outputs = None, {}


def node_placements(session: Any) -> list[tuple[str, str]]:
    """Provider and operator of each node of an ``onnxruntime.InferenceSession``; empty for versions
    of ONNX Runtime that do not record them."""
    assignments = getattr(session, "get_provider_graph_assignment_info", None)
    if assignments is None:
        return []
    return [(part.ep_name, node.op_type) for part in assignments() for node in part.get_nodes()]


def _binding_arguments(array: Array) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Device type, device index, number format, shape and address of an array."""
    if isinstance(array, np.ndarray):
        return "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
    dtype = np.dtype(str(array.dtype).removeprefix("torch.")).type
    device = array.device
    return device.type, device.index or 0, dtype, tuple(array.shape), array.data_ptr()


def inference_session(
    path: Path,
    *,
    provider: str,
    precision: str = "fp32",
    shapes: Sequence[Shape] = ((64, 64),),
    threads: int = 0,
    identity: Mapping[str, str] | None = None,
    inputs: Mapping[str, InputShape] = IMAGE_ONLY,
) -> Any:
    """Open a model file in an ``onnxruntime.InferenceSession`` on ``provider``.

    ``shapes`` are the heights and widths of all pictures of the run, for TensorRT's profile.
    ``inputs`` have shapes that depend on them. ``identity`` names the model and the card.
    ``threads`` 0 uses all cores that this process may use.

    Raises :class:`ProviderUnavailableError` if ONNX Runtime falls back to another provider, and
    :class:`ModelFileError` if the file is not a model.
    """
    onnxruntime = import_onnxruntime()

    preload_libraries(provider)
    cache = cache_folder() / "tensorrt"
    if provider == "tensorrt":
        # TensorRT's engines are code.
        if reason := distrust_reason(cache):
            raise ModelFileError(reason)
        make_folder(cache)
    names = execution_providers(provider)
    settings = provider_options(
        provider,
        precision=precision,
        shapes=shapes,
        cache=cache,
        identity={**_versions(), **(identity or {})},
        inputs=inputs,
    )
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            _session_options(threads),
            providers=names,
            provider_options=settings,
            # The processor has nothing to fall back to; a try would be printed.
            enable_fallback=int(provider != "cpu"),
        )
    except Exception as error:
        # The exceptions of onnxruntime have no common base class but Exception.
        if is_out_of_memory(error):
            raise too_large("Loading the network", LEAST_BYTES) from error
        raise ModelFileError(
            f"ONNX Runtime cannot open the model {path.name} on {provider}; try "
            f"{spelled('provider', 'cpu')}, or delete the file and run nstrt export "
            f"({str(error).splitlines()[0]})."
        ) from error
    if session.get_providers()[0] != names[0]:
        raise ProviderUnavailableError(
            f"ONNX Runtime did not start on {provider} but on {session.get_providers()[0]}; "
            f"see nstrt info for what runs here, or use {spelled('provider', 'auto')}."
        )
    check_placement(node_placements(session), provider)
    return session


def _session_options(threads: int) -> Any:
    """The ``onnxruntime.SessionOptions`` of every session."""
    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or default_threads()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # A memory pattern takes twice the memory and saves no measurable time.
    options.enable_mem_pattern = False
    # Spinning idle threads would slow torch's part of the step down.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(path: Path, *, provider: str, **options: Any) -> FeatureSession:
    """Open a feature model, with the options of :func:`inference_session`."""
    return FeatureSession(inference_session(path, provider=provider, **options), provider)


def _versions() -> dict[str, str]:
    """Versions of the packages that TensorRT engines depend on."""
    onnxruntime = import_onnxruntime()

    versions = {"onnxruntime": str(onnxruntime.__version__)}
    for package in ("tensorrt-cu13", "tensorrt"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
