"""The engines that go back to the image through the mirrored PyTorch graph.

They differ in who computes the features: ``torch`` computes them in the mirrored graph, ``onnx``
in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from nstrt.runtime.arrays import Array
from nstrt.runtime.arrays.tensors import TensorArrays
from nstrt.runtime.engines import StepFunction
from nstrt.runtime.engines.gram_cache import GramCache
from nstrt.runtime.kernels.cuda_graph import capture_cuda_graph
from nstrt.runtime.loss.objective import LossAccumulator, Objective, ObserverGroup
from nstrt.runtime.network.activations import SavedActivations
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.observer import FeatureObserver
from nstrt.runtime.network.receptive import FULL_CORE
from nstrt.runtime.network.sections import SectionBoundary
from nstrt.runtime.network.tiles import Tile, TileObserver
from nstrt.runtime.network.vgg import TorchVGG
from nstrt.runtime.ort.session import FeatureSession
from nstrt.runtime.system.interrupt import Interrupt

__all__ = ["OnnxEngine", "TorchEngine"]


class TorchEngine:
    """Everything in the mirrored PyTorch graph.

    ``precision`` is that of the products in its convolutions; ``key`` stands for what their speed
    depends on, see :class:`Autotuner`.
    """

    name = "torch"
    one_graph = False
    supports_sections = True

    def __init__(self, vgg: TorchVGG, *, precision: str = "fp32", key: str = "") -> None:
        self.vgg = vgg
        self.device = vgg.device
        self.weights = vgg.weights
        self.taps = vgg.taps
        self.interrupt = Interrupt()
        self.targets: GramCache[Array] = GramCache()
        self.network = BandedNetwork(vgg, precision=precision, key=key)

    @property
    def arrays(self) -> TensorArrays:
        return TensorArrays(self.device)

    @property
    def capturable(self) -> bool:
        """Whether its work is nothing but kernels on a card, launched by torch, which can be
        recorded and launched again as one."""
        return self.device.type == "cuda"

    def extract_features(self, part: Tensor, observer: FeatureObserver, tile: Tile) -> None:
        self.forward(part, observer, tile, keep=False)

    def step(self, objective: Objective, image: Tensor) -> StepFunction:
        def compute(image: Tensor) -> tuple[Tensor, Tensor]:
            accumulator = objective.accumulator()
            saved = self.forward(image, accumulator, keep=True)
            values = accumulator.total(image)
            gradient = self.backward(saved, accumulator)
            accumulator.add_variation(image, gradient)
            return values, gradient

        return capture_cuda_graph(compute, image) if self.capturable else compute

    def gradient(
        self,
        part: Tensor,
        accumulator: LossAccumulator,
        tile: Tile,
        cut: SectionBoundary | None = None,
    ) -> Tensor:
        window = TileObserver(
            ObserverGroup(accumulator, cut) if cut else accumulator, tile, gradient_only=True
        )
        return self.backward(self.forward(part, window, tile, keep=True), window)

    def forward(
        self, part: Tensor, observer: FeatureObserver, tile: Tile | None = None, *, keep: bool
    ) -> SavedActivations:
        """Show ``observer`` the features of an image or a ``tile``; ``keep`` saves activations."""
        core, after = (tile.core, tile.after) if tile else (FULL_CORE, None)
        padded = (
            functional.pad(part, (1, 1, 1, 1)) if after else self.vgg.normalization.forward(part)
        )
        check = self.interrupt.check
        return self.network.forward(
            padded, observer, keep=keep, core=core, after=after, check=check
        )

    def backward(self, saved: SavedActivations, observer: FeatureObserver) -> Tensor:
        """The gradient at what a forward pass was given, of which there was none since, as
        ``observer`` pulls at the features. It is valid until the engine is used again."""
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


class OnnxEngine(TorchEngine):
    """ONNX Runtime forwards, without copies; the mirrored graph backwards on its activations."""

    name = "onnx"
    supports_sections = False

    def __init__(
        self, vgg: TorchVGG, session: FeatureSession, *, precision: str = "fp32", key: str = ""
    ) -> None:
        super().__init__(vgg, precision=precision, key=key)
        self.session = session

    @property
    def capturable(self) -> bool:
        # ONNX Runtime launches on a stream of its own.
        return False

    def activations(self, image: Tensor) -> Mapping[str, Tensor]:
        """Every output of the model for an image, 1 x channels x height x width, in buffers that
        the next call writes again."""
        return self.session.bound(image.detach().contiguous(), self.interrupt)

    def forward(
        self, part: Tensor, observer: FeatureObserver, tile: Tile | None = None, *, keep: bool
    ) -> SavedActivations:
        # Loss and gradient are summed in single precision, whatever the model's own.
        found = {name: value[0].float() for name, value in self.activations(part).items()}
        self.interrupt.check()
        for layer in observer.layers:
            observer.observe(layer, found[layer], 0)
        saved = self.network.empty_activations(part.shape[2], part.shape[3])
        if keep:
            # The backward pass takes ReLU masks from features.
            saved.features = found
            for block in self.vgg.blocks_through(observer.layers):
                if block.relu and block.pool:
                    codes = self.network.pooling_codes(saved, block, found[block.relu])
                    saved.pooling_codes[block.pool] = codes
        return saved

    def kernels(self, tile: Tile) -> dict[str, str]:
        # The session's features are those of all the tile, and so is the way back.
        return self.network.kernels(*tile.size, tile.layers, forward=False)

    def nodes_by_provider(self) -> dict[str, int]:
        return self.session.nodes_by_provider()

    def release(self) -> None:
        super().release()
        self.session.release()
