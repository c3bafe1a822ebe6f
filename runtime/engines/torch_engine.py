"""Engine ``torch``: forward and backward through the mirrored PyTorch graph."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from nstrt.runtime.arrays.tensors import TensorArrays
from nstrt.runtime.engines.engine import StepFunction
from nstrt.runtime.engines.style_cache import StyleCache
from nstrt.runtime.kernels.cuda_graph import capture_cuda_graph
from nstrt.runtime.loss.content_and_style import LossAccumulator
from nstrt.runtime.loss.objective import Objective
from nstrt.runtime.loss.total_variation import add_total_variation_gradient
from nstrt.runtime.network.activations import SavedActivations
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.feature_observer import FeatureObserver, ObserverGroup
from nstrt.runtime.network.receptive_field import FULL_CORE
from nstrt.runtime.network.sections import SectionBoundary
from nstrt.runtime.network.tiles import Tile, TileObserver
from nstrt.runtime.network.vgg import TorchVGG
from nstrt.runtime.system.cancellation import Interrupt

__all__ = ["TorchEngine"]


class TorchEngine:
    """Computes features and gradients in the mirrored PyTorch graph.

    ``precision`` is that of products in convolutions; ``key`` identifies the machine for
    :class:`Autotuner`.
    """

    name = "torch"
    supports_sections = True

    def __init__(self, vgg: TorchVGG, *, precision: str = "fp32", key: str = "") -> None:
        self.vgg = vgg
        self.device = vgg.device
        self.weights = vgg.weights
        self.taps = vgg.taps
        self.interrupt = Interrupt()
        self.targets: StyleCache = StyleCache()
        self.network = BandedNetwork(vgg, precision=precision, key=key)

    @property
    def arrays(self) -> TensorArrays:
        return TensorArrays(self.device)

    @property
    def capturable(self) -> bool:
        """True if a CUDA graph can record a step: kernels on a card, launched by torch alone."""
        return self.device.type == "cuda"

    def extract_features(self, part: Tensor, observer: FeatureObserver, tile: Tile) -> None:
        self.forward(part, observer, tile, keep=False)

    def has_loss_graph(self, objective: Objective) -> bool:
        return False

    def step(self, objective: Objective, image: Tensor) -> StepFunction:
        def compute(image: Tensor) -> tuple[Tensor, Tensor]:
            accumulator = LossAccumulator(objective)
            saved = self.forward(image, accumulator, keep=True)
            values = accumulator.total(image)
            gradient = self.backward(saved, accumulator)
            add_total_variation_gradient(image, objective.weights.tv, gradient)
            return values, gradient

        if self.capturable and objective.weights.style_loss == "gram":
            return capture_cuda_graph(compute, image)
        # An eigendecomposition reads values back.
        return compute

    def gradient(
        self,
        part: Tensor,
        accumulator: LossAccumulator,
        tile: Tile,
        boundary: SectionBoundary | None = None,
    ) -> Tensor:
        window = TileObserver(
            ObserverGroup(accumulator, boundary) if boundary else accumulator,
            tile,
            gradient_only=True,
        )
        return self.backward(self.forward(part, window, tile, keep=True), window)

    def forward(
        self, part: Tensor, observer: FeatureObserver, tile: Tile | None = None, *, keep: bool
    ) -> SavedActivations:
        """Show ``observer`` the features of an image or a ``tile``; ``keep`` saves activations."""
        core, after = (tile.core, tile.after) if tile else (FULL_CORE, None)
        normalize = self.vgg.normalization.forward
        padded = functional.pad(part, (1, 1, 1, 1)) if after else normalize(part)
        return self.network.forward(
            padded, observer, keep=keep, core=core, after=after, check=self.interrupt.check
        )

    def backward(self, saved: SavedActivations, observer: FeatureObserver) -> Tensor:
        """The gradient at the input of the last forward pass, from the gradients of ``observer``.

        It is valid until the engine is used again.
        """
        gradient = self.network.backward(saved, observer, self.interrupt.check)
        if saved.after is None:
            return self.vgg.normalization.backward(gradient)
        return gradient[:, 1:-1, 1:-1]

    def kernels(self, tile: Tile) -> dict[str, str]:
        return self.network.kernels(*tile.size, tile.layers, tile.core, after=tile.after)

    @property
    def algorithms(self) -> dict[str, str]:
        return self.network.algorithms

    def pin_algorithms(self, algorithms: Mapping[str, str]) -> None:
        self.network.pin(algorithms)

    def nodes_by_provider(self) -> dict[str, int]:
        return {}

    def release(self) -> None:
        self.network.buffers.clear()
