"""The evidence side of the page: every face as a chip, and for the chosen one all that was measured on it.

One string of HTML by pure functions; page.css gives it its look and page.js its movement.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from emoreason.analysis import FaceAnalysis
from emoreason.apps.ui.charts import attribute_section, distribution_bars
from emoreason.apps.ui.views import Shown, data_uri, views
from emoreason.core.probabilities import percent
from emoreason.evidence.attributes import ATTRIBUTES

CHIP = 96  # pixels of a thumbnail
POOR = (  # quality note, below or above, text
    ("size", 0, 40, "small"),
    ("sharpness", 0, 0.3, "blurred"),
    ("brightness", 0, 0.15, "dark"),
    ("brightness", 0.9, 2, "bright"),
)
TURNED = 30  # degrees to either side from which half of a face is hard to see

# What Gradio runs when the panel is there: page.js asks for a face, and the server is told as "select".
JS_ON_LOAD = """
element.addEventListener("er-choose", (event) => trigger("select", event.detail));
watch("value", () => document.dispatchEvent(new Event("er-shown")));
"""


def panel(faces: Sequence[Shown], chosen: int | None, words: Mapping[str, Any], pictures: int = 0) -> str:
    """The side for the face number `chosen`, or for the first face of the newest picture.

    words: all texts. pictures: how many were looked at, to tell "no face" from "no picture yet"."""
    said = words["panel"]
    if not faces:
        key = "no_face" if pictures else "empty"
        lines = f'<p>{escape(said[key])}</p><p class="er-note">{escape(said[f"{key}_more"])}</p>'
        return _aside(f'<div class="er-nothing">{lines}</div>', "", said)
    newest = faces[-1][1]
    here = next((shown for shown in faces if shown[0] == chosen), None) or next(s for s in faces if s[1] is newest)
    number, _, face = here
    evidence = face.evidence
    charts = words["charts"]
    others = [shown for shown in faces if shown[1] is here[1] and shown is not here]
    layout, drawn = views(here, others, said)
    parts = (
        _chips(faces, number, said),
        f'<div class="er-views {layout}">{drawn}{_answer(number, face, said)}</div>',
        distribution_bars(evidence.probabilities, evidence.label, evidence.calibrated, evidence.abstained, charts),
        *(attribute_section(attribute, face, charts) for attribute in ATTRIBUTES),
    )
    return _aside("".join(parts), f' data-chosen="{number}"', said)


def _aside(body: str, chosen: str, said: Mapping[str, str]) -> str:
    return f'<aside class="er-panel"{chosen} aria-label="{escape(said["title"])}">{body}</aside>'


# ---- chips -----------------------------------------------------------------------------------------------------------


def _chips(faces: Sequence[Shown], chosen: int, said: Mapping[str, str]) -> str:
    chips = "".join(_chip(number, face, number == chosen, said) for number, _, face in faces)
    return f'<div class="er-chips" role="toolbar" aria-label="{escape(said["chips"])}">{chips}</div>'


def _chip(number: int, face: FaceAnalysis, chosen: bool, said: Mapping[str, str]) -> str:
    """One stop of the Tab key for all of them: the arrow keys go from chip to chip."""
    abstained = face.evidence.abstained
    label = said["no_answer"] if abstained else face.label
    sure = "" if abstained else f'<span class="er-sure">{escape(percent(face.confidence))}</span>'
    name = said["chip"].format(number=number, said=label)
    return (
        f'<button type="button" class="er-chip{" er-withheld" if abstained else ""}" data-face="{number}"'
        f' aria-pressed="{str(chosen).lower()}" tabindex="{0 if chosen else -1}" title="{escape(name)}">'
        f'<img src="{data_uri(face.face.crop, CHIP)}" alt="{escape(said["face"].format(number=number))}"'
        f' width="{CHIP // 2}" height="{CHIP // 2}">'
        f'<span class="er-chip-said"><span class="er-chip-label">{escape(label)}</span>{sure}</span>'
        f'<span class="er-number" aria-hidden="true">{number}</span></button>'
    )


# ---- the answer ------------------------------------------------------------------------------------------------------


def _answer(number: int, face: FaceAnalysis, said: Mapping[str, str]) -> str:
    """The label, and what speaks for or against trusting it."""
    evidence = face.evidence
    if evidence.abstained:
        head, notes = said["no_answer"], [_note("warn", said["abstained"].format(why=evidence.why))]
    else:
        head, notes = f"{face.label}, {percent(face.confidence)}", []
    if face.measured is not None:
        measured = face.measured
        text = said["measured"].format(label=measured.label, confidence=percent(measured.confidence))
        notes.append(_note("info", text))
    notes += _verdicts(face, said)
    notes += [_note("warn", text) for text in _poor(face.face.quality, said)]
    title = f'{escape(said["face"].format(number=number))}: <span class="er-label">{escape(head)}</span>'
    return f'<div class="er-answer"><h3>{title}</h3><ul class="er-badges">{"".join(notes)}</ul></div>'


def _verdicts(face: FaceAnalysis, said: Mapping[str, str]) -> list[str]:
    """Whether the text holds against the evidence, and whether the language model saw the same by itself."""
    explanation = face.explanation
    if explanation is None:
        return []
    problems = explanation.checks.problems()
    if explanation.unchecked:
        found = [_note("info", said["unchecked"])]
    elif not problems:
        found = [_note("ok", said["checks_ok"])]
    else:
        key = "checks_failed_one" if len(problems) == 1 else "checks_failed"
        found = [_note("warn", said[key].format(n=len(problems)), problems)]
    if explanation.repaired:
        found.append(_note("info", said["repaired"]))
    own = explanation.reasoned
    if own is not None and explanation.agreement is not None:
        text = said["agrees" if explanation.agreement else "differs"]
        shown = text.format(label=own.label, confidence=percent(own.probabilities[own.label]))
        found.append(_note("ok" if explanation.agreement else "warn", shown))
    return found


def _poor(quality: Mapping[str, float], said: Mapping[str, str]) -> list[str]:
    poor = [
        said[text].format(size=f"{quality[key]:.0f}")
        for key, low, high, text in POOR
        if key in quality and low <= quality[key] < high
    ]
    return poor + [said["turned"]] * (abs(quality.get("yaw", 0)) > TURNED)


def _note(kind: str, text: str, more: Sequence[str] = ()) -> str:
    """A line with a sign: ok, warn or info. The signs differ in shape; the texts say it in words."""
    listed = f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in more)}</ul>" if more else ""
    sign = '<span class="er-sign" aria-hidden="true"></span>'
    return f'<li class="er-badge er-{kind}">{sign}<div>{escape(text)}{listed}</div></li>'
