"""Compare one batch with single commands: the share of start-up and targets that it saves.

    python benchmarks/batch.py [--photos 12] [--size 96] [--iterations 3] [--jobs 2]

A batch cannot save the work on each photo: its steps and, at each scale, two forward passes (for
its content targets and for the final loss). A run in a warm process measures that work. The
remainder is start-up and style targets: loading Python, torch and the network, choosing the engine,
and the Gram matrices. The output shows wall and processor time; the latter is meaningful on a busy
machine too. With --jobs the batch also runs in this many processes.
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
class Times:
    """Wall and processor time in seconds."""

    clock: float
    processor: float


def command(*arguments: str) -> Times:
    """Run one command and measure it."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "nstrt.plugins.cli", *arguments]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Times(
        time.perf_counter() - began,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def work_per_photo(photo: Path, options: StylizeOptions) -> Times:
    """Measure the work on one photo without start-up and style targets."""
    transfer = StyleTransfer(options)
    transfer.stylize(photo, STYLE)
    clock = processor = 0.0
    steps: list[Times] = []
    before = _now()
    for event in transfer.run(photo, STYLE):
        now = _now()
        took = Times(now.clock - before.clock, now.processor - before.processor)
        before = now
        # The first step of a scale includes its targets.
        if isinstance(event, Step) and event.iteration > 1:
            steps.append(took)
        elif isinstance(event, ScaleDone):
            count = event.iteration / len(steps)
            clock += count * sum(step.clock for step in steps) + 2 * took.clock
            processor += count * sum(step.processor for step in steps) + 2 * took.processor
            steps.clear()
    return Times(clock, processor)


def _now() -> Times:
    return Times(time.perf_counter(), time.process_time())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--scales", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=0)
    args = parser.parse_args()
    if args.iterations < 2:
        parser.error("the time of a step takes at least two of them")
    options = [
        *("--size", str(args.size), "--scales", str(args.scales), "--tolerance", "0"),
        *("--iterations", str(args.iterations), "--quiet"),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = write_photos(folder / "photos", args.photos)
        style = str(STYLE)
        # The first command exports the model and stores measurements before anything is timed.
        command("stylize", str(photos[0]), style, "-o", str(folder / "first.png"), *options)

        alone = Times(0, 0)
        for photo in photos:
            out = str(folder / f"alone-{photo.name}")
            took = command("stylize", str(photo), style, "-o", out, *options)
            alone = Times(alone.clock + took.clock, alone.processor + took.processor)

        batch = ["batch", str(folder / "photos"), "--style", style, *options]
        together = command(*batch, "--out-dir", str(folder / "together"))
        again = command(*batch, "--out-dir", str(folder / "together"))
        beside = None
        if args.jobs:
            jobs = ["--jobs", str(args.jobs)]
            beside = command(*batch, "--out-dir", str(folder / "beside"), *jobs)

        photo_work = work_per_photo(
            photos[0],
            StylizeOptions.of(
                size=args.size, scales=args.scales, iterations=args.iterations, tolerance=0.0
            ),
        )
    photo_work = Times(args.photos * photo_work.clock, args.photos * photo_work.processor)

    print(
        f"{args.photos} photos, {args.size} pixels, {args.scales} scales, {args.iterations} "
        "steps each: seconds of the clock and of the processor"
    )
    rows = {"as commands": alone, "as a batch": together, "as a batch, done before": again}
    if beside:
        rows[f"as a batch, {args.jobs} jobs"] = beside
    rows["of it the photos' own work"] = photo_work
    for words, times in rows.items():
        print(f"  {words:28} {times.clock:7.1f} {times.processor:7.1f}")
    saved = [
        100 * (1 - max(0.0, all_in_one - work) / (one_by_one - work))
        for one_by_one, all_in_one, work in (
            (alone.clock, together.clock, photo_work.clock),
            (alone.processor, together.processor, photo_work.processor),
        )
    ]
    print(f"  {'saved of all else':28} {saved[0]:5.0f} % {saved[1]:5.0f} %")


def write_photos(folder: Path, count: int) -> list[Path]:
    """Write ``count`` different photos of one size."""
    folder.mkdir()
    with Image.open(EXAMPLES / "cat.jpg") as picture:
        small = picture.convert("RGB").resize((480, 320))
    paths = [folder / f"{number:02}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        # Each crop lies 4 pixels further to the right.
        small.crop((4 * number, 0, 4 * number + 384, 256)).save(path, quality=95)
    return paths


if __name__ == "__main__":
    main()
