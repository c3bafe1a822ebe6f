"""Several paintings, regions and protection: formulas against loops, and small runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from nstrt.plugins.cli.region import parse_region
from nstrt.runtime import Result, StyleTransfer, StylizeOptions, features, read_recipe
from nstrt.runtime.arrays.tensors import TensorArrays
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import build_objective, objective_for, style_statistics
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.errors import OptionError, PictureReadError, ProviderUnavailableError
from nstrt.runtime.loss.content_and_style import LossAccumulator
from nstrt.runtime.loss.guidance import (
    PROTECTION,
    Guidance,
    PhotoOverlay,
    RegionGuidance,
    at_layers,
    partition,
)
from nstrt.runtime.loss.moments import MomentObserver
from nstrt.runtime.loss.objective import LossWeights, Objective, style_target
from nstrt.runtime.network.vgg import read_vgg
from nstrt.runtime.ort.session import open_session
from nstrt.runtime.pictures import Picture, read_picture
from nstrt.runtime.pictures.mask import MaskPicture
from nstrt.runtime.run.color import ColorMode
from nstrt.runtime.run.inputs import InputSources, PreviousFrame, RunInputs, read_inputs

from support import EXAMPLES
from support.errors import relative_error
from support.formulas import gram_moments

if TYPE_CHECKING:
    from support import Crop, Network

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]

CAT, NIGHT, EMBER = (EXAMPLES / f"{name}.jpg" for name in ("cat", "night", "ember"))
CPU = TensorArrays(torch.device("cpu"))


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def guide_of(channel: Tensor, share: float = 0.5, layer: str = "one") -> RegionGuidance:
    return RegionGuidance(
        values={layer: channel}, energies={layer: float(channel.square().sum())}, share=share
    )


# Masks at layers.


@given(st.integers(16, 70), st.integers(16, 70), st.integers(0, 9))
def test_masks_at_layers_are_means_over_receptive_fields(
    height: int, width: int, seed: int
) -> None:
    """Through VGG19's feature layers (torchvision's numbers) with means for weights."""
    mask = np.random.default_rng(seed).random((height, width), np.float32)
    asked = {"relu1_1": 1, "relu3_1": 11, "conv4_2": 21, "pool4": 27}
    found = at_layers(mask, asked)
    values = torch.tensor(mask, dtype=torch.float64)[None, None]
    for number, kind in enumerate("CRCRPCRCRPCRCRCRCRPCRCRCRCRPC"):
        if kind == "C":
            values = functional.avg_pool2d(functional.pad(values, (1,) * 4, "replicate"), 3, 1)
        elif kind == "P":
            values = functional.avg_pool2d(values, 2)
        for layer, its in asked.items():
            if its == number:
                assert np.allclose(found[layer], values[0, 0].numpy(), rtol=1e-5)
    assert list(found) == list(asked)


def test_masks_that_sum_to_one_do_so_at_every_layer() -> None:
    mask = np.random.default_rng(0).random((64, 48), np.float32).round()
    layers = ("relu1_1", "relu5_1")
    one, other = at_layers(mask, layers), at_layers(1 - mask, layers)
    for layer in layers:
        assert np.allclose(one[layer] + other[layer], 1, atol=1e-6)
    white = at_layers(np.ones_like(mask), layers)
    assert all((values == 1).all() for values in white.values())
    assert at_layers(mask, ()) == {}


def test_overlapping_masks_share_each_pixel() -> None:
    masks = [np.array([[1, 1, 0.5, 0, 0.2]], np.float32), np.array([[1, 0, 1, 0, 0.3]], np.float32)]
    (one, other), rest = partition(masks)
    assert one[0].tolist() == pytest.approx([0.5, 1, 1 / 3, 0, 0.2])
    assert other[0].tolist() == pytest.approx([0.5, 0, 2 / 3, 0, 0.3])
    assert rest[0].tolist() == pytest.approx([0, 0, 0, 1, 0.5])


# The formulas.


def looped(features: Array, channel: Array) -> Array:
    """(T * F)(T * F)' / sum(T^2)."""
    channels, height, width = features.shape
    gram = np.zeros((channels, channels))
    energy = 0.0
    for y, x in product(range(height), range(width)):
        energy += channel[y, x] ** 2
        for i, j in product(range(channels), repeat=2):
            gram[i, j] += channel[y, x] ** 2 * features[i, y, x] * features[j, y, x]
    return gram / energy


@given(st.integers(1, 4), st.integers(2, 6), st.integers(2, 6), st.integers(0, 99))
def test_a_guided_gram_is_that_of_the_masked_features(
    channels: int, height: int, width: int, seed: int
) -> None:
    values, channel = noise(channels, height, width, seed=seed), noise(height, width, seed=seed + 1)
    channel = channel.sigmoid()
    grams = MomentObserver(("one",), guide_of(channel))
    sums = MomentObserver(("one",), guide_of(channel), raw=True)
    for top, left in product((0, 1), (0, 1)):  # in four pieces, by place
        rows = slice(0, 1) if top == 0 else slice(1, None)
        columns = slice(0, 1) if left == 0 else slice(1, None)
        for observer in (grams, sums):
            observer.observe("one", values[:, rows, columns], top, left)
    expected = looped(values.numpy(), channel.numpy())
    assert np.allclose(grams.moments()["one"].second.numpy(), expected)
    total = sums.moments()["one"].second.numpy()
    assert np.allclose(total, expected * float(channel.square().sum()))


def test_guidance_of_ones_changes_nothing() -> None:
    values = noise(3, 5, 4)
    plain, guided = (
        MomentObserver(("one",)),
        MomentObserver(("one",), guide_of(torch.ones(5, 4).double())),
    )
    for grams in (plain, guided):
        grams.observe("one", values, 0)
    assert torch.allclose(plain.moments()["one"].second, guided.moments()["one"].second)


@pytest.mark.parametrize(
    ("relative", "gram_mean"), [(True, True), (True, False), (False, True), (False, False)]
)
@pytest.mark.parametrize("strip", [1, 1 << 22])
def test_loss_and_gradient_of_regions_match_autograd(
    relative: bool, gram_mean: bool, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two regions with soft masks and a protected part, in pieces, against plain formulas."""
    monkeypatch.setattr("nstrt.runtime.loss.moments._GUIDED_NUMBERS", strip)
    weights = LossWeights(
        content=3,
        style=5,
        tv=0,
        content_layers={"one": 1.0},
        style_layers={"one": 2.0},
        relative=relative,
        gram_mean=gram_mean,
    )
    image, target = noise(1, 3, 4, 4), noise(3, 5, 4, seed=1)
    values = noise(3, 5, 4, seed=2).requires_grad_()
    channels = [noise(5, 4, seed=seed).sigmoid() for seed in (3, 4)]
    grams = [noise(3, 3, seed=seed) for seed in (5, 6)]
    grams = [gram + gram.T for gram in grams]
    shares = (0.7, 0.2)
    protection = 1 + noise(5, 4, seed=7).sigmoid()

    content = (protection * (values - target).square()).mean()
    if relative:
        content = content / (1.7 * target.square().mean()).sqrt()
    style: Any = 0.0
    for channel, gram, share in zip(channels, grams, shares, strict=True):
        masked = (values * channel).flatten(1)
        own = masked @ masked.T / (channel.square().sum() if gram_mean else 1)
        loss = (own - gram).square().mean() / (gram.square().mean() if relative else 1)
        style = style + share * (1 if relative else 2) * loss
    total = 3 * content + 5 * style
    (expected,) = torch.autograd.grad(total, values)

    objective = Objective(
        weights=weights,
        contents={"one": target},
        energies={"one": 1.7},
        styles=tuple(
            style_target(weights, gram_moments({"one": gram}), guide_of(channel, share))
            for channel, gram, share in zip(channels, grams, shares, strict=True)
        ),
        protection={"one": protection},
    )
    accumulator, seen = LossAccumulator(objective), values.detach()
    for rows in (slice(0, 2), slice(2, 5)):
        accumulator.observe("one", seen[:, rows], rows.start)
    terms = accumulator.terms(image)
    assert terms.content == pytest.approx(float(content.detach()))
    assert terms.style == pytest.approx(float(style.detach()))
    gradient = torch.zeros_like(seen)
    for rows, columns in product((slice(0, 2), slice(2, 5)), (slice(0, 3), slice(3, 4))):
        part = gradient[:, rows, columns]
        accumulator.add_gradient("one", seen[:, rows, columns], part, rows.start, columns.start)
    assert torch.allclose(gradient, expected, rtol=1e-9)


# Through the network, whole and in tiles.

WEIGHTS = LossWeights(
    content=1.0,
    style=20.0,
    tv=0.5,
    content_layers={"conv3_1": 1.0, "relu2_1": 1.0},
    style_layers={"relu1_1": 1, "relu2_1": 1, "relu3_1": 1},
)
DEEP = replace(
    WEIGHTS,
    content_layers={"conv4_2": 1.0, "relu2_1": 1.0},
    style_layers={"relu1_1": 1, "relu3_1": 1, "relu4_1": 1},
)


def guidance_of(photo: Tensor, layers: LossWeights, *, overlay: bool = False) -> Guidance:
    height, width = photo.shape[2:]
    mask = np.zeros((height, width), np.float32)
    mask[10 : height // 2, 20 : width - 30] = 1
    mask[5:10, 20 : width - 30] = 0.4
    face = np.zeros_like(mask)
    face[height // 3 :, : width // 3] = 1
    protection = at_layers(face, layers.content_layers)
    (mask,), rest = partition([mask])
    return Guidance(
        guides=[
            RegionGuidance.of(each, layers.style_layers, CPU)
            for each in ([mask] if overlay else [mask, rest])
        ],
        protection={name: CPU.from_numpy(1 + PROTECTION * W) for name, W in protection.items()},
        overlay=PhotoOverlay(photo=photo, opacity=CPU.from_numpy(mask)) if overlay else None,
    )


def engine_of(network: Network, name: str) -> TorchEngine:
    vgg = read_vgg(network.path)
    if name == "torch":
        return TorchEngine(vgg)
    return OnnxEngine(vgg, open_session(network.path, provider="cpu"))


@pytest.mark.parametrize("overlay", [False, True], ids=["rest", "photo-stays"])
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("torch", WEIGHTS),
        ("onnx", WEIGHTS),
        ("torch", DEEP),
        ("torch", replace(WEIGHTS, style_loss="w2")),
    ],
)
def test_tiles_are_the_whole(
    default_network: Network,
    name: str,
    weights: LossWeights,
    overlay: bool,
    photo: Crop,
    painting: Crop,
) -> None:
    engine = engine_of(default_network, name)
    whole, tiled = Evaluation(engine), Evaluation(engine, tile=80)
    picture = photo(131, 149)
    guidance = guidance_of(picture, weights, overlay=overlay)
    styles = [
        style_statistics(whole, weights, painting(120, 140)),
        style_statistics(whole, weights, photo(90, 90)),
    ]
    styles = styles[: len(guidance.guides)]
    objective, before = build_objective(whole, weights, picture, styles, guidance)
    found, found_before = build_objective(tiled, weights, picture, styles, guidance)
    assert found_before == pytest.approx(before, rel=1e-5)
    image = (picture * 0.7 + 0.1).clamp(0, 1)
    terms, gradient = whole.loss_and_gradient(image, objective)
    found_terms, found_gradient = tiled.loss_and_gradient(image, found)
    for part in ("loss", "content", "style", "tv"):
        assert getattr(found_terms, part) == pytest.approx(getattr(terms, part), rel=1e-5), part
    assert relative_error(found_gradient, gradient) < 1e-2
    assert tiled.loss(image, objective).loss == pytest.approx(terms.loss, rel=1e-5)


def test_gradient_at_the_image_matches_finite_differences(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    """The photo staying elsewhere: through the overlay, too."""
    evaluation = Evaluation(engine_of(default_network, "torch"))
    picture = photo(64, 80)
    guidance = guidance_of(picture, WEIGHTS, overlay=True)
    styles = [style_statistics(evaluation, WEIGHTS, painting(64, 80))]
    objective, _ = build_objective(evaluation, WEIGHTS, picture, styles, guidance)
    image = (picture * 0.7 + 0.1).clamp(0, 1)
    _, gradient = evaluation.loss_and_gradient(image, objective)
    assert guidance.overlay is not None
    assert not gradient[:, :, guidance.overlay.opacity == 0].any()
    direction = gradient / gradient.norm()
    ends = [evaluation.loss(image + s * 0.02 * direction, objective).loss for s in (1, -1)]
    assert (ends[0] - ends[1]) / 0.04 == pytest.approx(float(gradient.norm()), rel=0.03)


def test_a_region_over_the_whole_image_gives_the_plain_loss(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    evaluation = Evaluation(engine_of(default_network, "torch"))
    picture, image = photo(48, 64), painting(48, 64)
    raw = replace(WEIGHTS, gram_mean=False, relative=False)
    for weights in (WEIGHTS, raw, replace(WEIGHTS, style_loss="w2")):
        guide = RegionGuidance.of(np.ones((48, 64), np.float32), weights.style_layers, CPU)
        plain, before = objective_for(evaluation, weights, picture, image)
        styles = [style_statistics(evaluation, weights, image)]
        guided, same = build_objective(
            evaluation, weights, picture, styles, Guidance(guides=[guide])
        )
        assert same == pytest.approx(before, rel=1e-5)
        terms, gradient = evaluation.loss_and_gradient(picture, plain)
        found_terms, found = evaluation.loss_and_gradient(picture, guided)
        assert found_terms.style == pytest.approx(terms.style, rel=1e-5)
        assert relative_error(found, gradient) < 1e-4


# Runs.


def painted(style: Any = NIGHT, *, regions: Any = (), protect: Any = None, **given: Any) -> Result:
    values = {"size": 96, "iterations": 12, "scales": 1, "engine": "onnx", "precision": "fp32"}
    return StyleTransfer(StylizeOptions.of(**(values | given))).stylize(
        CAT, style, regions=regions, protect=protect
    )


def left_half(soft: bool = False) -> NDArray[np.uint8]:
    mask = np.zeros((64, 96), np.uint8)
    mask[:, :48] = 255
    if soft:
        mask[:, 40:56] = np.linspace(255, 0, 16).astype(np.uint8)
    return mask


def grams_of(picture: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    found = {}
    for name, values in features(picture, ["relu1_1", "relu2_1", "relu3_1"]).items():
        flat = values[0].reshape(values.shape[1], -1).astype(np.float64)
        found[name] = flat @ flat.T / flat.shape[1]
    return found


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    theirs = grams_of(other)
    return sum(
        float(np.square(gram - theirs[name]).mean() / np.square(theirs[name]).mean())
        for name, gram in grams_of(one).items()
    )


def shrunk(path: Path) -> NDArray[np.float32]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((96, 64)), np.float32) / 255


def test_each_region_has_the_statistics_of_its_own_painting(tmp_path: Path) -> None:
    made = painted(NIGHT, regions=[(left_half(soft=True), EMBER)], scales=2)
    rgb = made.to_array()
    left, right = rgb[:, :40].copy(), rgb[:, 56:].copy()
    night, ember = shrunk(NIGHT), shrunk(EMBER)
    assert distance(left, ember) < 0.5 * distance(left, night)
    assert distance(right, night) < 0.5 * distance(right, ember)
    assert made.painted > 0.5
    made.save(tmp_path / "out.png")
    recipe = read_recipe(tmp_path / "out.png")
    assert recipe is not None
    assert recipe["style"]["name"] == "night.jpg"
    assert recipe["regions"][0]["style"]["name"] == "ember.jpg"
    assert len(recipe["regions"][0]["mask"]["sha256"]) == 64
    assert len(recipe["plan"]["scales"][-1]["styles"]) == 2


def test_the_photo_stays_where_no_region_is() -> None:
    only = {"content_layers": "relu1_1", "style_layers": (), "style_weight": 0}
    plain = painted(iterations=1, tv_weight=0, **only)
    photo = plain.to_array()
    for more in ({}, {"color": "content"}, {"init": "noise"}):
        made = painted(regions=[(left_half(), None)], rest="photo", **more)
        found = made.to_array()
        assert np.abs(found[:, 48:] - photo[:, 48:]).max() < 1e-6, more
        assert np.abs(found[:, :48] - photo[:, :48]).mean() > 0.02


def test_the_protected_part_stays_nearer_to_the_photo() -> None:
    photo = shrunk(CAT)
    free, held = (painted(protect=mask).to_array() for mask in (None, left_half()))
    off = [np.abs(rgb - photo).mean(axis=(0, 2)) for rgb in (free, held)]
    assert off[1][:44].mean() < 0.7 * off[0][:44].mean()
    assert off[1][56:].mean() > 0.8 * off[0][56:].mean()


def scene_of(color: str, **more: Any) -> tuple[RunInputs, Picture]:
    """A scene as a run has it, and the photo as it was."""
    options = StylizeOptions.of(color=color, rest="photo")
    photo = read_picture(CAT)
    scene = read_inputs(
        InputSources.of(photo, NIGHT, regions=[(left_half(), None)], **more), options
    )
    painted = ColorMode(options, photo, scene.paintings[0])
    return scene.with_colors(painted.content, [painted.style], painted.as_seen), photo


@pytest.mark.parametrize("color", ["style", "match-style", "match-content", "content"])
def test_the_network_sees_the_photo_that_stays(color: str) -> None:
    scene, photo = scene_of(color)
    assert scene.around is not None
    gray = np.ptp(scene.around.rgb, axis=2).max() < 1e-6
    assert gray == (color == "content")
    assert np.array_equal(scene.around.rgb, photo.rgb) == (color != "content")
    assert np.array_equal(scene.content.rgb, photo.rgb) == (color in ("style", "match-content"))


def test_previous_frame_is_gray_when_the_network_sees_gray() -> None:
    warped = np.ascontiguousarray(read_picture(CAT).rgb[:48, :64])
    before = PreviousFrame(warped=warped, weight=np.ones((48, 64), np.float32))
    for color in ("style", "content"):
        scene, _ = scene_of(color, previous=before)
        assert scene.previous is not None
        assert (np.ptp(scene.previous.warped, axis=2).max() < 1e-6) == (color == "content")


@pytest.mark.parametrize("size", [(37, 41), (67, 71), (128, 90)], ids=str)
def test_resized_masks_keep_black_areas_black(size: tuple[int, int]) -> None:
    """A hard edge, brought to other sizes, mixes the pixels at it and no others."""
    photo = read_picture(CAT)
    values = np.zeros((67, 100, 3), np.float32)
    values[:, :33] = 1
    mask = MaskPicture.read(values, photo)
    height, width = size
    found = mask.at(width, height)
    assert found.shape == (height, width)
    edge = 33 / 100 * width
    columns = np.arange(width)
    assert (found[:, columns + 1 < edge - 1] == 1).all()
    assert (found[:, columns > edge + 1] == 0).all()


def test_a_painting_blended_with_itself_is_the_painting() -> None:
    once = painted(NIGHT, iterations=6)
    twice = painted([NIGHT, NIGHT], style_blend=(3, 1), iterations=6)
    assert np.abs(once.to_array() - twice.to_array()).max() < 2e-3
    alone = painted([NIGHT, EMBER], style_blend=(1, 0), iterations=6)
    assert np.abs(once.to_array() - alone.to_array()).max() < 2e-3
    styles = twice.recipe["styles"]
    assert [style["weight"] for style in styles] == [3, 1]


def test_a_blend_lies_between_its_paintings() -> None:
    night, ember = shrunk(NIGHT), shrunk(EMBER)
    found = [
        painted([NIGHT, EMBER], style_blend=blend).to_array() for blend in ((1, 0), (1, 1), (0, 1))
    ]
    to_night, to_ember = ([distance(rgb, other) for rgb in found] for other in (night, ember))
    assert to_night == sorted(to_night)
    assert to_ember == sorted(to_ember, reverse=True)


def test_a_mask_of_another_size_is_the_same_mask() -> None:
    small = painted(regions=[(left_half(), EMBER)], iterations=4).to_array()
    large = Image.fromarray(left_half()).resize((960, 640), Image.Resampling.NEAREST)
    found = painted(regions=[(large, EMBER)], iterations=4).to_array()
    assert np.abs(found - small).max() < 0.05
    assert np.abs(found - small).mean() < 2e-3


def test_masks_that_are_full_overlap_or_are_tiny_are_painted() -> None:
    full = np.full((64, 96), 255, np.uint8)
    dot = np.zeros((64, 96), np.uint8)
    dot[30:34, 30:34] = 255
    for regions in ([(full, EMBER)], [(full, EMBER), (left_half(), NIGHT)], [(dot, EMBER)]):
        made = painted(regions=regions, iterations=3)
        assert np.isfinite(made.to_array()).all()
        assert made.painted > 0


def test_transparent_mask_pixels_count_as_black() -> None:
    mask = np.full((64, 96, 4), 255, np.uint8)
    mask[:, 48:, 3] = 0
    found = painted(regions=[(mask, EMBER)], iterations=3).to_array()
    expected = painted(regions=[(left_half(), EMBER)], iterations=3).to_array()
    assert np.abs(found - expected).max() < 1e-6


# What does not go together.


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ({"style": [NIGHT, EMBER]}, {"style_blend": (1, 2, 3)}, "one for each"),
        ({}, {"style_blend": (0.0,)}, "above 0"),
        ({}, {"style_blend": (1.0, -1.0)}, "from 0 to 1000000"),
        ({}, {"rest": "photo"}, "add regions="),
        ({"regions": [(left_half(), EMBER)]}, {"rest": "photo"}, "main painting"),
        ({"regions": [(np.zeros((64, 96), np.uint8), EMBER)]}, {}, "black"),
        ({"regions": [(left_half().T.copy(), EMBER)]}, {}, "proportions"),
        ({"protect": np.zeros((64, 96), np.uint8)}, {}, "black"),
        ({"protect": left_half()}, {"content_weight": 0}, "protect= holds"),
        ({"regions": [left_half()]}, {}, "pair"),
        ({"regions": [(left_half(), None, left_half(), None)]}, {}, "pair"),
        ({"style": []}, {}, "one at least"),
    ],
)
def test_impossible_combinations_are_refused_in_one_sentence(
    arguments: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        painted(**arguments, **options)
    assert str(caught.value).count(". ") == 0


def test_a_mask_that_is_missing_is_named() -> None:
    with pytest.raises(PictureReadError, match="nowhere"):
        painted(regions=[("nowhere.png", EMBER)])


def test_graph_engine_refuses_masks() -> None:
    with pytest.raises(ProviderUnavailableError, match="engine='torch'"):
        painted(regions=[(left_half(), EMBER)], engine="graph")
    made = painted(protect=left_half(), engine="auto", iterations=2)
    assert made.plan.engine in ("onnx", "torch")


# The command line.


def test_region_flag_is_mask_colon_painting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mask.png", "a:b.png", "c.jpg"):
        (tmp_path / name).touch()
    for text, expected in {
        "mask.png:c.jpg": ("mask.png", "c.jpg", None),
        "mask.png": ("mask.png", None, None),
        "a:b.png": ("a:b.png", None, None),
        "a:b.png:c.jpg": ("a:b.png", "c.jpg", None),
        "missing.png:c.jpg": ("missing.png", "c.jpg", None),
        "mask.png:c.jpg:a:b.png": ("mask.png", "c.jpg", "a:b.png"),
        "a:b.png:c.jpg:mask.png": ("a:b.png", "c.jpg", "mask.png"),
        "mask.png::a:b.png": ("mask.png", None, "a:b.png"),
        "missing.png:c.jpg:mask.png": ("missing.png", "c.jpg", "mask.png"),
        r"C:\missing.png:c.jpg": (r"C:\missing.png", "c.jpg", None),
    }.items():
        assert tuple(path and str(path) for path in parse_region(text)) == expected
    with pytest.raises(OptionError, match=r"mask\.png:painting\.jpg"):
        parse_region("mask.png:")
