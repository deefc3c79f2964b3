"""The evidence side of the page: every face as a chip, and for the chosen one all that was measured on it.

One string of HTML with its pictures inside, so that nothing of a user's picture is written to disk.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from PIL import Image

from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.explain.regions import outline
from emoreason.facs import REGIONS
from emoreason.ui.charts import circumplex, distribution_bars, percent, unit_list

Shown = tuple[int, Analysis, FaceAnalysis]  # number in the conversation, its picture's analysis, the face

LETTER, LETTER_BESIDE = 24, 14  # letters on a picture are this part of its longer side: more where it is shown small
LONGEST, CHIP = 720, 96  # pixels of the pictures that travel
MARGIN = 0.12  # around the crop, as a share of its side
SMALL_SHARE = 0.5  # a face below this share of its picture is also shown from near
WIDE = 1.4  # a picture that wide gets a row of its own
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
    parts = (
        _chips(faces, number, said),
        _read(here, [shown for shown in faces if shown[1] is here[1] and shown is not here], said),
        distribution_bars(evidence.probabilities, evidence.label, evidence.calibrated, evidence.abstained, charts),
        unit_list(face, charts),
        circumplex(evidence.valence, evidence.arousal, charts),
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
        f'<img src="{_data_uri(face.face.crop, CHIP)}" alt="{escape(said["face"].format(number=number))}"'
        f' width="{CHIP // 2}" height="{CHIP // 2}">'
        f'<span class="er-chip-said"><span class="er-chip-label">{escape(label)}</span>{sure}</span>'
        f'<span class="er-number" aria-hidden="true">{number}</span></button>'
    )


# ---- the picture -----------------------------------------------------------------------------------------------------


def _read(here: Shown, others: Sequence[Shown], said: Mapping[str, str]) -> str:
    """The picture with its faces framed, and the answer. A small face is also shown from near, with its regions."""
    number, analysis, face = here
    image = analysis.picture.image
    left, top, width, height = _near(face, image.size)
    if width >= SMALL_SHARE * image.width or height >= SMALL_SHARE * image.height:
        layout = "er-one"
    else:
        layout = "er-wide" if image.width >= WIDE * image.height else "er-beside"
    letter = LETTER_BESIDE if layout == "er-beside" else LETTER
    room = max(image.size) / letter
    boxes = "".join(_box(other, "er-other", room) for other in others) + _box(here, "er-box", room)
    regions = _regions(face, image.size)
    name = PurePath(analysis.picture.source).name
    text = said["picture" if others else "picture_one"].format(source=name, n=len(others) + 1, number=number)
    overlay = boxes + regions if layout == "er-one" else boxes
    views = _view("er-whole", image, (0, 0, *image.size), overlay, text, letter)
    if layout != "er-one":
        cited = ", ".join(_cited(face))
        text = said["closeup" if cited else "closeup_plain"].format(number=number, regions=cited)
        views += _view("er-near", image, (left, top, width, height), regions, text, LETTER_BESIDE)
    source = f'<p class="er-source" title="{escape(name)}">{escape(name)}</p>'
    return f'<div class="er-views {layout}">{views}{source}{_answer(number, face, said)}</div>'


def _near(face: FaceAnalysis, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the face with a margin, within the picture."""
    if face.face.square is None:
        return 0, 0, *size
    x, y, side, _ = face.face.square
    half = side * (0.5 + MARGIN)
    left, top = max(0, int(x - half)), max(0, int(y - half))
    return left, top, min(size[0], int(x + half) + 1) - left, min(size[1], int(y + half) + 1) - top


def _view(kind: str, image: Image.Image, box: tuple[int, int, int, int], overlay: str, text: str, letter: int) -> str:
    left, top, width, height = box
    part = image if (width, height) == image.size else image.crop((left, top, left + width, top + height))
    return (
        f'<svg class="er-view {kind}" viewBox="{left} {top} {width} {height}" role="img" aria-label="{escape(text)}"'
        f' style="--er-ratio:{width / height:.3f};font-size:{max(width, height) / letter:.1f}px">'
        f'<image href="{_data_uri(part, LONGEST)}" x="{left}" y="{top}" width="{width}" height="{height}"'
        f' preserveAspectRatio="none"/>{overlay}</svg>'
    )


def _box(shown: Shown, kind: str, letter: float) -> str:
    number, _, face = shown
    if face.face.box is None:
        return ""
    x, y, w, h = face.face.box
    down = "-.25em" if y > letter else "1em"  # above the box where there is room
    return (
        f'<g class="{kind}" data-face="{number}"><rect x="{x}" y="{y}" width="{w}" height="{h}"/>'
        f'<text x="{max(x, 0)}" y="{max(y, 0)}" dy="{down}">{number}</text></g>'
    )


def _cited(face: FaceAnalysis) -> list[str]:
    """Regions that the observations speak of, top to bottom."""
    said = {m.region for m in face.explanation.mentions if m.present} if face.explanation else set()
    return [region for region in REGIONS if region in said]


def _regions(face: FaceAnalysis, size: tuple[int, int]) -> str:
    cited = _cited(face)
    drawn = []
    for region in REGIONS if face.face.square else ():
        corners = [(min(max(x, 0), size[0]), min(max(y, 0), size[1])) for x, y in outline(face.face, region)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        x, y = corners[0]
        kind = "er-region er-cited" if region in cited else "er-region"
        drawn.append(
            f'<g class="{kind}" data-region="{region}"><polygon points="{points}"/>'
            f'<text x="{x:.1f}" y="{y:.1f}" dy="-.3em">{region}</text></g>'
        )
    return "".join(drawn)


def _data_uri(image: Image.Image, longest: int) -> str:
    scale = min(1.0, longest / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
    if not problems:
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
