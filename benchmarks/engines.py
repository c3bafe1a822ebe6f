"""Measure seconds per step of each engine and of plain torch autograd alternately, A B A B.

python benchmarks/engines.py [--size 512] [--repeats 3] [--provider cpu]

Plain autograd is torchvision's VGG19 up to the deepest layer and ``loss.backward()``. Each engine
evaluates equal losses of equal pictures. Sessions, algorithms and targets are prepared before the
measurement.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nstrt.plugins.cli import limit_thread_spinning
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.planning.loss_weights import loss_weights

EXAMPLES = Path(__file__).parents[1] / "examples"

limit_thread_spinning()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", type=Path, default=EXAMPLES / "cat.jpg")
    parser.add_argument("--style", type=Path, default=EXAMPLES / "night.jpg")
    parser.add_argument("--size", type=int, default=512, help="long side in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--provider", default="cpu", help="cpu, cuda or tensorrt")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--engines", nargs="+", default=["torch", "onnx", "graph"])
    parser.add_argument("--no-autograd", action="store_true")
    args = parser.parse_args(arguments)

    from nstrt.runtime import Picture, StylizeOptions
    from nstrt.runtime.pictures import as_picture, resize

    photo, painting = (as_picture(path) for path in (args.content, args.style))
    options = StylizeOptions.of(precision=args.precision, provider=args.provider)
    factor = args.size / max(photo.width, photo.height)
    width, height = round(photo.width * factor), round(photo.height * factor)
    pictures = [
        Picture(rgb=resize(one.rgb, width, height), alpha=None, depth=8)
        for one in (photo, painting)
    ]
    steps: dict[str, Callable[[], Any]] = {}
    for name in args.engines:
        steps[f"engine {name}"] = engine_step(options, name, pictures)
    if not args.no_autograd:
        steps["torch autograd"] = autograd_step(options, pictures, args.provider)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(args.repeats + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if repeat:
                times[name].append(time.perf_counter() - started)
    print(f"{width}x{height} pixels on {args.provider}, {args.precision}")
    first = next(reversed(times))
    for name, values in times.items():
        ratios = [mine / other for mine, other in zip(values, times[first], strict=True)]
        print(
            f"{name:<15} {median(values):8.3f} s  "
            f"({', '.join(f'{value:.3f}' for value in values)})  "
            f"{median(ratios):.2f} of {first}"
        )


def engine_step(options: Any, name: str, pictures: Sequence[Any]) -> Callable[[], float]:
    """Return a function for loss and gradient with a new engine."""
    shape = (pictures[0].height, pictures[0].width)
    return step_of(engine_of(options, name, [shape]), options, pictures)


def step_of(
    engine: Any, options: Any, pictures: Sequence[Any], *, tile: int | None = None
) -> Callable[[], float]:
    """Return a function for loss and gradient, in tiles of at most ``tile`` pixels a side."""
    from nstrt.runtime.engines.evaluation import Evaluation

    evaluation = Evaluation(engine, tile=tile)
    photo, painting = (engine.arrays.from_numpy(batch(picture)) for picture in pictures)
    objective, _ = objective_for(evaluation, loss_weights(options), photo, painting)
    return lambda: evaluation.loss_and_gradient(photo, objective)[0].loss


def engine_of(options: Any, name: str, shapes: Sequence[tuple[int, int]]) -> Any:
    """Build an engine for pictures of these heights and widths."""
    from nstrt.runtime import ModelStore
    from nstrt.runtime.engines.factory import EngineFactory, ExecutionTarget
    from nstrt.runtime.ort.providers import choose_precision
    from nstrt.runtime.system.host import default_threads

    precision = choose_precision(options.precision, options.provider)
    target = ExecutionTarget(
        provider=options.provider, precision=precision, threads=default_threads()
    )
    factory = EngineFactory(ModelStore(), target)
    if name != "graph":
        factory.configure_torch()
    spec = options.step_spec if name == "graph" else options.spec
    return factory.engine(name, spec, shapes)


def autograd_step(options: Any, pictures: Sequence[Any], provider: str) -> Callable[[], float]:
    """Return a function for loss and gradient with ``loss.backward()``."""
    import torch
    import torchvision

    from nstrt.runtime.model import LAYERS

    device = "cpu" if provider == "cpu" else "cuda"
    # The time does not depend on the weights' values.
    network = torchvision.models.vgg19(weights=None).features.to(device).requires_grad_(False)
    deepest = max(LAYERS.index(layer) for layer in options.layers)

    def features(image: Any) -> dict[str, Any]:
        outputs = {}
        for name, module in zip(LAYERS[: deepest + 1], network, strict=False):
            image = module(image)
            outputs[name] = image
        return {layer: outputs[layer] for layer in options.layers}

    for module in network:
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    photo, painting = (torch.from_numpy(batch(picture)).to(device) for picture in pictures)

    def gram_matrix(values: Any) -> Any:
        flat = values.flatten(2)[0]
        return flat @ flat.T / flat.shape[1]

    with torch.no_grad():
        contents, styles = features(photo), features(painting)
        grams = {layer: gram_matrix(styles[layer]) for layer, _ in options.style_layers}

    def relative_error(outputs: Any, target: Any) -> Any:
        return (outputs - target).square().mean() / target.square().mean()

    def step() -> float:
        image = photo.clone().requires_grad_()
        outputs = features(image)
        loss = sum(
            relative_error(outputs[layer], contents[layer]) for layer, _ in options.content_layers
        )
        loss = loss + sum(
            relative_error(gram_matrix(outputs[layer]), grams[layer])
            for layer, _ in options.style_layers
        )
        loss.backward()
        return float(loss.detach())

    return step


def batch(picture: Any) -> np.ndarray[Any, Any]:
    """Return the picture as 1 x 3 x height x width, RGB in 0..1."""
    return np.ascontiguousarray(picture.rgb.transpose(2, 0, 1)[None], np.float32)


if __name__ == "__main__":
    main()
