"""The studio's answers, in milliseconds: a click, a strip, a pan; and the first paint in a browser.

Through the server, as the page asks. The aims are the project's: a click on the digit CNN in
100 ms, on a U-Net of base 16 at 512² in 300 ms, a view of a picture of 20,000² in 500 ms, a page
in 1 s.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import tifffile
import torch

from eyeshot import nets
from eyeshot.web_studio import Session, Subject, bundled_digits, of_tensor, open_any
from eyeshot.web_studio.server import Server

SIDE, TILE, VIEW = 20_000, 512, 700
CLICKS = 12

Ask = Callable[..., None]


@contextmanager
def served(session: Session) -> Iterator[tuple[str, Ask]]:
    """A session behind its server, and a way to ask it."""
    session.warm()
    server = Server(session)
    thread = threading.Thread(target=server.run)
    thread.start()

    def ask(name: str, **values: object) -> None:
        with urllib.request.urlopen(f"{server.address}api/{name}?{urlencode(values)}") as answer:
            answer.read()

    try:
        yield server.address, ask
    finally:
        server.stop()
        thread.join()


def report(what: str, aim: float, act: Callable[[], None], times: int = CLICKS) -> None:
    """Print the median and the slowest of some calls, in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - started))
    middle, slowest = statistics.median(taken), max(taken)
    print(f"{what}: {middle:.0f} ms, slowest {slowest:.0f} ms; aim {aim:.0f} ms", flush=True)


def write_wide(path: Path) -> None:
    """A gray picture of 20,000² in tiles, as microscopes write them."""
    noise = np.random.default_rng(0).integers(0, 40, (TILE, TILE), dtype=np.uint8)
    count = (-(-SIDE // TILE)) ** 2
    tiles = (noise + np.uint8(16 * (i % 12)) for i in range(count))
    tifffile.imwrite(path, tiles, shape=(SIDE, SIDE), dtype=np.uint8, tile=(TILE, TILE))


def click(ask: Ask, layer: str) -> None:
    """On a unit of a map of 512²."""
    row, column = random.randrange(512), random.randrange(512)
    ask("unit", layer=layer, unit=f"1,{row},{column}")


def paint(address: str) -> None:
    """First paint in a browser, where there is one."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium: first paint is not measured")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def load() -> None:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector(".layer")
            page.close()

        report("digit CNN, page painted", 1000, load, 5)
        browser.close()


def main() -> None:
    draw = random.Random(0)
    with served(Session(*bundled_digits())) as (address, ask):
        paint(address)
        report(
            "digit CNN, click",
            100,
            lambda: ask("unit", layer="conv2", unit=f"3,{draw.randrange(14)},{draw.randrange(14)}"),
        )
        report(
            "digit CNN, click on a unit of fc1 (784 terms)",
            100,
            lambda: ask("unit", layer="fc1", unit=draw.randrange(32)),
        )
    torch.manual_seed(0)
    net = nets.build("unet", in_channels=1, classes=2, size=(512, 512), base=16, depth=4).eval()
    with served(Session(Subject("unet", net), [of_tensor(torch.rand(1, 512, 512))])) as (_, ask):
        for layer in ("first.conv2", "up1.conv1", "up1.cat"):
            report(f"U-Net of base 16 at 512², click in {layer}", 300, partial(click, ask, layer))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.tif"
        write_wide(path)
        subject = Subject("unet", net)
        with served(Session(subject, [open_any(subject, path)])) as (_, ask):

            def pan(layer: str) -> None:
                top, left = draw.randrange(SIDE - VIEW), draw.randrange(SIDE - VIEW)
                box = f"{top},{top + VIEW},{left},{left + VIEW}"
                ask("picture", box=box)
                ask("maps", layer=layer, channel=0, box=box)

            for layer in ("first.conv1", "first.relu2"):
                report(f"{SIDE:,}², a view of {VIEW}² of {layer}", 500, partial(pan, layer))


if __name__ == "__main__":
    main()
