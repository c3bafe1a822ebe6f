"""Sessions of ONNX Runtime, bound to buffers that are used again."""

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
from nstrt.runtime.model import IMAGE, shape_of, weights_of
from nstrt.runtime.ort.providers import (
    IMAGE_ONLY,
    InputShape,
    Shape,
    check_placement,
    onnx_names,
    prepare_libraries,
    provider_options,
)
from nstrt.runtime.system.files import cache_folder
from nstrt.runtime.system.interrupt import Interrupt

__all__ = [
    "Bound",
    "FeatureSession",
    "Session",
    "inference_session",
    "open_session",
    "placements",
]


class Session:
    """A model file in ONNX Runtime on one provider."""

    def __init__(self, session: Any, provider: str) -> None:
        self.session = session
        """The ``onnxruntime.InferenceSession``."""
        self.provider = provider
        """nstrt's name of the provider it runs on."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the model file says of itself."""
        return dict(self.session.get_modelmeta().custom_metadata_map)

    @property
    def weights(self) -> dict[str, str]:
        """What it says of its weights: description, licence, origin, SHA-256."""
        return weights_of(self.metadata)

    def nodes_by_provider(self) -> dict[str, int]:
        """How many nodes ONNX Runtime placed on each provider, by its own record."""
        return dict(Counter(place for place, _ in placements(self.session)))

    def run(self, binding: Any, interrupt: Interrupt, *, shrink: bool = False) -> None:
        """Compute what is bound; ``interrupt`` ends it between two nodes, with
        :class:`Interrupted`. With ``shrink``, memory that ONNX Runtime
        would keep for the next time is given back."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        # A run that is ended complains to the log.
        options.log_severity_level = 4
        if shrink and self.provider == "cpu":
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

        def end() -> None:
            options.terminate = True

        with interrupt.ending(end):
            self.session.run_with_iobinding(binding, options)


class Bound:
    """A session's inputs and outputs in arrays of the caller's: read and written where they lie.

    On a card, what lies in the processor's memory is copied there when it is bound, and back after
    a run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._binding = session.session.io_binding()
        self._kept: dict[str, Array] = {}

    def take(self, name: str, array: Array) -> None:
        """Read an input from a contiguous array from now on, and keep it alive as long."""
        self._binding.bind_input(name, *_place(array))
        self._kept[name] = array

    def give(self, name: str, array: Array) -> None:
        """Write an output into a contiguous array from now on."""
        self._binding.bind_output(name, *_place(array))
        self._kept[name] = array

    def run(self, interrupt: Interrupt, *, shrink: bool = False) -> None:
        """Compute the outputs."""
        on_card = [array for array in self._kept.values() if _place(array)[0] == "cuda"]
        if on_card:
            # ONNX Runtime does not wait for torch's stream, nor torch for ONNX Runtime's.
            import torch

            torch.cuda.synchronize()
        self._session.run(self._binding, interrupt, shrink=shrink)
        if self._session.provider != "cpu":
            self._binding.synchronize_outputs()


class FeatureSession(Session):
    """A session whose outputs are the features of layers."""

    def __init__(self, session: Any, provider: str) -> None:
        super().__init__(session, provider)
        self._bound: Bound | None = None
        self._bound_for: tuple[tuple[int, ...], tuple[str, ...]] | None = None
        self._outputs: dict[str, Array] = {}

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that the model gives out."""
        return tuple(output.name for output in self.session.get_outputs())

    def features(
        self, image: NDArray[np.float32], layers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Features of a 1 x 3 x height x width image in 0..1 as NumPy arrays, without torch."""
        found = self.session.run(list(layers), {IMAGE: image})
        return dict(zip(layers, (values.astype(np.float32) for values in found), strict=True))

    def bound(
        self,
        image: Array,
        interrupt: Interrupt | None = None,
        *,
        layers: Sequence[str] | None = None,
        shrink: bool = False,
    ) -> dict[str, Array]:
        """Features of some layers, or all taps, for a contiguous image, in buffers that the next
        call with this shape writes again.

        The image is read where it lies and the activations are written where whoever asks reads
        them: nothing is copied. Only the buffers of the last shape are kept. For ``shrink`` see
        :meth:`Session.run`.
        """
        wanted = tuple(image.shape), tuple(layers or self.taps)
        if self._bound is None or self._bound_for != wanted:
            # Let the old buffers go before there are new ones.
            self.release()
            self._bound, self._bound_for = Bound(self), wanted
            arrays = arrays_of(image)
            for output in self.session.get_outputs():
                if output.name in wanted[1]:
                    half = output.type == "tensor(float16)"
                    shape = (1, *shape_of(output.name, image.shape[2], image.shape[3]))
                    self._outputs[output.name] = arrays.buffer(shape, half=half)
                    self._bound.give(output.name, self._outputs[output.name])
        self._bound.take(IMAGE, image)
        self._bound.run(interrupt or Interrupt(), shrink=shrink)
        return self._outputs

    def release(self) -> None:
        """Give the buffers back."""
        self._bound, self._outputs = None, {}


def placements(session: Any) -> list[tuple[str, str]]:
    """Provider and kind of each node of an ``onnxruntime.InferenceSession``, by ONNX Runtime's own
    record; empty where it keeps none."""
    record = getattr(session, "get_provider_graph_assignment_info", None)
    if record is None:
        return []
    return [(part.ep_name, node.op_type) for part in record() for node in part.get_nodes()]


def _place(array: Array) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Device, its number, number format, shape and address, as ONNX Runtime asks for them."""
    if isinstance(array, np.ndarray):
        return "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
    kind = np.dtype(str(array.dtype).removeprefix("torch.")).type
    device = array.device
    return device.type, device.index or 0, kind, tuple(array.shape), array.data_ptr()


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
    """An ``onnxruntime.InferenceSession`` of a model file on ``provider``.

    ``shapes`` are the pictures' heights and widths over the run, for TensorRT's profile;
    ``inputs`` are those whose shapes follow from a picture's;
    ``threads`` 0 leaves their number to ONNX Runtime.

    Raises :class:`ProviderUnavailableError` if the session does not run on the provider, which
    ONNX Runtime itself passes over in silence, or leaves convolutions to another one, and
    :class:`ModelFileError` for a file that is no model.
    """
    import onnxruntime

    prepare_libraries(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # What a plan of all buffers gains in time was not to be measured, and it takes twice as much.
    options.enable_mem_pattern = False
    # Idle threads that spin would take the processor from torch's half of the step.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    cache = cache_folder() / "tensorrt"
    if provider == "tensorrt":
        cache.mkdir(parents=True, exist_ok=True)
    wanted = onnx_names(provider)
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
            str(path), options, providers=wanted, provider_options=settings
        )
    except Exception as error:
        # onnxruntime's exceptions share no base class below Exception.
        raise ModelFileError(
            f"ONNX Runtime cannot open the model {path.name} on {provider}; try --provider cpu, or "
            f"delete the file and run nstrt export ({str(error).splitlines()[0]})."
        ) from error
    if session.get_providers()[0] != wanted[0]:
        raise ProviderUnavailableError(
            f"ONNX Runtime did not start on {provider} but on {session.get_providers()[0]}; "
            "see nstrt info for what runs here, or use --provider auto."
        )
    check_placement(placements(session), provider)
    return session


def open_session(path: Path, *, provider: str, **how: Any) -> FeatureSession:
    """A model of features, opened as :func:`inference_session` says."""
    return FeatureSession(inference_session(path, provider=provider, **how), provider)


def _versions() -> dict[str, str]:
    """Versions of what TensorRT's engines depend on."""
    import onnxruntime

    found = {"onnxruntime": str(onnxruntime.__version__)}
    for package in ("tensorrt-cu13", "tensorrt"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
