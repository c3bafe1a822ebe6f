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
from nstrt.runtime.engines.gram_cache import StyleTargets
from nstrt.runtime.kernels.cuda_graph import recorded
from nstrt.runtime.loss.objective import Objective, Tally, Together
from nstrt.runtime.network.banded import Passes, Trace
from nstrt.runtime.network.observer import Watcher
from nstrt.runtime.network.receptive import WHOLE
from nstrt.runtime.network.sections import Cut
from nstrt.runtime.network.tiles import Tile, Window
from nstrt.runtime.network.vgg import Mirror
from nstrt.runtime.ort.session import FeatureSession
from nstrt.runtime.system.interrupt import Interrupt

__all__ = ["OnnxEngine", "TorchEngine"]


class TorchEngine:
    """Everything in the mirrored PyTorch graph.

    ``precision`` is that of the products in its convolutions; ``key`` stands for what their speed
    depends on, see :class:`Chooser`.
    """

    name = "torch"
    one_graph = False
    cuts = True

    def __init__(self, mirror: Mirror, *, precision: str = "fp32", key: str = "") -> None:
        self.mirror = mirror
        self.device = mirror.device
        self.weights = mirror.weights
        self.taps = mirror.taps
        self.interrupt = Interrupt()
        self.targets: StyleTargets[Array] = StyleTargets()
        self.passes = Passes(mirror, precision=precision, key=key)

    @property
    def arrays(self) -> TensorArrays:
        return TensorArrays(self.device)

    @property
    def recordable(self) -> bool:
        """Whether its work is nothing but kernels on a card, launched by torch, which can be
        recorded and launched again as one."""
        return self.device.type == "cuda"

    def look(self, part: Tensor, watcher: Watcher, tile: Tile) -> None:
        self.forward(part, watcher, tile, keep=False)

    def step(self, objective: Objective, image: Tensor) -> StepFunction:
        def compute(image: Tensor) -> tuple[Tensor, Tensor]:
            tally = objective.tally()
            trace = self.forward(image, tally, keep=True)
            values = tally.sum_up(image)
            gradient = self.backward(trace, tally)
            tally.add_variation(image, gradient)
            return values, gradient

        return recorded(compute, image) if self.recordable else compute

    def gradient(self, part: Tensor, tally: Tally, tile: Tile, cut: Cut | None = None) -> Tensor:
        window = Window(Together(tally, cut) if cut else tally, tile, seen=True)
        return self.backward(self.forward(part, window, tile, keep=True), window)

    def forward(
        self, part: Tensor, watcher: Watcher, tile: Tile | None = None, *, keep: bool
    ) -> Trace:
        """Show ``watcher`` its layers' features of an image, or of a ``tile``; with ``keep``, for a
        way back."""
        core, after = (tile.core, tile.after) if tile else (WHOLE, None)
        region = functional.pad(part, (1, 1, 1, 1)) if after else self.mirror.head.forward(part)
        check = self.interrupt.check
        return self.passes.forward(region, watcher, keep=keep, core=core, after=after, check=check)

    def backward(self, trace: Trace, watcher: Watcher) -> Tensor:
        """The gradient at what a forward pass was given, of which there was none since, as
        ``watcher`` pulls at the features. It is valid until the engine is used again."""
        found = self.passes.backward(trace, watcher, self.interrupt.check)
        return self.mirror.head.backward(found) if trace.after is None else found[:, 1:-1, 1:-1]

    def kernels(self, tile: Tile) -> dict[str, str]:
        return self.passes.kernels(*tile.size, tile.layers, tile.core, after=tile.after)

    @property
    def algorithms(self) -> dict[str, str]:
        return self.passes.algorithms

    def promise(self, algorithms: Mapping[str, str]) -> None:
        self.passes.promise(algorithms)

    def nodes_by_provider(self) -> dict[str, int]:
        return {}

    def release(self) -> None:
        self.passes.scratch.clear()


class OnnxEngine(TorchEngine):
    """ONNX Runtime forwards, without copies; the mirrored graph backwards on its activations."""

    name = "onnx"
    cuts = False

    def __init__(
        self, mirror: Mirror, session: FeatureSession, *, precision: str = "fp32", key: str = ""
    ) -> None:
        super().__init__(mirror, precision=precision, key=key)
        self.session = session

    @property
    def recordable(self) -> bool:
        # ONNX Runtime launches on a stream of its own.
        return False

    def activations(self, image: Tensor) -> Mapping[str, Tensor]:
        """Every output of the model for an image, 1 x channels x height x width, in buffers that
        the next call writes again."""
        return self.session.bound(image.detach().contiguous(), self.interrupt)

    def forward(
        self, part: Tensor, watcher: Watcher, tile: Tile | None = None, *, keep: bool
    ) -> Trace:
        # Loss and gradient are summed in single precision, whatever the model's own.
        found = {name: value[0].float() for name, value in self.activations(part).items()}
        self.interrupt.check()
        for layer in watcher.layers:
            watcher.see(layer, found[layer], 0)
        trace = self.passes.trace(part.shape[2], part.shape[3])
        if keep:
            # What may have been a tap of its own for somebody else says where a ReLU is open.
            trace.values = found
            for stage in self.mirror.until(watcher.layers):
                if stage.relu and stage.pool:
                    trace.codes[stage.pool] = self.passes.codes(trace, stage, found[stage.relu])
        return trace

    def kernels(self, tile: Tile) -> dict[str, str]:
        # The session's features are those of all the tile, and so is the way back.
        return self.passes.kernels(*tile.size, tile.layers, forward=False)

    def nodes_by_provider(self) -> dict[str, int]:
        return self.session.nodes_by_provider()

    def release(self) -> None:
        super().release()
        self.session.release()
