"""A picture's border: evaluation with one equals evaluation of the extended picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for, style_statistics
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.network.vgg import read_vgg

from support.border import mirrored
from support.errors import relative_error

if TYPE_CHECKING:
    from support import Crop, Network

pytestmark = pytest.mark.slow

WEIGHTS = LossWeights(
    content=1.0,
    style=10.0,
    tv=0.5,
    content_layers={"relu2_1": 1.0},
    style_layers={"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0},
    style_loss="w2",
)


@pytest.mark.parametrize("tile", [None, 96])
def test_loss_and_gradient_are_those_of_the_extended_picture(
    small_network: Network, tile: int | None, photo: Crop, painting: Crop
) -> None:
    engine = TorchEngine(read_vgg(small_network.path))
    bordered = Evaluation(engine, border=4, tile=tile)
    plain = Evaluation(engine)
    picture, style = photo(117, 133), painting(90, 101)
    objective, before = objective_for(bordered, WEIGHTS, picture, style)
    expected, baseline = objective_for(plain, WEIGHTS, mirrored(picture, 4), mirrored(style, 4))
    assert before == pytest.approx(baseline, rel=1e-5)
    image = (picture * 0.7 + 0.1).clamp(0, 1)
    kept = image.clone()
    terms, gradient = bordered.loss_and_gradient(image, objective)
    wanted, outer = plain.loss_and_gradient(mirrored(image, 4), expected)
    for name in ("loss", "content", "style", "tv"):
        assert getattr(terms, name) == pytest.approx(getattr(wanted, name), rel=1e-5), name
    leaf = image.clone().requires_grad_()
    (inner,) = torch.autograd.grad((mirrored(leaf, 4) * outer).sum(), leaf)
    assert relative_error(gradient, inner) < (1e-5 if tile is None else 1e-2)
    assert bordered.loss(image, objective).loss == pytest.approx(terms.loss, rel=1e-5)
    assert torch.equal(image, kept)


def test_a_step_does_not_overwrite_the_gradient_before(
    small_network: Network, photo: Crop, painting: Crop
) -> None:
    evaluation = Evaluation(TorchEngine(read_vgg(small_network.path)), border=4)
    picture = photo(64, 80)
    objective, _ = objective_for(evaluation, WEIGHTS, picture, painting(64, 80))
    _, first = evaluation.loss_and_gradient(picture, objective)
    kept = first.clone()
    evaluation.loss_and_gradient(picture * 0.5, objective)
    assert torch.equal(first, kept)


def test_masks_of_paintings_are_extended_with_them(small_network: Network, painting: Crop) -> None:
    engine = TorchEngine(read_vgg(small_network.path))
    picture, mask = painting(60, 72), np.zeros((60, 72), np.float32)
    mask[:, :30] = 1
    found = style_statistics(Evaluation(engine, border=4), WEIGHTS, picture, mask)
    around = np.pad(mask, 4, mode="symmetric")
    expected = style_statistics(Evaluation(engine), WEIGHTS, mirrored(picture, 4), around)
    for layer, moments in expected.moments.items():
        assert relative_error(found.moments[layer].second, moments.second) < 1e-5
    # The same painting with another mask, or none, is another style.
    for other in (1 - mask, None):
        again = style_statistics(Evaluation(engine, border=4), WEIGHTS, picture, other)
        for layer, moments in found.moments.items():
            assert relative_error(again.moments[layer].second, moments.second) > 1e-2
