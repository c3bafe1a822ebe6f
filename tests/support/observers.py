"""Observers of features for tests, and the error of one tensor against another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class GradientObserver:
    """Adds fixed gradients, 1 x channels x height x width by layer, and keeps no features."""

    def __init__(self, gradients: Mapping[str, Tensor]) -> None:
        self.layers = tuple(gradients)
        self.gradients = gradients

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        pass

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        gradient += self.gradients[layer][0, :, top : top + values.shape[1]]


class RecordingObserver:
    """Records bands of features and adds fixed gradients, if there are any, to all columns."""

    def __init__(
        self, layers: Sequence[str], gradients: Mapping[str, Tensor] | None = None
    ) -> None:
        self.layers = tuple(layers)
        self.gradients = dict(gradients or {})
        self.bands: dict[str, list[tuple[int, Tensor]]] = {}
        self.gradient_calls: Counter[str] = Counter()

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        assert layer in self.layers
        assert left == 0
        self.bands.setdefault(layer, []).append((top, values.clone()))

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        assert left == 0
        rows = slice(top, top + values.shape[1])
        # The backward pass shows the features of the forward pass; it recomputes the first block.
        assert torch.allclose(values, self.features(layer)[:, rows], rtol=1e-5, atol=1e-6), layer
        self.gradient_calls[layer] += 1
        if layer in self.gradients:
            gradient += self.gradients[layer][0][:, rows]

    def features(self, layer: str) -> Tensor:
        """All rows of a layer, each of which must have been observed once, in order."""
        tops = [top for top, _ in self.bands[layer]]
        heights = [values.shape[1] for _, values in self.bands[layer]]
        assert tops == [sum(heights[:number]) for number in range(len(tops))], layer
        return torch.cat([values for _, values in self.bands[layer]], dim=1)

    def all_features(self) -> dict[str, Tensor]:
        """Features by layer, 1 x channels x height x width."""
        return {layer: self.features(layer)[None] for layer in self.bands}


class AssemblingObserver:
    """Assembles features from parts, each of which must be observed once.

    ``shapes`` has channels, height and width by layer. Adds fixed gradients, 1 x channels x height
    x width by layer; without them a backward pass is an error.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        dtype: torch.dtype,
        gradients: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.layers = tuple(shapes)
        self.gradients = gradients
        self.values = {
            layer: torch.full(tuple(shape), torch.nan, dtype=dtype)
            for layer, shape in shapes.items()
        }

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        part = self._part(self.values[layer], values, top, left)
        assert part.isnan().all(), f"{layer} was observed twice"
        part.copy_(values)

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        assert self.gradients is not None, "no backward pass was expected"
        # The first block's features are recomputed, perhaps in other tiles of a kernel.
        part = self._part(self.values[layer], values, top, left)
        assert torch.allclose(values, part, rtol=1e-4, atol=1e-4)
        gradient += self._part(self.gradients[layer][0], values, top, left)

    def _part(self, whole: Tensor, values: Tensor, top: int, left: int) -> Tensor:
        return whole[:, top : top + values.shape[1], left : left + values.shape[2]]
