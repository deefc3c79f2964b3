"""Downloads of a conversation: a report (Markdown), everything (JSON), and one row per face (CSV)."""

import base64
import csv
import html
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from PIL import ImageDraw, ImageFont

from emoreason import __version__
from emoreason.analysis import Analysis, FaceAnalysis, columns
from emoreason.apps.ui.words import words
from emoreason.core.probabilities import percent
from emoreason.drawing import ACCENT, PAPER, WITHHELD

if TYPE_CHECKING:
    from emoreason.apps.ui.conversation import Exchange, PageConversation, Settings
    from emoreason.explain.explanation import Explanation

PICTURE_SIDE = 480  # pixels of the longer side of a picture in the report
TOP_LABELS = 4  # labels listed per face

# JavaScript that takes [name, type, base64] of a file and lets page.js download it.
SAVE = "(file) => { if (file && file.length) window.emoreason.download(...file); return []; }"


def as_json(conversation: "PageConversation") -> str:
    exchanges = [
        {
            "text": exchange.text,
            "pictures": list(exchange.names),
            "settings": _json_settings(exchange.settings),
            "first": exchange.first,
            "analyses": [analysis.to_dict() for analysis in exchange.analyses],
            "answer": exchange.answer,
            "about": list(exchange.about),
            "error": exchange.error,
            "stopped": exchange.stopped,
        }
        for exchange in conversation.exchanges
    ]
    document = {"emoreason": __version__, "made": _now(), "exchanges": exchanges}
    return _utf8(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def _json_settings(settings: "Settings") -> dict[str, Any]:
    """The style keeps its older name `manner`, since the file is read by others."""
    values = asdict(settings)
    return {("manner" if name == "style" else name): value for name, value in values.items()}


def as_csv(conversation: "PageConversation") -> str:
    """One row per face, as in `emoreason label -o rows.csv`. Labels that a message did not use stay empty."""
    analyses = [analysis for exchange in conversation.exchanges for analysis in exchange.analyses]
    faces = [face for analysis in analyses for face in analysis.faces]
    labels = dict.fromkeys(label for face in faces for label in face.probabilities)
    units = dict.fromkeys(code for face in faces for code in face.action_units)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns(tuple(labels), tuple(units)))
    writer.writeheader()
    writer.writerows(row for analysis in analyses for row in analysis.rows())
    return _utf8(text.getvalue())


# ---- the report ------------------------------------------------------------------------------------------------------


def as_markdown(conversation: "PageConversation") -> str:
    texts = words()["export"]
    models = dict.fromkeys(
        (analysis.model, analysis.revision) for exchange in conversation.exchanges for analysis in exchange.analyses
    )
    head = [f"# {texts['title']}", texts["made"].format(version=__version__, time=_now())]
    head += [texts["model"].format(model=escaped(model), revision=escaped(revision)) for model, revision in models]
    body: list[str] = []
    last_settings = None
    for number, exchange in enumerate(conversation.exchanges, 1):
        body += _exchange(number, exchange, last_settings)
        last_settings = exchange.settings
    return _utf8("\n\n".join([*head, *body, "---", words()["page"]["policy"]]) + "\n")


def escaped(text: str) -> str:
    """Text of a user or a model on one line, escaped so that Markdown shows it as it is."""
    plain = re.sub(r"([\\`*_\[\]|~$]|^[-+=#]|:(?=//))", r"\\\1", " ".join(text.split()))
    plain = re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", plain)  # not a numbered list
    return html.escape(plain, quote=False)


def _exchange(number: int, exchange: "Exchange", last_settings: "Settings | None") -> Iterator[str]:
    texts = words()["export"]
    yield f"## {texts['message'].format(number=number)}"
    if exchange.text:
        yield "\\\n".join(f"> {escaped(line)}" for line in exchange.text.splitlines() if line.strip())
    if exchange.settings != last_settings:
        yield _settings(exchange.settings)
    first = exchange.first
    for analysis in exchange.analyses:
        numbers = range(first, first + len(analysis.faces))
        name = escaped(analysis.picture.source)
        yield f"![{name}]({picture_uri(analysis, numbers)})"
        if not analysis.faces:
            yield texts["no_face"].format(name=name)
        for face_number, face in zip(numbers, analysis.faces, strict=True):
            yield from _face(face_number, face)
        first += len(analysis.faces)
    if exchange.about:
        yield texts["about"].format(numbers=", ".join(map(str, exchange.about)))
    if exchange.answer:
        yield "\n\n".join(escaped(line) for line in exchange.answer.splitlines() if line.strip())
    if exchange.error:
        yield texts["error"].format(error=escaped(exchange.error))
    if exchange.stopped:
        yield texts["stopped"]


def _settings(settings: "Settings") -> str:
    texts, style = words()["export"], settings.style
    values = {
        "model": settings.model,
        "labels": ", ".join(settings.labels) if settings.labels else texts["own_labels"],
        "decide": settings.decide,
        "detect": texts["on" if settings.detect else "off"],
        "temperature": texts["as_it_is"] if style.temperature is None else f"{style.temperature:g}",
        "length": texts["short" if style.brief else "full"],
    }
    return "; ".join(f"{texts['settings'][key]} {escaped(value)}" for key, value in values.items()) + "."


def _face(number: int, face: FaceAnalysis) -> Iterator[str]:
    texts, evidence = words()["export"], face.evidence
    calibration = texts["calibrated" if evidence.calibrated else "not_calibrated"]
    ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])[:TOP_LABELS]
    table = {
        "label": texts["no_answer"].format(why=escaped(evidence.why)) if evidence.abstained else escaped(face.label),
        "confidence": f"{percent(face.confidence)}, {calibration}",
        "top": ", ".join(f"{escaped(label)} {percent(p)}" for label, p in ranked),
    }
    table |= {attribute.name: line for attribute, line in face.described()}
    yield f"### {texts['face'].format(number=number)}"
    yield "\n".join(
        ["| | |", "| --- | --- |", *(f"| {texts['table'].get(key, key)} | {cell} |" for key, cell in table.items())]
    )
    if face.explanation is not None:
        yield from _explanation(face.explanation)


def _explanation(explanation: "Explanation") -> Iterator[str]:
    texts, sections = words()["export"], explanation.sections
    if sections is None:
        yield escaped(explanation.text)
    else:
        for key in ("observations", "interpretation", "conclusion"):
            yield f"**{texts['sections'][key]}.** {escaped(getattr(sections, key))}"
    if own := explanation.reasoned:
        key = "agrees" if explanation.agreement else "differs"
        yield texts[key].format(label=escaped(own.label), confidence=percent(own.probabilities[own.label]))
    problems = explanation.checks.problems()
    yield texts["checked"] if not problems else "\n".join([texts["failed"], "", *(f"- {escaped(p)}" for p in problems)])


def picture_uri(analysis: Analysis, numbers: Sequence[int]) -> str:
    """The picture as a small JPEG data URI, with a numbered box around each face."""
    image = analysis.picture.image
    small = image.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    scale = small.width / analysis.picture.size[0]
    draw, font = ImageDraw.Draw(small), ImageFont.load_default(14)
    for number, face in zip(numbers, analysis.faces, strict=True):
        x, y, w, h = (side * scale for side in face.face.box or (0, 0, *analysis.picture.size))
        colour = WITHHELD if face.evidence.abstained else ACCENT
        draw.rectangle((x, y, min(x + w, small.width - 1), min(y + h, small.height - 1)), outline=colour, width=2)
        left, top, right, bottom = draw.textbbox((x + 4, y + 3), str(number), font=font)
        draw.rectangle((x, y, right + 4, bottom + 3), fill=colour)
        draw.text((x + 4, y + 3), str(number), fill=PAPER, font=font)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, subsampling=0)  # full colour resolution, to keep thin lines sharp
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _utf8(text: str) -> str:
    """Writes bytes of file names that are not UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
