"""Draw the studio's page for the docs, in a Chromium that is there already.

    python -m tools.draw_studio    studio*.png and explain_pixels.png in docs/images

``make figures`` runs it. Two short trainings take half a minute.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

import eyeshot
from eyeshot.explanation.attribution import attribute_input, black
from eyeshot.images.whole import open_image
from eyeshot.pictures import draw_shares, png_bytes
from eyeshot.web_studio import Session, Subject, bundled_digits, digit_pictures
from eyeshot.web_studio.server import Server

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE: ViewportSize = {"width": 1440, "height": 900}
EPOCHS = (1, 8)


@contextmanager
def page_of(session: Session, address: str = "") -> Iterator[Page]:
    """The studio's page of a session, in light colors and English."""
    session.warm()
    server = Server(session)
    thread = threading.Thread(target=server.run)
    thread.start()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))))
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE)
            page.goto(f"{server.address}#language=en&theme=light&{address}")
            yield page
            browser.close()
    finally:
        server.stop()
        thread.join()


def save(page: Page, name: str) -> None:
    """The page as it stands, in few colors: it is drawn, not photographed."""
    page.wait_for_timeout(800)  # maps and strips come after what was waited for
    target = PICTURES / f"{name}.png"
    page.screenshot(path=target)
    with open_image(target) as shown:
        shown.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def draw_unit() -> None:
    """A seven, the maps of the second convolution, and the sum of one of its units."""
    with page_of(Session(*bundled_digits()), "layer=conv2&unit=3,5,6") as page:
        page.wait_for_selector(".sum tfoot")
        save(page, "studio")


def draw_why() -> None:
    """Why the seven is read as one: in the studio, and as the command draws it."""
    subject, pictures = bundled_digits()
    with page_of(Session(subject, pictures)) as page:
        page.click(".read-as")
        page.wait_for_selector(".evidence .nine")
        save(page, "studio-why")
    assert subject.run is not None
    seven = pictures[0]
    found = attribute_input(
        subject.net, seven.values, unit=(7,), against=9, baseline=black(subject.run)
    )
    drawn = draw_shares(np.asarray(seven.shown), found.map, side=336)
    (PICTURES / "explain_pixels.png").write_bytes(png_bytes(drawn))


def draw_beside() -> None:
    """One unit after one epoch and after eight."""
    settings = {"width": 8, "hidden": 32}
    with TemporaryDirectory() as folder:
        subjects = []
        for epochs in EPOCHS:
            run = eyeshot.train(
                "digits",
                out=Path(folder) / str(epochs),
                epochs=epochs,
                model_arguments=settings,
                progress=False,
            )
            subjects.append(Subject(f"epoch {epochs}", run.net, run))
        one, two = (Session(subject, digit_pictures(subject)) for subject in subjects)
        one.put_beside(two)
        with page_of(one, "layer=conv2&unit=3,5,6&beside=difference") as page:
            page.wait_for_selector(".sum tfoot")
            save(page, "studio-beside")


if __name__ == "__main__":
    draw_unit()
    draw_why()
    draw_beside()
