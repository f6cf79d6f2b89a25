"""Draw the pictures of ``docs/learn.md``: each example's, made small enough to keep in the project.

Run ``make figures``. The pictures are the scripts' own; only the size is changed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from eyeshot.images.whole import open_image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images"
WIDTH, COLORS = 900, 256


def draw(script: Path, out: Path) -> Path:
    """Run one example and put its picture, smaller, into ``docs/images``."""
    subprocess.run([sys.executable, str(script), "--out", str(out)], check=True)
    with open_image(out / f"{script.stem}.png") as picture:
        height = round(picture.height * WIDTH / picture.width)
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    path = PICTURES / f"{script.stem}.png"
    small.quantize(COLORS).save(path, optimize=True)
    return path


def main() -> None:
    """Draw them all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    scripts = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
    with TemporaryDirectory() as folder:
        for script in scripts:
            path = draw(script, Path(folder))
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
