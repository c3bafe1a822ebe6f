"""nstrt and its peers in turn: seconds per step, peak memory, time to the same loss.

    python benchmarks/speed.py [--sizes 512,1024] [--ours auto engine=torch precision=bf16]

Writes docs/benchmarks.json, and from it docs/benchmarks.md and the plots; ``--page-only`` makes
these again without measuring. Linux and macOS only: the peak memory is the system's own count.
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

from curves import median, seconds_per_step, shifted, time_to_reach, timed
from facts import load, machine, package_versions
from page import part, write
from peers.objective import objective
from same import Pair, prepare
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
"""Programs that take part when the folder of a checkout is given."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = _arguments(arguments)
    store = given.docs / "benchmarks.json"
    if given.page_only:
        _report(write(json.loads(store.read_text()), given.docs))
        return
    entries = [Entry.parse(words) for words in given.ours]
    results = {
        "format": FORMAT,
        "machine": machine(given.threads),
        "versions": package_versions(),
        "sizes": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            bench = Bench(given=given, entries=entries, size=size, folder=Path(folder))
            section = bench.section()
            results["sizes"][str(size)] = section
            print("\n".join(part(str(size), section)), flush=True)
            if not given.no_pages:
                # After each size: a long run that is stopped keeps what it has.
                results = merged(results, _earlier(store))
                given.docs.mkdir(parents=True, exist_ok=True)
                store.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                _report(write(results, given.docs))


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
    given = parser.parse_args(arguments)
    usual = ([256], 4, 1, 20) if given.quick else ([512, 1024], 8, 3, 200)
    for name, value in zip(("sizes", "steps", "repeats", "target_steps"), usual, strict=True):
        if getattr(given, name) is None:
            setattr(given, name, value)
    given.no_pages = given.no_pages or given.quick
    if given.only == "memory":
        given.repeats = 1
    if given.steps < 2 or given.repeats < 1 or given.target_steps < 1 or given.target_repeats < 1:
        parser.error("at least 2 steps, 1 repeat and 1 step of pastiche are needed")
    return given


def _sizes(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


@dataclass(frozen=True)
class Entry:
    """One variant of nstrt: its name in the tables, and the options that it sets."""

    name: str
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, words: str) -> Entry:
        """From ``auto`` or ``engine=torch,iterations=60,40,25``."""
        if words == "auto":
            return cls("nstrt", {})
        return cls(f"nstrt {words}", parse_options(words))


def parse_options(words: str) -> dict[str, Any]:
    """Parse ``name=value,name=value``; lists are ``iterations=60,40,25``.

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
    """The measurements of one size."""

    given: argparse.Namespace
    entries: Sequence[Entry]
    size: int
    folder: Path

    def section(self) -> dict[str, Any]:
        """Everything that was asked for, as plain numbers."""
        given = self.given
        self.pair = prepare(given.content, given.style, self.size, self.folder)
        section: dict[str, Any] = {
            "content": given.content.name,
            "style": given.style.name,
            "width": self.pair.size[0],
            "height": self.pair.size[1],
            "style_width": self.pair.style_size[0],
            "style_height": self.pair.style_size[1],
            "digest": self.pair.digest,
        }
        self._prepare_ours()
        if given.only != "target":
            section["step"] = self._steps()
        if given.only in (None, "target"):
            section["target"] = self._target(section.get("step"))
        return section

    def _prepare_ours(self) -> None:
        for entry in self.entries:
            self._options(entry.options)
            self._say(f"{entry.name} gets ready")
            options = {**parse_options(self.given.target_options), **entry.options}
            self._ours({**options, "iterations": [1]})

    def _steps(self) -> dict[str, Any]:
        given = self.given
        measured: dict[str, Any] = {**_now(), "steps": given.steps, "history": HISTORY}
        measured |= {"passive_peers": given.passive_peers}
        measured |= {"rates": [], "runs": {}, "left_out": []}
        for repeat in range(1, given.repeats + 1):
            rate = self._spawn("run_rate.py").done["gflops"]
            measured["rates"].append(rate)
            for name in self._programs():
                if name in measured["left_out"]:
                    continue
                self._say(f"repeat {repeat} of {given.repeats}: {name}")
                try:
                    outcome = self._one(name)
                except ProgramError as error:
                    if name not in CHECKOUTS:
                        raise
                    # Somebody else's checkout must not cost the whole measurement.
                    self._say(f"{name} is left out: {error}")
                    measured["left_out"].append(name)
                    continue
                measured["runs"].setdefault(name, []).append(_step_run(outcome))
        return measured

    def _programs(self) -> list[str]:
        names = [entry.name for entry in self.entries] + ["pastiche"]
        return names + [
            name for name in CHECKOUTS if getattr(self.given, name.replace("-", "_")) is not None
        ]

    def _one(self, name: str) -> Outcome:
        """One step-time run of a program."""
        if name == "pastiche":
            return self._pastiche(self.given.steps, final=False)
        if name == "style-transfer-pytorch":
            checkout = _checkout(self.given.style_transfer_pytorch, "style_transfer")
            return self._peer("run_style_transfer_pytorch.py", checkout=checkout)
        if name == "neural-style-pt":
            checkout = _checkout(self.given.neural_style_pt, "neural_style.py")
            weights = self.folder / "vgg19-original.pth"
            if not weights.exists():
                self._spawn("write_weights.py", path=str(weights))
            more = {"weights": str(weights), "output": str(self.folder / "peer.png")}
            return self._peer("run_neural_style_pt.py", checkout=checkout, **more)
        (entry,) = (entry for entry in self.entries if entry.name == name)
        one_scale = {"scales": 1, "iterations": [self.given.steps], "history": HISTORY}
        return self._ours({**entry.options, **one_scale})

    def _target(self, step: Mapping[str, Any] | None) -> dict[str, Any]:
        given = self.given
        target: dict[str, Any] = {**_now(), "steps": given.target_steps}
        target |= {"passive_peers": given.passive_peers, "options": given.target_options}
        target |= {"pastiche": [], "ours": {}}
        for repeat in range(1, given.target_repeats + 1):
            of = f"to the loss, repeat {repeat} of {given.target_repeats}"
            self._say(f"{of}: pastiche")
            theirs = self._pastiche_curve(step)
            target["pastiche"].append(theirs)
            for entry in self.entries:
                self._say(f"{of}: {entry.name}")
                run = self._reach(entry, theirs["loss"] * (1 - given.target_margin))
                target["ours"].setdefault(entry.name, []).append(run)
        return target

    def _pastiche_curve(self, step: Mapping[str, Any] | None) -> dict[str, Any]:
        """pastiche's losses by time: run now, or stored and timed by steps that ran now."""
        given = self.given
        store = Reference(given.pastiche_reference)
        key = reference_key(self.pair, given.target_steps)
        stored = store.find(key)
        if stored is not None:
            runs = step["runs"]["pastiche"] if step else [_step_run(self._one("pastiche"))]
            ready = median(run["start"] for run in runs)
            pace = median(median(run["seconds"]) for run in runs)
            return {
                "stored": True,
                "seconds": ready + given.target_steps * pace,
                "loss": stored["losses"][-1],
                "clamped_loss": stored["clamped_loss"],
                "curve": timed(stored["losses"], ready, pace),
                "ready": ready,
                "pace": pace,
                "others": max(run["others"] for run in runs),
            }
        outcome = self._pastiche(given.target_steps, final=True)
        ready, final = outcome.ready["seconds"], outcome.done["loss"]
        curve = shifted(ready, outcome.steps, final)
        clamped = outcome.done["clamped_loss"]
        store.keep(key, {"losses": [loss for _, loss in curve], "clamped_loss": clamped})
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
        """nstrt until its loss is as low, and that loss by pastiche's own formula."""
        picture = self.folder / "ours.npy"
        options = self._schedule({**parse_options(self.given.target_options), **entry.options})
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
        """The preset's steps from coarse to fine, at the finest as many as pastiche takes."""
        if "iterations" in options:
            return options
        scales = plan_scales(
            self._options(options),
            photo=self.pair.size,
            painting=self.pair.style_size,
            default=self.size,
        )
        steps = [scale.iterations for scale in scales[:-1]]
        return {**options, "iterations": [*steps, self.given.target_steps]}

    def _options(self, options: Mapping[str, Any]) -> StylizeOptions:
        """Checked before anything is measured."""
        return StylizeOptions.of(**{**objective(), "size": self.size, **options})

    def _ours(self, options: Mapping[str, Any], **more: Any) -> Outcome:
        content, style = str(self.pair.content), str(self.pair.style)
        settings = {"content": content, "style": style, "size": self.size, **more}
        return self._spawn("run_ours.py", options=dict(options), **settings)

    def _pastiche(self, steps: int, *, final: bool) -> Outcome:
        return self._spawn("run_pastiche.py", mode="run", steps=steps, final=final, **self._files())

    def _peer(self, script: str, **more: Any) -> Outcome:
        return self._spawn(script, steps=self.given.steps, **self._files(), **more)

    def _files(self) -> dict[str, Any]:
        """The pictures, with sizes as height and width."""
        return {
            "content": str(self.pair.content),
            "style": str(self.pair.style),
            "size": self.pair.size[::-1],
            "style_size": self.pair.style_size[::-1],
        }

    def _spawn(self, script: str, **settings: Any) -> Outcome:
        passive = self.given.passive_peers
        device = self.given.device
        return spawn(script, threads=self.given.threads, passive=passive, device=device, **settings)

    def _say(self, words: str) -> None:
        print(f"{self.size} px, {words}", file=sys.stderr, flush=True)


class Reference:
    """pastiche's losses of earlier runs in a JSON file: 200 steps at 1024 pixels take long."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def find(self, key: str) -> dict[str, Any] | None:
        """What is stored for a key."""
        found: dict[str, Any] | None = self._all().get(key)
        return found

    def keep(self, key: str, values: Mapping[str, Any]) -> None:
        """Store it, if there is a file to store it in."""
        if self.path is not None:
            self.path.write_text(json.dumps({**self._all(), key: {**_now(), **values}}) + "\n")

    def _all(self) -> dict[str, Any]:
        if self.path is None or not self.path.exists():
            return {}
        stored: dict[str, Any] = json.loads(self.path.read_text())
        return stored


def reference_key(pair: Pair, steps: int) -> str:
    """What pastiche's losses depend on: pictures at their size, steps, versions."""
    versions = package_versions()
    width, height = pair.size
    torch, pastiche = versions.get("torch"), versions.get("pastiche")
    return f"{pair.digest} {width}x{height} {steps} steps torch {torch} pastiche {pastiche}"


def merged(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
    """New results, with old ones of what was not measured now, if they are of the same machine,
    versions and pictures."""
    kept = dict(new)
    same = ("format", "machine", "versions")
    if old is None or any(old.get(name) != new[name] for name in same):
        return kept
    sizes = dict(old["sizes"])
    for size, section in new["sizes"].items():
        before = sizes.get(size, {})
        alike = before.get("digest") == section["digest"]
        sizes[size] = {**before, **section} if alike else section
    kept["sizes"] = sizes
    return kept


def _step_run(outcome: Outcome) -> dict[str, Any]:
    paces = seconds_per_step(outcome.times)
    run = {
        "seconds": paces,
        # What came before the first step, if that took as long as the others.
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
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "load": load()}


def _earlier(store: Path) -> dict[str, Any] | None:
    if not store.exists():
        return None
    found: dict[str, Any] = json.loads(store.read_text())
    return found


def _report(paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"wrote {os.path.relpath(path)}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (ProgramError, NstrtError) as error:
        raise SystemExit(str(error)) from error
