"""Draw the pictures of ``docs/gallery.md``: run the page, and keep what its commands leave.

Run ``make figures``. The page is run as tests run it, on the files that ``docs/index.md`` lists;
each ``gallery_*.png`` that it leaves is made small and put into ``docs/images``.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib import cbook
from PIL import Image
from tests.documents import ROOT, run_page

import eyeshot
from eyeshot import data, images
from eyeshot.images.whole import open_image

PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "images"
WIDTH, COLORS = 600, 256


def lay_the_desk(folder: Path) -> None:
    """A photograph, a seven, and a run, under the names that the pages use."""
    photo = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    shutil.copyfile(photo, folder / "photo.jpg")
    digits = data.load("digits").test
    seven = int(np.flatnonzero(digits.labels.numpy() == 7)[0])
    images.write(folder / "seven.png", 255 - digits.images[seven, 0].numpy())
    eyeshot.train("digits", out=folder / "runs" / "digits-digit_cnn-seed0", progress=False)


def keep(path: Path) -> Path:
    """Put a picture, no wider than the page, into ``docs/images``."""
    with open_image(path) as picture:
        small = picture.convert("RGB")
    if np.asarray(small).max() <= 1:  # the numbers of two classes
        small = small.point(lambda value: 255 * value)
    width = min(WIDTH, small.width)
    height = round(small.height * width / small.width)
    small = small.resize((width, height), Image.Resampling.LANCZOS)
    kept = PICTURES / path.name
    small.quantize(COLORS).save(kept, optimize=True)
    return kept


def main() -> None:
    """Draw them all."""
    with TemporaryDirectory() as name, contextlib.chdir(name):
        lay_the_desk(Path(name))
        run_page(PAGE)
        for path in sorted(Path(name).glob("gallery_*.png")):
            kept = keep(path)
            print(f"{kept.relative_to(ROOT)}  {kept.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
