"""Weight files of all formats, changed."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import h5py
import safetensors.torch
import torch

from nstrt.exporter.weight_files import read_convolutions
from nstrt.runtime.errors import NstrtError

from fuzz.mutation import change_bytes, change_sizes

__all__ = ["Cases"]

_LAYER = "conv1_1"
_SHAPE = (64, 3, 3, 3)


class Cases:
    """Changed files with the first convolution of VGG19."""

    refusals = (NstrtError,)

    def __init__(self, folder: Path) -> None:
        warnings.simplefilter("ignore")
        self._folder = folder
        self._seeds = _seeds(folder)

    def case(self, source: random.Random) -> tuple[str, bytes]:
        kind = source.choice(list(self._seeds))
        content = self._seeds[kind]
        if source.random() < 0.2:
            content = change_sizes(source, content, (64, 3, 1728))
        others = [seed for name, seed in self._seeds.items() if _suffix(name) == _suffix(kind)]
        return kind, change_bytes(source, content, others)

    def read(self, content: bytes) -> int:
        # The suffix decides the format, and the first bytes tell that of a seed, if any.
        suffix = ".h5" if b"HDF\r" in content[:8] else ".pth"
        if content[8:10] == b'{"':
            suffix = ".safetensors"
        path = self._folder / f"case{suffix}"
        path.write_bytes(content)
        read_convolutions(path, _LAYER)
        return 0


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


def _seeds(folder: Path) -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(_SHAPE, generator=generator), torch.arange(64) / 64
    named = {"features.0.weight": weight, "features.0.bias": bias}
    seeds: dict[str, Path] = {name: folder / f"seed {name}" for name in (
        "zip.pth", "old.pth", "state.pth", "half.safetensors", "plain.safetensors", "plain.h5",
        "chunked.h5", "other.pth",
    )}  # fmt: skip
    torch.save(named, seeds["zip.pth"])
    torch.save(named, seeds["old.pth"], _use_new_zipfile_serialization=False)
    half = {name: value.half() for name, value in named.items()}
    torch.save({"epoch": 3, "state_dict": half}, seeds["state.pth"])
    sparse = {**named, "sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta")}
    torch.save(sparse, seeds["other.pth"])
    safetensors.torch.save_file(named, seeds["plain.safetensors"])
    safetensors.torch.save_file(half, seeds["half.safetensors"])
    for name, options in (("plain.h5", {}), ("chunked.h5", {"compression": 9, "chunks": True})):
        with h5py.File(seeds[name], "w") as file:
            group = file.create_group("block1_conv1/block1_conv1")
            values = weight.permute(2, 3, 1, 0).numpy()
            group.create_dataset("kernel:0", data=values, **options)
            group.create_dataset("bias:0", data=bias.numpy(), **options)
    return {name: path.read_bytes() for name, path in seeds.items()}
