"""What a batch saves of start-up and targets: one batch against as many commands, as a ratio.

    python benchmarks/batch.py [--photos 12] [--size 96] [--iterations 3] [--jobs 2]

Each photo has work of its own that nothing saves: its steps, and at each scale two looks at it
without a way back (its content, and the loss of what the scale leaves). That work is taken from a
run in a process that is warm. All else is start-up and targets of the style: loading Python, torch
and the network, choosing the engine, the painting and its Gram matrices. Times are of the clock,
and of the processor, which count on a machine that has other work. With --jobs the batch runs
once more, so many processes side by side.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nstrt.runtime import ScaleDone, Step, StyleTransfer, StylizeOptions

EXAMPLES = Path(__file__).parents[1] / "examples"
STYLE = EXAMPLES / "ember.jpg"


@dataclass(frozen=True)
class Taken:
    """What one or more commands took, in seconds."""

    clock: float
    processor: float


def command(*arguments: str) -> Taken:
    """Run one command to its end."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "nstrt.plugins.cli", *arguments]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(
        time.perf_counter() - began,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def own_work(photo: Path, options: StylizeOptions) -> Taken:
    """What a photo takes beyond start-up and the style's targets, each step as long as the mean."""
    transfer = StyleTransfer(options)
    transfer.stylize(photo, STYLE)
    clock = processor = 0.0
    steps: list[Taken] = []
    before = _now()
    for event in transfer.run(photo, STYLE):
        now = _now()
        took = Taken(now.clock - before.clock, now.processor - before.processor)
        before = now
        # Before the first step of a scale, targets are computed.
        if isinstance(event, Step) and event.iteration > 1:
            steps.append(took)
        elif isinstance(event, ScaleDone):
            count = event.iteration / len(steps)
            clock += count * sum(step.clock for step in steps) + 2 * took.clock
            processor += count * sum(step.processor for step in steps) + 2 * took.processor
            steps.clear()
    return Taken(clock, processor)


def _now() -> Taken:
    return Taken(time.perf_counter(), time.process_time())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--scales", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=0)
    given = parser.parse_args()
    if given.iterations < 2:
        parser.error("the time of a step takes at least two of them")
    options = [
        *("--size", str(given.size), "--scales", str(given.scales), "--tolerance", "0"),
        *("--iterations", str(given.iterations), "--quiet"),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = photos_in(folder / "photos", given.photos)
        style = str(STYLE)
        # Whatever is measured or exported once on a machine is there before anything is timed.
        command("stylize", str(photos[0]), style, "-o", str(folder / "first.png"), *options)

        alone = Taken(0, 0)
        for photo in photos:
            out = str(folder / f"alone-{photo.name}")
            took = command("stylize", str(photo), style, "-o", out, *options)
            alone = Taken(alone.clock + took.clock, alone.processor + took.processor)

        batch = ["batch", str(folder / "photos"), "--style", style, *options]
        together = command(*batch, "--out-dir", str(folder / "together"))
        again = command(*batch, "--out-dir", str(folder / "together"))
        beside = None
        if given.jobs:
            jobs = ["--jobs", str(given.jobs)]
            beside = command(*batch, "--out-dir", str(folder / "beside"), *jobs)

        own = own_work(
            photos[0],
            StylizeOptions.of(
                size=given.size, scales=given.scales, iterations=given.iterations, tolerance=0.0
            ),
        )
    own = Taken(given.photos * own.clock, given.photos * own.processor)

    print(
        f"{given.photos} photos, {given.size} pixels, {given.scales} scales, {given.iterations} "
        "steps each: seconds of the clock and of the processor"
    )
    rows = {"as commands": alone, "as a batch": together, "as a batch, done before": again}
    if beside:
        rows[f"as a batch, {given.jobs} jobs"] = beside
    rows["of it the photos' own work"] = own
    for words, taken in rows.items():
        print(f"  {words:28} {taken.clock:7.1f} {taken.processor:7.1f}")
    saved = [
        100 * (1 - max(0.0, all_in_one - work) / (one_by_one - work))
        for one_by_one, all_in_one, work in (
            (alone.clock, together.clock, own.clock),
            (alone.processor, together.processor, own.processor),
        )
    ]
    print(f"  {'saved of all else':28} {saved[0]:5.0f} % {saved[1]:5.0f} %")


def photos_in(folder: Path, count: int) -> list[Path]:
    """So many different photos of one shape."""
    folder.mkdir()
    with Image.open(EXAMPLES / "cat.jpg") as picture:
        small = picture.convert("RGB").resize((480, 320))
    paths = [folder / f"{number:02}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        # Each a step further to the right.
        small.crop((4 * number, 0, 4 * number + 384, 256)).save(path, quality=95)
    return paths


if __name__ == "__main__":
    main()
