"""ONNX Runtime evaluates the features: one session, bound to buffers that are used again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.interrupt import Interrupt
from nstrt.runtime.model import (
    ModelFileError,
    ProviderUnavailableError,
    cache_folder,
    shape_of,
)
from nstrt.runtime.providers import (
    Shape,
    onnx_names,
    prepare_libraries,
    provider_options,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FeatureSession", "open_session"]


@dataclass
class _Binding:
    """Buffers of one picture shape and the binding that points at them."""

    binding: Any
    image: Tensor
    outputs: dict[str, Tensor]

    def take(self, image: Tensor) -> None:
        """Read the next run's input from ``image``, and keep it alive as long."""
        device, index = image.device.type, image.device.index or 0
        shape = tuple(image.shape)
        self.binding.bind_input("image", device, index, np.float32, shape, image.data_ptr())
        self.image = image


@dataclass
class FeatureSession:
    """A model in ONNX Runtime on one provider."""

    session: Any
    """The ``onnxruntime.InferenceSession``."""

    provider: str
    """nstrt's name of the provider it runs on."""

    _binding: _Binding | None = field(default=None, repr=False)

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that the model gives out."""
        return tuple(output.name for output in self.session.get_outputs())

    @property
    def metadata(self) -> dict[str, str]:
        """What the model file says of itself."""
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def nodes_by_provider(self) -> dict[str, int]:
        """How many nodes ONNX Runtime placed on each provider, by its own record."""
        record = getattr(self.session, "get_provider_graph_assignment_info", None)
        if record is None:
            return {}
        counts: Counter[str] = Counter()
        for part in record():
            counts[part.ep_name] += len(part.get_nodes())
        return dict(counts)

    def features(
        self, image: NDArray[np.float32], layers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Features of a 1 x 3 x height x width image in 0..1 as NumPy arrays, without torch."""
        found = self.session.run(list(layers), {"image": image})
        return dict(zip(layers, (values.astype(np.float32) for values in found), strict=True))

    def bound(self, image: Tensor, interrupt: Interrupt | None = None) -> dict[str, Tensor]:
        """All taps for an image, in buffers that the next call with this shape writes again.

        The image is read where it lies and the activations are written where torch reads them:
        nothing is copied. Only the buffers of the last shape are kept. ``interrupt`` ends the
        computation between two nodes, with :class:`~nstrt.runtime.interrupt.Interrupted`.
        """
        if self._binding is not None and self._binding.image.data_ptr() != image.data_ptr():
            if self._binding.image.shape != image.shape:
                # Let the old buffers go before there are new ones.
                self._binding = None
            else:
                self._binding.take(image)
        entry = self._binding = self._binding or self._bind(image)
        if image.is_cuda:
            # ONNX Runtime does not wait for torch's stream, nor torch for ONNX Runtime's.
            import torch

            torch.cuda.synchronize()
        self._run(entry.binding, interrupt or Interrupt())
        if image.is_cuda:
            entry.binding.synchronize_outputs()
        return entry.outputs

    def _run(self, binding: Any, interrupt: Interrupt) -> None:
        import onnxruntime

        options = onnxruntime.RunOptions()
        # A run that is ended complains to the log.
        options.log_severity_level = 4

        def end() -> None:
            options.terminate = True

        with interrupt.ending(end):
            self.session.run_with_iobinding(binding, options)

    def release(self) -> None:
        """Give the buffers back."""
        self._binding = None

    def _bind(self, image: Tensor) -> _Binding:
        import torch

        binding = self.session.io_binding()
        device, index = image.device.type, image.device.index or 0
        outputs: dict[str, Tensor] = {}
        for output in self.session.get_outputs():
            half = output.type == "tensor(float16)"
            buffer = torch.empty(
                (1, *shape_of(output.name, image.shape[2], image.shape[3])),
                dtype=torch.float16 if half else torch.float32,
                device=image.device,
            )
            outputs[output.name] = buffer
            binding.bind_output(
                output.name,
                device,
                index,
                np.float16 if half else np.float32,
                tuple(buffer.shape),
                buffer.data_ptr(),
            )
        bound = _Binding(binding=binding, image=image, outputs=outputs)
        bound.take(image)
        return bound


def open_session(
    path: Path,
    *,
    provider: str,
    precision: str = "fp32",
    shapes: Sequence[Shape] = ((64, 64),),
    threads: int = 0,
    identity: Mapping[str, str] | None = None,
) -> FeatureSession:
    """Open a model file on ``provider``.

    ``shapes`` are the pictures' heights and widths over the run, for TensorRT's profile;
    ``threads`` 0 leaves their number to ONNX Runtime.

    Raises :class:`ProviderUnavailableError` if the session does not run on the provider, which
    ONNX Runtime itself passes over in silence, and :class:`ModelFileError` for a file that is
    no model.
    """
    import onnxruntime

    prepare_libraries(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
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
    return FeatureSession(session=session, provider=provider)


def _versions() -> dict[str, str]:
    """Versions of what TensorRT's engines depend on."""
    import onnxruntime

    found = {"onnxruntime": str(onnxruntime.__version__)}
    for package in ("tensorrt-cu13", "tensorrt"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
