"""The evidence panel: a chip for every face, and all measurements of the chosen one.

Pure functions build one HTML string; page.css styles it and page.js adds the interaction.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from emoreason.analysis import FaceAnalysis
from emoreason.apps.ui.charts import attribute_section, distribution_bars
from emoreason.apps.ui.views import NumberedFace, data_uri, views
from emoreason.core.probabilities import percent
from emoreason.evidence.attributes import ATTRIBUTES

CHIP = 96  # pixels of a thumbnail
QUALITY_WARNINGS = (  # quality measure, from, up to, key of the text
    ("size", 0, 40, "small"),
    ("sharpness", 0, 0.3, "blurred"),
    ("brightness", 0, 0.15, "dark"),
    ("brightness", 0.9, 2, "bright"),
)
TURNED = 30  # degrees of yaw to either side; beyond it, half of the face is hard to see

# Gradio runs this when the panel loads. page.js requests a face with "er-choose"; the server receives "select".
JS_ON_LOAD = """
element.addEventListener("er-choose", (event) => trigger("select", event.detail));
watch("value", () => document.dispatchEvent(new Event("er-shown")));
"""


def panel(faces: Sequence[NumberedFace], chosen: int | None, words: Mapping[str, Any], pictures: int = 0) -> str:
    """The panel for face number `chosen`, or for the first face of the newest picture.

    words: all texts. pictures: how many were analyzed, to distinguish "no face" from "no picture yet"."""
    texts = words["panel"]
    if not faces:
        key = "no_face" if pictures else "empty"
        lines = f'<p>{escape(texts[key])}</p><p class="er-note">{escape(texts[f"{key}_more"])}</p>'
        return _aside(f'<div class="er-nothing">{lines}</div>', "", texts)
    newest = faces[-1][1]
    current = next((entry for entry in faces if entry[0] == chosen), None)
    current = current or next(entry for entry in faces if entry[1] is newest)
    number, analysis, face = current
    evidence = face.evidence
    charts = words["charts"]
    others = [entry for entry in faces if entry[1] is analysis and entry is not current]
    layout, pictures_html = views(current, others, texts)
    parts = (
        _chips(faces, number, texts),
        f'<div class="er-views {layout}">{pictures_html}{_answer(number, face, texts)}</div>',
        distribution_bars(evidence.probabilities, evidence.label, evidence.calibrated, evidence.abstained, charts),
        *(attribute_section(attribute, face, charts) for attribute in ATTRIBUTES),
    )
    return _aside("".join(parts), f' data-chosen="{number}"', texts)


def _aside(body: str, chosen: str, texts: Mapping[str, str]) -> str:
    return f'<aside class="er-panel"{chosen} aria-label="{escape(texts["title"])}">{body}</aside>'


# ---- chips -----------------------------------------------------------------------------------------------------------


def _chips(faces: Sequence[NumberedFace], chosen: int, texts: Mapping[str, str]) -> str:
    chips = "".join(_chip(number, face, number == chosen, texts) for number, _, face in faces)
    return f'<div class="er-chips" role="toolbar" aria-label="{escape(texts["chips"])}">{chips}</div>'


def _chip(number: int, face: FaceAnalysis, chosen: bool, texts: Mapping[str, str]) -> str:
    """One face. Only the chosen chip is a Tab stop; the arrow keys move between chips."""
    abstained = face.evidence.abstained
    label = texts["no_answer"] if abstained else face.label
    confidence = "" if abstained else f'<span class="er-sure">{escape(percent(face.confidence))}</span>'
    name = texts["chip"].format(number=number, label=label)
    return (
        f'<button type="button" class="er-chip{" er-withheld" if abstained else ""}" data-face="{number}"'
        f' aria-pressed="{str(chosen).lower()}" tabindex="{0 if chosen else -1}" title="{escape(name)}">'
        f'<img src="{data_uri(face.face.crop, CHIP)}" alt="{escape(texts["face"].format(number=number))}"'
        f' width="{CHIP // 2}" height="{CHIP // 2}">'
        f'<span class="er-chip-text"><span class="er-chip-label">{escape(label)}</span>{confidence}</span>'
        f'<span class="er-number" aria-hidden="true">{number}</span></button>'
    )


# ---- the answer ------------------------------------------------------------------------------------------------------


def _answer(number: int, face: FaceAnalysis, texts: Mapping[str, str]) -> str:
    """The label, and notes on how far to trust it."""
    evidence = face.evidence
    if evidence.abstained:
        head, notes = texts["no_answer"], [_note("warn", texts["abstained"].format(why=evidence.why))]
    else:
        head, notes = f"{face.label}, {percent(face.confidence)}", []
    if face.measured is not None:
        measured = face.measured
        text = texts["measured"].format(label=measured.label, confidence=percent(measured.confidence))
        notes.append(_note("info", text))
    notes += _verdicts(face, texts)
    notes += [_note("warn", text) for text in evidence.notes]
    notes += [_note("warn", text) for text in _quality_warnings(face.face.quality, texts)]
    title = f'{escape(texts["face"].format(number=number))}: <span class="er-label">{escape(head)}</span>'
    return f'<div class="er-answer"><h3>{title}</h3><ul class="er-badges">{"".join(notes)}</ul></div>'


def _verdicts(face: FaceAnalysis, texts: Mapping[str, str]) -> list[str]:
    """Whether the text matches the evidence, and whether the language model agrees on its own."""
    explanation = face.explanation
    if explanation is None:
        return []
    problems = explanation.checks.problems()
    if explanation.unchecked:
        notes = [_note("info", texts["unchecked"])]
    elif not problems:
        notes = [_note("ok", texts["checks_ok"])]
    else:
        key = "checks_failed_one" if len(problems) == 1 else "checks_failed"
        notes = [_note("warn", texts[key].format(n=len(problems)), problems)]
    if explanation.checks.route != "model":
        notes.append(_note("info", texts[explanation.checks.route]))
    own = explanation.reasoned
    if own is not None and explanation.agreement is not None:
        text = texts["agrees" if explanation.agreement else "differs"]
        line = text.format(label=own.label, confidence=percent(own.probabilities[own.label]))
        notes.append(_note("ok" if explanation.agreement else "warn", line))
    return notes


def _quality_warnings(quality: Mapping[str, float], texts: Mapping[str, str]) -> list[str]:
    warnings = [
        texts[text].format(size=f"{quality[key]:.0f}")
        for key, low, high, text in QUALITY_WARNINGS
        if key in quality and low <= quality[key] < high
    ]
    return warnings + [texts["turned"]] * (abs(quality.get("yaw", 0)) > TURNED)


def _note(kind: str, text: str, details: Sequence[str] = ()) -> str:
    """A line with an ok, warn or info sign. Signs differ in shape as well as colour."""
    items = f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in details)}</ul>" if details else ""
    sign = '<span class="er-sign" aria-hidden="true"></span>'
    return f'<li class="er-badge er-{kind}">{sign}<div>{escape(text)}{items}</div></li>'
