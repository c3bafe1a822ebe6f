"""Copy the screenshots of the last ``make test-gimp`` into the docs as JPEG."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Write docs/pictures/gimp-*.jpg."""
    for name in ("menu", "dialog", "preview", "result"):
        target = ROOT / "docs" / "pictures" / f"gimp-{name}.jpg"
        with Image.open(ROOT / "out" / "gimp" / f"{name}.png") as shot:
            shot.convert("RGB").save(target, quality=88, subsampling=0, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
