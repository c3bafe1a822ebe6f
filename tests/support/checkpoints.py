"""Small checkpoints, made without a run, and copies of them with changes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nstrt.runtime import Plan, StylizeOptions
from nstrt.runtime.planning.plan import Scale
from nstrt.runtime.run.checkpoint_file import write_checkpoint
from nstrt.runtime.run.recipe import run_identity

__all__ = ["header_of", "members_of", "write_members", "write_small_checkpoint"]

SIDES = (16, 24)
"""Height and width of the scale that the checkpoint is of."""


def write_small_checkpoint(path: Path, optimizer: str) -> None:
    """The checkpoint of a run at the second step of the second of three scales."""
    source = np.random.default_rng(1)

    def picture() -> np.ndarray[Any, Any]:
        return source.random((1, 3, *SIDES), np.float32)

    point = {
        "image": picture(),
        "loss": 0.5,
        "gradient": picture(),
        "direction": picture(),
        "length": 1.0,
        "shortened": 0,
        "restarts": 0,
    }
    terms = {"loss": 0.5, "content": 0.1, "style": 0.3, "tv": 0.1, "temporal": 0.0}
    number = np.float32(0.5)
    lbfgs = {
        "pairs": [(picture(), picture(), number) for _ in range(2)],
        "gamma": number,
        "at": point,
    }
    is_lbfgs = optimizer == "lbfgs"
    average = {"sum": picture(), "weight": 1.9}
    state = {
        "scale": 1,
        "iteration": 2,
        "step": 5,
        "complete": False,
        "ended": False,
        "image": picture(),
        "optimizer": lbfgs if is_lbfgs else {"steps": 5, "moments": (picture(), picture())},
        "best": {"image": picture(), "terms": terms, "average": None}
        if is_lbfgs
        else {"image": None, "terms": None, "average": average},
        "gain": {"lowest": [0.9, 0.5]},
    }
    options = StylizeOptions.of(optimizer=optimizer, size=32, iterations=(3, 4, 5))
    write_checkpoint(
        path,
        state,
        identity=run_identity(options, {"photo": "0a", "painting": "0b"}, None),
        plan=_plan(optimizer),
        algorithms={"on 3 64": "direct"},
        versions={"nstrt": "0.2.0"},
        seconds=12.5,
    )


def _plan(optimizer: str) -> Plan:
    return Plan(
        engine="torch",
        provider="cpu",
        precision="fp32",
        device="a processor",
        threads=2,
        scales=tuple(
            Scale(width=width, height=16, styles=((width, 16),), iterations=steps)
            for width, steps in ((16, 3), (24, 4), (32, 5))
        ),
        optimizer=optimizer,
        history=5 if optimizer == "lbfgs" else 0,
        model="network.onnx",
        model_sha256="0c",
        memory=1000,
        kernels={"conv1_1 on": "im2col"},
        nodes={},
        reasons=("a reason",),
    )


def members_of(path: Path) -> dict[str, bytes]:
    """Contents of an archive's members by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def header_of(path: Path) -> dict[str, Any]:
    """The header of a checkpoint."""
    header: dict[str, Any] = json.loads(members_of(path)["checkpoint.json"])
    return header


def write_members(path: Path, members: Mapping[str, bytes], **zip_options: Any) -> None:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", **zip_options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
