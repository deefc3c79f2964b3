"""The pictures in the evidence panel: SVG in picture pixels, with boxes around faces and outlines of regions.

Pictures are embedded as data URIs, so nothing of a user's picture is written to disk.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath

from PIL import Image

from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.faces.regions import outline
from emoreason.knowledge.facs import REGIONS

NumberedFace = tuple[int, Analysis, FaceAnalysis]  # number in the conversation, analysis of its picture, the face

LETTERS, LETTERS_BESIDE = 24, 14  # letters along the longer side of a picture; fewer means larger letters
MAX_SIDE = 720  # pixels of an embedded picture
MARGIN = 0.12  # around the crop, as a share of its side
SMALL_SHARE = 0.5  # a face below this share of the picture also gets a close-up
WIDE = 1.4  # wider pictures get their own row


def views(current: NumberedFace, others: Sequence[NumberedFace], texts: Mapping[str, str]) -> tuple[str, str]:
    """(layout, HTML): the picture with boxes around its faces; a small face also gets a close-up with its regions."""
    number, analysis, face = current
    image, size = analysis.picture.image, analysis.picture.size
    closeup = _closeup(face, size)
    if closeup[2] >= SMALL_SHARE * size[0] or closeup[3] >= SMALL_SHARE * size[1]:
        layout = "er-one"
    else:
        layout = "er-wide" if size[0] >= WIDE * size[1] else "er-beside"
    letters = LETTERS_BESIDE if layout == "er-beside" else LETTERS
    letter_height = max(size) / letters
    boxes = "".join(_box(other, "er-other", letter_height) for other in others)
    boxes += _box(current, "er-box", letter_height)
    regions = _regions(face, size)
    name = PurePath(analysis.picture.source).name
    text = texts["picture" if others else "picture_one"].format(source=name, n=len(others) + 1, number=number)
    overlay = boxes + regions if layout == "er-one" else boxes
    html = _view("er-whole", image, (0, 0, *size), overlay, text, letters)
    if layout != "er-one":
        cited = ", ".join(_cited_regions(face))
        text = texts["closeup" if cited else "closeup_plain"].format(number=number, regions=cited)
        scale = image.width / size[0]
        left, top, width, height = closeup
        crop = image.crop((left * scale, top * scale, (left + width) * scale, (top + height) * scale))
        html += _view("er-near", crop, closeup, regions, text, LETTERS_BESIDE)
    return layout, f'{html}<p class="er-source" title="{escape(name)}">{escape(name)}</p>'


def _closeup(face: FaceAnalysis, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the face with a margin, clipped to the picture."""
    if face.face.square is None:
        return 0, 0, *size
    x, y, side, _ = face.face.square
    half = side * (0.5 + MARGIN)
    left, top = max(0, int(x - half)), max(0, int(y - half))
    return left, top, min(size[0], int(x + half) + 1) - left, min(size[1], int(y + half) + 1) - top


def _view(kind: str, image: Image.Image, box: tuple[int, int, int, int], overlay: str, text: str, letters: int) -> str:
    left, top, width, height = box
    return (
        f'<svg class="er-view {kind}" viewBox="{left} {top} {width} {height}" role="img" aria-label="{escape(text)}"'
        f' style="--er-ratio:{width / height:.3f};font-size:{max(width, height) / letters:.1f}px">'
        f'<image href="{data_uri(image, MAX_SIDE)}" x="{left}" y="{top}" width="{width}" height="{height}"'
        f' preserveAspectRatio="none"/>{overlay}</svg>'
    )


def _box(entry: NumberedFace, kind: str, letter_height: float) -> str:
    number, _, face = entry
    if face.face.box is None:
        return ""
    x, y, w, h = face.face.box
    down = "-.25em" if y > letter_height else "1em"  # above the box if there is room
    return (
        f'<g class="{kind}" data-face="{number}"><rect x="{x}" y="{y}" width="{w}" height="{h}"/>'
        f'<text x="{max(x, 0)}" y="{max(y, 0)}" dy="{down}">{number}</text></g>'
    )


def _cited_regions(face: FaceAnalysis) -> list[str]:
    """Regions that the observations mention, top to bottom."""
    cited = {m.region for m in face.explanation.mentions if m.present} if face.explanation else set()
    return [region for region in REGIONS if region in cited]


def _regions(face: FaceAnalysis, size: tuple[int, int]) -> str:
    cited = _cited_regions(face)
    shapes = []
    for region in REGIONS if face.face.square else ():
        corners = [(min(max(x, 0), size[0]), min(max(y, 0), size[1])) for x, y in outline(face.face, region)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        x, y = corners[0]
        kind = "er-region er-cited" if region in cited else "er-region"
        shapes.append(
            f'<g class="{kind}" data-region="{region}"><polygon points="{points}"/>'
            f'<text x="{x:.1f}" y="{y:.1f}" dy="-.3em">{region}</text></g>'
        )
    return "".join(shapes)


def data_uri(image: Image.Image, max_side: int) -> str:
    """The picture as a JPEG data URI, reduced to `max_side` pixels."""
    scale = min(1.0, max_side / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
