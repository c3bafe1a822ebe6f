"""Engine ``graph``: loss and gradient in one ONNX graph, without torch, on any provider.

It has up to three sessions: one for features, a ``step`` graph for whole images, and a ``tile``
graph for tiles. ``model.step_io`` names the graphs' inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Array, Arrays
from nstrt.runtime.engines.engine import StepFunction
from nstrt.runtime.engines.style_cache import StyleCache
from nstrt.runtime.loss.content_and_style import LossAccumulator
from nstrt.runtime.loss.gram import GramTarget
from nstrt.runtime.loss.objective import Objective
from nstrt.runtime.loss.total_variation import add_total_variation_gradient
from nstrt.runtime.model import (
    CONTENT_FACTORS,
    CONTENT_SHARES,
    GRADIENT,
    IMAGE,
    STYLE_SHARES,
    TERMS,
    WEIGHTS,
    core_input,
    gram_input,
    in_network_order,
    pull_input,
    shape_of,
    shift_input,
    stride_of,
    target_input,
)
from nstrt.runtime.network.feature_observer import FeatureObserver
from nstrt.runtime.network.sections import SectionBoundary
from nstrt.runtime.network.tiles import Tile, tiles_of
from nstrt.runtime.ort.providers import InputShape, image_shape
from nstrt.runtime.ort.session import BoundSession, FeatureSession, Session
from nstrt.runtime.system.cancellation import Interrupt

__all__ = ["GraphEngine", "Open", "step_inputs", "step_shapes"]

Open = Callable[[], Session]
"""Opens a session on first use."""


class GraphEngine:
    """Computes loss and gradient by one ``session.run``.

    Images are NumPy arrays on a processor or without torch. On a card they are torch tensors, which
    stay there between steps.
    """

    name = "graph"
    supports_sections = False

    def __init__(self, features: FeatureSession, *, step: Open, tile: Open, arrays: Arrays) -> None:
        self.features = features
        self.arrays = arrays
        self.weights = features.weights
        self.interrupt = Interrupt()
        self.targets: StyleCache = StyleCache()
        self._open_step, self._open_tile = step, tile
        self._step: Session | None = None
        self._tile: Session | None = None
        self._bound: BoundSession | None = None

    @property
    def session(self) -> Session:
        """Session of the step graph."""
        if self._step is None:
            self._step = self._open_step()
        return self._step

    def extract_features(self, part: Array, observer: FeatureObserver, tile: Tile) -> None:
        if self._bound is not None:
            # A new scale begins: free the step session's buffers before all features need memory.
            self._bound = self._step = None
        # Tiles of an image are not contiguous.
        part = self.arrays.contiguous(part)
        found = self.features.buffered_features(
            part, self.interrupt, layers=observer.layers, shrink=True
        )
        self.interrupt.check()
        for layer in observer.layers:
            observer.observe(layer, self.arrays.upcast_half(found[layer][0]), 0)

    def has_loss_graph(self, objective: Objective) -> bool:
        # A graph of products has no roots of matrices.
        return objective.weights.style_loss == "gram"

    def step(self, objective: Objective, image: Array) -> StepFunction:
        if not self.has_loss_graph(objective):
            return self._two_pass_step(objective, image)
        self.features.release()
        terms = np.empty(4, np.float32)
        gradient = self.arrays.buffer(image.shape)
        bound = self._bound = BoundSession(self.session)
        for name, values in step_inputs(objective, *image.shape[2:]).items():
            bound.bind_input(name, values)
        bound.bind_output(TERMS, terms)
        bound.bind_output(GRADIENT, gradient)

        def compute(image: Array) -> tuple[NDArray[np.float32], Array]:
            bound.bind_input(IMAGE, image)
            bound.run(self.interrupt)
            return terms, gradient

        return compute

    def _two_pass_step(self, objective: Objective, image: Array) -> StepFunction:
        """Features and moments, then the gradient of the image as its only tile."""
        self._step = None
        height, width = image.shape[2:]
        (tile,) = tiles_of(height, width, None, objective.layers)

        def compute(image: Array) -> tuple[Array, Array]:
            accumulator = LossAccumulator(objective)
            self.extract_features(image, accumulator, tile)
            values = accumulator.total(image)
            gradient = self.gradient(image, accumulator, tile)
            add_total_variation_gradient(image, objective.weights.tv, gradient)
            return values, gradient

        return compute

    def gradient(
        self,
        part: Array,
        accumulator: LossAccumulator,
        tile: Tile,
        boundary: SectionBoundary | None = None,
    ) -> Array:
        if self._tile is None:
            self._tile = self._open_tile()
        gradient = self.arrays.buffer(part.shape)
        bound = BoundSession(self._tile)
        inputs = tile_inputs(accumulator, tile, self.arrays)
        for name, values in {IMAGE: self.arrays.contiguous(part), **inputs}.items():
            bound.bind_input(name, values)
        bound.bind_output(GRADIENT, gradient)
        bound.run(self.interrupt)
        return gradient

    def kernels(self, tile: Tile) -> dict[str, str]:
        return {}

    @property
    def algorithms(self) -> dict[str, str]:
        return {}

    def pin_algorithms(self, algorithms: Mapping[str, str]) -> None:
        pass

    def nodes_by_provider(self) -> dict[str, int]:
        return (self._tile or self.session).nodes_by_provider()

    def release(self) -> None:
        self.features.release()
        if self._bound is not None:
            self._bound = self._step = None


def step_inputs(objective: Objective, height: int, width: int) -> dict[str, Array]:
    """Inputs of a step graph besides the image, for images of height x width pixels.

    The graph divides Gram matrices by the number of positions n. For an objective without that
    division (``gram_mean`` off), the target is A / n, and each square is weighted by n^2.
    """
    weights = objective.weights
    contents = in_network_order(weights.content_layers)
    styles = in_network_order(weights.style_layers)
    content_weights = weights.normalized(weights.content_layers)
    style_weights = weights.normalized(weights.style_layers)
    (style,) = objective.styles
    found: dict[str, Array] = {}
    shares: dict[str, list[float]] = {CONTENT_SHARES: [], STYLE_SHARES: []}
    for layer in contents:
        target = objective.contents[layer]
        found[target_input(layer)] = target[None]
        share = content_weights[layer] / math.prod(target.shape)
        share /= objective.content_energies[layer]
        shares[CONTENT_SHARES].append(share)
    for layer in styles:
        target = style.layers[layer]
        assert isinstance(target, GramTarget)
        positions = 1 if weights.gram_mean else math.prod(shape_of(layer, height, width)[1:])
        found[gram_input(layer)] = target.gram / positions if positions > 1 else target.gram
        energy = float(target.energy) / positions**2
        shares[STYLE_SHARES].append(style_weights[layer] / math.prod(target.gram.shape) / energy)
    for name, values in shares.items():
        if values:
            found[name] = np.array(values, np.float32)
    found[WEIGHTS] = np.array([weights.content, weights.style, weights.tv], np.float32)
    return found


def tile_inputs(accumulator: LossAccumulator, tile: Tile, arrays: Arrays) -> dict[str, Array]:
    """Inputs of a tile graph besides the image, from the statistics that ``accumulator`` holds."""
    height, width = tile.size
    found: dict[str, Array] = {}
    factors = []
    objective = accumulator.objective
    for layer in in_network_order(objective.weights.content_layers):
        _, rows, columns = shape_of(layer, height, width)
        stride = stride_of(layer)
        top, left = tile.rows.start // stride, tile.columns.start // stride
        target = objective.contents[layer][:, top : top + rows, left : left + columns]
        found[target_input(layer)] = arrays.contiguous(target[None])
        factors.append(float(accumulator.factors[layer]))
    for layer in in_network_order(objective.weights.style_layers):
        pull = accumulator.pulls[layer]
        found[pull_input(layer)] = pull.factor
        shift = pull.shift
        if shift is None:
            shift = arrays.zeros((len(pull.factor),), pull.factor)
        found[shift_input(layer)] = shift[None, :, None, None]
    if factors:
        found[CONTENT_FACTORS] = np.array(factors, np.float32)
    for layer in in_network_order(objective.layers):
        _, rows, columns = shape_of(layer, height, width)
        stride = stride_of(layer)
        top, bottom, _ = tile.rows.core(stride).indices(rows)
        left, right, _ = tile.columns.core(stride).indices(columns)
        found[core_input(layer)] = np.array([top, bottom, left, right], np.int64)
    return found


def step_shapes(content_layers: Sequence[str]) -> dict[str, InputShape]:
    """Shapes of the inputs of step and tile graphs that follow from the image's."""

    def target(layer: str) -> InputShape:
        return lambda height, width: (1, *shape_of(layer, height, width))

    return {IMAGE: image_shape, **{target_input(name): target(name) for name in content_layers}}
