"""The conversation of the page in a real browser: what is sent, answered, stopped, told otherwise and taken back."""

import re

import pytest

from api_server import engines
from browser import ASTRONAUT, TWO, browsing, crowd, site, visiting, wait_for
from emoreason.explain.explanation import Style


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


@pytest.fixture
def chat(browser):
    with visiting(browser, site()) as opened:
        yield opened


def test_a_picture_is_answered_word_by_word(chat):
    chat.page.evaluate(
        """window.seen = []; setInterval(() => {
            const thoughts = document.querySelector("#er-chat .thought-group .prose:not(.title *)");
            if (thoughts) window.seen.push(thoughts.innerText.length);
        }, 20)"""
    )
    chat.drop(ASTRONAUT)
    chat.stop.wait_for()
    conclusion = chat.done()
    grown = list(dict.fromkeys(chat.page.evaluate("window.seen")))
    assert len(grown) >= 4 and grown == sorted(grown), grown
    thoughts = chat.page.locator("#er-chat .thought-group")
    assert "happiness" in conclusion and "Key observations" not in conclusion  # folded, and outside of the fold
    assert "happiness" not in thoughts.inner_text()
    thoughts.locator(".title").click()
    chat.page.get_by_text("Key observations").wait_for()
    assert chat.users.count() == 1 and chat.users.locator("img[alt='astronaut.jpg']").count() == 1


def test_the_page_says_what_the_python_api_says(chat):
    chat.show(ASTRONAUT)
    analysis = engines()["mini"].reasoner.analyze(ASTRONAUT, style=Style(temperature=2.0))
    face = analysis.faces[0]
    sections = face.explanation.sections
    chat.page.locator(".thought-group .title").click()
    chat.page.get_by_text("Key observations").wait_for()
    paragraphs = chat.page.locator("#er-chat .bot-row p").all_inner_texts()
    assert paragraphs[1:] == ["Key observations", sections.observations, "Overall emotional interpretation",
                              sections.interpretation, sections.conclusion]  # fmt: skip
    assert chat.panel.locator("h3").inner_text().startswith(f"Face 1: {face.label}, ")
    shown = chat.panel.locator(".er-bars .er-name").all_inner_texts()
    assert shown == sorted(face.evidence.probabilities, key=lambda label: -face.evidence.probabilities[label])
    widths = chat.panel.locator(".er-bars .er-track > span").evaluate_all("all => all.map(one => one.style.width)")
    for name, width in zip(shown, widths, strict=True):
        assert width == f"{100 * face.evidence.probabilities[name]:.1f}%".replace(".0%", "%")


def test_examples_answer_and_questions_follow(chat):
    chat.page.click("#er-example_one")
    wait_for(lambda: chat.bots.count())
    assert "happiness" in chat.done()
    answer = chat.ask("Why not fear?")
    assert "fear" in answer.lower() and chat.bots.count() == 2
    assert chat.panel.get_attribute("data-chosen") == "1" and chat.page.locator(".er-chip").count() == 1


def test_stop_ends_a_long_answer(chat):
    chat.drop(crowd())
    chat.page.locator("#er-chat .thought-group").first.wait_for()
    chat.stop.click()
    wait_for(lambda: "Stopped." in chat.said())
    stopped = chat.said()
    assert "Face 6:" not in stopped
    assert "fear" in chat.ask("Why not fear?").lower()
    assert "Face 6:" not in chat.said()  # the rest was not written meanwhile


def test_retry_says_the_same_in_other_words(chat):
    first = chat.show(ASTRONAUT)
    again = chat.press("Retry")
    assert first != again and "happiness" in again
    assert chat.bots.count() == chat.users.count() == 1


def test_undo_edit_and_clear(chat):
    chat.show(ASTRONAUT)
    chat.ask("Why not fear?")
    assert chat.page.locator("#er-chat button[title=Edit]:visible").count() == 1  # a picture cannot be edited
    chat.page.locator("#er-chat button[title=Edit]:visible").click()
    chat.page.locator("#er-chat textarea").fill("Why not anger?")
    answer = chat.press("Submit")
    assert "anger" in answer.lower() and "fear?" not in chat.said() and chat.bots.count() == 2
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
    answer = chat.ask("Compare the two faces.").lower()
    assert re.search(r"\b(both|face 2|second)\b", answer), answer


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
