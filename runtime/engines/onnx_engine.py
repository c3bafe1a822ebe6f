"""Engine ``onnx``: ONNX Runtime forward, the mirrored PyTorch graph backward."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.network.activations import SavedActivations
from nstrt.runtime.network.feature_observer import FeatureObserver
from nstrt.runtime.network.tiles import Tile
from nstrt.runtime.network.vgg import TorchVGG
from nstrt.runtime.ort.session import FeatureSession

__all__ = ["OnnxEngine"]


class OnnxEngine(TorchEngine):
    """Computes features in ONNX Runtime, and gradients from its activations, without copies."""

    name = "onnx"
    supports_sections = False

    def __init__(
        self, vgg: TorchVGG, session: FeatureSession, *, precision: str = "fp32", key: str = ""
    ) -> None:
        super().__init__(vgg, precision=precision, key=key)
        self.session = session

    @property
    def capturable(self) -> bool:
        # ONNX Runtime launches on its own stream.
        return False

    def activations(self, image: Tensor) -> Mapping[str, Tensor]:
        """All outputs of the model for an image, each 1 x channels x height x width.

        The next call overwrites their buffers.
        """
        return self.session.buffered_features(image.detach().contiguous(), self.interrupt)

    def forward(
        self, part: Tensor, observer: FeatureObserver, tile: Tile | None = None, *, keep: bool
    ) -> SavedActivations:
        # Losses and gradients are sums in single precision, whatever the model's precision.
        found = {name: value[0].float() for name, value in self.activations(part).items()}
        self.interrupt.check()
        for layer in observer.layers:
            observer.observe(layer, found[layer], 0)
        saved = self.network.empty_activations(part.shape[2], part.shape[3])
        if keep:
            # The backward pass derives ReLU masks from the features of all taps.
            saved.features = found
            for block in self.vgg.blocks_through(observer.layers):
                if block.relu and block.pool:
                    codes = self.network.pooling_codes(saved, block, found[block.relu])
                    saved.pooling_codes[block.pool] = codes
        return saved

    def kernels(self, tile: Tile) -> dict[str, str]:
        # The session computes the whole tile, so the backward pass covers it too.
        return self.network.kernels(*tile.size, tile.layers, forward=False)

    def nodes_by_provider(self) -> dict[str, int]:
        return self.session.nodes_by_provider()

    def release(self) -> None:
        super().release()
        self.session.release()
