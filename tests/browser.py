"""The real page in a real browser: `app.py` runs as a process of its own, Chromium drives it.

One server serves all tests and each test has a browser context of its own. CHROMIUM names another browser.
"""

import atexit
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ASTRONAUT, TWO = ROOT / "examples" / "astronaut.jpg", ROOT / "examples" / "two.jpg"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PATIENCE = 240.0  # seconds: the machines of CI are slow
# Two frames draw what has come; what folds itself away stays in the page until it has slid out. A spinner never ends.
SETTLED = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => resolve(
    document.getAnimations().every(one => one.playState !== "running" || one.effect.getTiming().iterations === Infinity)
))))"""


@dataclass(frozen=True)
class Site:
    """A running page."""

    address: str
    home: Path  # of its user: feedback goes here
    temp: Path  # its uploads go here
    log: Path

    def uploads(self, name: str = "*") -> list[Path]:
        return [path for path in self.temp.glob(f"emoreason-*/**/{name}") if path.is_file()]


class Chat:
    """The page as a user sees it."""

    def __init__(self, page, site: Site):
        self.page, self.site = page, site
        self.bots, self.users = page.locator("#er-chat .bot-row"), page.locator("#er-chat .user-row")
        self.panel, self.box = page.locator(".er-panel"), page.locator("#er-box textarea")
        self.stop = page.locator("#er-box button.stop-button")

    def drop(self, *files: Path | dict) -> None:
        """Pictures go into the box, which sends them by itself."""
        answers = self.bots.count()
        self.page.set_input_files("#er-box input[type=file]", list(files))
        wait_for(lambda: self.bots.count() > answers)

    def ask(self, text: str) -> str:
        """The whole answer to a question."""
        answers = self.bots.count()
        self.box.fill(text)
        self.box.press("Enter")
        wait_for(lambda: self.bots.count() > answers)
        return self.done()

    def press(self, title: str) -> str:
        """A button under a message; the answer that comes of it."""
        self.page.locator(f"#er-chat button[title={title}]:visible").last.click()
        self.stop.wait_for()
        return self.done()

    def done(self) -> str:
        """Waits until nothing is written and nothing moves any more; the last message."""
        self.page.locator("#er-box button.submit-button").wait_for()
        self.settle()
        return self.bots.last.inner_text()

    def settle(self) -> None:
        """Waits until nothing moves or fades any more."""
        wait_for(lambda: self.page.evaluate(SETTLED))

    def show(self, *files: Path | dict) -> str:
        self.drop(*files)
        return self.done()

    def label(self) -> str:
        """The label of the chosen face and its confidence, as the panel has them."""
        return self.panel.locator("h3 .er-label").inner_text()

    def said(self) -> str:
        return self.page.locator("#er-chat").inner_text()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def open(self, what: str) -> None:
        self.page.locator(f"#er-{what} > button.label-wrap").click()
        self.settle()


def chromium() -> str:
    """The browser; the tests are skipped without one."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if not found:
        pytest.skip("no Chromium: install one, or name it in CHROMIUM")
    return found


@contextmanager
def browsing(*options: str) -> Iterator:
    """A browser. It is closed with the module: Playwright occupies the event loop of the thread."""
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
    executable = chromium()
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", *options]
        )
        yield browser
        browser.close()


@contextmanager
def visiting(browser, site: Site, **context) -> Iterator[Chat]:
    """The page in a context of its own, once the model is ready. Errors of its scripts are errors of the test."""
    opened = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
    page, mistakes = opened.new_page(), []
    page.set_default_timeout(1000 * PATIENCE)
    page.on("pageerror", lambda mistake: mistakes.append(mistake))
    page.goto(site.address)
    page.locator("#er-status", has_text="is ready").wait_for()
    try:
        yield Chat(page, site)
    finally:
        opened.close()
    assert not mistakes


@cache
def site() -> Site:
    """The page on a free port, for all tests of this process."""
    folder = Path(tempfile.mkdtemp(prefix="page-"))
    started = start(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(end, started[1])  # the last that is registered runs first
    return started[0]


def start(folder: Path, *options: str) -> tuple[Site, subprocess.Popen]:
    """`python app.py` with a home of its own, once it answers."""
    home, temp, log = folder / "home", folder / "temp", folder / "log"
    home.mkdir()
    temp.mkdir()
    own = {"HOME": str(home), "TMPDIR": str(temp), "XDG_DATA_HOME": str(home / "data"), "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, ROOT / "app.py", "--port", "0", "--device", "cpu", *options],
                                   env=os.environ | own, stdout=out, stderr=subprocess.STDOUT)  # fmt: skip

    def address() -> str | None:
        assert process.poll() is None, log.read_text()
        found = re.search(r"is running at (\S+)", log.read_text())
        return found and found[1]

    return Site(wait_for(address), home, temp, log), process


def end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait(PATIENCE)


def wait_for(what: Callable, seconds: float = PATIENCE):
    until = time.monotonic() + seconds
    while not (come := what()):
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)
    return come


def picture(image: Image.Image, name: str = "picture.png") -> dict:
    """An image as a file that Playwright uploads."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return upload(name, stream.getvalue())


def upload(name: str, content: bytes, mime: str = "image/png") -> dict:
    return {"name": name, "mimeType": mime, "buffer": content}


def crowd(across: int = 3, down: int = 2) -> dict:
    """The same face several times."""
    face = Image.open(ASTRONAUT).convert("RGB").crop((130, 0, 330, 200))
    sheet = Image.new("RGB", (200 * across, 200 * down))
    for at in range(across * down):
        sheet.paste(face, (200 * (at % across), 200 * (at // across)))
    return picture(sheet, "crowd.png")
