"""Write docs/benchmarks.md and its plots from docs/benchmarks.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curves import median, ratios, time_to_reach
from flops import floor_seconds, step_flops
from plot import Line, draw

__all__ = ["LAYERS", "page_text", "plot_of", "size_section", "write"]

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")
"""Loss layers of the compared objective."""

NOTES = {
    "pastiche": "pastiche: its own class, L-BFGS with a history of 100.",
    "style-transfer-pytorch": (
        "style-transfer-pytorch: its own class from a checkout, with Adam, and with the original "
        "VGG19 weights in place of torchvision's, which are a download. Its losses are its own, "
        "with covariances and total variation, so its work is not quite the same."
    ),
    "neural-style-pt": (
        "neural-style-pt: its own script from a checkout, L-BFGS with a history of 100, from the "
        "photo, without total variation, the original VGG19 weights."
    ),
}

QUIET = 0.15
"""Largest load of other processes, in processors, of an undisturbed run."""

SAME = 1e-4
"""Relative difference up to which two losses count as equal."""


def write(results: Mapping[str, Any], docs: Path) -> list[Path]:
    """Write the page and a plot for each size with curves; return the paths."""
    written = []
    for size, section in results["sizes"].items():
        drawn = plot_of(size, section)
        if drawn is not None:
            path = docs / "pictures" / f"bench-{size}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(drawn, encoding="utf-8")
            written.append(path)
    page = docs / "benchmarks.md"
    page.write_text(page_text(results), encoding="utf-8")
    return [*written, page]


def page_text(results: Mapping[str, Any]) -> str:
    """Return the whole page."""
    peers = {name for section in results["sizes"].values() for name in _programs(section)}
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench` (`benchmarks/speed.py`) from the numbers in "
        "[benchmarks.json](benchmarks.json). It runs nstrt and other programs in turn, A B A B, "
        "each in a process of its own, on the same pictures (resized once, so that no program's "
        "own filter matters), at the same size, layers and number of threads. Settings: "
        "`python benchmarks/speed.py --help`. `make bench STYLE_TRANSFER_PYTORCH=folder "
        "NEURAL_STYLE_PT=folder` takes checkouts of these two in as well. The network's export "
        "and the choice of an engine, which nstrt does once in an installation's life, happen "
        "before anything is measured; all other start-up counts wherever times are given from "
        "the start. Threads wait as each program lets them: nstrt's sleep, as its command line "
        "makes them, while torch's own way is to spin, which costs much on a machine that has "
        "other work (`--passive-peers` makes all sleep).",
        "",
        "All programs start from the photo and look at "
        + ", ".join(LAYERS[:-1])
        + f" and {LAYERS[-1]}. nstrt minimises pastiche's objective, with its formula and weights.",
        "",
        *[f"- {NOTES[name]}" for name in NOTES if name in peers],
        "",
        "## Machine",
        "",
        *_table(["", ""], [*results["machine"].items(), *results["versions"].items()]),
    ]
    for size, section in sorted(results["sizes"].items(), key=lambda item: int(item[0])):
        lines += ["", *size_section(size, section)]
    return "\n".join(lines) + "\n"


def size_section(size: str, section: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one size: tables, plot and conclusions."""
    yield f"## {size} pixels"
    yield ""
    yield (
        f"{section['content']}, {section['width']} × {section['height']} pixels, in the manner of "
        f"{section['style']}, {section['style_width']} × {section['style_height']}."
    )
    if "step" in section:
        yield ""
        yield from _step_section(section)
    if "target" in section:
        yield ""
        yield from _loss_section(size, section)


def _step_section(section: Mapping[str, Any]) -> Iterator[str]:
    step = section["step"]
    flops = step_flops(section["width"], section["height"], LAYERS)
    rate = median(step["rates"])
    floor = floor_seconds(flops, rate)
    yield "### A step"
    yield ""
    yield (
        f"One scale, {step['steps']} steps, a history of {step['history']} for L-BFGS, no "
        f"previews. {_date_sentence(step)} By direct convolution a step takes "
        f"{flops / 1e9:.0f} GFLOP (forwards, and backwards to the picture); a matrix product in "
        f"single precision ran at {rate:.0f} GFLOP/s here "
        f"({', '.join(f'{r:.0f}' for r in step['rates'])}), so direct "
        f"convolution takes at least {_seconds(floor)} s. A program whose share is below 1 beats "
        "that. Seconds per step are the median of the steps after the first; the start is what "
        "came before the first step."
    )
    yield ""
    rows = []
    for name, runs in step["runs"].items():
        paces = [median(run["seconds"]) for run in runs]
        rows.append(
            [
                name,
                _seconds(median(paces)),
                ", ".join(_seconds(pace) for pace in paces),
                f"{median(paces) / floor:.2f}",
                f"{max(run['peak'] for run in runs):.0f}",
                _seconds(median(run["start"] for run in runs)),
                _engine_of(runs[0]),
            ]
        )
    heads = ["program", "s per step", "by repeat", "share of the floor", "peak MiB", "start, s"]
    yield from _table([*heads, "ran with"], rows)
    rows = list(_ratio_rows(step["runs"]))
    if rows:
        yield ""
        heads = ["nstrt over the other", "time per step", "by repeat", "peak memory"]
        yield from _table(heads, rows)
    if step.get("left_out"):
        yield ""
        yield f"Left out, because they did not run: {', '.join(step['left_out'])}."
    yield from _disturbance_notes(step, step["runs"])
    yield from _first_loss_note(step["runs"])


def _ratio_rows(runs: Mapping[str, Any]) -> Iterator[list[str]]:
    for ours in (name for name in runs if _is_ours(name)):
        for peer in (name for name in runs if not _is_ours(name)):
            paces = [[median(run["seconds"]) for run in runs[name]] for name in (ours, peer)]
            quotients = ratios(*paces)
            if not quotients:
                continue
            peaks = [max(run["peak"] for run in runs[name]) for name in (ours, peer)]
            yield [
                f"{ours} / {peer}",
                f"{median(quotients):.2f}",
                ", ".join(f"{value:.2f}" for value in quotients),
                f"{peaks[0] / peaks[1]:.2f}",
            ]


def _disturbance_notes(measured: Mapping[str, Any], runs: Mapping[str, Any]) -> Iterator[str]:
    """Yield notes on other load and on waiting threads."""
    if measured.get("passive_peers"):
        yield ""
        yield "All programs' threads slept while they waited (OMP_WAIT_POLICY=passive)."
    most = {name: max(run.get("others", 0.0) for run in repeats) for name, repeats in runs.items()}
    busy = {name: others for name, others in most.items() if others > QUIET}
    if busy:
        listed = ", ".join(f"{name} {others:.1f}" for name, others in busy.items())
        yield ""
        yield (
            "**Something else ran meanwhile**, so these times are not to be relied on. Processors "
            f"that it kept busy on average, at worst: {listed}."
        )


def _first_loss_note(runs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the programs' losses of the untouched photo."""
    if "pastiche" not in runs:
        return
    theirs = runs["pastiche"][0]["first_loss"]
    yield ""
    yield (
        f"Loss of the untouched photo: pastiche {theirs:,.2f}; "
        + "; ".join(
            f"{name} {repeats[0]['first_loss']:,.2f} "
            f"({_difference(repeats[0]['first_loss'], theirs)})"
            for name, repeats in runs.items()
            if _is_ours(name)
        )
        + "."
    )


def _loss_section(size: str, section: Mapping[str, Any]) -> Iterator[str]:
    target = section["target"]
    yield "### Time to the same loss"
    yield ""
    first = target["pastiche"][0]
    yield (
        f"pastiche takes {target['steps']} steps of L-BFGS. {_strategy_sentence(target)} and stops "
        "when its own loss at the full size is as low. Times are from the start of the process. "
        f"{_date_sentence(target)} pastiche's picture counts from the end of the step that made "
        "it, nstrt's from when its loss is known."
    )
    yield ""
    if any(run["stored"] for run in target["pastiche"]):
        yield (
            "**pastiche's losses are stored ones**, of an earlier run of the same steps on the "
            "same pictures with the same versions; its time is its start-up and "
            f"{target['steps']} times its seconds per step, both measured in this run: "
            f"{_seconds(first['ready'])} s and {_seconds(first['pace'])} s."
        )
        yield ""
    rows = [
        [
            "pastiche",
            _seconds(median(first_reached(run) for run in target["pastiche"])),
            "",
            f"{first['loss']:,.2f}",
            "",
            str(target["steps"]),
            _mib(target["pastiche"]),
        ]
    ]
    for name, runs in target["ours"].items():
        times = [time_to_reach(run["curve"], run["goal"]) for run in runs]
        reached = [time for time in times if time is not None]
        shares = [
            time / first_reached(peer)
            for time, peer in zip(times, target["pastiche"], strict=False)
            if time is not None
        ]
        rows.append(
            [
                name,
                _seconds(median(reached)) if reached else "not reached",
                f"{median(shares):.3f}" if shares else "",
                f"{runs[0]['loss']:,.2f}",
                "" if runs[0]["judged"] is None else f"{runs[0]['judged']:,.2f}",
                _steps_by_scale(runs[0]),
                _mib(runs),
            ]
        )
    heads = ["program", "seconds", "nstrt / pastiche", "its own loss", "loss by pastiche"]
    yield from _table([*heads, "steps", "peak MiB"], rows)
    yield ""
    yield from _verdicts(target)
    yield from _disturbance_notes(target, {**target["ours"], "pastiche": target["pastiche"]})
    yield ""
    yield f"![Loss against time at {size} pixels](pictures/bench-{size}.svg)"


def _strategy_sentence(target: Mapping[str, Any]) -> str:
    """Return the beginning of a sentence on nstrt's scales and options."""
    run = next(iter(target["ours"].values()))[0]
    if len(run["scales"]) > 1:
        way = "nstrt goes from coarse to fine"
    else:
        way = "nstrt starts from the photo at the full size, as pastiche does,"
    options = target.get("options")
    return f"{way} with `{options}`" if options else way


def _is_unclamped(target: Mapping[str, Any]) -> bool:
    """Return if nstrt does not clamp values to the range of a picture."""
    return "clamp=false" in (target.get("options") or "").split(",")


def first_reached(run: Mapping[str, Any]) -> float:
    """Return when pastiche first reached its final loss; its losses also rise."""
    time = time_to_reach(run["curve"], run["loss"])
    assert time is not None
    return time


def _verdicts(target: Mapping[str, Any]) -> Iterator[str]:
    goal = target["pastiche"][0]["loss"]
    for name, runs in target["ours"].items():
        run = runs[0]
        judged = run["judged"]
        if judged is None:
            yield f"- {name}'s final picture was not kept to be judged by pastiche's own formula."
            continue
        words = "reached" if judged <= goal * (1 + SAME) else "did not reach"
        yield (
            f"- {name} {words} pastiche's loss by pastiche's own formula, which finds "
            f"{judged:,.2f} for its final picture, against {goal:,.2f}; nstrt itself found "
            f"{run['loss']:,.2f} ({_difference(run['loss'], judged)})."
        )
    theirs = target["pastiche"][0]
    seconds, lowest = min(theirs["curve"], key=lambda point: point[1])
    if lowest < goal:
        yield (
            "- pastiche's steps may raise the loss. It first had the loss that it ends with after "
            f"{_seconds(first_reached(theirs))} s, which is the time that counts above, and its "
            f"lowest, {lowest:,.2f}, after {_seconds(seconds)} s; its last step ended after "
            f"{_seconds(theirs['seconds'])} s."
        )
    clamped = theirs.get("clamped_loss")
    if clamped is not None:
        ours = "here nstrt does too" if _is_unclamped(target) else "nstrt does not"
        yield (
            f"- pastiche lets values leave the range of a picture; {ours}. Brought into the range "
            f"as when it is saved, pastiche's picture has a loss of {clamped:,.2f}."
        )


def plot_of(size: str, section: Mapping[str, Any]) -> str | None:
    """Draw loss against time as SVG; ``None`` without curves."""
    if "target" not in section:
        return None
    target = section["target"]
    lines = [
        Line(name=f"{name}, full size", points=runs[0]["curve"])
        for name, runs in target["ours"].items()
    ]
    lines.append(Line(name="pastiche", points=target["pastiche"][0]["curve"]))
    goal = target["pastiche"][0]["loss"]
    return draw(
        lines,
        title=f"Loss against time, {section['width']} × {section['height']} pixels",
        x="seconds since the process was started",
        y="loss by pastiche's formula",
        level=(goal, f"pastiche after {target['steps']} steps"),
    )


def _programs(section: Mapping[str, Any]) -> set[str]:
    names = set(section.get("step", {}).get("runs", {}))
    return names | ({"pastiche"} if "target" in section else set())


def _is_ours(name: str) -> bool:
    return name.startswith("nstrt")


def _engine_of(run: Mapping[str, Any]) -> str:
    return ", ".join(str(run[key]) for key in ("engine", "precision") if run.get(key))


def _steps_by_scale(run: Mapping[str, Any]) -> str:
    """Return the steps of each scale; the finest only up to the goal."""
    scales = [steps for _, _, steps in run["scales"]]
    done = run["steps"] - sum(scales[:-1])
    return " + ".join(str(steps) for steps in [*scales[:-1], done])


def _mib(runs: Sequence[Mapping[str, Any]]) -> str:
    peaks = [run["peak"] for run in runs if run.get("peak")]
    return f"{max(peaks):.0f}" if peaks else ""


def _difference(loss: float, other: float) -> str:
    relative = abs(loss - other) / abs(other)
    return f"{relative:.1e} apart" + ("" if relative <= SAME else ", more than rounding")


def _date_sentence(measured: Mapping[str, Any]) -> str:
    load = measured.get("load")
    tail = "" if load is None else f", load average {load} at the start"
    return f"Measured on {measured['date']}{tail}."


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"
