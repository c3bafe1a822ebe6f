"""The engines: losses and gradients as plain autograd gives them, with no work done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.errors import ModelFileError, ProviderUnavailableError
from nstrt.runtime.kernels.convolution import autotune as choice_module
from nstrt.runtime.kernels.convolution.algorithms import Direct
from nstrt.runtime.loss.content_and_style import ContentObserver
from nstrt.runtime.loss.objective import LossWeights, Objective
from nstrt.runtime.model import LAYERS, ModelSpec, ModelStore, shape_of
from nstrt.runtime.network import bands as bands_module
from nstrt.runtime.network.sections import sections_of
from nstrt.runtime.network.tiles import tiles_of
from nstrt.runtime.network.vgg import read_vgg
from nstrt.runtime.optim.optimizers import Adam
from nstrt.runtime.ort.session import FeatureSession, open_session

from support.errors import relative_error

if TYPE_CHECKING:
    from support import Crop, Network
    from support.reference import Reference

pytestmark = pytest.mark.slow

SIZES = [(64, 64), (75, 101)]
WEIGHTS = LossWeights(
    content=1.0,
    style=20.0,
    tv=0.5,
    content_layers={"conv4_2": 1.0, "conv3_1": 0.5},
    style_layers={"relu1_1": 1, "relu2_1": 1, "relu3_1": 1, "relu4_1": 1, "relu5_1": 1},
)


def torch_engine(path: Path) -> TorchEngine:
    return TorchEngine(read_vgg(path))


def onnx_engine(path: Path) -> OnnxEngine:
    return OnnxEngine(read_vgg(path), open_session(path, provider="cpu"))


def objective_of(engine: TorchEngine | OnnxEngine, photo: Tensor, painting: Tensor) -> Objective:
    return objective_for(Evaluation(engine), WEIGHTS, photo, painting)[0]


def features(
    engine: TorchEngine | OnnxEngine, image: Tensor, layers: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Copies of an engine's features, 1 x channels x height x width."""
    copies = ContentObserver(layers or engine.taps, image.shape[2], image.shape[3])
    engine.forward(image, copies, keep=False)
    return {name: values[None] for name, values in copies.values.items()}


def plain_loss(
    image: Tensor,
    found: Mapping[str, Tensor],
    content: Mapping[str, Tensor],
    style: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, content, style and variation, written down once more."""

    def gram(features: Tensor) -> Tensor:
        flat = features[0].flatten(1)
        return flat @ flat.T / flat.shape[1]

    def relative(value: Tensor, target: Tensor) -> Tensor:
        return (value - target).pow(2).mean() / target.pow(2).mean()

    def change(layer: str) -> Tensor:
        energy = content[layer].pow(2).mean() * style[layer].pow(2).mean()
        return (found[layer] - content[layer]).pow(2).mean() / energy.sqrt()

    contents = change("conv4_2") / 1.5 + 0.5 / 1.5 * change("conv3_1")
    styles = sum(
        (relative(gram(found[name]), gram(style[name])) / 5 for name in WEIGHTS.style_layers),
        start=torch.zeros(()),
    )
    right = image[..., 1:] - image[..., :-1]
    below = image[..., 1:, :] - image[..., :-1, :]
    variation = torch.cat([right.flatten(), below.flatten()]).pow(2).mean()
    return contents + 20 * styles + 0.5 * variation, contents, styles, variation


@pytest.mark.parametrize("size", SIZES)
def test_torch_and_onnx_engines_match_autograd(
    network: Network, size: tuple[int, int], photo: Crop, painting: Crop, reference: Reference
) -> None:
    image = (photo(*size) * 0.7 + 0.1).clamp(0, 1)
    leaf = image.clone().requires_grad_()
    content, style = (reference(crop(*size), network.spec) for crop in (photo, painting))
    expected = plain_loss(leaf, reference(leaf, network.spec), content, style)
    (gradient,) = torch.autograd.grad(expected[0], leaf)
    for engine in (torch_engine(network.path), onnx_engine(network.path)):
        objective = objective_of(engine, photo(*size), painting(*size))
        terms, found = Evaluation(engine).loss_and_gradient(image, objective)
        assert (terms.loss, terms.content, terms.style, terms.tv) == pytest.approx(
            [float(value.detach()) for value in expected], rel=1e-4
        )
        assert (found.shape, found.dtype) == (image.shape, torch.float32)
        # Masks that flip under rounding allow no closer agreement end to end.
        assert relative_error(found, gradient) < 1e-2
        assert Evaluation(engine).loss(image, objective) == terms


@pytest.mark.parametrize("size", SIZES)
def test_engines_agree_with_each_other(
    network: Network, size: tuple[int, int], photo: Crop, painting: Crop
) -> None:
    image = (photo(*size) * 0.7 + 0.1).clamp(0, 1)
    one, other = torch_engine(network.path), onnx_engine(network.path)
    assert one.taps == other.taps == network.spec.taps
    found = features(other, image)
    assert set(found) == set(one.taps)
    for name, values in features(one, image).items():
        assert relative_error(found[name], values) < 1e-4, name
    objective = objective_of(one, photo(*size), painting(*size))
    terms, gradient = Evaluation(one).loss_and_gradient(image, objective)
    again, other_gradient = Evaluation(other).loss_and_gradient(image, objective)
    assert (again.loss, again.content, again.style) == pytest.approx(
        (terms.loss, terms.content, terms.style), rel=1e-4
    )
    assert relative_error(other_gradient, gradient) < 1e-2


@pytest.mark.parametrize("size", SIZES)
def test_gradients_from_the_same_activations_agree_closely(
    network: Network, size: tuple[int, int], photo: Crop, painting: Crop, reference: Reference
) -> None:
    """ONNX Runtime's activations put into torchvision's network, and autograd from there."""
    image = (photo(*size) * 0.7 + 0.1).clamp(0, 1)
    engine = onnx_engine(network.path)
    content, style = (features(engine, crop(*size)) for crop in (photo, painting))
    objective = objective_of(engine, photo(*size), painting(*size))
    _, found = Evaluation(engine).loss_and_gradient(image, objective)
    leaf = image.clone().requires_grad_()
    activations = reference(leaf, network.spec, given=features(engine, image))
    loss = plain_loss(leaf, activations, content, style)[0]
    assert relative_error(found, torch.autograd.grad(loss, leaf)[0]) < 1e-5


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def use_torchs_own_convolution(patch: pytest.MonkeyPatch) -> None:
    """Of whole layers, so that each is one operation."""
    patch.setattr(bands_module, "_BAND_PIXELS", 1 << 30)
    patch.setattr(
        choice_module,
        "candidates",
        lambda weights, scratch, *, transposed, precision, large: {
            "direct": lambda: Direct(weights.directed_weight(transposed=transposed))
        },
    )


def test_the_onnx_engine_computes_no_convolution_twice(
    network: Network, photo: Crop, painting: Crop, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_torchs_own_convolution(monkeypatch)
    layers = sum(name.startswith("conv") for name in network.spec.layers)
    for engine, ways in ((onnx_engine(network.path), 1), (torch_engine(network.path), 2)):
        objective = objective_of(engine, photo(64, 64), painting(64, 64))
        for _ in range(2):
            with Operations() as operations:
                Evaluation(engine).loss_and_gradient(photo(64, 64), objective)
            convolutions = sum(count for name, count in operations.counts.items() if "conv" in name)
            # The mirror computes the first one, cheap and large, again rather than keep it.
            assert convolutions == ways * layers + (ways == 2), engine.name
            assert not any("pool2d" in name for name in operations.counts)
            with Operations() as operations:
                Evaluation(engine).loss(photo(64, 64), objective)
            assert any("conv" in name for name in operations.counts) == (ways == 2)


def test_kernels_lists_every_convolution_that_torch_computes(network: Network) -> None:
    convolutions = [name for name in network.spec.layers if name.startswith("conv")]
    back = {f"{name} back" for name in convolutions}
    on = {f"{name} on" for name in convolutions}
    (tile,) = tiles_of(64, 64, None, WEIGHTS.layers)
    assert set(onnx_engine(network.path).kernels(tile)) == back
    engine = torch_engine(network.path)
    assert set(engine.kernels(tile)) == back | on
    (shallow,) = tiles_of(64, 64, None, ("relu1_1",))
    assert set(engine.kernels(shallow)) == {"conv1_1 back", "conv1_1 on"}
    first, second = sections_of(500, 64, 400, WEIGHTS.layers, in_two=True)
    named = [set(engine.kernels(section.tiles[0])) for section in (first, second)]
    assert not named[0] & named[1]
    assert named[0] | named[1] == back | on


def test_nothing_is_computed_beyond_the_deepest_layer(models: ModelStore, photo: Crop) -> None:
    spec = ModelSpec.for_losses(("relu1_1", "relu2_1"))
    engine = onnx_engine(models.obtain(spec).path)
    found = engine.activations(photo(64, 64))
    assert list(found) == ["relu1_1", "relu1_2", "pool1", "relu2_1"]
    assert engine.taps == tuple(found)


def test_observers_receive_only_their_layers(default_network: Network, photo: Crop) -> None:
    for engine in (torch_engine(default_network.path), onnx_engine(default_network.path)):
        found = features(engine, photo(48, 48), ("relu3_1", "pool1"))
        assert set(found) == {"relu3_1", "pool1"}


def test_binding_reads_the_image_where_it_lies_and_writes_where_torch_reads(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    engine = onnx_engine(default_network.path)
    image = photo(64, 64)
    first = engine.activations(image)
    pointers = {name: value.data_ptr() for name, value in first.items()}
    values = {name: value.clone() for name, value in first.items()}
    image.copy_(painting(64, 64))
    second = engine.activations(image)
    expected = features(torch_engine(default_network.path), painting(64, 64))
    for name, value in second.items():
        assert value.data_ptr() == pointers[name]
        assert relative_error(value, expected[name]) < 1e-4, name
        assert relative_error(value, values[name]) > 1e-2, name


def test_a_step_of_the_onnx_engine_keeps_its_buffers(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    engine = onnx_engine(default_network.path)
    objective = objective_of(engine, photo(64, 64), painting(64, 64))
    image = photo(64, 64)
    Evaluation(engine).loss_and_gradient(image, objective)
    pointers = {name: value.data_ptr() for name, value in engine.activations(image).items()}
    optimizer = Adam(learning_rate=0.02)
    for _ in range(3):
        terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
        optimizer.update(image, terms.loss, gradient)
        after = {name: value.data_ptr() for name, value in engine.activations(image).items()}
        assert after == pointers


def test_another_image_or_shape_is_never_answered_from_old_buffers(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    engine, vgg = onnx_engine(default_network.path), torch_engine(default_network.path)
    for image in (photo(64, 64), painting(64, 64), photo(48, 64), photo(64, 64), photo(64, 48)):
        found, expected = features(engine, image), features(vgg, image)
        for name, value in expected.items():
            assert found[name].shape == value.shape
            assert relative_error(found[name], value) < 1e-4, name
    engine.release()
    again = photo(64, 64)
    vgg.release()
    assert vgg.network.buffers.bytes == 0
    found, expected = features(engine, again), features(vgg, again)
    assert relative_error(found["relu5_1"], expected["relu5_1"]) < 1e-4


def test_a_view_of_a_larger_tensor_is_read_correctly(default_network: Network, photo: Crop) -> None:
    whole = photo(96, 96)
    piece = whole[:, :, 8:72, 16:80]
    expected = features(torch_engine(default_network.path), piece.clone())["relu3_1"]
    for engine in (onnx_engine(default_network.path), torch_engine(default_network.path)):
        assert relative_error(features(engine, piece)["relu3_1"], expected) < 1e-4


def test_the_image_is_not_changed_and_gets_no_graph(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    for engine in (torch_engine(default_network.path), onnx_engine(default_network.path)):
        objective = objective_of(engine, photo(64, 64), painting(64, 64))
        image = photo(64, 64)
        _, gradient = Evaluation(engine).loss_and_gradient(image, objective)
        assert torch.equal(image, photo(64, 64))
        assert not image.requires_grad
        assert image.grad is None
        assert not gradient.requires_grad


def test_an_evaluation_repeats_to_the_last_bit(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    for engine in (torch_engine(default_network.path), onnx_engine(default_network.path)):
        objective = objective_of(engine, photo(64, 64), painting(64, 64))
        terms, gradient = Evaluation(engine).loss_and_gradient(photo(64, 64), objective)
        again, found = Evaluation(engine).loss_and_gradient(photo(64, 64), objective)
        assert again == terms
        assert torch.equal(found, gradient)


def test_ten_steps_of_adam_take_both_engines_the_same_way(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    losses: dict[str, list[float]] = {}
    for engine in (torch_engine(default_network.path), onnx_engine(default_network.path)):
        objective = objective_of(engine, photo(48, 48), painting(48, 48))
        # Larger first steps of Adam, which follow signs alone, would make rounding visible.
        image, optimizer = photo(48, 48) * 0.7 + 0.1, Adam(learning_rate=0.01)
        losses[engine.name] = []
        for _ in range(10):
            terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
            losses[engine.name].append(terms.loss)
            optimizer.update(image, terms.loss, gradient)
    assert losses["onnx"] == pytest.approx(losses["torch"], rel=1e-3)
    assert losses["onnx"][-1] < 0.8 * losses["onnx"][0]


def test_half_precision_gives_nearly_the_same_gradient(
    models: ModelStore, default_network: Network, photo: Crop, painting: Crop
) -> None:
    half = OnnxEngine(
        read_vgg(default_network.path),
        open_session(models.obtain(default_network.spec.as_variant("fp16")).path, provider="cpu"),
        precision="fp16",
    )
    found = half.activations(photo(64, 64))
    assert {value.dtype for value in found.values()} == {torch.float16}
    assert set(half.kernels(*tiles_of(64, 64, None, WEIGHTS.layers)).values()) == {"fp16"}
    whole = onnx_engine(default_network.path)
    image = (photo(64, 64) * 0.7 + 0.1).clamp(0, 1)
    answers = []
    for engine in (whole, half):
        objective = objective_of(engine, photo(64, 64), painting(64, 64))
        assert {target.dtype for target in objective.contents.values()} == {torch.float32}
        answers.append(Evaluation(engine).loss_and_gradient(image, objective))
    (terms, gradient), (half_terms, half_gradient) = answers
    assert half_terms.loss == pytest.approx(terms.loss, rel=1e-2)
    assert half_gradient.dtype == torch.float32
    assert relative_error(half_gradient, gradient) < 5e-2


def test_gradients_far_below_halfs_smallest_numbers_survive(
    models: ModelStore, default_network: Network, photo: Crop, painting: Crop
) -> None:
    """As those of a large picture's means are."""
    path = models.obtain(default_network.spec.as_variant("fp16")).path
    half = OnnxEngine(
        read_vgg(default_network.path), open_session(path, provider="cpu"), precision="fp16"
    )
    tiny = replace(WEIGHTS, content=1e-6, style=20e-6, tv=0.0)
    image = (photo(64, 64) * 0.7 + 0.1).clamp(0, 1)
    gradients = []
    for weights in (replace(WEIGHTS, tv=0.0), tiny):
        objective, _ = objective_for(Evaluation(half), weights, photo(64, 64), painting(64, 64))
        gradients.append(Evaluation(half).loss_and_gradient(image, objective)[1])
    assert relative_error(gradients[1] * 1e6, gradients[0]) < 1e-3


def test_bf16_gives_nearly_the_same_gradient(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    rounded = TorchEngine(read_vgg(default_network.path), precision="bf16")
    whole = torch_engine(default_network.path)
    assert "bf16" in rounded.kernels(*tiles_of(64, 64, None, WEIGHTS.layers)).values()
    image = (photo(64, 64) * 0.7 + 0.1).clamp(0, 1)
    objective = objective_of(whole, photo(64, 64), painting(64, 64))
    terms, gradient = Evaluation(whole).loss_and_gradient(image, objective)
    found_terms, found = Evaluation(rounded).loss_and_gradient(image, objective)
    assert found_terms.loss == pytest.approx(terms.loss, rel=2e-2)
    assert found.dtype == torch.float32
    assert relative_error(found, gradient) < 0.15


@pytest.mark.parametrize("size", [(16, 16), (33, 50), (47, 31)])
def test_tap_shapes_are_those_of_the_network(
    default_network: Network, size: tuple[int, int], photo: Crop
) -> None:
    session = open_session(default_network.path, provider="cpu")
    for name, values in session.features(photo(*size).numpy(), session.taps).items():
        assert values.shape == (1, *shape_of(name, *size)), name
        assert values.dtype == np.float32
    assert shape_of("relu5_4", 35, 64) == (512, 2, 4)
    assert all(shape_of(name, 64, 64) for name in LAYERS)


def test_session_reports_its_nodes_and_taps(default_network: Network) -> None:
    session = open_session(default_network.path, provider="cpu", threads=1)
    assert isinstance(session, FeatureSession)
    assert session.taps == default_network.spec.taps
    assert session.metadata["nstrt.taps"].split(",") == list(session.taps)
    nodes = session.nodes_by_provider()
    assert set(nodes) <= {"CPUExecutionProvider"}
    assert nodes["CPUExecutionProvider"] > 0


def test_a_file_that_is_no_model_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"junk\.onnx") as caught:
        open_session(path, provider="cpu")
    assert "\n" not in str(caught.value)


def test_a_provider_that_onnx_runtime_passes_over_is_a_named_error(
    small_network: Network,
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has no CUDA provider to fail")
    if torch.cuda.is_available():
        pytest.skip("CUDA runs here")
    with pytest.raises(ProviderUnavailableError, match="did not start on cuda"):
        open_session(small_network.path, provider="cuda")
