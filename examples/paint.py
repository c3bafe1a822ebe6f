"""Paint the example pictures: three procedural "oil paintings" and copies of four photos.

Run `python examples/paint.py` to regenerate these pictures beside this file, or name some:
`python examples/paint.py night ember`. Only numpy and Pillow are needed (photos are copied
only where scikit-image is installed). The paintings depend on the seeds alone.

The method is painterly rendering with curved brush strokes (A. Hertzmann, 1998):

1. a *scene* function composes the subject: a colour for every pixel (`Scene.colour`), the
   direction a brush would move in there (`Scene.angle`) and where small strokes are worth
   the effort (`Scene.detail`);
2. `Painter.layer` lays strokes along those directions, from the largest brush to the smallest;
   smaller brushes go mostly where the canvas still differs from the scene;
3. each stroke carries two half-mixed colours in bristle streaks and leaves paint thickness
   in a height map, which `light_relief` finally lights from the upper left.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
Rng = np.random.Generator
Limb = tuple[float, float, float, float, float]

HERE = Path(__file__).resolve().parent
SIZE = (900, 675)  # width and height of the finished pictures
SUPER = 1.5  # pictures are painted this much larger, then reduced
WIDTH, HEIGHT = round(SIZE[0] * SUPER), round(SIZE[1] * SUPER)
UNIT = HEIGHT  # scene coordinates: y runs 0..1 from the top, x runs 0..4/3


@dataclass
class Scene:
    """What to paint: colour (0..1), brush direction (radians), wish for detail (0..1)."""

    colour: Array
    angle: Array
    detail: Array
    palette: Array
    ground: tuple[float, float, float]


@dataclass(frozen=True)
class Brush:
    """One layer's brush; lengths are in pixels of the finished picture."""

    radius: float
    length: float  # longest stroke
    spacing: float  # distance between stroke starts
    cover: float  # share of strokes laid whether or not the canvas needs them
    hue: float = 0.35  # how far colours wander towards other palette colours
    value: float = 0.06  # how far brightness wanders
    wobble: float = 0.12  # how far directions wander (radians)
    reach: float = 0.05  # how unlike those palette colours may be
    fidelity: float = 0.30  # a stroke ends where the scene's colour departs by this much


@dataclass
class Canvas:
    """Wet paint: colour and thickness."""

    colour: Array
    height: Array


# ---------------------------------------------------------------- small numeric helpers


def rgb(code: str) -> Array:
    """Turn '#rrggbb' into three floats in 0..1."""
    return np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


def palette(codes: str) -> Array:
    """Turn space-separated '#rrggbb' codes into an (n, 3) array."""
    return np.stack([rgb(code) for code in codes.split()])


def ramp(tone: Array, colours: Array) -> Array:
    """Map tones 0..1 along a row of colours, blending between neighbours."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(tone, stops, colours[:, c]) for c in range(3)], -1).astype("f4")


def smoothstep(low: float, high: float, x: Array) -> Array:
    """Ease from 0 (x at low) to 1 (x at high); low may exceed high."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def over(base: Array, top: Array, mask: Array) -> Array:
    """Lay a colour (or colour image) over an image through a mask."""
    return np.asarray(base + (top - base) * mask[..., None], np.float32)


def resize(plane: Array, size: tuple[int, int], how: Image.Resampling) -> Array:
    """Resample one float plane to (width, height)."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, how))


def blur(image: Array, radius: float) -> Array:
    """Blur an (h, w) or (h, w, 3) image by reducing and enlarging it."""
    h, w = image.shape[:2]
    small = (max(2, round(w / radius)), max(2, round(h / radius)))
    planes = image[..., None] if image.ndim == 2 else image
    out = [
        resize(
            resize(planes[..., c], small, Image.Resampling.BOX), (w, h), Image.Resampling.BICUBIC
        )
        for c in range(planes.shape[2])
    ]
    return out[0] if image.ndim == 2 else np.stack(out, -1)


def noise(rng: Rng, cells: float, octaves: int = 3, stretch: float = 1.0) -> Array:
    """Make smooth fractal noise, mean 0 and deviation 1, with `cells` blobs per picture height.

    `stretch` makes the blobs that many times wider than high.
    """
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for octave in range(octaves):
        n = cells * 2**octave
        shape = (max(2, round(n)) + 1, max(2, round(n * WIDTH / HEIGHT / stretch)) + 1)
        grid = rng.standard_normal(shape).astype(np.float32)
        total += resize(grid, (WIDTH, HEIGHT), Image.Resampling.BICUBIC) / 2**octave
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def coordinates() -> tuple[Array, Array]:
    """Give every pixel's scene coordinates x (0..4/3) and y (0..1)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / UNIT
    return x, y


def around(cx: float, cy: float, reach: float) -> tuple[slice, slice]:
    """Give the window of pixels within `reach` of a scene point."""
    rows = slice(max(0, int((cy - reach) * UNIT)), max(0, int((cy + reach) * UNIT) + 1))
    return rows, slice(max(0, int((cx - reach) * UNIT)), max(0, int((cx + reach) * UNIT) + 1))


def along_contours(level: Array) -> Array:
    """Give the direction that follows the contour lines of a level image."""
    dy, dx = np.gradient(level)
    return np.asarray(np.arctan2(-dx, dy), np.float32)


def smear(image: Array, angle: Array, reach: float, steps: int = 24) -> Array:
    """Average a plane along the flow, both ways, so that its blobs become flowing streaks."""
    half = (WIDTH // 2, HEIGHT // 2)
    plane = resize(image, half, Image.Resampling.BOX)
    cos = resize(np.cos(angle), half, Image.Resampling.BILINEAR)
    sin = resize(np.sin(angle), half, Image.Resampling.BILINEAR)
    stride = reach * half[1] / steps
    total = plane.copy()
    for sign in (1, -1):
        y, x = np.mgrid[0 : half[1], 0 : half[0]].astype(np.float32)
        for _ in range(steps):
            i = np.clip(y, 0, half[1] - 1).astype(np.int32)
            j = np.clip(x, 0, half[0] - 1).astype(np.int32)
            x = x + sign * stride * cos[i, j]
            y = y + sign * stride * sin[i, j]
            total += plane[
                np.clip(y, 0, half[1] - 1).astype(np.int32),
                np.clip(x, 0, half[0] - 1).astype(np.int32),
            ]
    total = (total - total.mean()) / total.std()
    return resize(total, (WIDTH, HEIGHT), Image.Resampling.BICUBIC)


# ---------------------------------------------------------------- the brush


def bristle_atlas(rng: Rng, across: float, along: float) -> Array:
    """Make a tiling sheet of streaks (rows run across the brush, columns along the stroke)."""
    rows, columns = 512, 1024
    fy = np.fft.fftfreq(rows)[:, None]
    fx = np.fft.rfftfreq(columns)[None, :]
    keep = np.exp(-2 * np.pi**2 * ((fy * across) ** 2 + (fx * along) ** 2))
    sheet = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((rows, columns))) * keep)
    return np.asarray(sheet / sheet.std(), np.float32)


class Painter:
    """Holds the canvas and lays strokes on it."""

    def __init__(self, scene: Scene, rng: Rng) -> None:
        """Prepare the bristles and a toned ground."""
        self.scene = scene
        self.rng = rng
        self.fine = bristle_atlas(rng, 1.15 * SUPER, 26 * SUPER)
        self.broad = bristle_atlas(rng, 2.6 * SUPER, 48 * SUPER)
        tint = 1 + 0.08 * noise(rng, 6)[..., None]
        self.canvas = Canvas(
            (np.array(scene.ground, np.float32) * tint).astype(np.float32),
            np.zeros((HEIGHT, WIDTH), np.float32),
        )

    def stroke(self, path: Array, radius: float, colours: Array, load: float) -> None:
        """Lay one stroke along a polyline (rows of x, y) with two half-mixed colours."""
        pixels, s, lateral, length = ribbon(path, radius)
        if not len(pixels):
            return
        shift = self.rng.integers(0, 512, 2)
        row = (lateral + (1000 + shift[0])).astype(np.int32) & 511
        column = (s + (1000 + shift[1])).astype(np.int32) & 1023
        fine, broad = self.fine[row, column], self.broad[row, column]

        u = np.clip(s / length, 0, 1)
        width = radius * (1 - 0.42 * u * u) * (1 + 0.05 * broad)
        edge = np.abs(lateral) / width
        bow = np.sqrt(np.clip(1 - edge * edge, 0, 1))
        ragged = radius * 0.22 * (fine + broad)
        alpha = np.clip(width - np.abs(lateral) + 0.5, 0, 1)
        alpha *= np.clip(s + 0.75 * radius * bow + 0.4 * ragged, 0, 1)
        alpha *= np.clip(length - s + 0.6 * radius * bow + ragged, 0, 1)
        dry = np.clip(2.4 + 0.9 * fine + 0.6 * broad - 2.6 * u**3, 0, 1)
        alpha *= 0.97 * dry

        mix = np.clip(0.42 + 0.36 * broad + 0.10 * fine, 0, 1)[:, None]
        paint = colours[0] + (colours[1] - colours[0]) * mix
        paint = paint * (1 + 0.055 * fine[:, None])
        colour = self.canvas.colour.reshape(-1, 3)
        under = colour[pixels]
        colour[pixels] = under + (paint - under) * alpha[:, None]

        ridge = np.exp(-(((edge - 0.82) / 0.16) ** 2))
        body = (0.62 + 0.20 * fine + 0.14 * broad) * (1 - edge**4) + 0.34 * ridge
        thickness = load * body * (1.1 - 0.45 * u)
        height = self.canvas.height.reshape(-1)
        relief = height[pixels]
        height[pixels] = relief + (0.35 * relief + thickness - relief) * alpha

    def layer(self, brush: Brush) -> None:
        """Lay one whole layer of strokes with one brush."""
        scene, rng = self.scene, self.rng
        radius = brush.radius * SUPER
        seeds = self.seeds(brush)
        reference = blur(scene.colour, max(1.5, radius * 0.7))
        paths, counts = trace(scene, reference, seeds, brush, rng)
        x, y = seeds[:, 0].astype(int), seeds[:, 1].astype(int)
        first = wander(reference[y, x], scene.palette, brush, rng)
        second = wander(first, scene.palette, brush, rng)
        light = first @ np.array([0.3, 0.6, 0.1], np.float32)
        loads = (0.55 + 0.75 * light) * np.sqrt(radius) * rng.uniform(0.7, 1.25, len(seeds))
        radii = radius * rng.uniform(0.72, 1.22, len(seeds))
        for k in range(len(seeds)):
            pair = np.stack([first[k], second[k]])
            self.stroke(paths[k, : counts[k]], float(radii[k]), pair, float(loads[k]))

    def seeds(self, brush: Brush) -> Array:
        """Choose where strokes start: a shuffled, jittered lattice thinned by need."""
        step = brush.spacing * SUPER
        rows, columns = int(HEIGHT / step) + 2, int(WIDTH / step) + 2
        i, j = np.mgrid[0:rows, 0:columns].reshape(2, -1)
        points = np.stack([j + 0.5 * (i % 2), i], 1) + self.rng.uniform(-0.6, 0.6, (i.size, 2))
        points = np.clip(points * step, 0, [WIDTH - 1, HEIGHT - 1]).astype(np.float32)
        x, y = points[:, 0].astype(int), points[:, 1].astype(int)
        lack = np.abs(blur(self.canvas.colour - self.scene.colour, brush.radius * SUPER)).sum(-1)
        wish = brush.cover + 2.2 * np.clip(lack[y, x] - 0.10, 0, 0.5)
        if brush.radius < 5:
            wish += 0.5 * self.scene.detail[y, x]
        chosen: Array = points[self.rng.random(len(points)) < wish]
        self.rng.shuffle(chosen)
        return chosen

    def finish(self) -> Image.Image:
        """Light the paint relief and reduce to the final size."""
        lit = light_relief(self.canvas.colour, self.canvas.height)
        pixels = (np.clip(lit, 0, 1) * 255 + 0.5).astype(np.uint8)
        return Image.fromarray(pixels).resize(SIZE, Image.Resampling.LANCZOS)


def ribbon(path: Array, radius: float) -> tuple[npt.NDArray[np.int64], Array, Array, float]:
    """List the canvas pixels near a polyline with their distance along and beside it.

    Points sampled densely over a ribbon (prolonged at both ends) find the pixels; each pixel's
    own offset from its sample then corrects the two distances. A pixel may be listed twice.
    Also returns the polyline's length.
    """
    step = np.diff(path, axis=0)
    size = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-3)
    unit = step / size[:, None]
    run = np.concatenate([[0], np.cumsum(size)])
    length = float(run[-1])
    turn = np.concatenate([unit[:1], unit[:-1] + unit[1:], unit[-1:]])
    reach = 1.2 * radius + 1
    along = np.arange(-reach, length + reach, 0.66)
    beside = np.arange(-reach, reach, 0.66)
    tx, ty = (np.interp(along, run, turn[:, c]) for c in (0, 1))
    norm = np.maximum(np.hypot(tx, ty), 1e-3)
    tx, ty = tx / norm, ty / norm
    spill = along - np.clip(along, 0, length)
    cx, cy = (np.interp(along, run, path[:, c]) for c in (0, 1))
    x = (cx + spill * tx)[:, None] - beside * ty[:, None]
    y = (cy + spill * ty)[:, None] + beside * tx[:, None]
    column, row = np.rint(x), np.rint(y)
    dx, dy = column - x, row - y
    s = along[:, None] + dx * tx[:, None] + dy * ty[:, None]
    lateral = beside + dy * tx[:, None] - dx * ty[:, None]
    keep = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    pixels = (row * WIDTH + column)[keep].astype(np.int64)
    return pixels, s[keep].astype(np.float32), lateral[keep].astype(np.float32), length


def trace(
    scene: Scene, reference: Array, seeds: Array, brush: Brush, rng: Rng
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Trace every stroke's polyline through the flow; returns the points and their counts.

    A stroke ends at its own random length, or where the scene's colour becomes too different.
    """
    points = 11
    count = len(seeds)
    length = brush.length * SUPER * rng.uniform(0.45, 1.0, count).astype(np.float32)
    stride = (length / (points - 1))[:, None]
    offset = rng.normal(0, brush.wobble, count).astype(np.float32)
    flip = np.where(rng.random(count) < 0.3, np.pi, 0).astype(np.float32)
    x, y = seeds[:, 0].astype(int), seeds[:, 1].astype(int)
    own = reference[y, x]
    paths = [seeds]
    counts = np.full(count, points)
    alive = np.ones(count, bool)
    here: Array = seeds
    last: Array = np.zeros((count, 2), np.float32)
    for k in range(1, points):
        x = np.clip(here[:, 0], 0, WIDTH - 1).astype(int)
        y = np.clip(here[:, 1], 0, HEIGHT - 1).astype(int)
        apart = np.abs(reference[y, x] - own).sum(1) > 3 * brush.fidelity
        counts[alive & apart] = max(3, k)
        alive &= ~apart
        turn = scene.angle[y, x] + offset + flip
        heading = np.stack([np.cos(turn), np.sin(turn)], 1)
        heading *= np.where((heading * last).sum(1) < 0, -1, 1)[:, None]
        last = heading if k == 1 else 0.35 * last + 0.65 * heading
        here = (here + last * stride).astype(np.float32)
        paths.append(here)
    return np.stack(paths, 1), counts


def wander(colours: Array, choices: Array, brush: Brush, rng: Rng) -> Array:
    """Vary colours as a painter's palette would: towards near palette colours, and in value."""
    apart = ((colours[:, None] - choices[None]) ** 2).sum(-1)
    lottery = -apart / brush.reach + rng.gumbel(0, 1, apart.shape)
    pick = choices[lottery.argmax(1)]
    share = rng.uniform(0, 2 * brush.hue, (len(colours), 1)).clip(0, 0.85)
    mixed = colours + (pick - colours) * share
    mixed = mixed * (1 + brush.value * rng.standard_normal((len(colours), 1)))
    return np.asarray(np.clip(mixed, 0.01, 0.99), np.float32)


def light_relief(colour: Array, height: Array) -> Array:
    """Shade painted colour by the slope of its paint, with light from the upper left."""
    dy, dx = np.gradient(height)
    slope = np.tanh((dx * 0.62 + dy * 0.78) * 0.95)
    lit = colour * (1 + 0.33 * slope[..., None])
    gloss = np.clip(slope - 0.5, 0, 1) ** 2
    return np.asarray(lit + 0.30 * gloss[..., None] * (0.35 + 0.65 * colour), np.float32)


def mirror(scene: Scene) -> Scene:
    """Swap a scene's left and right."""
    turned = (np.pi - scene.angle[:, ::-1]).astype(np.float32)
    sides = scene.colour[:, ::-1].copy(), turned, scene.detail[:, ::-1].copy()
    return Scene(*sides, scene.palette, scene.ground)


# ---------------------------------------------------------------- night


def night(rng: Rng) -> Scene:
    """Compose a whirling night sky over hills and a river, under a moon."""
    x, y = coordinates()
    colours = palette(
        "#0b1640 #10245c #173a7d #1f57a0 #2f7fb8 #4aa3b5 #86c5bb #d9dfb8 #f4e3a1 #f6c453 #ea9a35"
    )
    hill_far = 0.585 + 0.035 * np.sin(4.2 * x + 0.6) + 0.02 * np.sin(9.5 * x + 2.0)
    hill_mid = 0.645 + 0.030 * np.sin(3.1 * x + 3.6) + 0.012 * np.sin(11 * x)
    bank_left = 0.82 + 0.22 * smoothstep(0.05, 0.52, x) + 0.012 * np.sin(16 * x)
    bank_right = 1.04 - 0.13 * smoothstep(1.06, 1.33, x) + 0.01 * np.sin(19 * x)
    hill_near = np.minimum(bank_left, bank_right)

    # Flow: a wavy drift, whirls that wind it up, and rings round every light.
    vx = np.ones_like(x)
    vy = 0.5 * np.cos(5.5 * x + 3 * y) + 0.35 * noise(rng, 3, 2)
    whirls = [(0.60, 0.27, 0.17, 1.0), (0.86, 0.40, 0.105, -1.0), (0.22, 0.43, 0.10, -1.0)]
    lights = [(1.12, 0.17, 0.105), (0.16, 0.15, 0.045), (0.36, 0.09, 0.030), (0.40, 0.47, 0.028)]
    lights += [(0.80, 0.085, 0.034), (1.22, 0.45, 0.034), (0.055, 0.36, 0.030), (0.98, 0.52, 0.02)]
    for cx, cy, size, spin in whirls:
        dx, dy = x - cx, y - cy
        r = np.hypot(dx, dy) + 1e-4
        pull = 4.5 * np.exp(-((r / size) ** 2) * 0.9)
        vx += pull * (-spin * dy - 0.22 * dx) / r
        vy += pull * (spin * dx - 0.22 * dy) / r
    glow = np.zeros_like(x)
    for cx, cy, size in lights:
        dx, dy = x - cx, y - cy
        r = np.hypot(dx, dy) + 1e-4
        pull = 7 * np.exp(-((r / (1.7 * size)) ** 2))
        vx += pull * -dy / r
        vy += pull * dx / r
        rings = 0.72 + 0.28 * np.cos(2 * np.pi * r / (0.85 * size))
        glow = np.maximum(glow, rings * np.exp(-((r / (1.55 * size)) ** 2)))
        glow = np.maximum(glow, 1.15 * smoothstep(0.62, 0.40, r / size))
    angle = np.arctan2(vy, vx).astype(np.float32)

    streaks = smear(noise(rng, 14, 3), angle, 0.16)
    tone = 0.20 + 0.22 * y / 0.6 + 0.15 * streaks
    for cx, cy, size, spin in whirls:
        dx, dy = x - cx, y - cy
        r = np.hypot(dx, dy) + 1e-4
        arms = np.cos(2 * np.arctan2(dy, dx) + spin * 4.6 * np.log(r / size))
        tone += np.exp(-((r / size) ** 2) * 1.3) * (0.20 + 0.26 * arms)
    river_of_air = np.exp(-(((y - 0.36 - 0.10 * np.sin(4.6 * x + 0.3)) / 0.05) ** 2))
    tone = tone + 0.20 * river_of_air
    tone = np.clip(tone, 0.02, 0.76)
    tone = np.maximum(tone, np.clip(glow, 0, 1.1) * 0.92 + 0.05 * streaks)
    colour = ramp(tone.astype(np.float32), colours)

    # A crescent eats into the big light's disc.
    cx, cy, size = lights[0]
    far = np.hypot(x - cx, y - cy) / size
    bite = smoothstep(0.40, 0.48, np.hypot(x - cx + 0.028, y - cy + 0.014) / size)
    colour = over(colour, rgb("#5aa7a4"), smoothstep(0.62, 0.52, far))
    colour = over(colour, rgb("#f7b234"), smoothstep(0.60, 0.54, far) * bite)

    # Hills, each with strokes along its slope and a dark outline.
    ridges = [(hill_far, "#2b5a9c #3f7fb4 #4a4f9c"), (hill_mid, "#122e56 #1f5a6c #2f7a6a #8aa05a")]
    for top, codes in ridges:
        inside = smoothstep(-0.002, 0.002, y - top)
        slope = y - top * 0.9 + 0.02 * noise(rng, 4, 2)
        turn = along_contours(slope + 0.25 * (y - top) * np.sin(9 * x))
        angle = np.where(inside > 0.5, turn, angle)
        body = ramp(np.clip(0.5 + 0.3 * smear(noise(rng, 16), turn, 0.1), 0, 1), palette(codes))
        colour = over(colour, body, inside)
        colour = over(colour, rgb("#0a1233"), 0.85 * np.exp(-(((y - top) / 0.005) ** 2)))

    # The river widens towards us and carries the lights' reflections.
    depth = np.clip((y - 0.70) / 0.30, 0, 1)
    middle = 0.80 - 0.10 * depth + 0.10 * np.sin(6.5 * depth)
    half = 0.40 + 0.50 * depth + 0.05 * np.sin(17 * depth)
    off = np.abs(x - middle) / half
    river = smoothstep(1.04, 0.98, off) * smoothstep(0.698, 0.704, y)
    ripple = 0.25 * np.cos(24 * x + 18 * y + noise(rng, 5, 2))
    water_tone = 0.23 + 0.12 * smear(noise(rng, 26, 3, 3.0), 0 * x, 0.08) + 0.20 * (1 - depth)
    gleam = np.zeros_like(x)
    columns = [(1.10, 0.055, 1.0), (0.80, 0.022, 0.8), (0.665, 0.02, 0.9)]
    columns += [(0.54, 0.018, 0.9), (0.93, 0.016, 0.7), (0.42, 0.015, 0.7)]
    for column, wide, power in columns:
        sway = column + (0.012 + 0.02 * wide / 0.06) * noise(rng, 16, 2, 2.0)
        gleam += power * np.exp(-(((x - sway) / (wide * (0.6 + 0.7 * depth))) ** 2))
    dashes = smoothstep(-0.6, 0.5, noise(rng, 58, 1, 5.0))
    water_tone += 0.66 * np.clip(gleam, 0, 1) * dashes * (1 - 0.25 * depth)
    colour = over(colour, ramp(np.clip(water_tone, 0, 0.95), colours), river)
    angle = np.where(river > 0.5, ripple, angle)
    shore = np.exp(-(((off - 1.02) / 0.05) ** 2)) * smoothstep(0.70, 0.72, y)
    colour = over(colour, rgb("#0a1233"), 0.8 * shore)

    # The near bank in warm darks, poplars like flames, and lit windows.
    bank = smoothstep(-0.003, 0.003, y - hill_near)
    turn = along_contours(y - hill_near + 0.05 * np.sin(7 * x + 6 * y))
    body = smear(noise(rng, 18), turn, 0.08)
    grass = palette("#0d2036 #1c4a52 #35705a #7c8a48 #c49a3e")
    near = ramp(np.clip(0.36 + 0.22 * body, 0, 1), grass)
    colour = over(colour, near, bank)
    angle = np.where(bank > 0.5, turn, angle)
    detail = np.clip(2.2 * glow, 0, 1) + 0.8 * river * np.clip(gleam, 0, 1)
    poplars = [(0.075, 0.90, 0.24, 0.030), (0.15, 0.93, 0.36, 0.038), (0.235, 0.95, 0.22, 0.028)]
    poplars += [(1.28, 0.97, 0.26, 0.032)]
    for cx, base, tall, wide in poplars:
        t = np.clip((base - y) / tall, 0, 1)
        lean = cx + 0.007 * np.sin(9 * t + 40 * cx)
        shape = wide * np.sqrt(np.clip(1 - t, 0, 1)) * (0.8 + 0.9 * t * (1 - t))
        tree = smoothstep(1.1, 0.9, np.abs(x - lean) / (shape + 1e-4)) * (y < base) * (t < 1)
        flame = np.pi / 2 + 0.35 * np.sin(16 * t + 30 * (x - cx))
        leaves = smear(noise(rng, 26), flame, 0.06)
        tint = np.clip(0.30 + 0.16 * leaves + 0.24 * (x - lean) / (shape + 1e-3), 0, 1)
        leaf = ramp(tint, palette("#0b1530 #10303c #1f5446 #4f7a48 #a8a04a"))
        colour = over(colour, leaf, tree)
        angle = np.where(tree > 0.5, flame, angle)
        detail = detail + 0.7 * tree
    for wx in (0.42, 0.445, 0.54, 0.555, 0.665, 0.80, 0.815, 0.93):
        lamp = np.exp(-((np.hypot(x - wx, y - 0.688) / 0.011) ** 2))
        colour = over(colour, rgb("#f9bf48"), np.clip(1.5 * lamp, 0, 1))
        detail = detail + lamp
    detail = np.clip(detail + 0.15, 0, 1).astype(np.float32)
    accents = palette("#51489a #3c8a68 #d8a08a #7fb1d8 #b9c46a")
    mixes = np.concatenate([colours, accents])
    scene = Scene(colour, angle.astype(np.float32), detail, mixes, (0.30, 0.24, 0.26))
    return mirror(scene)


NIGHT = [
    Brush(20, 130, 15, 1.0, hue=0.20, fidelity=0.25),
    Brush(10.5, 96, 9.5, 0.75, hue=0.28, fidelity=0.17),
    Brush(6.4, 64, 8.0, 0.55, hue=0.34, value=0.09, fidelity=0.15),
    Brush(4.2, 42, 6.6, 0.24, hue=0.34, value=0.10, fidelity=0.14),
    Brush(2.5, 24, 5.0, 0.02, hue=0.25, value=0.10, fidelity=0.12),
]


# ---------------------------------------------------------------- ember


def limbs(rng: Rng, x: float, y: float, turn: float, size: float, depth: int) -> list[Limb]:
    """Grow a bare tree: a list of limbs (x0, y0, x1, y1, half width), forking `depth` times."""
    grown: list[Limb] = []
    width = size * 0.078
    for _ in range(4):
        nx, ny = x + size / 4 * np.cos(turn), y + size / 4 * np.sin(turn)
        grown.append((x, y, nx, ny, width))
        x, y, width = nx, ny, width * 0.92
        turn += rng.normal(0, 0.2)
    if depth:
        for side in (-1, 1):
            lean = turn + side * rng.uniform(0.22, 0.70) - 0.12 * np.cos(turn)
            grown += limbs(rng, x, y, lean, size * rng.uniform(0.62, 0.80), depth - 1)
    return grown


def ember(rng: Rng) -> Scene:
    """Compose an undulating fire-coloured sky over dark water and a rust-coloured shore."""
    x, y = coordinates()
    fire = palette("#5e0f12 #96201a #c5341c #dd5520 #e67f2b #eda843 #f4cf70")
    deep = palette("#0a1824 #0f2c3c #164650 #23655f #4b8474 #98a271 #e0a84c")
    earth = palette("#2a1418 #5a2018 #8e3a1c #b8622a #cf8f3c #ddb45e")

    # The sky's bands bend round a low sun.
    sun_x, sun_y = 0.93, 0.40
    near = np.hypot((x - sun_x) * 0.9, y - sun_y)
    level = y + 0.055 * np.sin(4.6 * x + 2.2 * np.sin(4 * y) + 0.7)
    level += 0.022 * np.sin(10.5 * x - 7 * y) + 0.020 * noise(rng, 2.5, 2)
    level -= 0.165 * np.exp(-((near / 0.16) ** 2))
    angle = along_contours(level)
    angle = np.where(near < 0.085, np.arctan2(x - sun_x, sun_y - y), angle)
    streaks = smear(noise(rng, 18, 3), angle, 0.22)
    bands = np.sin(2 * np.pi * 7.5 * level + 0.8 * noise(rng, 2, 2))
    tone = 0.40 + 0.20 * bands + 0.14 * streaks + 0.16 * smoothstep(0.0, 0.5, y)
    tone += 0.55 * np.exp(-((near / 0.13) ** 2))
    colour = ramp(np.clip(tone, 0, 1), fire)
    cold = smoothstep(0.55, 1.0, np.sin(2 * np.pi * 2.6 * level + 1.9 + 0.5 * noise(rng, 2, 2)))
    cold *= smoothstep(0.16, 0.34, near) * smoothstep(0.52, 0.30, y)
    slate = ramp(np.clip(0.36 + 0.14 * streaks + 0.1 * bands, 0, 1), deep)
    colour = over(colour, slate, 0.88 * cold)
    colour = over(colour, rgb("#f9e6a0"), smoothstep(0.062, 0.052, near))

    # Headlands on the horizon.
    horizon = 0.545 + 0.004 * np.sin(14 * x)
    peaks = 0.10 * np.exp(-(((x - 0.30) / 0.20) ** 2)) + 0.05 * np.exp(-(((x - 0.62) / 0.1) ** 2))
    peaks += 0.12 * np.exp(-(((x - 1.36) / 0.17) ** 2)) + 0.01 * np.sin(21 * x)
    inside = smoothstep(-0.002, 0.002, y - (horizon - np.maximum(peaks, 0)))
    turn = along_contours(y + 0.75 * peaks + 0.012 * noise(rng, 5, 2))
    body = 0.36 + 0.24 * smear(noise(rng, 22), turn, 0.1)
    dusk = palette("#120f26 #1d2145 #2f3a66 #4d4a70 #8a5a62")
    colour = over(colour, ramp(np.clip(body, 0, 1), dusk), inside)
    angle = np.where(inside > 0.5, turn, angle)

    # Dark water, winding into two eddies, with the sun's broken path.
    flow = y + 0.030 * np.sin(6 * x + 9 * y) + 0.008 * noise(rng, 4, 2)
    flow += 0.11 * np.exp(-(((x - 0.42) / 0.17) ** 2) - ((y - 0.69) / 0.075) ** 2)
    flow -= 0.10 * np.exp(-(((x - 1.10) / 0.16) ** 2) - ((y - 0.74) / 0.085) ** 2)
    turn = along_contours(flow)
    water = smoothstep(-0.002, 0.002, y - horizon)
    waves = np.sin(2 * np.pi * 15 * flow + 0.7 * noise(rng, 3, 2))
    body = 0.33 + 0.15 * waves + 0.13 * smear(noise(rng, 26), turn, 0.16)
    path = np.exp(-(((x - sun_x - 0.03 * np.sin(40 * y)) / (0.05 + 0.25 * (y - 0.54))) ** 2))
    body += 0.62 * path * smoothstep(-0.5, 0.7, waves) * smoothstep(0.95, 0.6, y)
    surface = ramp(np.clip(body, 0, 1), deep)
    glint = smoothstep(0.82, 1.0, np.sin(2 * np.pi * 6 * flow + noise(rng, 2, 2)))
    surface = over(surface, rgb("#b5462a"), 0.62 * glint)
    colour = over(colour, surface, water)
    angle = np.where(water > 0.5, turn, angle)

    colour = over(colour, rgb("#d98a45"), 0.7 * np.exp(-(((y - horizon) / 0.004) ** 2)))

    # The shore sweeps up from the lower right to the left edge.
    shore = 0.735 + 0.25 * smoothstep(0.05, 1.15, x) + 0.018 * np.sin(8 * x + 1)
    land = smoothstep(-0.002, 0.002, y - shore)
    sweep = y - shore * (1 - 0.5 * (y - shore)) + 0.015 * np.sin(9 * x + 14 * y)
    turn = along_contours(sweep + 0.006 * noise(rng, 4, 2))
    body = 0.46 + 0.24 * np.sin(2 * np.pi * 13 * sweep + noise(rng, 2, 2))
    body += 0.16 * smear(noise(rng, 24), turn, 0.2)
    ground = ramp(np.clip(body, 0, 1), earth)
    moss = smoothstep(0.5, 1.0, np.sin(2 * np.pi * 5 * sweep + 2.4 + noise(rng, 2, 2)))
    ground = over(ground, rgb("#1f4a4a"), 0.75 * moss)
    colour = over(colour, ground, land)
    colour = over(colour, rgb("#140f1a"), 0.9 * np.exp(-(((y - shore) / 0.006) ** 2)))
    angle = np.where(land > 0.5, turn, angle)

    detail = 0.12 + 0.6 * np.exp(-((near / 0.08) ** 2)) + 0.3 * path * water
    for x0, y0, x1, y1, wide in limbs(rng, 0.17, 0.88, -1.40, 0.25, 5):
        ux, uy = x1 - x0, y1 - y0
        at = around(x0, y0, float(np.hypot(ux, uy)) + wide + 0.01)
        dx, dy = x[at] - x0, y[at] - y0
        t = np.clip((dx * ux + dy * uy) / (ux * ux + uy * uy), 0, 1)
        gap = np.hypot(dx - t * ux, dy - t * uy)
        mask = smoothstep(wide + 0.0020, wide, gap)
        bark = ramp(np.clip(0.08 + 0.34 * (dx - t * ux) / wide, 0, 0.5), earth)
        colour[at] = over(colour[at], bark, mask)
        angle[at] = np.where(mask > 0.5, np.float32(np.arctan2(uy, ux)), angle[at])
        detail[at] = np.maximum(detail[at], mask)
    mixes = np.concatenate([fire, deep, earth, palette("#7c2f4a #d98f6a #3d6f8a")])
    detail = np.clip(detail, 0, 1).astype(np.float32)
    return Scene(colour, angle.astype(np.float32), detail, mixes, (0.45, 0.25, 0.15))


EMBER = [
    Brush(19, 190, 15, 1.0, hue=0.18, wobble=0.06, fidelity=0.30),
    Brush(10, 190, 10.5, 0.80, hue=0.26, wobble=0.05, fidelity=0.28),
    Brush(6.0, 150, 9.5, 0.60, hue=0.32, value=0.08, wobble=0.05, fidelity=0.25),
    Brush(3.8, 110, 8.5, 0.16, hue=0.26, value=0.08, wobble=0.06, fidelity=0.22),
    Brush(2.2, 60, 6.0, 0.0, hue=0.16, value=0.07, wobble=0.06, fidelity=0.16),
]


# ---------------------------------------------------------------- garden


def garden(rng: Rng) -> Scene:
    """Compose a lily pond in warm light, under a flowering bank and a willow's strands."""
    x, y = coordinates()
    greens = palette("#0f2f33 #1c5240 #357d48 #62a04c #9dbe55 #dcd873")
    water = palette("#1f3f66 #356894 #5a86c2 #8f8fd6 #c2a0da #f0b8c6 #fcdca6")
    blooms = palette("#c8477c #e07aa0 #f2a9bd #fbe3df #a884cc #7c6cc0 #f3c86a #ec8f62")

    # Water: upright reflections of sky and trees, broken by level ripples.
    tall = smear(noise(rng, 7, 3), np.full_like(x, np.pi / 2), 0.18)
    flat = smear(noise(rng, 20, 3, 4.0), 0 * x, 0.12)
    sky = 0.38 + 0.11 * tall + 0.15 * flat + 0.42 * np.exp(-(((x - 0.80) / 0.26) ** 2))
    colour = ramp(np.clip(sky, 0, 1), water)
    shade = smoothstep(-0.2, 1.1, -tall + 1.6 * smoothstep(0.62, 0.22, y) - 0.5)
    shade *= 1 - 0.6 * np.exp(-(((x - 0.78) / 0.22) ** 2))
    mirrored = ramp(np.clip(0.34 + 0.18 * flat + 0.12 * noise(rng, 14, 2), 0, 1), greens)
    colour = over(colour, mirrored, 0.85 * shade)
    angle = 0.20 * np.sin(11 * x + 16 * y + noise(rng, 4, 2))
    angle = np.where(shade > 0.45, np.pi / 2 + 0.12 * noise(rng, 6, 2), angle)

    # The far bank: mounds of bushes, each lit from the upper right and dotted with blossom.
    edge = 0.235 + 0.022 * np.sin(5 * x + 1.2) + 0.012 * noise(rng, 7, 2)
    bank = smoothstep(0.006, -0.006, y - edge)
    back = np.clip(0.26 + 0.2 * noise(rng, 12, 3) + 0.9 * (0.2 - y), 0, 1)
    hedge = ramp(back, greens)
    gap = np.exp(-((((x - 0.80) / 0.13) ** 2 + ((y + 0.02) / 0.12) ** 2) ** 2))
    hedge = over(hedge, ramp(np.clip(0.85 - 2 * y + 0.1 * flat, 0, 1), water), gap)
    turn = (np.pi / 2 + 0.8 * noise(rng, 8, 2)).astype(np.float32)
    rough, leafy, dotted = noise(rng, 16, 1), noise(rng, 30, 1), noise(rng, 85, 1)
    for _ in range(60):
        cx, cy, size = rng.uniform(-0.05, 1.4), rng.uniform(0.01, 0.25), rng.uniform(0.04, 0.085)
        petal = blooms[rng.integers(len(blooms))]
        if np.hypot(cx - 0.80, cy) < 0.13:
            continue
        at = around(cx, cy, 1.5 * size)
        dx, dy = (x[at] - cx) / size, (y[at] - cy) / (0.75 * size)
        mound = smoothstep(1.0, 0.85, np.hypot(dx, dy) + 0.18 * rough[at])
        lit = np.clip(0.36 + 0.24 * dx - 0.30 * dy + 0.14 * leafy[at], 0, 1)
        bush = ramp(lit, greens)
        if rng.random() < 0.75:
            dots = smoothstep(0.35, 0.75, dotted[at] + 0.4 * (dx - dy))
            bush = over(bush, petal, 0.95 * dots)
        hedge[at] = over(hedge[at], bush, mound)
        turn[at] = np.where(mound > 0.5, np.arctan2(dx, -dy), turn[at])
    colour = over(colour, hedge, bank)
    angle = np.where(bank > 0.5, turn, angle)
    colour = over(colour, rgb("#173038"), 0.7 * np.exp(-(((y - edge - 0.008) / 0.008) ** 2)))
    detail = 0.15 + 0.35 * bank

    # Lily pads in drifts, smaller with distance; some carry a blossom.
    drifts = [(0.30, 0.40, 0.16), (0.98, 0.36, 0.18), (0.66, 0.50, 0.14), (1.16, 0.58, 0.18)]
    drifts += [(0.18, 0.62, 0.17), (0.70, 0.74, 0.22), (1.20, 0.86, 0.20), (0.32, 0.90, 0.2)]
    pads = []
    for cx, cy, spread in drifts:
        for _ in range(22):
            px = cx + spread * rng.normal(0, 0.62)
            py = cy + 0.30 * spread * rng.normal(0, 0.75)
            pads.append((py, px))
    angle = angle.astype(np.float32)
    for py, px in sorted(p for p in pads if 0.30 < p[0] < 1.05 and -0.1 < p[1] < 1.43):
        size = (0.010 + 0.050 * (py - 0.22)) * rng.uniform(0.75, 1.25)
        at = around(px, py, 1.8 * size)
        view, lean = colour[at], angle[at]
        dx, dy = (x[at] - px) / size, (y[at] - py) / (0.36 * size)
        r = np.hypot(dx, dy)
        pad = smoothstep(1.06, 0.94, r)
        view = over(view, rgb("#16324a"), 0.7 * smoothstep(1.3, 0.9, np.hypot(dx, dy - 0.45)))
        tint = np.clip(rng.uniform(0.36, 0.74) + 0.12 * dx - 0.16 * dy, 0, 1)
        leaf = over(ramp(tint, greens), rgb("#e8a684"), 0.45 * smoothstep(0.7, 1.0, r))
        view = over(view, leaf, pad)
        lean = np.where(pad > 0.5, 0.5 * np.sin(2 * dx) * np.sign(dy), lean)
        if rng.random() < 0.42:
            petal = blooms[rng.choice([0, 1, 1, 2, 2, 3])]
            qx = (x[at] - px - 0.2 * size) / (0.50 * size)
            qy = (y[at] - py + 0.25 * size) / (0.36 * size)
            q = np.hypot(qx, qy)
            flower = over(np.zeros_like(view) + petal, rgb("#fff3df"), 0.7 * (qy < -0.1))
            view = over(view, flower, smoothstep(1.1, 0.8, q))
            view = over(view, rgb("#f3b950"), 0.9 * smoothstep(0.4, 0.2, np.hypot(qx, qy - 0.2)))
            lean = np.where(q < 0.95, np.arctan2(qy - 0.8, qx), lean)
            detail[at] = np.maximum(detail[at], smoothstep(1.5, 0.9, q))
        colour[at], angle[at] = view, lean

    # A willow's strands hang at the upper left; reeds and irises stand in the lower right.
    droop = x + 0.03 * np.sin(5 * y + 8 * x)
    comb = noise(rng, 55, 2)[HEIGHT // 2][None, :] + 0.6 * noise(rng, 9, 2)
    tip = 0.56 - 0.62 * x + 0.07 * noise(rng, 20, 2)[HEIGHT // 3][None, :]
    strand = smoothstep(0.15, 0.5, comb) * smoothstep(0.02, -0.03, y - tip)
    tint = np.clip(0.52 + 0.22 * noise(rng, 18, 2) + 0.16 * comb, 0.1, 1)
    colour = over(colour, ramp(tint, greens), 0.9 * strand)
    angle = np.where(strand > 0.5, along_contours(droop), angle)
    detail = np.clip(detail + 0.25 * strand, 0, 1).astype(np.float32)
    mixes = np.concatenate([greens, water, blooms])
    return Scene(colour, angle.astype(np.float32), detail, mixes, (0.62, 0.50, 0.46))


GARDEN = [
    Brush(15, 60, 13, 1.0, hue=0.25, wobble=0.25, fidelity=0.30),
    Brush(8.5, 34, 8.5, 0.85, hue=0.32, value=0.07, wobble=0.25, reach=0.08, fidelity=0.22),
    Brush(5.8, 28, 7.6, 0.65, hue=0.36, value=0.08, wobble=0.22, reach=0.10, fidelity=0.18),
    Brush(4.0, 20, 6.2, 0.24, hue=0.38, value=0.10, wobble=0.26, reach=0.12, fidelity=0.18),
    Brush(2.6, 8, 4.6, 0.02, hue=0.26, value=0.10, wobble=0.40, fidelity=0.16),
]


# ---------------------------------------------------------------- the gallery

Maker = Callable[[Rng], Scene]
GALLERY: dict[str, tuple[Maker, Sequence[Brush], int]] = {
    "night": (night, NIGHT, 11),
    "ember": (ember, EMBER, 5),
    "garden": (garden, GARDEN, 23),
}


def paint(name: str) -> Image.Image:
    """Paint one picture of the gallery."""
    maker, brushes, seed = GALLERY[name]
    rng = np.random.default_rng(seed)
    painter = Painter(maker(rng), rng)
    for brush in brushes:
        painter.layer(brush)
    return painter.finish()


PHOTOS = {
    "cat": ("chelsea.png", 95),
    "astronaut": ("astronaut.png", 90),
    "coffee": ("coffee.png", 90),
    "rocket": ("rocket.jpg", 90),
}
"""Photos of scikit-image, each with its file there and the quality of the JPEG here."""


def copy_photo(name: str, target: Path) -> bool:
    """Save one of scikit-image's photos (see PHOTOS). False if scikit-image is not installed."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        return False
    source, quality = PHOTOS[name]
    photo = Path(found.origin).parent / "data" / source
    if not photo.exists():
        return False
    with Image.open(photo) as image:
        image.convert("RGB").save(target, quality=quality, optimize=True)
    return True


def main(names: Sequence[str]) -> None:
    """Regenerate the named pictures, or all of them."""
    for name in names or [*GALLERY, *PHOTOS]:
        began = time.perf_counter()
        target = HERE / f"{name}.jpg"
        if name in PHOTOS:
            if not copy_photo(name, target):
                print(f"{name}: scikit-image is not installed; left as is")
                continue
        else:
            paint(name).save(target, quality=92, optimize=True)
        print(f"{target.name}: {time.perf_counter() - began:.1f} s, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
