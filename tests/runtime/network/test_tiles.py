"""Division of a picture into tiles: margins, and cores that cover each layer once."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nstrt.runtime.model import LAYERS, layers_between, layers_through, stride_of
from nstrt.runtime.network.receptive_field import margin_of
from nstrt.runtime.network.sections import CUT
from nstrt.runtime.network.tiles import Span, tiles_of

DEFAULT = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "conv4_2", "relu5_1")
LAYERS_BEHIND_CUT = layers_between(CUT, LAYERS)


@pytest.mark.parametrize(
    ("layer", "pixels"),
    [
        ("conv1_1", 1),
        ("relu1_1", 1),
        ("relu1_2", 2),
        ("pool1", 2),
        ("relu2_1", 4),
        ("relu3_1", 12),
        ("relu3_4", 24),
        ("relu4_1", 32),
        ("conv4_2", 40),
        ("pool4", 64),
        ("relu5_1", 80),
        ("relu5_4", 128),
    ],
)
def test_margin_covers_the_receptive_field(layer: str, pixels: int) -> None:
    assert margin_of((layer,)) == pixels
    assert margin_of(("relu1_1", layer)) == pixels


@pytest.mark.parametrize(
    ("layer", "pixels"),
    [("conv4_1", 8), ("relu4_4", 32), ("pool4", 32), ("relu5_1", 48), ("relu5_4", 96)],
)
def test_margin_behind_a_layer_counts_from_that_layer(layer: str, pixels: int) -> None:
    assert margin_of((layer,), "pool3") == pixels


def core_positions(span: Span, stride: int) -> range:
    """Positions of a span's core in a layer of the whole picture."""
    features = range(
        span.start // stride, span.start // stride + (span.stop - span.start) // stride
    )
    return features[span.core(stride)]


@given(
    height=st.integers(16, 400),
    width=st.integers(16, 400),
    side=st.integers(1, 420),
    layers_and_start=st.one_of(
        st.tuples(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3), st.none()),
        st.tuples(
            st.lists(st.sampled_from(LAYERS_BEHIND_CUT), min_size=1, max_size=3), st.just(CUT)
        ),
    ),
)
@settings(max_examples=230)
def test_every_position_of_every_layer_is_in_one_core(
    height: int, width: int, side: int, layers_and_start: tuple[list[str], str | None]
) -> None:
    layers, after = layers_and_start
    tiles = tiles_of(height, width, side, layers, after)
    rows, columns = (
        list(dict.fromkeys(spans))
        for spans in zip(*((t.rows, t.columns) for t in tiles), strict=True)
    )
    assert [(tile.rows, tile.columns) for tile in tiles] == list(product(rows, columns))
    margin = margin_of(layers, after)
    step = max(stride_of(name) for name in layers_through(layers))
    for spans, length in ((rows, height), (columns, width)):
        for name in layers_between(after, layers):
            stride = stride_of(name)
            positions = [place for span in spans for place in core_positions(span, stride)]
            assert positions == list(range(length // stride)), name
        for span in spans:
            assert 0 <= span.start <= span.core_start < span.stop <= length
            # Pooling windows are those of the whole picture; only its edges cut margins off.
            assert span.start % step == 0
            assert span.core_start - span.start >= margin or span.start == 0
            stop = length if span.core_stop is None else span.core_stop
            assert span.stop - stop >= margin or span.stop == length
            assert span.stop - span.start <= max(side, 2 * margin + 2 * step)
    if side >= 2 * margin + step:
        stride = stride_of(after) if after else 1
        assert all(stride * max(tile.size) <= side for tile in tiles)


def test_a_picture_that_fits_is_one_tile() -> None:
    for side in (None, 300, 1000):
        (tile,) = tiles_of(200, 300, side, DEFAULT)
        assert tile.size == (200, 300)
        image = torch.rand(1, 3, 200, 300)
        assert torch.equal(tile.crop(image), image)


def test_cores_have_about_equal_sizes() -> None:
    """A narrow last tile would need a margin as wide as the others."""
    spans = [tile.rows for tile in tiles_of(1000, 16, 560, ("relu5_1",))]
    assert [span.core_start for span in spans] == [0, 336, 672]
    assert [(span.start, span.stop) for span in spans] == [(0, 416), (256, 752), (592, 1000)]
