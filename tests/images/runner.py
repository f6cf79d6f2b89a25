"""A run in a process of its own, to be killed: writes noise band by band, slowly.

python -m tests.images.runner OUT ROWS COLUMNS BAND PAUSE [resume]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from eyeshot import images


def run(out: Path, shape: tuple[int, int, int], band: int, pause: float, resume: bool) -> int:
    """Write the image; return how many rows did not have to be written again."""
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with images.open_sink(
        out, shape, np.uint8, resume=resume, settings={"network": "noise"}
    ) as sink:
        kept = sink.durable_rows()
        print("ready", flush=True)
        for top in range(kept, shape[1], band):
            sink.write(top, array[:, top : top + band])
            print(min(top + band, shape[1]), flush=True)
            time.sleep(pause)
        sink.finish()
    return kept


if __name__ == "__main__":
    rows, columns, step = (int(text) for text in sys.argv[2:5])
    again = sys.argv[6:] == ["resume"]
    run(Path(sys.argv[1]), (1, rows, columns), step, float(sys.argv[5]), again)
