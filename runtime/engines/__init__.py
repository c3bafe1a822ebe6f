"""Engines: through the network and back, for a picture or a part of one.

``engines.torch_engine`` has the two that go back through the mirrored PyTorch graph,
``torch`` and ``onnx``; ``engines.graph_engine`` the one whose loss and gradient are one
ONNX graph, ``graph``, which needs no torch. What the loss makes of them is the matter of
``engines.evaluation``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from nstrt.runtime.arrays import Array, Arrays
from nstrt.runtime.engines.gram_cache import GramCache
from nstrt.runtime.system.interrupt import Interrupt

if TYPE_CHECKING:
    from nstrt.runtime.loss.objective import LossAccumulator, Objective
    from nstrt.runtime.network.observer import FeatureObserver
    from nstrt.runtime.network.sections import SectionBoundary
    from nstrt.runtime.network.tiles import Tile

__all__ = ["Engine", "StepFunction"]

StepFunction = Callable[[Array], tuple[Array, Array]]
"""From an image to the four loss values of :meth:`LossAccumulator.total` and the gradient.

The gradient is valid until the engine is used again."""


class Engine(Protocol):
    """What the evaluation of a loss asks of an engine. Images are 1 x 3 x height x width, RGB in
    0..1."""

    name: str
    """``torch``, ``onnx`` or ``graph``."""

    @property
    def arrays(self) -> Arrays:
        """The kind of array that images and features are."""

    weights: dict[str, str]
    """What the model file says of its weights: description, licence, origin, SHA-256."""

    interrupt: Interrupt
    """Who may end a computation between two layers, which then raises
    :class:`Interrupted`; a run puts its own here."""

    targets: GramCache[Array]
    """Gram matrices of paintings that it computed, for the next run."""

    one_graph: bool
    """Whether loss and gradient come from one graph: the loss alone is then had from it too, with
    no memory beyond that of a step."""

    supports_sections: bool
    """Whether it can begin at a layer of the network, and so go through it in sections."""

    def extract_features(self, part: Array, observer: FeatureObserver, tile: Tile) -> None:
        """Show ``observer`` its layers' features of a ``tile``, ``part`` of an image or of the
        layer that it begins with; only those in its core count."""

    def step(self, objective: Objective, image: Array) -> StepFunction:
        """What computes the loss and gradient of images of the shape of this one, whole."""

    def gradient(
        self,
        part: Array,
        accumulator: LossAccumulator,
        tile: Tile,
        cut: SectionBoundary | None = None,
    ) -> Array:
        """The gradient at a ``tile``, ``part`` of a picture whose statistics ``accumulator`` has
        settled, or of the layer that it begins with; of its shape. With ``cut``, where the tile
        ends, what comes from there is in it. It is valid until the engine is used again."""

    def kernels(self, tile: Tile) -> dict[str, str]:
        """The algorithm of each convolution that torch computes for a tile, by its name and way
        (``on`` or ``back``)."""

    @property
    def algorithms(self) -> dict[str, str]:
        """The algorithms chosen so far, for all pictures, by whatever they depend on."""

    def pin_algorithms(self, algorithms: Mapping[str, str]) -> None:
        """Compute with these, which a run began with. One that does not work here raises
        :class:`CheckpointError` when it is asked for."""

    def nodes_by_provider(self) -> dict[str, int]:
        """How many nodes of the network ONNX Runtime runs on which provider; empty for torch."""

    def release(self) -> None:
        """Give back the memory that is kept between steps."""
