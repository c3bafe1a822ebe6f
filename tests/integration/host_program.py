"""A host: takes stock of all that belongs to it, paints, and compares."""

from __future__ import annotations

import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import pyvips
import torch

from nstrt.runtime import (
    PictureReadError,
    StyleTransfer,
    StylizeOptions,
    TooLargeError,
    stylize,
)
from nstrt.runtime.system.cancellation import Interrupted

EXAMPLES = Path(__file__).parents[2] / "examples"
CAT, EMBER = EXAMPLES / "cat.jpg", EXAMPLES / "ember.jpg"
SMALL: dict[str, Any] = {"size": 48, "scales": 1, "iterations": 3, "tolerance": 0.0}
LARGE = {**SMALL, "size": 220, "iterations": 1, "engine": "torch", "precision": "fp32"}
"""Large enough for compiled loops."""

LOADERS = ("csvload", "ppmload", "rawload")
"""Operations of libvips that are for trusted files only."""


def state() -> dict[str, Any]:
    """All that belongs to this process, by name."""
    numba = sys.modules.get("numba")
    facts: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "cudnn": [
            getattr(torch.backends.cudnn, name)
            for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
        ],
        "matmul": [
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.enabled,
            torch.are_deterministic_algorithms_enabled(),
        ],
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "torch's random state": torch.random.get_rng_state().numpy().tobytes(),
        "NumPy's random state": str(np.random.get_state()),
        "random state": random.getstate(),
        "vips cache": (
            pyvips.cache_get_max(),
            pyvips.cache_get_max_mem(),
            pyvips.cache_get_max_files(),
        ),
        "vips loaders": [blocked(name) for name in LOADERS],
        "levels": {
            name: logging.getLogger(name).level
            for name in (None, "pyvips", "PIL", "torch", "torch.onnx", "numba")
        },
        "handlers": list(logging.getLogger().handlers),
        "Pillow": (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
        "NumPy's errors": np.geterr(),
        "print options": np.get_printoptions(),
        "filters": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "locale": locale.setlocale(locale.LC_ALL),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
        "umask": umask(),
        "folder": os.getcwd(),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "environment": {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"},
    }
    if numba is not None:
        facts["numba"] = (numba.config.CACHE_DIR, numba.get_num_threads())
    return facts


def blocked(name: str) -> bool:
    try:
        pyvips.Operation.new_from_name(name)
    except pyvips.Error:
        return True
    return False


def umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


@contextmanager
def unchanged(case: str) -> Iterator[None]:
    before = state()
    yield
    after = state()
    changed = {name: (value, after[name]) for name, value in before.items() if value != after[name]}
    assert not changed, f"{case} changed {list(changed)}: {changed!r:.2000}"


def whole() -> None:
    for engine in ("torch", "onnx", "graph"):
        with unchanged(engine):
            stylize(CAT, EMBER, engine=engine, original_size=True, **SMALL)
    with unchanged("compiled loops"):
        stylize(CAT, EMBER, **LARGE)
    with unchanged("prepare and estimate"):
        transfer = StyleTransfer(StylizeOptions.of(**LARGE))
        transfer.prepare()
        transfer.estimate((60, 50))
        transfer.plan((60, 50), (60, 50))
    with unchanged("auto"):
        stylize(CAT, EMBER, **{**LARGE, "engine": "auto", "precision": "auto", "threads": 1})


def left_half_way() -> None:
    with unchanged("a run left half-way"):
        run = StyleTransfer(StylizeOptions.of(threads=1, **SMALL)).run(CAT, EMBER)
        for event in run:
            if type(event).__name__ == "Step":
                break
        del run, event
        gc.collect()


def left_at_the_end() -> None:
    run = StyleTransfer(StylizeOptions.of(threads=1, engine="torch", **SMALL)).run(CAT, EMBER)
    next(iter(run))
    # A reference of a module outlives the function.
    globals()["kept"] = run


def interrupted() -> None:
    with unchanged("a cancelled run"), suppress(Interrupted):
        run = StyleTransfer(StylizeOptions.of(threads=1, **SMALL)).run(CAT, EMBER)
        for event in run:
            if type(event).__name__ == "Step":
                run.cancel()


def failed() -> None:
    with unchanged("a run that failed"):
        for arguments in ((CAT, "none.jpg"), ("none.jpg", EMBER)):
            with pytest.raises(PictureReadError):
                stylize(*arguments, **SMALL)
        with pytest.raises(TooLargeError):
            stylize(CAT, EMBER, **{**SMALL, "max_memory": 0.01})


def settings_between_steps() -> None:
    """The host's settings hold while its own code handles an event, and survive the run."""
    torch.set_num_threads(2)
    run = StyleTransfer(StylizeOptions.of(threads=1, engine="torch", **SMALL)).run(CAT, EMBER)
    for event in run:
        assert torch.get_num_threads() in (2, 3), event
        torch.set_num_threads(3)
        if type(event).__name__ == "Step":
            event.picture()
            assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 3


def modes() -> None:
    """The picture is the same to the bit in all of torch's modes, and so is the mode."""

    @contextmanager
    def default(write: Callable[[Any], None], value: Any, back: Any) -> Iterator[None]:
        write(value)
        yield
        write(back)

    around: dict[str, Callable[[], Any]] = {
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "float64": lambda: default(torch.set_default_dtype, torch.float64, torch.float32),
        "meta": lambda: default(torch.set_default_device, "meta", None),
        "device": lambda: torch.device("meta"),
        "matmul": lambda: default(torch.set_float32_matmul_precision, "medium", "highest"),
        "numpy": lambda: np.errstate(all="raise"),
        "warnings": lambda: default(warnings.simplefilter, "error", "default"),
    }
    runs = [
        {**SMALL, "engine": "torch", "precision": "fp32", "optimizer": "adam"},
        {**SMALL, "engine": "onnx", "precision": "fp32"},
        {**SMALL, "engine": "graph"},
        LARGE,
    ]
    for options in runs:
        expected = stylize(CAT, EMBER, **options).to_array()
        for name, mode in around.items():
            with mode(), unchanged(f"in {name}"):
                transfer = StyleTransfer(StylizeOptions.of(**options))
                *_, last = (
                    (event.picture() if type(event).__name__ == "Step" else None, event)[1]
                    for event in transfer.run(CAT, EMBER)
                )
            same = np.array_equal(last.result.to_array(), expected)
            assert same, f"another picture with {name}: {options}"


def set_threads() -> None:
    torch.set_num_threads(1)
    result = stylize(CAT, EMBER, **SMALL)
    assert result.plan.threads == 1
    assert stylize(CAT, EMBER, threads=2, **SMALL).plan.threads == 2
    assert stylize(CAT, EMBER, **SMALL).plan.threads == 1


def omp_threads() -> None:
    assert stylize(CAT, EMBER, engine="graph", **SMALL).plan.threads == 1
    assert stylize(CAT, EMBER, engine="torch", **SMALL).plan.threads == 1


def two_threads() -> None:
    before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    expected = [stylize(CAT, EMBER, threads=n, **LARGE).to_array() for n in (1, 2)]
    found: dict[int, Any] = {}

    def paint(number: int) -> None:
        results = [stylize(CAT, EMBER, threads=1 + number % 2, **LARGE) for _ in range(3)]
        found[number] = [result.to_array() for result in results]

    threads = [threading.Thread(target=paint, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        for picture in found[number]:
            assert np.array_equal(picture, expected[number % 2])
    assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before


if __name__ == "__main__":
    for case in sys.argv[1:]:
        globals()[case]()
