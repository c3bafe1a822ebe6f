"""Measure nstrt and other programs alternately: step time, peak memory, time to equal loss.

    python benchmarks/speed.py [--sizes 512,1024] [--ours auto engine=torch precision=bf16]

Writes docs/benchmarks.json, docs/benchmarks.md and the plots; ``--page-only`` rewrites the last two
without measuring. Runs on Linux and macOS only, because the system reports the peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curves import constant_pace_curve, loss_curve, median, seconds_per_step, time_to_reach
from environment import load_average, machine, package_versions
from inputs import Pair, prepare
from page import size_section, write
from peers.objective import objective
from spawn import Outcome, ProgramError, spawn

from nstrt.runtime import StylizeOptions
from nstrt.runtime.errors import NstrtError
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.options.text import parse_option
from nstrt.runtime.planning.plan import plan_scales
from nstrt.runtime.system.host import default_threads

ROOT = Path(__file__).parents[1]
HISTORY = 100
FORMAT = 1
CHECKOUTS = ("style-transfer-pytorch", "neural-style-pt")
"""Programs that run if the folder of a checkout is given."""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _arguments(arguments)
    store = args.docs / "benchmarks.json"
    if args.page_only:
        _print_paths(write(json.loads(store.read_text()), args.docs))
        return
    entries = [Entry.parse(words) for words in args.ours]
    results = {
        "format": FORMAT,
        "machine": machine(args.threads),
        "versions": package_versions(),
        "sizes": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            bench = Bench(args=args, entries=entries, size=size, folder=Path(folder))
            section = bench.section()
            results["sizes"][str(size)] = section
            print("\n".join(size_section(str(size), section)), flush=True)
            if not args.no_pages:
                # Stored after each size, so that a stopped run keeps its results.
                results = merge_results(results, _load_results(store))
                args.docs.mkdir(parents=True, exist_ok=True)
                store.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                _print_paths(write(results, args.docs))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--content", type=Path, default=ROOT / "examples" / "cat.jpg")
    add("--style", type=Path, default=ROOT / "examples" / "night.jpg")
    add("--sizes", type=_sizes, default=None, help="long sides, default 512,1024")
    add("--steps", type=int, default=None, help="steps of a step-time run, default 8")
    add("--repeats", type=int, default=None, help="of the step-time runs, A B A B, default 3")
    add("--threads", type=int, default=default_threads(), help="for every program, default all")
    add("--target-steps", type=int, default=None, help="of pastiche, default 200")
    add("--target-repeats", type=int, default=1, help="of the runs to a loss, A B A B")
    add(
        "--target-options",
        default="scales=1,history=50,clamp=false,tolerance=0",
        help="nstrt's options in the runs to a loss; those of an entry go before",
    )
    add(
        "--target-margin",
        type=float,
        default=0.0,
        help="share by which nstrt's own loss must be below pastiche's before it stops",
    )
    add(
        "--ours",
        nargs="+",
        default=["auto"],
        help="variants of nstrt: auto, or options such as engine=torch,precision=bf16",
    )
    add("--only", choices=("step", "memory", "target"), help="memory: one repeat of the steps")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where every program computes")
    add("--quick", action="store_true", help="256 pixels, few steps, no pages: a try-out")
    add("--pastiche-reference", type=Path, help="file with pastiche's losses: used, or filled")
    add("--style-transfer-pytorch", type=Path, help="folder of a checkout")
    add("--neural-style-pt", type=Path, help="folder of a checkout")
    add(
        "--passive-peers",
        action="store_true",
        help="let the others' threads sleep while they wait, as nstrt's do",
    )
    add("--no-pages", action="store_true", help="only print")
    add("--page-only", action="store_true", help="make the pages from benchmarks.json")
    add("--docs", type=Path, default=ROOT / "docs", help="where the pages go")
    args = parser.parse_args(arguments)
    usual = ([256], 4, 1, 20) if args.quick else ([512, 1024], 8, 3, 200)
    for name, value in zip(("sizes", "steps", "repeats", "target_steps"), usual, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.no_pages = args.no_pages or args.quick
    if args.only == "memory":
        args.repeats = 1
    if args.steps < 2 or args.repeats < 1 or args.target_steps < 1 or args.target_repeats < 1:
        parser.error("at least 2 steps, 1 repeat and 1 step of pastiche are needed")
    return args


def _sizes(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


@dataclass(frozen=True)
class Entry:
    """Variant of nstrt: its name in the tables and its options."""

    name: str
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, words: str) -> Entry:
        """Parse ``auto`` or ``engine=torch,iterations=60,40,25``."""
        if words == "auto":
            return cls("nstrt", {})
        return cls(f"nstrt {words}", parse_options(words))


def parse_options(words: str) -> dict[str, Any]:
    """Parse options of the form ``name=value,name=value``; a list is ``iterations=60,40,25``.

    :class:`StylizeOptions` checks names and ranges.
    """
    options: dict[str, Any] = {}
    for chunk in re.split(r",(?=[a-z_0-9]+=)", words) if words else ():
        name, equals, value = chunk.partition("=")
        if not equals:
            raise SystemExit(f"'{chunk}' is no option; write name=value.")
        options[name] = _value(name, value)
    return options


def _value(name: str, text: str) -> Any:
    if name not in OPTIONS:
        return text
    value = parse_option(name, text)
    return list(value) if isinstance(value, tuple) else value


@dataclass
class Bench:
    """Measurements of one picture size."""

    args: argparse.Namespace
    entries: Sequence[Entry]
    size: int
    folder: Path

    def section(self) -> dict[str, Any]:
        """Measure everything requested and return it as plain numbers."""
        args = self.args
        self.pair = prepare(args.content, args.style, self.size, self.folder)
        section: dict[str, Any] = {
            "content": args.content.name,
            "style": args.style.name,
            "width": self.pair.size[0],
            "height": self.pair.size[1],
            "style_width": self.pair.style_size[0],
            "style_height": self.pair.style_size[1],
            "digest": self.pair.digest,
        }
        self._prepare_ours()
        if args.only != "target":
            section["step"] = self._steps()
        if args.only in (None, "target"):
            section["target"] = self._target(section.get("step"))
        return section

    def _prepare_ours(self) -> None:
        for entry in self.entries:
            self._options(entry.options)
            self._log(f"{entry.name} gets ready")
            options = {**parse_options(self.args.target_options), **entry.options}
            self._ours({**options, "iterations": [1]})

    def _steps(self) -> dict[str, Any]:
        args = self.args
        measured: dict[str, Any] = {**_now(), "steps": args.steps, "history": HISTORY}
        measured |= {"passive_peers": args.passive_peers}
        measured |= {"rates": [], "runs": {}, "left_out": []}
        for repeat in range(1, args.repeats + 1):
            rate = self._spawn("run_rate.py").done["gflops"]
            measured["rates"].append(rate)
            for name in self._programs():
                if name in measured["left_out"]:
                    continue
                self._log(f"repeat {repeat} of {args.repeats}: {name}")
                try:
                    outcome = self._step_time_run(name)
                except ProgramError as error:
                    if name not in CHECKOUTS:
                        raise
                    # A failing checkout must not abort the whole measurement.
                    self._log(f"{name} is left out: {error}")
                    measured["left_out"].append(name)
                    continue
                measured["runs"].setdefault(name, []).append(_step_run(outcome))
        return measured

    def _programs(self) -> list[str]:
        names = [entry.name for entry in self.entries] + ["pastiche"]
        return names + [
            name for name in CHECKOUTS if getattr(self.args, name.replace("-", "_")) is not None
        ]

    def _step_time_run(self, name: str) -> Outcome:
        """Run a program once to measure its step time."""
        if name == "pastiche":
            return self._pastiche(self.args.steps, final=False)
        if name == "style-transfer-pytorch":
            checkout = _checkout(self.args.style_transfer_pytorch, "style_transfer")
            return self._peer("run_style_transfer_pytorch.py", checkout=checkout)
        if name == "neural-style-pt":
            checkout = _checkout(self.args.neural_style_pt, "neural_style.py")
            weights = self.folder / "vgg19-original.pth"
            if not weights.exists():
                self._spawn("write_weights.py", path=str(weights))
            more = {"weights": str(weights), "output": str(self.folder / "peer.png")}
            return self._peer("run_neural_style_pt.py", checkout=checkout, **more)
        (entry,) = (entry for entry in self.entries if entry.name == name)
        one_scale = {"scales": 1, "iterations": [self.args.steps], "history": HISTORY}
        return self._ours({**entry.options, **one_scale})

    def _target(self, step: Mapping[str, Any] | None) -> dict[str, Any]:
        args = self.args
        target: dict[str, Any] = {**_now(), "steps": args.target_steps}
        target |= {"passive_peers": args.passive_peers, "options": args.target_options}
        target |= {"pastiche": [], "ours": {}}
        for repeat in range(1, args.target_repeats + 1):
            of = f"to the loss, repeat {repeat} of {args.target_repeats}"
            self._log(f"{of}: pastiche")
            theirs = self._pastiche_curve(step)
            target["pastiche"].append(theirs)
            for entry in self.entries:
                self._log(f"{of}: {entry.name}")
                run = self._reach(entry, theirs["loss"] * (1 - args.target_margin))
                target["ours"].setdefault(entry.name, []).append(run)
        return target

    def _pastiche_curve(self, step: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return pastiche's losses by time, from a run or from stored losses and step times."""
        args = self.args
        store = Reference(args.pastiche_reference)
        key = reference_key(self.pair, args.target_steps)
        stored = store.find(key)
        if stored is not None:
            runs = (
                step["runs"]["pastiche"] if step else [_step_run(self._step_time_run("pastiche"))]
            )
            ready = median(run["start"] for run in runs)
            pace = median(median(run["seconds"]) for run in runs)
            return {
                "stored": True,
                "seconds": ready + args.target_steps * pace,
                "loss": stored["losses"][-1],
                "clamped_loss": stored["clamped_loss"],
                "curve": constant_pace_curve(stored["losses"], ready, pace),
                "ready": ready,
                "pace": pace,
                "others": max(run["others"] for run in runs),
            }
        outcome = self._pastiche(args.target_steps, final=True)
        ready, final = outcome.ready["seconds"], outcome.done["loss"]
        curve = loss_curve(ready, outcome.steps, final)
        clamped = outcome.done["clamped_loss"]
        store.put(key, {"losses": [loss for _, loss in curve], "clamped_loss": clamped})
        return {
            "stored": False,
            "seconds": curve[-1][0],
            "loss": final,
            "clamped_loss": clamped,
            "curve": curve,
            "ready": ready,
            "peak": outcome.peak,
            "others": outcome.others,
        }

    def _reach(self, entry: Entry, goal: float) -> dict[str, Any]:
        """Run nstrt until its loss reaches ``goal``; evaluate the picture with pastiche."""
        picture = self.folder / "ours.npy"
        options = self._schedule({**parse_options(self.args.target_options), **entry.options})
        outcome = self._ours(options, stop_at=goal, save=str(picture))
        curve = [(s["seconds"], s["loss"]) for s in outcome.steps if s["scale"] == s["finest"]]
        judge = self._spawn("run_pastiche.py", mode="judge", picture=str(picture), **self._files())
        return {
            "goal": goal,
            "reached": time_to_reach(curve, goal),
            "curve": curve,
            "ready": outcome.ready["seconds"],
            "seconds": outcome.done["seconds"],
            "loss": outcome.done["loss"],
            "judged": judge.done["loss"],
            "steps": outcome.done["steps"],
            "peak": outcome.peak,
            "others": outcome.others,
            **{name: outcome.ready[name] for name in ("engine", "precision", "scales")},
        }

    def _schedule(self, options: dict[str, Any]) -> dict[str, Any]:
        """Add the preset's steps of each scale, with as many as pastiche's at the finest."""
        if "iterations" in options:
            return options
        scales = plan_scales(
            self._options(options),
            photo=self.pair.size,
            painting=self.pair.style_size,
            default=self.size,
        )
        steps = [scale.iterations for scale in scales[:-1]]
        return {**options, "iterations": [*steps, self.args.target_steps]}

    def _options(self, options: Mapping[str, Any]) -> StylizeOptions:
        """Build the options; invalid ones raise before anything is measured."""
        return StylizeOptions.of(**{**objective(), "size": self.size, **options})

    def _ours(self, options: Mapping[str, Any], **more: Any) -> Outcome:
        content, style = str(self.pair.content), str(self.pair.style)
        settings = {"content": content, "style": style, "size": self.size, **more}
        return self._spawn("run_ours.py", options=dict(options), **settings)

    def _pastiche(self, steps: int, *, final: bool) -> Outcome:
        return self._spawn("run_pastiche.py", mode="run", steps=steps, final=final, **self._files())

    def _peer(self, script: str, **more: Any) -> Outcome:
        return self._spawn(script, steps=self.args.steps, **self._files(), **more)

    def _files(self) -> dict[str, Any]:
        """Return paths of the pictures and their sizes as height and width."""
        return {
            "content": str(self.pair.content),
            "style": str(self.pair.style),
            "size": self.pair.size[::-1],
            "style_size": self.pair.style_size[::-1],
        }

    def _spawn(self, script: str, **settings: Any) -> Outcome:
        passive = self.args.passive_peers
        device = self.args.device
        return spawn(script, threads=self.args.threads, passive=passive, device=device, **settings)

    def _log(self, message: str) -> None:
        print(f"{self.size} px, {message}", file=sys.stderr, flush=True)


class Reference:
    """JSON file of pastiche's losses from earlier runs, which take long."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the stored values of a key."""
        values: dict[str, Any] | None = self._all().get(key)
        return values

    def put(self, key: str, values: Mapping[str, Any]) -> None:
        """Store values, if a file is set."""
        if self.path is not None:
            self.path.write_text(json.dumps({**self._all(), key: {**_now(), **values}}) + "\n")

    def _all(self) -> dict[str, Any]:
        if self.path is None or not self.path.exists():
            return {}
        stored: dict[str, Any] = json.loads(self.path.read_text())
        return stored


def reference_key(pair: Pair, steps: int) -> str:
    """Return a key of everything that pastiche's losses depend on: pictures, steps and versions."""
    versions = package_versions()
    width, height = pair.size
    torch, pastiche = versions.get("torch"), versions.get("pastiche")
    return f"{pair.digest} {width}x{height} {steps} steps torch {torch} pastiche {pastiche}"


def merge_results(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add old results that were not measured again, for equal machine, versions and pictures."""
    merged = dict(new)
    same = ("format", "machine", "versions")
    if old is None or any(old.get(name) != new[name] for name in same):
        return merged
    sizes = dict(old["sizes"])
    for size, section in new["sizes"].items():
        before = sizes.get(size, {})
        alike = before.get("digest") == section["digest"]
        sizes[size] = {**before, **section} if alike else section
    merged["sizes"] = sizes
    return merged


def _step_run(outcome: Outcome) -> dict[str, Any]:
    paces = seconds_per_step(outcome.times)
    run = {
        "seconds": paces,
        # Time before the first step, assuming that it took as long as the others.
        "start": outcome.times[0] - median(paces),
        "first_loss": outcome.steps[0]["loss"],
        "peak": outcome.peak,
        "others": outcome.others,
    }
    return run | {name: outcome.ready.get(name) for name in ("engine", "precision")}


def _checkout(folder: Path, holds: str) -> str:
    if not (folder / holds).exists():
        raise ProgramError(f"{folder} holds no {holds}: give the folder of a checkout.")
    return str(folder.resolve())


def _now() -> dict[str, Any]:
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "load": load_average()}


def _load_results(store: Path) -> dict[str, Any] | None:
    if not store.exists():
        return None
    results: dict[str, Any] = json.loads(store.read_text())
    return results


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"wrote {os.path.relpath(path)}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (ProgramError, NstrtError) as error:
        raise SystemExit(str(error)) from error
