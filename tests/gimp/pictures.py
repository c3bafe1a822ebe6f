"""Put the screenshots of the last ``make test-gimp`` into the docs, smaller."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Write docs/pictures/gimp-*.png, in 256 colours."""
    for name in ("menu", "dialog", "preview", "result"):
        target = ROOT / "docs" / "pictures" / f"gimp-{name}.png"
        with Image.open(ROOT / "out" / "gimp" / f"{name}.png") as shot:
            small = shot.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
            small.save(target, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
