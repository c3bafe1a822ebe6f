"""Repaint a photo with onnxruntime, numpy and Pillow; one ONNX file computes loss and gradient.

nstrt export --for lite --folder models     # on any machine with nstrt[full]
python step.py models cat.jpg night.jpg out.png
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, STEPS = 256, 60
CONTENT, STYLE, TV = 0.15, 1.0, 1.0
"""Weights of the terms; each layer's loss is relative to its target's energy."""


def session(folder: Path, kind: str):
    # ONNX Runtime reads this when it is imported; without it, it reports its use to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    (path,) = folder.glob(f"*-{kind}-*.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def read(path: str) -> np.ndarray:
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return (np.asarray(picture, np.float32) / 255).transpose(2, 0, 1)[None]


def gram(features: np.ndarray) -> np.ndarray:
    flat = features.reshape(features.shape[1], -1)
    return flat @ flat.T / flat.shape[1]


folder, photo, painting = Path(sys.argv[1]), read(sys.argv[2]), read(sys.argv[3])
step, network = session(folder, "step"), session(folder, "plain")
layers = [output.name for output in network.get_outputs()]
photo_features = dict(zip(layers, network.run(None, {"image": photo}), strict=True))
painting_features = dict(zip(layers, network.run(None, {"image": painting}), strict=True))

names = [item.name for item in step.get_inputs()]
targets = {
    f"target_{layer}": photo_features[layer] for layer in layers if f"target_{layer}" in names
}
grams = {
    f"gram_{layer}": gram(painting_features[layer]) for layer in layers if f"gram_{layer}" in names
}
inputs = {**targets, **grams, "weights": np.array([CONTENT, STYLE, TV], np.float32)}
for name, goals in (("content_shares", targets), ("style_shares", grams)):
    shares = [1 / len(goals) / np.square(goal).sum() for goal in goals.values()]
    inputs[name] = np.array(shares, np.float32)

image, mean, square = photo.copy(), 0.0, 0.0
for number in range(1, STEPS + 1):
    terms, gradient = step.run(["terms", "gradient"], {"image": image, **inputs})
    mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
    rate = 0.03 / (1 - 0.9**number) * np.sqrt(1 - 0.99**number)
    image = np.clip(image - rate * mean / (np.sqrt(square) + 1e-12), 0, 1).astype(np.float32)
    print(f"step {number:3} " + "  ".join(f"{term:.5f}" for term in terms))

Image.fromarray((image[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(sys.argv[4])
