"""Draw a line plot with logarithmic axes as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

__all__ = ["Line", "draw", "ticks"]

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 46, 58
COLORS = ("#0b62a4", "#d1495b", "#2e8b57", "#8e5ea2", "#c77f1a", "#5b6770")
INK, FAINT = "#222222", "#dddddd"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Curve of one program."""

    name: str
    points: Sequence[tuple[float, float]]
    """Positive x and y, in order."""


def draw(
    lines: Sequence[Line],
    *,
    title: str,
    x: str,
    y: str,
    level: tuple[float, str] | None = None,
) -> str:
    """Draw the plot as SVG text; ``level`` is a dashed horizontal line and its label."""
    lines = [Line(name=line.name, points=_positive(line.points)) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        raise ValueError("there is nothing to draw")
    xs = [point[0] for line in lines for point in line.points]
    ys = [point[1] for line in lines for point in line.points]
    if level is not None:
        ys.append(level[0])
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    upright = f' transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" '
        f'fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(WIDTH / 2, 24, title, anchor="middle", more=' font-size="15"'),
        *_grid(across, up),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x, anchor="middle"),
        _text(0, 0, y, anchor="middle", more=upright),
    ]
    entries = []
    drawn: list[tuple[float, float]] = []
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        points = [(across(x), up(y)) for x, y in line.points]
        parts += _curve(points, color)
        entries.append((line.name, color, ' stroke-width="2"'))
        drawn += [*_between(points), points[-1]]
    if level is not None:
        at, dashes = up(level[0]), ' stroke-dasharray="5 4"'
        parts.append(_stroke(LEFT, at, WIDTH - RIGHT, at, INK, dashes))
        entries.append((level[1], INK, dashes))
        drawn += _between([(LEFT, at), (WIDTH - RIGHT, at)])
    parts.append(_legend(entries, drawn))
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Map values to pixels logarithmically, with a margin at both ends."""

    def __init__(self, least: float, most: float, first: float, last: float) -> None:
        room = max((math.log10(most) - math.log10(least)) * 0.04, 0.02)
        self.low, self.high = math.log10(least) - room, math.log10(most) + room
        self.first, self.last = first, last

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 2)

    def ticks(self) -> list[float]:
        return ticks(10**self.low, 10**self.high)


_DIGITS: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    tuple(range(1, 10)),
    tuple(half / 2 for half in range(2, 20)),
    tuple(fifth / 5 for fifth in range(5, 50)),
    tuple(tenth / 10 for tenth in range(10, 100)),
)
"""Leading digits of the ticks, from few to many per decade."""


def ticks(least: float, most: float) -> list[float]:
    """Return round numbers in a range, from the first of :data:`_DIGITS` with four ticks."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    values: list[float] = []
    for digits in _DIGITS:
        every = [digit * 10.0**decade for decade in decades for digit in digits]
        values = [value for value in every if least <= value <= most]
        if len(values) >= 4:
            break
    return values


def _grid(across: _Axis, up: _Axis) -> list[str]:
    parts = []
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in across.ticks():
        at = across(value)
        parts.append(_stroke(at, TOP, at, bottom, FAINT))
        parts.append(_stroke(at, bottom, at, bottom + 5, INK))
        parts.append(_text(at, bottom + 20, _number(value), anchor="middle"))
    for value in up.ticks():
        at = up(value)
        parts.append(_stroke(LEFT, at, right, at, FAINT))
        parts.append(_stroke(LEFT - 5, at, LEFT, at, INK))
        parts.append(_text(LEFT - 9, at + 4.5, _number(value), anchor="end"))
    parts.append(
        f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" '
        f'stroke="{INK}"/>'
    )
    return parts


def _curve(points: Sequence[tuple[float, float]], color: str) -> list[str]:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    end = points[-1]
    return [
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" '
        'stroke-linejoin="round"/>',
        f'<circle cx="{end[0]:g}" cy="{end[1]:g}" r="4" fill="{color}"/>',
    ]


def _legend(entries: Sequence[tuple[str, str, str]], drawn: Sequence[tuple[float, float]]) -> str:
    """Draw the legend in the corner with the fewest points of the curves."""
    width = 46 + 7.2 * max(len(name) for name, _, _ in entries)
    height = 20 * len(entries) + 8
    corners = [
        (left, top)
        for top in (TOP + 10, HEIGHT - BOTTOM - height - 10)
        for left in (WIDTH - RIGHT - width - 10, LEFT + 10)
    ]

    def covered(corner: tuple[float, float]) -> int:
        left, top = corner
        return sum(left <= x <= left + width and top <= y <= top + height for x, y in drawn)

    left, top = min(corners, key=covered)
    parts = [
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" '
        f'fill="#ffffff" stroke="{FAINT}"/>'
    ]
    for number, (name, color, more) in enumerate(entries):
        middle = top + 14 + 20 * number
        parts.append(_stroke(left + 8, middle, left + 30, middle, color, more))
        parts.append(_text(left + 38, middle + 4.5, name))
    return "\n".join(parts)


def _between(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Interpolate points along a polyline."""
    steps = [step / 20 for step in range(21)]
    return [
        (x1 + share * (x2 - x1), y1 + share * (y2 - y1))
        for (x1, y1), (x2, y2) in pairwise(points)
        for share in steps
    ]


def _stroke(x1: float, y1: float, x2: float, y2: float, color: str, more: str = "") -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{color}"{more}/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def _number(value: float) -> str:
    """Format a tick label such as 1.5, 300 or 2·10⁶."""
    if value < 100_000:
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    digits, _, power = f"{value:.2e}".partition("e")
    ten = "10" + str(int(power)).translate(_RAISED)
    return ten if float(digits) == 1 else f"{float(digits):g}·{ten}"


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _positive(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Drop points without a finite logarithm."""
    return [(x, y) for x, y in points if 0 < x < math.inf and 0 < y < math.inf]
