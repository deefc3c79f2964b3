"""The charts of the evidence panel as HTML and SVG: label bars, action units, circumplex.

Nothing depends on colour alone: the chosen label is bold and marked, and every bar has a word or a number.
"""

import math
from collections.abc import Callable, Mapping
from html import escape

from emoreason.analysis import FaceAnalysis
from emoreason.core.probabilities import percent
from emoreason.evidence.attributes import Attribute
from emoreason.knowledge.emotions import CIRCUMPLEX
from emoreason.knowledge.facs import ACTION_UNITS, band

Texts = Mapping[str, str]  # the section `charts` of en.yaml

MAX_BARS = 12  # further labels are folded
# Emotions named in the circumplex, and the text anchor that keeps each name off the others.
LANDMARKS = {
    "neutral": "start", "happiness": "start", "surprise": "end", "excitement": "middle", "sadness": "start",
    "anger": "start", "fear": "end", "disgust": "end", "contempt": "start", "tiredness": "start", "boredom": "end",
}  # fmt: skip
SCALE = 100  # SVG units from the middle of the circumplex to its rim
MIDDLE = 0.1  # values closer to an axis than this count as neither side


def distribution_bars(
    probabilities: Mapping[str, float], label: str, calibrated: bool, abstained: bool, texts: Texts
) -> str:
    """All labels, most probable first. Highlights the chosen label, unless the model abstained."""
    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])
    bars = [_bar(name, p, name == label and not abstained, texts) for name, p in ranked]
    html = f'<ol class="er-bars">{"".join(bars[:MAX_BARS])}</ol>'
    if len(bars) > MAX_BARS:
        rest = f'<ol class="er-bars" start="{MAX_BARS + 1}">{"".join(bars[MAX_BARS:])}</ol>'
        html += _folded(texts["more_labels"].format(n=len(bars) - MAX_BARS), rest)
    note = texts["calibrated"] if calibrated else texts["uncalibrated"]
    return _section("er-distribution", texts["distribution"], f'{html}<p class="er-note">{escape(note)}</p>')


def _bar(name: str, p: float, chosen: bool, texts: Texts) -> str:
    current = f' aria-current="true" title="{escape(texts["chosen"])}"' if chosen else ""
    return (
        f'<li class="er-bar{" er-best" if chosen else ""}"{current}><span class="er-name">{escape(name)}</span>'
        f'{_track(p)}<span class="er-value">{escape(percent(p))}</span></li>'
    )


def _track(share: float) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<span class="er-track" aria-hidden="true"><span style="width:{width:.1f}%"></span></span>'


def unit_list(face: FaceAnalysis, texts: Texts) -> str:
    """Visible action units as buttons that highlight their region, strongest first. The others are folded."""
    title = texts["units"]
    if not face.action_units:
        return _section("er-units", title, f'<p class="er-note">{escape(texts["no_units"])}</p>')
    cited = {m.action_unit for m in face.explanation.mentions if m.present} if face.explanation else set()
    ranked = sorted(face.action_units.items(), key=lambda unit: -unit[1])
    visible = [_unit(code, x, code in cited, texts) for code, x in ranked if band(x)]
    faint = [
        f"<li>{escape(ACTION_UNITS[code].name)} <span>AU {escape(code)}</span></li>"
        for code, x in ranked
        if not band(x)
    ]
    parts = f'<ul class="er-seen">{"".join(visible)}</ul>' if visible else f"<p>{escape(texts['none_visible'])}</p>"
    if visible:
        parts += f'<p class="er-note">{escape(texts["press"])}</p>'
    if faint:
        parts += _folded(texts["faint"].format(n=len(faint)), f'<ul class="er-faint">{"".join(faint)}</ul>')
    return _section("er-units", title, parts)


def _unit(code: str, intensity: float, cited: bool, texts: Texts) -> str:
    unit = ACTION_UNITS[code]
    mark = f'<span class="er-mark">{escape(texts["cited"])}</span>' if cited else ""
    return (
        f'<li><button type="button" class="er-unit{" er-cited" if cited else ""}" data-au="{escape(code)}"'
        f' data-region="{unit.region}" aria-pressed="false" title="AU {escape(code)}: {unit.region}">'
        f'<span class="er-name">{escape(unit.name)}{mark}</span>'
        f'<span class="er-value">{escape(band(intensity) or "")}</span>{_track(intensity)}</button></li>'
    )


def attribute_section(attribute: Attribute, face: FaceAnalysis, texts: Texts) -> str:
    """The chart of an attribute, or its line of text if it has no chart."""
    if (chart := CHARTS.get(attribute.name)) is not None:
        return chart(face, texts)
    line = attribute.describe(face.face, face.evidence)
    return _section("er-attribute", attribute.name.replace("_", " "), f"<p>{escape(line)}</p>") if line else ""


def circumplex(face: FaceAnalysis, texts: Texts) -> str:
    """Valence and arousal of the face as a point between unpleasant and pleasant, calm and activated."""
    valence, arousal, measured = face.evidence.valence, face.evidence.arousal, face.evidence.point_measured
    if valence is None or arousal is None:
        why = texts["half_point" if measured else "no_point"]
        return _section("er-circumplex", texts["circumplex"], f'<p class="er-note">{escape(why)}</p>')
    across = _side(valence, texts["unpleasant"], texts["pleasant"], texts["between_valence"])
    up = _side(arousal, texts["calm"], texts["activated"], texts["between_arousal"])
    caption = texts["point"].format(across=across, up=up, valence=f"{valence:+.2f}", arousal=f"{arousal:+.2f}")
    x, y = _svg_point(valence, arousal)
    chart = (
        f'<svg class="er-circle" viewBox="-178 -124 356 248" role="img" aria-label="{escape(caption)}">'
        f'<circle class="er-rim" r="{SCALE}"/>'
        f'<path class="er-axes" d="M{-SCALE} 0H{SCALE}M0 {-SCALE}V{SCALE}"/>'
        f"{''.join(_landmark(name, side, (x, y)) for name, side in LANDMARKS.items())}"
        f'<g class="er-axis-names"><text y="-110" text-anchor="middle">{escape(texts["activated"])}</text>'
        f'<text y="119" text-anchor="middle">{escape(texts["calm"])}</text>'
        f'<text x="-104" y="-5" text-anchor="end">{escape(texts["unpleasant"])}</text>'
        f'<text x="104" y="-5">{escape(texts["pleasant"])}</text></g>'
        f'<circle class="er-halo" cx="{x}" cy="{y}" r="9"/><circle class="er-point" cx="{x}" cy="{y}" r="5.5"/></svg>'
    )
    source = texts["measured" if measured else "derived"]
    notes = f'<p class="er-caption">{escape(caption)}</p><p class="er-note">{escape(source)}</p>'
    return _section("er-circumplex", texts["circumplex"], chart + notes)


CHARTS: Mapping[str, Callable[[FaceAnalysis, Texts], str]] = {
    "action_units": unit_list,
    "valence_arousal": circumplex,
}


def _landmark(name: str, side: str, point: tuple[float, float]) -> str:
    x, y = _svg_point(*CIRCUMPLEX[name])
    gap = 13 if math.dist((x, y), point) < 13 else 4  # keeps the name clear of the point
    dx, dy = {"start": (gap, 3), "end": (-gap, 3), "middle": (0, -gap)}[side]
    return (
        f'<g class="er-landmark"><circle cx="{x}" cy="{y}" r="1.6"/>'
        f'<text x="{x + dx}" y="{y + dy}" text-anchor="{side}">{name}</text></g>'
    )


def _svg_point(valence: float, arousal: float) -> tuple[float, float]:
    return round(SCALE * valence, 1), round(-SCALE * arousal, 1)


def _side(value: float, low: str, high: str, between: str) -> str:
    return between if abs(value) < MIDDLE else high if value > 0 else low


def _section(kind: str, title: str, body: str) -> str:
    return f'<section class="er-section {kind}"><h4>{escape(title)}</h4>{body}</section>'


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
