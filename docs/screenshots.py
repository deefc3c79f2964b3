"""Make the pictures of docs/chat.md: `python docs/screenshots.py`. Needs the test packages and a Chromium."""

import io
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LARGEST = 150_000  # bytes of a picture

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
from browser import ASTRONAUT, TWO, browsing, site, visiting  # noqa: E402


def main() -> None:
    with browsing() as browser:
        for scheme in ("light", "dark"):
            with visiting(browser, site(), viewport=WIDE, color_scheme=scheme) as chat:
                chat.show(TWO)
                chat.ask("Why not fear?")
                chat.page.locator(".thought-group .title").first.click()
                chat.page.locator("#er-chat .er-au").first.click()
                chat.page.locator("#er-chat .er-au").first.scroll_into_view_if_needed()
                save(chat.page, f"page-{scheme}")
        with visiting(browser, site(), viewport=PHONE, device_scale_factor=2, is_mobile=True) as chat:
            chat.show(ASTRONAUT)
            chat.ask("Why not fear?")
            save(chat.page, "page-phone")
        with visiting(browser, site(), viewport=WIDE) as chat:
            chat.tab("Label a folder")
            chat.page.set_input_files("#er-files input[type=file]", [ASTRONAUT, TWO])
            chat.page.locator("#er-files", has_text="two").wait_for()
            chat.page.click("#er-label")
            chat.page.locator("#er-progress", has_text="2 done.").wait_for()
            save(chat.page, "page-folder")


def save(page, name: str) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(800)  # until everything has come to rest
    target = IMAGES / f"{name}.webp"
    Image.open(io.BytesIO(page.screenshot())).save(target, "WEBP", quality=82, method=6)
    size = target.stat().st_size
    assert size < LARGEST, f"{target.name} takes {size} bytes"
    print(f"{target.relative_to(ROOT)}: {size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
