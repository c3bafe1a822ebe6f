"""Feature extraction on any provider, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.model import ModelSpec, ModelStore, Variant, in_network_order
from nstrt.runtime.ort.providers import Shape, choose_precision, choose_provider, is_available
from nstrt.runtime.ort.session import FeatureSession, open_session
from nstrt.runtime.pictures import PictureSource, as_picture
from nstrt.runtime.system.host import default_threads, device_name

__all__ = ["feature_session", "features", "variant_for"]


def features(
    image: PictureSource,
    layers: Sequence[str],
    *,
    provider: str = "auto",
    weights: str = "oxford",
    pooling: str = "max",
    padding: str = "replicate",
    store: ModelStore | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Compute VGG19's features of a picture, 1 x channels x height x width by layer.

    ONNX Runtime computes them on any provider. torch is needed only to export the model.
    """
    picture = as_picture(image)
    session = feature_session(
        ModelSpec(
            taps=in_network_order(layers),
            weights=weights,
            pooling=pooling,  # type: ignore[arg-type]
            padding=padding,  # type: ignore[arg-type]
        ),
        provider=provider,
        shapes=[(picture.height, picture.width)],
        store=store or ModelStore(),
    )
    batch = np.ascontiguousarray(picture.rgb.transpose(2, 0, 1)[None])
    return session.features(batch, list(layers))


def feature_session(
    spec: ModelSpec, *, provider: str, shapes: Sequence[Shape], store: ModelStore
) -> FeatureSession:
    """A session for the model of ``spec`` on ``provider``, for pictures of ``shapes``."""
    choice = choose_provider(provider, is_available)
    precision = choose_precision("auto", choice.provider)
    variant = spec.as_variant(variant_for(choice.provider, precision))
    # A machine that cannot export models may have the plain one, which only opens more slowly.
    model = store.find(variant) or store.find(spec) or store.obtain(variant)
    return open_session(
        model.path,
        provider=choice.provider,
        precision=precision,
        shapes=shapes,
        threads=default_threads(),
        identity={"model": model.sha256, "device": device_name(choice.provider)},
    )


def variant_for(provider: str, precision: str) -> Variant:
    """The variant of a model file that is fastest on a provider.

    ONNX Runtime's fusions are for the processor; CUDA, TensorRT and Core ML fuse the plain graph
    themselves.
    """
    if precision == "fp16":
        return "fp16"
    return "optimized" if provider == "cpu" else "plain"
