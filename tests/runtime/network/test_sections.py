"""Sections of the network: which layers and tiles belong to which."""

from __future__ import annotations

import pytest
import torch

from nstrt.runtime.network.sections import CUT, deep_side, sections_of
from nstrt.runtime.network.tiles import tiles_of

DEFAULT = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "conv4_2", "relu5_1")


def test_deep_layers_of_a_tiled_picture_are_a_second_section() -> None:
    first, second = sections_of(900, 700, 300, DEFAULT, in_two=True)
    assert (first.until, second.until) == (CUT, None)
    assert {tile.after for tile in first.tiles} == {None}
    assert {tile.after for tile in second.tiles} == {CUT}
    assert {tile.layers for tile in first.tiles} == {("relu1_1", "relu2_1", "relu3_1", CUT)}
    assert {tile.layers for tile in second.tiles} == {("relu4_1", "conv4_2", "relu5_1")}
    assert max(max(tile.size) for tile in first.tiles) <= 300
    # In pixels of the picture, tiles behind the cut may be larger by a half.
    assert 300 < 8 * max(max(tile.size) for tile in second.tiles) <= 450
    assert len(first.tiles) > len(second.tiles) > 4
    pixels = torch.arange(900 * 700).view(1, 1, 900, 700)
    assert first.tiles[1].crop(pixels).shape[2:] == first.tiles[1].size
    # Some tiles behind the cut end with the picture, at a layer that leaves out odd pixels.
    features = pixels[:, :, : 900 // 8, : 700 // 8]
    for tile in second.tiles:
        assert tile.crop(features).shape[2:] == tile.size


@pytest.mark.parametrize("deepest", ["conv4_1", "relu5_1", "relu5_4"])
def test_small_tiles_have_cores_behind_the_cut(deepest: str) -> None:
    first, second = sections_of(900, 700, 112, ("relu1_1", deepest), in_two=True)
    assert len(second.tiles) <= len(first.tiles)
    most = deep_side(112, (deepest,))
    assert all(8 * max(tile.size) <= most for tile in second.tiles)


@pytest.mark.parametrize(
    ("side", "layers", "in_two"),
    [(None, DEFAULT, True), (900, DEFAULT, True), (300, DEFAULT, False), (300, (CUT,), True)],
    ids=["whole", "one tile", "engine without sections", "no layer behind the cut"],
)
def test_a_picture_of_one_tile_or_without_deep_layers_is_one_section(
    side: int | None, layers: tuple[str, ...], in_two: bool
) -> None:
    (section,) = sections_of(900, 700, side, layers, in_two=in_two)
    assert section.until is None
    assert section.tiles == tiles_of(900, 700, side, layers)
