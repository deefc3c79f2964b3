"""The conversation of the page in a real browser: what is sent, answered, stopped, told otherwise and taken back."""

import pytest

from api_server import engines
from browser import ASTRONAUT, TWO, browsing, crowd, site, visiting, wait_for
from emoreason.evaluate.explanations.interventions import says


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


@pytest.fixture
def chat(browser):
    with visiting(browser, site()) as opened:
        yield opened


def test_a_picture_is_answered_part_by_part(chat):
    """The text grows while it is written; its steps are folded below it once it is whole."""
    chat.page.evaluate(
        """window.seen = []; setInterval(() => {
            const text = document.querySelector("#er-chat .bot-row .prose");
            const steps = document.querySelectorAll("#er-chat .thought-group").length;
            if (text && !text.querySelector(".er-quiet")) window.seen.push([text.innerText.trim().length, steps]);
        }, 20)"""
    )
    chat.drop(ASTRONAUT)
    chat.stop.wait_for()
    answer = chat.done()
    seen = [tuple(pair) for pair in chat.page.evaluate("window.seen") if pair[0]]
    grown = list(dict.fromkeys(length for length, _ in seen))
    assert grown and grown == sorted(grown), grown
    assert {length for length, steps in seen if steps} == {grown[-1]}
    steps = chat.page.locator("#er-chat .thought-group")
    assert says(answer, "happiness") and "happiness" in chat.label()
    assert "Key observations" not in answer  # folded
    steps.locator(".title").click()
    chat.page.get_by_text("Key observations").wait_for()
    assert chat.users.count() == 1 and chat.users.locator("img[alt='astronaut.jpg']").count() == 1


def test_the_page_says_what_the_python_api_says(chat):
    chat.show(ASTRONAUT)
    analysis = engines()["mini"].reasoner.analyze(ASTRONAUT)
    face = analysis.faces[0]
    sections = face.explanation.sections
    chat.page.locator(".thought-group .title").click()
    chat.page.get_by_text("Key observations").wait_for()
    paragraphs = chat.page.locator("#er-chat .bot-row p").all_inner_texts()
    assert paragraphs[0] == face.explanation.short
    assert paragraphs[-6:] == ["Key observations", sections.observations, "Overall emotional interpretation",
                               sections.interpretation, "Conclusion", sections.conclusion]  # fmt: skip
    assert chat.panel.locator("h3").inner_text().startswith(f"Face 1: {face.label}, ")
    shown = chat.panel.locator(".er-bars .er-name").all_inner_texts()
    assert shown == sorted(face.evidence.probabilities, key=lambda label: -face.evidence.probabilities[label])
    widths = chat.panel.locator(".er-bars .er-track > span").evaluate_all("all => all.map(one => one.style.width)")
    for name, width in zip(shown, widths, strict=True):
        assert width == f"{100 * face.evidence.probabilities[name]:.1f}%".replace(".0%", "%")


def test_examples_answer_and_questions_follow(chat):
    chat.page.click("#er-example_one")
    wait_for(lambda: chat.bots.count())
    explained = chat.done()
    assert says(explained, "happiness") and "happiness" in chat.label()
    answer = chat.ask("Why not fear?")
    assert answer and answer != explained and chat.bots.count() == 2
    assert chat.panel.get_attribute("data-chosen") == "1" and chat.page.locator(".er-chip").count() == 1


def test_stop_ends_a_long_answer(chat):
    chat.drop(crowd())
    chat.page.locator("#er-chat .bot-row", has_text="Face 1:").wait_for()
    chat.stop.click()
    wait_for(lambda: "Stopped." in chat.said())
    stopped = chat.said()
    assert "Face 6:" not in stopped
    assert chat.ask("Why not fear?")
    assert "Face 6:" not in chat.said()  # the rest was not written meanwhile


def test_retry_says_the_same_in_other_words(chat):
    first = chat.show(ASTRONAUT)
    again = chat.press("Retry")
    assert first != again and says(again, "happiness")
    assert chat.bots.count() == chat.users.count() == 1


def test_undo_edit_and_clear(chat):
    chat.show(ASTRONAUT)
    chat.ask("Why not fear?")
    assert chat.page.locator("#er-chat button[title=Edit]:visible").count() == 1  # a picture cannot be edited
    chat.page.locator("#er-chat button[title=Edit]:visible").click()
    chat.page.locator("#er-chat textarea").fill("Why not anger?")
    assert chat.press("Submit") and "Why not fear?" not in chat.said() and chat.bots.count() == 2
    assert chat.users.last.inner_text() == "Why not anger?"
    chat.page.locator("#er-chat button[title=Undo]").click()
    wait_for(lambda: chat.bots.count() == 1)
    assert chat.box.input_value() == "Why not anger?"
    chat.page.locator("#er-chat button[title=Clear]").click()
    wait_for(lambda: chat.bots.count() == 0)
    chat.page.get_by_text("Evidence appears here").wait_for()


def test_two_faces_are_chosen_and_compared(chat):
    chat.show(TWO)
    said = chat.said()
    assert "Face 1:" in said and "Face 2:" in said
    heading, chips = chat.panel.locator("h3"), chat.page.locator(".er-chip")
    assert chips.count() == 2 and heading.inner_text().startswith("Face 1:")
    chips.nth(1).click()
    wait_for(lambda: heading.inner_text().startswith("Face 2:"))
    assert chips.nth(1).get_attribute("aria-pressed") == "true" != chips.nth(0).get_attribute("aria-pressed")
    chips.nth(1).press("ArrowLeft")
    chat.page.keyboard.press("Enter")
    wait_for(lambda: heading.inner_text().startswith("Face 1:"))
    assert chat.ask("Compare the two faces.")
    chat.ask("And what does face 2 show?")
    wait_for(lambda: heading.inner_text().startswith("Face 2:"))  # the panel follows the conversation


def test_own_labels_are_the_ones_that_are_shown(chat):
    chat.open("settings")
    chat.page.locator("#er-own-labels textarea, #er-own-labels input").fill("bored, engaged, confused")
    chat.show(ASTRONAUT)
    assert set(chat.panel.locator(".er-bars .er-name").all_inner_texts()) == {"bored", "engaged", "confused"}
    assert "estimated" in chat.panel.inner_text().lower()


def test_markup_in_a_label_is_text(chat):
    hostile = "<img src=x onerror=alert(1)>"
    chat.page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    chat.open("settings")
    chat.page.locator("#er-own-labels textarea, #er-own-labels input").fill(f"{hostile}, calm")
    chat.show(ASTRONAUT)
    chat.ask(f"Why not {hostile}?")
    assert hostile in chat.panel.locator(".er-bars .er-name").all_inner_texts()
    assert chat.page.locator("img[src='x']").count() == 0
    assert chat.users.last.inner_text() == f"Why not {hostile}?"
    chat.page.locator("#er-chat button[title=Edit]:visible").click()
    chat.press("Submit")
    assert chat.users.last.inner_text() == f"Why not {hostile}?"
