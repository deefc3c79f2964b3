"""The evidence side of the page: what it shows, that it is sound HTML, and that nothing a user typed acts in it."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.apps.ui.charts import circumplex, distribution_bars, percent, unit_list
from emoreason.apps.ui.explanation_html import escape_text, explanation_html
from emoreason.apps.ui.panel import panel
from emoreason.apps.ui.words import words
from emoreason.core.types import Evidence, Face, Picture
from emoreason.explain.backends.parts import unread
from emoreason.explain.explanation import Explanation
from emoreason.explain.read.sections import HEADINGS
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.knowledge.facs import ACTION_UNITS, REGIONS

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp; **b** `c` $$x$$ ${alert(1)} {{value}}"
CHARTS = words()["charts"]
VOID = {"img", "br"}
TEXT = (
    "Key observations: The lip corners are pulled far up and the cheeks are raised a little. "
    "The brows are not lowered.\n"
    "Overall emotional interpretation: Raised lip corners speak for happiness.\nConclusion: It is happiness, 91% sure."
)


class Page(HTMLParser):
    """The elements of a page, in order; fails when one is closed that is not open."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, {key: value or "" for key, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, {key: value or "" for key, value in attributes}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, kind: str) -> list[dict[str, str]]:
        return [a for _, a in self.elements if kind in a.get("class", "").split()]


@pytest.fixture(scope="module")
def pair(mini, astronaut) -> Analysis:
    """Two faces in one picture, from the shipped model."""
    left = Image.open(astronaut).convert("RGB")
    both = Image.new("RGB", (2 * left.width, left.height))
    both.paste(left, (0, 0))
    both.paste(ImageOps.mirror(left), (left.width, 0))
    return mini.analyze(both, explain=False)


def made(probabilities=None, units=None, text: str = "", source: str = "a.png", **evidence) -> Analysis:
    """A picture with one face, read by hand."""
    probabilities = probabilities or {"happiness": 0.91, "neutral": 0.06, "fear": 0.03}
    units = {"12": 0.9, "6": 0.5, "4": 0.05} if units is None else units
    label = max(probabilities, key=lambda name: probabilities[name])
    read = Evidence(probabilities, label, probabilities[label], True, units, **evidence)
    image = Image.new("RGB", (300, 200), "gray")
    square = (30.0, 30.0, 100.0, 20.0)  # turned, and partly outside of the picture
    face = Face(0, (-5, -10, 80, 90), 0.9, image.crop((10, 0, 110, 100)), {"size": 90.0}, square)
    explanation = Explanation.of(text, Sheet.of(read), "test") if text else None
    return Analysis(Picture(source, image), "m", "r", "p", (FaceAnalysis(face, read, explanation),))


def shown(*analyses: Analysis):
    faces = [(analysis, face) for analysis in analyses for face in analysis.faces]
    return [(number, analysis, face) for number, (analysis, face) in enumerate(faces, 1)]


def side(*analyses: Analysis, chosen: int | None = None) -> Page:
    return Page(panel(shown(*analyses), chosen, words()))


def test_every_face_has_a_chip_and_one_is_pressed(pair):
    page = side(pair, made(), chosen=2)
    chips = page.of("er-chip")
    assert [chip["data-face"] for chip in chips] == ["1", "2", "3"]
    assert [chip["aria-pressed"] for chip in chips] == ["false", "true", "false"]
    assert [chip["tabindex"] for chip in chips] == ["-1", "0", "-1"]
    assert page.of("er-panel")[0]["data-chosen"] == "2"
    assert [box["data-face"] for box in page.of("er-other")] == ["1"]  # not the face of the other picture


@pytest.mark.parametrize("chosen", [None, 99])
def test_without_a_choice_the_newest_picture_is_shown(pair, chosen):
    assert side(made(), pair, chosen=chosen).of("er-panel")[0]["data-chosen"] == "2"


def test_pictures_have_alt_texts_and_charts_have_names(pair):
    page = side(pair)
    pictures = [a for tag, a in page.elements if tag == "img"]
    drawings = [a for tag, a in page.elements if tag == "svg"]
    assert pictures and all(a["alt"] and a["src"].startswith("data:image/jpeg;base64,") for a in pictures)
    assert len(drawings) == 3 and all(a["role"] == "img" and a["aria-label"] for a in drawings)


def test_regions_lie_in_the_picture(pair):
    for analysis in (pair, made()):
        page, (width, height) = side(analysis), analysis.picture.image.size
        polygons = [a["points"] for tag, a in page.elements if tag == "polygon"]
        assert [a["data-region"] for a in page.of("er-region")] == list(REGIONS) and len(polygons) == len(REGIONS)
        for x, y in (map(float, corner.split(",")) for points in polygons for corner in points.split()):
            assert 0 <= x <= width and 0 <= y <= height


def test_regions_stand_on_the_chosen_face(pair):
    x, y, w, h = pair.faces[1].face.box
    page = side(pair, chosen=2)
    mouth = next(a["points"] for tag, a in page.elements[_place(page, "mouth") :] if tag == "polygon")
    xs, ys = zip(*(map(float, corner.split(",")) for corner in mouth.split()), strict=True)
    assert x < sum(xs) / 4 < x + w and y + h / 2 < sum(ys) / 4 < y + h


def _place(page: Page, region: str) -> int:
    return next(
        i
        for i, (_, a) in enumerate(page.elements)
        if a.get("data-region") == region and "er-region" in a.get("class", "").split()
    )


def test_cited_regions_and_units_are_marked():
    page = side(made(text=TEXT))
    assert [a["data-region"] for a in page.of("er-region") if "er-cited" in a["class"]] == ["cheeks", "mouth"]
    assert [a["data-au"] for a in page.of("er-unit")] == ["12", "6"]
    assert all("er-cited" in a["class"] for a in page.of("er-unit"))
    assert "brow lowerer" in page.text and page.of("er-unit")[-1]["data-au"] != "4"  # folded, not a button


def test_a_withheld_answer_is_shown_as_one():
    page = side(made(abstained=True, why="the best label has 91%, below the 99% that was asked for"))
    assert "no answer" in page.text and "below the 99%" in page.text
    assert "er-withheld" in page.of("er-chip")[0]["class"] and not page.of("er-best")


def test_checks_and_verdict_are_told():
    good = side(made(text=TEXT))
    assert "Every statement matches the evidence" in good.text
    bad = side(made(text=TEXT.replace("are not lowered", "are lowered")))
    assert "One statement does not match" in bad.text and "The observations name the brow lowerer" in bad.text
    worse = side(made(text=TEXT.replace("happiness, 91%", "fear, 91%")))
    assert "statements do not match" in worse.text and 'The conclusion says "fear"' in worse.text
    analysis = made(text=TEXT)
    own = Reasoned({"happiness": 0.2, "neutral": 0.1, "fear": 0.7})
    explained = replace(analysis.faces[0].explanation, reasoned=own, agreement=False)
    differs = side(replace(analysis, faces=(replace(analysis.faces[0], explanation=explained),)))
    assert "the language model says fear, 70%" in differs.text


@pytest.mark.parametrize("route", ["model", "retried", "written"])
def test_the_way_a_text_came_is_told(route):
    analysis = made(text=TEXT)
    face = analysis.faces[0]
    explanation = Explanation.of(TEXT, face.explanation.sheet, "test", route)
    shown = side(replace(analysis, faces=(replace(face, explanation=explanation),))).text
    texts = words()["panel"]
    assert [name for name in ("retried", "written") if texts[name] in shown] == [route][route == "model" :]


def test_poor_pictures_are_told():
    analysis = made()
    quality = {"size": 25.0, "sharpness": 0.1, "brightness": 0.05, "yaw": -50.0}
    face = replace(analysis.faces[0], face=replace(analysis.faces[0].face, quality=quality))
    text = side(replace(analysis, faces=(face,))).text
    assert all(word in text for word in ("25 pixels", "blurred", "dark", "turned"))
    assert "may be unreliable" not in side(analysis).text


def test_empty_states():
    assert "Evidence appears here" in Page(panel([], None, words())).text
    assert "No face was found" in Page(panel([], None, words(), pictures=1)).text


def test_bars_are_ranked_and_only_the_chosen_is_marked():
    page = Page(distribution_bars({"a": 0.2, "b": 0.7, "c": 0.1}, "b", False, False, CHARTS))
    assert re.findall(r"[abc](?=\d)", page.text) == ["b", "a", "c"]
    assert len(page.of("er-best")) == 1 and "aria-current" in page.of("er-bar")[0]
    assert "Estimated" in page.text


def test_percent_never_claims_certainty():
    texts = [percent(p) for p in (0, 0.004, 0.0099, 0.01, 0.5, 0.99, 0.996, 1)]
    assert texts == ["under 1%", "under 1%", "1%", "1%", "50%", "99%", "over 99%", "over 99%"]


@pytest.mark.parametrize("chosen", [1, 2])
def test_what_a_user_typed_does_not_act(chosen):
    other = made({HOSTILE: 0.6, "fear": 0.4}, text=TEXT, source=f"/tmp/{HOSTILE}.png")
    html = panel(shown(other, other), chosen, words())
    assert "<img src=x" not in html and html.count("<img") == 2
    page = Page(html)
    assert HOSTILE in page.text and {tag for tag, _ in page.elements}.isdisjoint({"script", "b"})
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]


# ---- the conversation ------------------------------------------------------------------------------------------------


def unwrapped(markdown: str) -> str:
    return unescape(re.sub(r"</?span[^>]*>", "", markdown))


def test_spans_carry_the_units_and_leave_the_text_as_it_is():
    explanation = made(text=TEXT).faces[0].explanation
    details, text = explanation_html(explanation, 3)
    sections = explanation.sections
    bodies = (sections.observations, sections.interpretation, sections.conclusion)
    assert details.split("\n\n")[::2] == [f"**{heading}**" for heading in HEADINGS]
    assert unescape(details).split("\n\n")[1::2] == list(bodies)
    assert unwrapped(text) == explanation.short
    spans = [(a["class"], a["role"], a["tabindex"]) for _, a in Page(text).elements]
    assert spans == [
        (f"er-au er-face-3 er-unit-{code} er-region-{ACTION_UNITS[code].region}", "button", "0")
        for code in ("12", "6", "4")
    ]
    assert not Page(details).elements, "each movement is a button once"


def test_two_units_in_one_place_share_a_span():
    text = TEXT.replace("The brows are not lowered.", "AU25 and AU26 are seen; the whole brows are raised.")
    explanation = made(text=text).faces[0].explanation
    shown = explanation_html(explanation, 1)[1]
    classes = " ".join(a["class"] for _, a in Page(shown).elements).split()
    assert {f"er-unit-{m.action_unit}" for m in explanation.mentions} <= set(classes)
    assert unwrapped(shown).count("whole brows") == 1


def test_a_text_without_sections_is_shown_whole():
    explanation = made(text=f"No sections here.\n{HOSTILE}").faces[0].explanation
    details, text = explanation_html(explanation, 1)
    assert details == "" and unwrapped(text) == f"No sections here.\n{HOSTILE}"
    assert not set("<*`$") & set(text)


def test_what_stands_in_a_section_does_not_act():
    explanation = made(text=TEXT.replace("far up", f"far up {HOSTILE}")).faces[0].explanation
    details, text = explanation_html(explanation, 1)
    assert "<img" not in details + text and not set("*`$") & set(text)
    assert unwrapped(text) == explanation.short and "alert(1)" in text


def test_a_face_that_was_not_read_has_one_sentence_and_no_steps():
    sheet = Sheet({}, {"happiness": 0.5, "fear": 0.5}, abstained=True, why="the picture is almost even")
    details, text = explanation_html(unread(sheet, "test"), 1)
    assert details == "" and "almost even" in unwrapped(text) and "<span" not in text


# ---- anything that may come ------------------------------------------------------------------------------------------

shares = st.floats(0, 1)
distributions = st.dictionaries(st.text(min_size=1), shares, min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(distributions, st.dictionaries(st.sampled_from(sorted(ACTION_UNITS)), shares), st.booleans(), st.booleans())
def test_charts_are_sound_whatever_was_measured(probabilities, units, calibrated, abstained):
    label = max(probabilities, key=lambda name: probabilities[name])
    page = Page(distribution_bars(probabilities, label, calibrated, abstained, CHARTS))
    assert len(page.of("er-bar")) == len(probabilities) and len(page.of("er-best")) == (not abstained)
    evidence = Evidence(probabilities, label, probabilities[label], calibrated, units)
    listed = Page(unit_list(replace(made().faces[0], evidence=evidence), CHARTS))
    strengths = [units[a["data-au"]] for a in listed.of("er-unit")]
    assert strengths == sorted(strengths, reverse=True) and len(strengths) == sum(x >= 0.2 for x in units.values())


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.none(), st.floats(-1, 1)), st.floats(-1, 1))
def test_the_circumplex_says_where_the_point_is(valence, arousal):
    evidence = replace(made().faces[0].evidence, valence=valence, arousal=arousal)
    page = Page(circumplex(replace(made().faces[0], evidence=evidence), CHARTS))
    if valence is None:
        assert not page.of("er-point") and "Too few" in page.text
        return
    point = page.of("er-point")[0]
    assert float(point["cx"]) == pytest.approx(100 * valence, abs=0.06)
    assert float(point["cy"]) == pytest.approx(-100 * arousal, abs=0.06)
    assert "Derived" in page.text and f"valence {valence:+.2f}" in page.text


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_is_shown_as_it_is(text):
    assert "<" not in escape_text(text) and unescape(escape_text(text)) == text
