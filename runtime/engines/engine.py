"""Interface of an engine: forward and backward passes of an image or a tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from nstrt.runtime.arrays import Array, Arrays
from nstrt.runtime.engines.style_cache import StyleCache
from nstrt.runtime.system.cancellation import Interrupt

if TYPE_CHECKING:
    from nstrt.runtime.loss.content_and_style import LossAccumulator
    from nstrt.runtime.loss.objective import Objective
    from nstrt.runtime.network.feature_observer import FeatureObserver
    from nstrt.runtime.network.sections import SectionBoundary
    from nstrt.runtime.network.tiles import Tile

__all__ = ["Engine", "StepFunction"]

StepFunction = Callable[[Array], tuple[Array, Array]]
"""From an image to the four loss values of :meth:`LossAccumulator.total` and the gradient.

The gradient is valid until the engine is used again."""


class Engine(Protocol):
    """Forward and backward passes through the network.

    Images are 1 x 3 x height x width, RGB in 0..1.
    """

    name: str
    """``torch``, ``onnx`` or ``graph``."""

    @property
    def arrays(self) -> Arrays:
        """Kind of array of images and features."""

    weights: dict[str, str]
    """Description, licence, origin and SHA-256 of the network's weights."""

    interrupt: Interrupt
    """Ends a computation between two layers, which then raises :class:`Interrupted`.

    A run puts its own here.
    """

    targets: StyleCache
    """Statistics of paintings, kept for the next run."""

    supports_sections: bool
    """The engine can start at a layer, and so take the network in sections."""

    def extract_features(self, part: Array, observer: FeatureObserver, tile: Tile) -> None:
        """Pass the features of a tile to ``observer``.

        ``part`` is the tile's part of the image, or of the layer that its section starts at. Only
        the features of the tile's core are final.
        """

    def has_loss_graph(self, objective: Objective) -> bool:
        """True if one graph computes loss and gradient of whole images, and so the loss alone
        without further memory."""

    def step(self, objective: Objective, image: Array) -> StepFunction:
        """Build the function for loss and gradient of whole images of this one's shape."""

    def gradient(
        self,
        part: Array,
        accumulator: LossAccumulator,
        tile: Tile,
        boundary: SectionBoundary | None = None,
    ) -> Array:
        """The gradient at ``part``, of its shape, valid until the engine is used again.

        ``accumulator`` has the whole image's totals. ``boundary`` holds the gradient where the
        tile's section ends, if another section follows.
        """

    def kernels(self, tile: Tile) -> dict[str, str]:
        """Algorithm of each convolution that torch computes for a tile, by layer and direction
        (``on`` or ``back``)."""

    @property
    def algorithms(self) -> dict[str, str]:
        """Algorithms chosen so far, by everything that they depend on."""

    def pin_algorithms(self, algorithms: Mapping[str, str]) -> None:
        """Use these algorithms, which a resumed run began with.

        One that does not work here raises :class:`CheckpointError` when it is needed.
        """

    def nodes_by_provider(self) -> dict[str, int]:
        """Nodes of the network by ONNX Runtime's provider; empty for engine ``torch``."""

    def release(self) -> None:
        """Free the memory that is kept between steps."""
