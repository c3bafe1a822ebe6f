"""``--preset classic`` against the recipe written out in plain torch, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from nstrt.exporter.weights import load_weights
from nstrt.runtime import Step, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import read_picture, resize

from support import EXAMPLES

pytestmark = pytest.mark.slow

LAYERS = {"relu2_1": 6, "relu3_1": 11, "relu4_1": 20, "relu5_1": 29}
STEPS, SIDE = 8, 64


def recipe(photo: torch.Tensor, painting: torch.Tensor) -> tuple[list[float], torch.Tensor]:
    """The simplest public recipe: nothing in it is nstrt's but the weights' loader."""
    import torchvision

    weights = load_weights("oxford")
    net = torchvision.models.vgg19(weights=None).features.eval().requires_grad_(False)
    for module, layer in zip(
        [m for m in net if isinstance(m, torch.nn.Conv2d)],
        weights.convolutions.values(),
        strict=True,
    ):
        module.weight.copy_(layer.weight)
        module.bias.copy_(layer.bias)

    def features(image: torch.Tensor) -> list[torch.Tensor]:
        # No normalisation: the picture only comes to the range that the weights expect.
        x, found = image / weights.unit, []
        for number, module in enumerate(net):
            x = functional.avg_pool2d(x, 2) if isinstance(module, torch.nn.MaxPool2d) else module(x)
            if number in LAYERS.values():
                found.append(x.clone())
        return found

    def gram(x: torch.Tensor) -> torch.Tensor:
        return x[0].flatten(1) @ x[0].flatten(1).T

    content, style = features(photo), [gram(x) for x in features(painting)]
    image = photo.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.01)
    losses = []
    for _ in range(STEPS):
        found = features(image)
        loss = sum(functional.mse_loss(x, p) for x, p in zip(found, content, strict=True))
        loss = loss + 3 * sum(
            0.2 * functional.mse_loss(gram(x), a) for x, a in zip(found, style, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, image.detach()


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_classic_is_the_published_recipe(engine: str) -> None:
    pictures = [read_picture(EXAMPLES / name) for name in ("cat.jpg", "night.jpg")]
    tensors = [
        torch.from_numpy(resize(p.rgb, SIDE, SIDE).transpose(2, 0, 1)[None].copy())
        for p in pictures
    ]
    losses, image = recipe(*tensors)

    options = StylizeOptions.of(
        "classic", size=SIDE, iterations=STEPS, weights="oxford", engine=engine
    )
    assert (options.content_weight, options.style_weight) == (1, 3)
    run = StyleTransfer(options).run(*pictures)
    ours = [event.terms.loss for event in run if isinstance(event, Step) and event.terms]
    assert ours == pytest.approx(losses, rel=1e-4)
    expected = image[0].permute(1, 2, 0).clamp(0, 1).numpy()
    # Adam moves a pixel by a whole step however small its gradient is: where that is about zero,
    # rounding alone decides the direction.
    off = np.abs(run.result().to_array() - expected)
    assert np.sqrt(np.square(off).mean()) < 1e-4
    assert off.max() < 2e-2


def test_classic_says_which_weights_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    import nstrt.exporter.weights as source
    from nstrt.runtime.errors import WeightsError

    def nowhere(**_: object) -> Path:
        raise WeightsError("no connection")

    monkeypatch.setattr(source, "torchvision_file", nowhere)
    said: list[str] = []
    options = StylizeOptions.of("classic", size=32, iterations=1, engine="torch")
    made = StyleTransfer(options, notify=said.append).stylize(
        EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg"
    )
    assert any("using oxford instead" in line for line in said)
    assert "oxford" in made.plan.model
