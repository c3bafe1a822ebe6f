"""The way through the network and back in bands: features and gradients are plain autograd's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nstrt.runtime.kernels.convolution import Autotuner, Filter, Kernel
from nstrt.runtime.kernels.convolution import autotune as choice_module
from nstrt.runtime.kernels.convolution.algorithms import candidates
from nstrt.runtime.model import shape_of
from nstrt.runtime.network import banded as banded_module
from nstrt.runtime.network import bands as bands_module
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import ConvBlock, InputNormalization, TorchVGG, read_vgg

if TYPE_CHECKING:
    from support import Crop, Network
    from support.reference import Reference

SIZES = [(64, 64), (67, 49), (33, 50)]
PULLED = ("relu1_1", "relu1_2", "conv3_1", "pool2", "relu3_1", "conv4_2", "relu5_1")


def error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


@contextmanager
def small_bands(pixels: int = 500) -> Iterator[None]:
    """Many bands where there would be one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands_module, "_BAND_BYTES", 0)
        patch.setattr(bands_module, "_BAND_PIXELS", pixels)
        yield


@contextmanager
def whole_planes() -> Iterator[None]:
    """One band for each layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands_module, "_BAND_PIXELS", 1 << 30)
        yield


class Onlooker:
    """Puts features together from what it is shown, and pulls with given gradients."""

    def __init__(self, layers: Sequence[str], at: Mapping[str, Tensor] | None = None) -> None:
        self.layers = tuple(layers)
        self.at = dict(at or {})
        self.pieces: dict[str, list[tuple[int, Tensor]]] = {}
        self.pulled: Counter[str] = Counter()

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        assert layer in self.layers
        assert left == 0
        self.pieces.setdefault(layer, []).append((top, values.clone()))

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        assert left == 0
        rows = slice(top, top + values.shape[1])
        # The way back shows what the way on has shown; of the first stage, computed again.
        assert torch.allclose(values, self.features(layer)[:, rows], rtol=1e-5, atol=1e-6), layer
        self.pulled[layer] += 1
        if layer in self.at:
            gradient += self.at[layer][:, rows]

    def features(self, layer: str) -> Tensor:
        """All rows, each of which was shown once."""
        tops = [top for top, _ in self.pieces[layer]]
        heights = [values.shape[1] for _, values in self.pieces[layer]]
        assert tops == [sum(heights[:number]) for number in range(len(tops))], layer
        return torch.cat([values for _, values in self.pieces[layer]], dim=1)

    def all(self) -> dict[str, Tensor]:
        """1 x channels x height x width by layer."""
        return {layer: self.features(layer)[None] for layer in self.pieces}


def seen(passes: BandedNetwork, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Features as they are shown on a way without a way back."""
    onlooker = Onlooker(layers)
    saved = passes.forward(passes.vgg.normalization.forward(image), onlooker, keep=False)
    assert saved.features == saved.relu_masks == saved.pooling_codes == {}
    return onlooker.all()


def there_and_back(
    passes: BandedNetwork, image: Tensor, at: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """Features at the layers of ``at``, and the gradient at the image."""
    onlooker = Onlooker(tuple(at), {name: gradient[0] for name, gradient in at.items()})
    saved = passes.forward(passes.vgg.normalization.forward(image), onlooker, keep=True)
    gradient = passes.vgg.normalization.backward(passes.backward(saved, onlooker))
    assert set(onlooker.pulled) == set(at)
    return onlooker.all(), gradient


def noise_like(features: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Gradients at some layers, such that each adds about as much as the others."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(features[name].shape, generator=generator, dtype=torch.float64).to(
            features[name].dtype
        )
        / (features[name].norm() + 1e-9)
        for name in names
    }


def by_autograd(
    reference: Reference,
    network: Network,
    image: Tensor,
    features: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
) -> Tensor:
    """The gradient through torchvision's module with the masks of ``features``."""
    leaf = image.clone().requires_grad_()
    found = reference(leaf, network.spec, given=features)
    return torch.autograd.grad([found[name] for name in at], leaf, list(at.values()))[0]


# VGG19, against torchvision's.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [small_bands, whole_planes])
def test_features_are_torchvisions(
    network: Network, size: tuple[int, int], bands: Any, photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    with bands():
        found = seen(BandedNetwork(read_vgg(network.path)), image, network.spec.taps)
    expected = reference(image, network.spec)
    assert set(found) == set(network.spec.taps)
    for name, values in found.items():
        assert values.shape == expected[name].shape
        assert error(values, expected[name]) < 1e-4, name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [small_bands, whole_planes])
def test_the_gradient_is_plain_autograds(
    network: Network, size: tuple[int, int], bands: Any, photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    passes = BandedNetwork(read_vgg(network.path))
    with bands():
        features = seen(passes, image, network.spec.taps)
        at = noise_like(features, PULLED)
        again, found = there_and_back(passes, image, at)
    assert all(torch.equal(again[name], features[name]) for name in at)
    assert found.shape == image.shape
    assert error(found, by_autograd(reference, network, image, features, at)) < 1e-5


@pytest.mark.parametrize(
    "layer",
    ["conv1_1", "relu1_1", "relu1_2", "pool1", "conv3_1", "relu3_4", "pool4", "relu5_1"],
)
def test_each_layer_alone_reaches_the_image(
    default_network: Network, layer: str, photo: Crop, reference: Reference
) -> None:
    image = photo(33, 50)
    passes = BandedNetwork(read_vgg(default_network.path))
    with small_bands():
        features = seen(passes, image, default_network.spec.taps)
        at = noise_like(features, (layer,))
        _, found = there_and_back(passes, image, at)
    assert error(found, by_autograd(reference, default_network, image, features, at)) < 1e-5


def test_ties_of_a_flat_picture_count_once(network: Network, reference: Reference) -> None:
    """In a picture of one colour all values of a pooling window are equal."""
    image = torch.full((1, 3, 64, 48), 0.6)
    passes = BandedNetwork(read_vgg(network.path))
    features = seen(passes, image, network.spec.taps)
    at = noise_like(features, ("relu1_2", "pool2", "relu5_1"))
    _, found = there_and_back(passes, image, at)
    assert error(found, by_autograd(reference, network, image, features, at)) < 1e-5


def test_finite_differences_agree(network: Network, photo: Crop) -> None:
    """In double precision, along the gradient itself, where the difference is largest."""
    passes = BandedNetwork(read_vgg(network.path, dtype=torch.float64))
    image = photo(35, 32).double()
    at = noise_like(seen(passes, image, network.spec.taps), PULLED)
    _, gradient = there_and_back(passes, image, at)
    assert gradient.dtype == torch.float64

    def weighted_sum(picture: Tensor) -> float:
        found = seen(passes, picture, PULLED)
        return sum(float((found[name] * at[name]).sum()) for name in at)

    step = 1e-7 * gradient / gradient.abs().max()
    difference = weighted_sum(image + step) - weighted_sum(image - step)
    assert difference == pytest.approx(2 * float((gradient * step).sum()), rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_rounded_products_give_nearly_the_same(
    default_network: Network, photo: Crop, precision: str
) -> None:
    image, vgg = photo(48, 64), read_vgg(default_network.path)
    exactly, rounded = BandedNetwork(vgg), BandedNetwork(vgg, precision=precision)
    features = seen(exactly, image, default_network.spec.taps)
    found = seen(rounded, image, default_network.spec.taps)
    for name in ("relu1_1", "relu3_1", "relu5_1"):
        assert found[name].dtype == torch.float32
        assert error(found[name], features[name]) < 3e-2, name
    # Masks flip, and each that does moves the gradient; as small as those of means.
    at = {name: 1e-9 * pull for name, pull in noise_like(features, ("relu2_1", "relu3_1")).items()}
    _, expected = there_and_back(exactly, image, at)
    _, gradient = there_and_back(rounded, image, at)
    assert error(gradient, expected) < 0.15


# Any network of such stages, against torch's own operations.


def thin_mirror(
    channels: Sequence[int],
    pools: Sequence[bool],
    *,
    average: bool,
    replicate: bool,
    dtype: torch.dtype = torch.float64,
    whole_numbers: bool = False,
) -> TorchVGG:
    """Stages 1, 2, ... with layers ``conv1``, ``relu1``, ``pool1``, if there is one."""
    generator = torch.Generator().manual_seed(5)
    stages = []
    for number, (inputs, outputs, pooled) in enumerate(
        zip([3, *channels], channels, pools, strict=False), start=1
    ):
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(outputs, generator=generator, dtype=torch.float64)
        if whole_numbers:
            weight, bias = weight.round(), bias.round()
        else:
            weight *= (2 / 9 / inputs) ** 0.5
        stages.append(
            ConvBlock(
                Filter(weight.to(dtype), bias.to(dtype)),
                f"conv{number}",
                f"relu{number}",
                f"pool{number}" if pooled else None,
                average,
            )
        )
    mean = torch.tensor([0.5, 0.25, 0.75], dtype=dtype).view(1, 3, 1, 1)
    std = torch.tensor([0.5, 0.25, 1], dtype=dtype).view(1, 3, 1, 1)
    return TorchVGG(InputNormalization(mean, std, replicate), stages)


def plainly(vgg: TorchVGG, image: Tensor) -> dict[str, Tensor]:
    """Every layer's features by torch's own operations, with a graph."""
    x = (image - vgg.normalization.mean) / vgg.normalization.std
    mode = "replicate" if vgg.normalization.replicate else "constant"
    x = functional.pad(x, (1, 1, 1, 1), mode=mode)
    found: dict[str, Tensor] = {}
    for number, stage in enumerate(vgg.blocks):
        weights = stage.filter
        bias = weights.bias.flatten()
        x = functional.conv2d(x, weights.weight, bias, padding=int(number > 0))
        found[stage.conv] = x
        assert stage.relu
        x = found[stage.relu] = x.relu()
        if stage.pool:
            x = functional.avg_pool2d(x, 2) if stage.average else functional.max_pool2d(x, 2)
            found[stage.pool] = x
    return found


@st.composite
def pools_and_layers(draw: st.DrawFn) -> tuple[list[bool], list[str]]:
    """Which stages pool, and some of their layers."""
    pools = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    layers = [
        f"{kind}{number}"
        for number, pooled in enumerate(pools, start=1)
        for kind in ("conv", "relu", "pool")[: 2 + pooled]
    ]
    return pools, draw(st.lists(st.sampled_from(layers), min_size=1, unique=True))


@given(
    shape=pools_and_layers(),
    height=st.integers(16, 27),
    width=st.integers(16, 27),
    average=st.booleans(),
    replicate=st.booleans(),
    whole_numbers=st.booleans(),
    pixels=st.sampled_from([1, 200, 1 << 20]),
)
@settings(max_examples=120)
def test_any_stages_and_layers_give_autograds_gradient(
    shape: tuple[list[bool], list[str]],
    height: int,
    width: int,
    average: bool,
    replicate: bool,
    whole_numbers: bool,
    pixels: int,
) -> None:
    """With whole numbers, most windows of a max pooling are tied and many values just zero."""
    pools, layers = shape
    vgg = thin_mirror(
        (4, 5, 3, 4),
        pools,
        average=average,
        replicate=replicate,
        whole_numbers=whole_numbers,
    )
    generator = torch.Generator().manual_seed(height * width)
    image = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
    if whole_numbers:
        # Two colours: rows of equal pixels.
        image = vgg.normalization.mean + vgg.normalization.std * (image > 0.8)
    leaf = image.clone().requires_grad_()
    expected = plainly(vgg, leaf)
    at = noise_like({name: expected[name].detach() for name in layers}, layers)
    (gradient,) = torch.autograd.grad(
        [expected[name] for name in layers], leaf, list(at.values()), materialize_grads=True
    )
    with small_bands(pixels):
        features, found = there_and_back(BandedNetwork(vgg), image, at)
    for name in layers:
        assert torch.allclose(features[name], expected[name], rtol=1e-12, atol=1e-12)
    assert torch.allclose(found, gradient, rtol=1e-9, atol=1e-12 * float(gradient.abs().max()))


@pytest.mark.parametrize("algorithm", ["winograd", "fused"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "layers", [("conv3",), ("relu3",), ("pool3",), ("relu1", "conv3"), ("conv2", "relu2", "conv3")]
)
def test_winograd_in_bands_gives_autograds_gradient(
    algorithm: str, average: bool, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, *{"winograd": ("winograd", "products"), "fused": ("fused",)}[algorithm])
    monkeypatch.setattr(banded_module, "is_large", lambda height, width: algorithm == "fused")
    vgg = thin_mirror(
        (16, 24, 32),
        (True, False, True),
        average=average,
        replicate=True,
        dtype=torch.float32,
    )
    image = torch.rand(1, 3, 37, 43, generator=torch.Generator().manual_seed(1))
    with small_bands(100):
        found = seen(BandedNetwork(vgg), image, layers)
        at = noise_like(found, layers)
        _, gradient = there_and_back(BandedNetwork(vgg), image, at)
    exact = thin_mirror((16, 24, 32), (True, False, True), average=average, replicate=True)
    leaf = image.double().requires_grad_()
    expected = plainly(exact, leaf)
    for name in layers:
        assert error(found[name], expected[name]) < 1e-5
    pulls = [at[name].double() for name in layers]
    (wanted,) = torch.autograd.grad([expected[name] for name in layers], leaf, pulls)
    assert error(gradient, wanted) < 1e-4


class CoreOnlooker:
    """Puts features together at their places, and pulls at them."""

    def __init__(self, at: Mapping[str, Tensor]) -> None:
        self.layers = tuple(at)
        self.at = at
        self.found = {name: torch.full_like(pull[0], torch.nan) for name, pull in at.items()}

    def place(self, values: Tensor, top: int, left: int) -> tuple[slice, ...]:
        return slice(None), slice(top, top + len(values[0])), slice(left, left + values.shape[2])

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        place = self.place(values, top, left)
        assert self.found[layer][place].isnan().all(), "shown twice"
        self.found[layer][place] = values

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        place = self.place(values, top, left)
        # Of the first stage, computed again, perhaps by other tiles.
        assert torch.allclose(values, self.found[layer][place], rtol=1e-4, atol=1e-4)
        gradient += self.at[layer][0][place]


@pytest.mark.parametrize("algorithm", ["winograd", "fused"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "core",
    [
        (slice(8, 24), slice(16, None)),
        (slice(0, 20), slice(12, 16)),
        (slice(20, None), slice(0, 24)),
        (slice(12, 28), slice(12, 32)),
    ],
)
@pytest.mark.parametrize("layers", [("relu1", "conv3"), ("conv2", "pool2"), ("conv1", "pool4")])
def test_what_a_core_needs_is_enough_for_it(
    algorithm: str,
    average: bool,
    core: tuple[slice, slice],
    layers: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Features in the core, and the gradient of what pulls there, are those of all of the part."""
    only(monkeypatch, *{"winograd": ("winograd", "products"), "fused": ("fused",)}[algorithm])
    monkeypatch.setattr(banded_module, "_is_large", lambda *_: algorithm == "fused")
    shape = (16, 24, 32, 16), (False, True, False, True)
    image = torch.rand(1, 3, 37, 43, generator=torch.Generator().manual_seed(1))
    leaf = image.double().requires_grad_()
    expected = plainly(thin_mirror(*shape, average=average, replicate=True), leaf)
    at, inside = {}, {}
    features = {name: expected[name].detach() for name in layers}
    for name, pull in noise_like(features, layers).items():
        stride = {"1": 1, "2": 1, "3": 2, "4": 2}[name[-1]] * (2 if name[0] == "p" else 1)
        rows, columns = (
            slice(side.start // stride, side.stop and side.stop // stride) for side in core
        )
        inside[name] = slice(None), rows, columns
        at[name] = torch.zeros_like(pull)
        at[name][0][inside[name]] = pull[0][inside[name]]
    (wanted,) = torch.autograd.grad([expected[name] for name in at], leaf, list(at.values()))
    observer = CoreOnlooker({name: pull.float() for name, pull in at.items()})
    passes = BandedNetwork(
        thin_mirror(*shape, average=average, replicate=True, dtype=torch.float32)
    )
    with small_bands(100):
        region = passes.vgg.normalization.forward(image)
        saved = passes.forward(region, observer, keep=True, core=core)
        gradient = passes.vgg.normalization.backward(passes.backward(saved, observer))
    for name, place in inside.items():
        assert error(observer.found[name][place], features[name][0][place]) < 1e-5
    assert error(gradient, wanted) < 1e-4


def test_no_pull_is_no_gradient() -> None:
    vgg = thin_mirror((4, 5), (True, False), average=False, replicate=True)
    image = torch.rand(1, 3, 20, 21, dtype=torch.float64)
    passes = BandedNetwork(vgg)
    observer = Onlooker(("relu1", "relu2"))
    saved = passes.forward(vgg.normalization.forward(image), observer, keep=True)
    found = vgg.normalization.backward(passes.backward(saved, observer))
    assert torch.equal(found, torch.zeros_like(image))


def test_one_instance_serves_one_picture_after_another() -> None:
    vgg = thin_mirror((4, 5, 6), (True, True, False), average=False, replicate=False)
    passes = BandedNetwork(vgg)
    generator = torch.Generator().manual_seed(2)
    for height, width in ((24, 31), (40, 17), (24, 31), (16, 16)):
        image = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
        at = noise_like(seen(passes, image, ("conv2", "relu3")), ("conv2", "relu3"))
        fresh, expected = there_and_back(BandedNetwork(vgg), image, at)
        found, gradient = there_and_back(passes, image, at)
        assert all(torch.equal(found[name], fresh[name]) for name in at)
        assert torch.equal(gradient, expected)


# How much is computed.


class Counted:
    """A kernel that says what it computes."""

    def __init__(self, kernel: Kernel, log: list[tuple[int, bool, int]], what: Any) -> None:
        self.kernel = kernel
        self.multiple = kernel.multiple
        self.rounded = kernel.rounded
        self.windowed = False
        self.log = log
        self.what = what

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        self.log.append((*self.what, out.shape[1]))
        self.kernel.apply(band, out, bias)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool, int]]:
    """Each convolution of a band: whose weights, whether it was the way back, how many rows."""
    log: list[tuple[int, bool, int]] = []
    kernel = Autotuner.kernel

    def counted(
        self: Autotuner, weights: Filter, rows: int, columns: int, **options: bool
    ) -> tuple[str, Kernel]:
        transposed = options["transposed"]
        name, found = kernel(self, weights, rows, columns, **options)
        return name, Counted(found, log, (id(weights), transposed))

    monkeypatch.setattr(Autotuner, "kernel", counted)
    return log


@pytest.mark.parametrize(
    ("layers", "deepest"),
    [(("relu1_1",), 1), (("pool2",), 4), (("conv3_1",), 5), (PULLED, 13)],
)
def test_every_layer_is_computed_once_each_way_and_none_beyond_the_deepest(
    default_network: Network,
    photo: Crop,
    layers: tuple[str, ...],
    deepest: int,
    computed: list[tuple[int, bool, int]],
) -> None:
    passes = BandedNetwork(read_vgg(default_network.path))
    image = photo(64, 64)
    stages = [id(stage.filter) for stage in passes.vgg.blocks[:deepest]]
    with whole_planes():
        at = noise_like(seen(passes, image, layers), layers)
        assert [(weights, back) for weights, back, _ in computed] == [
            (weights, False) for weights in stages
        ]
        computed.clear()
        there_and_back(passes, image, at)
        # The first one, cheap and large, is computed again rather than kept.
        again = [(stages[0], False)] if deepest > 1 else []
        assert [(weights, back) for weights, back, _ in computed] == [
            *((weights, False) for weights in stages),
            *((weights, True) for weights in reversed(stages[1:])),
            *again,
            (stages[0], True),
        ]


def test_no_row_is_computed_twice_in_bands(
    default_network: Network, photo: Crop, computed: list[tuple[int, bool, int]]
) -> None:
    passes = BandedNetwork(read_vgg(default_network.path))
    image = photo(64, 48)
    with small_bands():
        at = noise_like(seen(passes, image, ("relu3_1",)), ("relu3_1",))
        computed.clear()
        there_and_back(passes, image, at)
    rows: Counter[tuple[int, bool]] = Counter()
    for weights, back, count in computed:
        rows[weights, back] += count
    heights = [64, 32, 32, 16]
    for stage, height in zip(passes.vgg.blocks[1:], heights, strict=False):
        assert rows[id(stage.filter), False] == height
        assert rows[id(stage.filter), True] == height
    # The first one's output is computed both ways, with the rows that its bands need around them.
    first = id(passes.vgg.blocks[0].filter)
    bands = sum(weights == first and back for weights, back, _ in computed)
    assert rows[first, True] == 64 + 2 * bands
    assert rows[first, False] == 2 * 64 + 2 * bands - 2
    assert len(computed) > 20


def test_kernels_are_named_for_each_convolution_and_way(default_network: Network) -> None:
    passes = BandedNetwork(read_vgg(default_network.path))
    found = passes.kernels(64, 64, ("relu2_1",))
    stages = [stage.conv for stage in passes.vgg.blocks[:3]]
    assert set(found) == {f"{name} {way}" for name in stages for way in ("on", "back")}
    assert set(found.values()) <= {"direct", "winograd", "products", "nnpack"}
    back = passes.kernels(64, 64, ("relu2_1",), forward=False)
    assert back == {name: found[name] for name in found if name.endswith("back")}
    # Features and gradients are those algorithms' then.
    assert passes.kernels(64, 64, ("relu2_1",)) == found


@pytest.mark.parametrize("layers", [("relu1_1",), ("relu2_1",)])
def test_the_algorithms_that_are_named_are_those_that_are_used(
    default_network: Network,
    layers: tuple[str, ...],
    photo: Crop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int, bool]] = []

    def kernel(
        self: Autotuner, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> tuple[str, Kernel]:
        asked.append((rows, columns, transposed))
        makers = candidates(weights, self._scratch, transposed=transposed)
        return "direct", makers["direct"]()

    monkeypatch.setattr(Autotuner, "kernel", kernel)
    passes = BandedNetwork(read_vgg(default_network.path))
    image = photo(32, 48)
    there_and_back(passes, image, noise_like(seen(passes, image, layers), layers))
    used = set(asked)
    asked.clear()
    passes.kernels(32, 48, layers)
    assert set(asked) == used


def test_leaving_is_possible_before_every_band() -> None:
    vgg = thin_mirror((4, 5), (True, False), average=False, replicate=True)
    image = torch.rand(1, 3, 24, 24, dtype=torch.float64)
    passes = BandedNetwork(vgg)
    at = noise_like(seen(passes, image, ("relu2",)), ("relu2",))
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1

    with small_bands(100):
        observer = Onlooker(("relu2",), {name: value[0] for name, value in at.items()})
        saved = passes.forward(vgg.normalization.forward(image), observer, keep=True, check=look)
        assert looks == 6 + 2  # bands of 4 rows of 24, of 8 of 12
        passes.backward(saved, observer, look)
        assert looks == 8 + 2 + 7


# How much is kept.


def only(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Only some algorithms, so that no measurement decides about memory."""

    def some(*given: Any, **options: Any) -> Mapping[str, Callable[[], Kernel]]:
        found = candidates(*given, **options)
        return {name: make for name, make in found.items() if name in names} or found

    patch.setattr(choice_module, "candidates", some)


DEFAULT = ("relu1_1", "relu2_1", "relu3_1", "relu3_2", "relu4_1", "relu4_2", "relu5_1")


def step(passes: BandedNetwork, image: Tensor, at: Mapping[str, Tensor]) -> None:
    observer = Puller(at)
    saved = passes.forward(passes.vgg.normalization.forward(image), observer, keep=True)
    passes.vgg.normalization.backward(passes.backward(saved, observer))


class Puller:
    """Pulls, and keeps nothing."""

    def __init__(self, at: Mapping[str, Tensor]) -> None:
        self.layers = tuple(at)
        self.at = at

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        pass

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        gradient += self.at[layer][0, :, top : top + values.shape[1]]


class Fresh(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes how many bytes each operation takes from the system."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[tuple[int, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        found = func(*args, **(kwargs or {}))
        given = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.sizes.append((leaf.untyped_storage().nbytes(), str(func)))
        return found


PIXELS = 96 * 128

# Bytes for each of them, measured, and a tenth more.
KEPT_IN_SMALL_BANDS = 1170
KEPT = 2700
KEPT_BY_A_LOOK = 1100


@pytest.fixture
def kept(default_network: Network, monkeypatch: pytest.MonkeyPatch) -> BandedNetwork:
    """Of whose memory there is none yet."""
    only(monkeypatch, "winograd", "products")
    return BandedNetwork(read_vgg(default_network.path))


@pytest.fixture
def default_step(kept: BandedNetwork) -> Callable[[], None]:
    """A step of the default layers at 96 x 128."""
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    at = noise_like(seen(kept, image, DEFAULT), DEFAULT)
    kept.buffers.clear()
    return lambda: step(kept, image, at)


def test_a_step_keeps_little_more_than_the_features_of_the_loss(
    default_step: Callable[[], None], kept: BandedNetwork
) -> None:
    features = sum(4 * math.prod(shape_of(layer, 96, 128)) for layer in DEFAULT)
    with small_bands(512):
        default_step()
    assert features == 584 * PIXELS
    # Besides two planes of 64 bytes, codes and bits of 54, the gradient of 12, and bands.
    assert kept.buffers.bytes < KEPT_IN_SMALL_BANDS * PIXELS


def test_bands_of_their_usual_size_take_some_memory_too(
    default_step: Callable[[], None], kept: BandedNetwork
) -> None:
    default_step()
    assert kept.buffers.bytes < KEPT * PIXELS


def test_a_forward_pass_alone_keeps_no_features(kept: BandedNetwork) -> None:
    image = torch.rand(1, 3, 96, 128)
    observer = Puller(dict.fromkeys(DEFAULT, image))
    with small_bands(512):
        saved = kept.forward(kept.vgg.normalization.forward(image), observer, keep=False)
    assert saved.features == saved.relu_masks == saved.pooling_codes == {}
    assert kept.buffers.bytes < KEPT_BY_A_LOOK * PIXELS


def test_memory_does_not_grow_from_step_to_step(
    default_step: Callable[[], None], kept: BandedNetwork
) -> None:
    def buffers() -> dict[Any, int]:
        return {name: buffer.data_ptr() for name, buffer in kept.buffers._buffers.items()}

    default_step()
    before, size = buffers(), kept.buffers.bytes
    for _ in range(3):
        default_step()
        assert (buffers(), kept.buffers.bytes) == (before, size)


def test_a_step_takes_fresh_memory_for_the_picture_and_for_parts_of_bands_alone(
    default_step: Callable[[], None],
) -> None:
    with small_bands(512):
        default_step()
        with Fresh() as fresh:
            default_step()
    *of_bands, _, _, _, _ = sorted(fresh.sizes)
    # The picture: less its mean, over its deviation, padded; its gradient.
    largest, operation = max(fresh.sizes)
    assert largest < 13 * PIXELS, operation
    # Maxima for the windows of a band: a quarter of 512 pixels, of 256 channels.
    largest, operation = max(of_bands)
    assert largest <= 4 * 128 * 256, operation


def test_features_of_the_loss_lie_where_they_lay(kept: BandedNetwork) -> None:
    image = torch.rand(1, 3, 48, 64)
    pulls = Puller(noise_like(seen(kept, image, DEFAULT), DEFAULT))

    def places() -> dict[str, int]:
        saved = kept.forward(kept.vgg.normalization.forward(image), pulls, keep=True)
        assert set(saved.features) == set(DEFAULT) - {"relu1_1"}
        kept.backward(saved, pulls)
        return {layer: values.data_ptr() for layer, values in saved.features.items()}

    assert places() == places()
