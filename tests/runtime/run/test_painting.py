"""Which part of a painting counts: what is visible, in its mask, within its margin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime import CheckpointError, Result, StyleTransfer, StylizeOptions, features
from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.factory import EngineFactory, ExecutionTarget
from nstrt.runtime.engines.loss_targets import style_statistics
from nstrt.runtime.errors import OptionError
from nstrt.runtime.loss.guidance import at_layers
from nstrt.runtime.model import ModelStore
from nstrt.runtime.pictures import Picture
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.weights_choice import spec_for
from nstrt.runtime.run.inputs import InputSources, read_inputs
from nstrt.runtime.run.painting import read_painting, visible_part

from support import EXAMPLES

if TYPE_CHECKING:
    from nstrt.runtime.run.inputs import RunInputs

CAT, NIGHT, EMBER = (EXAMPLES / f"{name}.jpg" for name in ("cat", "night", "ember"))
SIZE = 96, 72


def pixels(path: Path = NIGHT) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB").resize(SIZE))


def half(side: str = "left") -> NDArray[np.uint8]:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:, slice(0, 48) if side == "left" else slice(48, None)] = 255
    return mask


def framed(color: int = 255) -> NDArray[np.uint8]:
    """The painting in a margin of 10 pixels left and 6 above."""
    return np.pad(pixels(), ((6, 0), (10, 0), (0, 0)), constant_values=color)


def cut_out(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([pixels(), mask])


# Reading.


def test_the_part_is_the_opacity_times_the_mask() -> None:
    soft = np.linspace(0, 255, 96 * 72).reshape(72, 96).astype(np.uint8)
    painting = read_painting(cut_out(soft), half()).picture
    assert painting.alpha is not None
    assert np.allclose(painting.alpha, soft / 255 * (half() / 255), atol=1e-6)
    larger = half().repeat(10, 0).repeat(10, 1)
    again = read_painting(cut_out(soft), larger).picture
    assert np.allclose(again.alpha, painting.alpha, atol=1e-6)
    assert visible_part(painting, 48, 36).shape == (36, 48)  # type: ignore[union-attr]


def test_a_painting_that_counts_as_a_whole_is_equal_to_the_bit() -> None:
    plain = read_painting(pixels()).picture
    white = np.full(SIZE[::-1], 255, np.uint8)
    for painting in (read_painting(cut_out(white)), read_painting(pixels(), white)):
        assert painting.picture.alpha is None
        assert np.array_equal(painting.picture.rgb, plain.rgb)
    assert visible_part(plain, 48, 36) is None


def test_what_the_mask_leaves_out_changes_nothing() -> None:
    other = pixels().copy()
    other[:, 48:] = pixels(EMBER)[:, 48:]
    one, two = (read_painting(values, half()).picture for values in (pixels(), other))
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.rgb[:, :48], Picture.from_array(pixels()).rgb[:, :48])


def test_the_identity_names_the_mask(tmp_path: Path) -> None:
    Image.fromarray(half()).save(tmp_path / "left.png")
    found = read_painting(NIGHT, np.full((75, 100), 255, np.uint8)).identity
    assert found["name"] == "night.jpg"
    assert isinstance(found["mask"], dict)
    assert found["mask"]["name"] == ""
    assert "mask" not in read_painting(NIGHT).identity


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.pad([[255]], ((0, 71), (0, 95))).astype(np.uint8), "Less than a thousandth"),
        (half().T.copy(), "72x96 pixels and the painting 96x72; .* the painting's proportions"),
        (np.zeros((72, 96), np.uint8), "black all over"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: NDArray[np.uint8], words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        read_painting(pixels(), mask)
    assert str(caught.value).count(". ") == 0


# Margins.


def test_a_margin_is_noticed_and_cropped() -> None:
    kept = read_painting(framed()).picture
    assert kept.alpha is None
    (note,) = kept.notes
    assert "10 pixels left, 6 top" in note
    assert "style_margin='crop'" in note
    cropped = read_painting(framed(), margin="crop").picture
    assert cropped.alpha is not None
    expected = np.zeros((78, 106))
    expected[6:, 10:] = 1
    assert np.array_equal(cropped.alpha, expected)
    assert "is no part of its style" in cropped.notes[0]
    dark = read_painting(framed(0), margin="crop").picture
    assert np.array_equal(dark.rgb, cropped.rgb)


def test_cropping_composes_with_masks() -> None:
    mask = np.zeros((78, 106), np.uint8)
    mask[:, :50] = 255
    painting = read_painting(framed(), mask, margin="crop").picture
    expected = np.zeros((78, 106))
    expected[6:, 10:50] = 1
    assert np.array_equal(painting.alpha, expected)


def test_a_margin_that_does_not_count_anyway_is_not_mentioned() -> None:
    mask = np.zeros((78, 106), np.uint8)
    mask[6:, 10:] = 255
    assert read_painting(framed(), mask).picture.notes == ()
    assert read_painting(pixels()).picture.notes == ()
    assert "found no margin" in read_painting(pixels(), margin="crop").picture.notes[0]


# Inputs of a run.


def inputs(style: Any = NIGHT, *, options: StylizeOptions | None = None, **more: Any) -> RunInputs:
    sources = InputSources.of(CAT, style, **more)
    return read_inputs(sources, options or StylizeOptions())


def test_each_painting_has_its_own_mask() -> None:
    paintings = [pixels(), pixels(EMBER)]
    found = inputs(paintings, style_mask=[None, half()]).paintings
    assert [painting.alpha is not None for painting in found] == [False, True]
    (found,) = inputs(pixels(), style_mask=half()).paintings
    assert found.alpha is not None
    with pytest.raises(OptionError, match="1 mask for 2 main paintings; give one for each"):
        inputs(paintings, style_mask=half())
    assert not inputs(pixels()).part_of_paintings


def test_a_region_may_take_a_part_of_its_painting_or_of_the_main_one() -> None:
    where = np.asarray(Image.fromarray(half()).resize((90, 60)))
    for painting in (pixels(), None):
        found = inputs(pixels(), regions=[(where, painting, half("right"))], style_mask=half())
        main, of_region = found.paintings
        assert main.alpha is not None
        assert of_region.alpha is not None
        assert np.array_equal(main.alpha + of_region.alpha, np.ones((72, 96)))
        ((_, index),) = found.regions
        assert index == 1
        assert found.identities()["regions"][0]["style"]["mask"]["sha256"]
    with pytest.raises(OptionError, match="only if there is one"):
        inputs([pixels(), pixels()], regions=[(where, None, half())])


def test_parts_are_in_the_checksums_that_resuming_compares() -> None:
    plain = inputs(pixels()).checksums()
    left = inputs(pixels(), style_mask=half()).checksums()
    right = inputs(pixels(), style_mask=half("right")).checksums()
    assert set(left) == {*plain, "part of the painting"}
    assert left != right
    assert {name: left[name] for name in plain} == plain


# Statistics and runs.


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnx", "graph"])
@pytest.mark.parametrize("loss", ["gram", "w2"])
def test_every_engine_takes_the_statistics_of_the_part(
    engine: str, loss: str, models: ModelStore
) -> None:
    """Against sums over ONNX Runtime's features in double precision."""
    options = StylizeOptions.of(style_loss=loss, engine=engine, precision="fp32", pooling="max")
    painting = read_painting(pixels(), half()).picture
    rgb = np.ascontiguousarray(painting.rgb.transpose(2, 0, 1)[None])
    target = ExecutionTarget(provider="cpu", precision="fp32", threads=1)
    factory = EngineFactory(models, target)
    made = factory.engine(engine, spec_for(options, engine), [SIZE[::-1]], "fp32")
    found = style_statistics(
        Evaluation(made), loss_weights(options), made.arrays.from_numpy(rgb), painting.alpha
    )
    seen = features(Picture(rgb=painting.rgb), [*options.layers])
    masks = at_layers(np.asarray(painting.alpha), options.layers)
    for layer, moments in found.moments.items():
        values, mask = seen[layer][0].astype(np.float64), masks[layer].astype(np.float64)
        second = np.einsum("cyx,dyx,yx->cd", values, values, mask, optimize=True) / mask.sum()
        own = made.arrays.to_numpy(moments.second)
        assert np.abs(own - second).max() < 1e-4 * np.abs(second).max()
        if loss == "w2":
            mean = (values * mask).sum((1, 2)) / mask.sum()
            assert moments.mean is not None
            assert np.allclose(made.arrays.to_numpy(moments.mean), mean, atol=1e-4 * mean.max())
    for layer, energy in found.energies.items():
        values, mask = seen[layer][0].astype(np.float64), masks[layer].astype(np.float64)
        expected = (mask * values**2).sum() / (mask.sum() * len(values))
        assert float(energy) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "graph"])
def test_tiles_of_a_part_are_the_whole(engine: str, models: ModelStore) -> None:
    options = StylizeOptions.of(engine=engine, precision="fp32")
    image = np.ascontiguousarray(
        Picture.from_array(np.tile(pixels(), (2, 2, 1))).rgb.transpose(2, 0, 1)[None]
    )
    mask = np.random.default_rng(0).random(image.shape[2:], np.float32)
    target = ExecutionTarget(provider="cpu", precision="fp32", threads=1)
    factory = EngineFactory(models, target)
    made = factory.engine(engine, spec_for(options, engine), [image.shape[2:]], "fp32")
    given = loss_weights(options), made.arrays.from_numpy(image), mask
    whole, tiled = (style_statistics(Evaluation(made, tile=tile), *given) for tile in (None, 176))
    for layer, moments in whole.moments.items():
        expected = made.arrays.to_numpy(moments.second)
        own = made.arrays.to_numpy(tiled.moments[layer].second)
        assert np.abs(own - expected).max() < 1e-4 * np.abs(expected).max()
    for layer, energy in whole.energies.items():
        assert float(tiled.energies[layer]) == pytest.approx(float(energy), rel=1e-4)


def test_a_part_that_a_deep_layer_does_not_see_counts_there_as_a_whole() -> None:
    from nstrt.runtime.loss.guidance import RegionGuidance

    mask = np.zeros((79, 79), np.float32)
    mask[-1, -2:] = 1
    layers = ("relu1_1", "relu5_1")
    assert set(RegionGuidance.of(mask, layers, PlainArrays()).values) == {"relu1_1"}
    guide = RegionGuidance.of(mask, layers, PlainArrays(), whole=True)
    assert (guide.values["relu5_1"] == 1).all()
    assert guide.energies["relu5_1"] == 16
    assert guide.values["relu1_1"].min() == 0


def painted(style: Any, **more: Any) -> Result:
    given = {name: more.pop(name) for name in ("style_mask", "regions") if name in more}
    fixed = {"size": 64, "iterations": 3, "scales": 1, "engine": "torch", "precision": "fp32"}
    return StyleTransfer(StylizeOptions.of(**fixed, **more)).stylize(CAT, style, **given)


@pytest.mark.slow
@pytest.mark.parametrize("color", ["style", "content", "match-style", "match-content"])
def test_a_mask_is_transparency_and_hides_what_it_leaves_out(color: str) -> None:
    other = pixels().copy()
    other[:, 48:] = 0
    masked = painted(pixels(), style_mask=half(), color=color).to_array()
    assert np.array_equal(masked, painted(cut_out(half()), color=color).to_array())
    assert np.array_equal(masked, painted(other, style_mask=half(), color=color).to_array())
    assert not np.array_equal(masked, painted(pixels(), color=color).to_array())


@pytest.mark.slow
def test_another_part_is_another_run(tmp_path: Path) -> None:
    options = StylizeOptions.of(
        size=64, iterations=4, scales=1, engine="torch", precision="fp32", seed=1
    )
    work, file = StyleTransfer(options), tmp_path / "run.checkpoint"

    def run(**more: Any) -> Any:
        return work.run(CAT, pixels(), checkpoint=file, checkpoint_seconds=0, **more)

    whole = run(style_mask=half()).result().to_array()
    again = run(style_mask=half(), resume=True).result().to_array()
    assert np.array_equal(again, whole)
    for mask in (half("right"), None):
        with pytest.raises(CheckpointError, match="another part of the painting"):
            run(style_mask=mask, resume=True).result()
