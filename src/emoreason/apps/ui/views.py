"""The pictures of the evidence side: SVG in a picture's own pixels, with frames around faces and their regions.

Every picture travels inside the page, so that nothing of a user's picture is written to disk.
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

Shown = tuple[int, Analysis, FaceAnalysis]  # number in the conversation, its picture's analysis, the face

LETTER, LETTER_BESIDE = 24, 14  # letters on a picture are this part of its longer side: more where it is shown small
MAX_SIDE = 720  # pixels of a picture that travels
MARGIN = 0.12  # around the crop, as a share of its side
SMALL_SHARE = 0.5  # a face below this share of its picture is also shown from near
WIDE = 1.4  # a picture that wide gets a row of its own


def views(here: Shown, others: Sequence[Shown], said: Mapping[str, str]) -> tuple[str, str]:
    """(layout, pictures): the picture with its faces framed; a small face also from near, with its regions."""
    number, analysis, face = here
    image, size = analysis.picture.image, analysis.picture.size
    near = _near(face, size)
    if near[2] >= SMALL_SHARE * size[0] or near[3] >= SMALL_SHARE * size[1]:
        layout = "er-one"
    else:
        layout = "er-wide" if size[0] >= WIDE * size[1] else "er-beside"
    letter = LETTER_BESIDE if layout == "er-beside" else LETTER
    room = max(size) / letter
    boxes = "".join(_box(other, "er-other", room) for other in others) + _box(here, "er-box", room)
    regions = _regions(face, size)
    name = PurePath(analysis.picture.source).name
    text = said["picture" if others else "picture_one"].format(source=name, n=len(others) + 1, number=number)
    overlay = boxes + regions if layout == "er-one" else boxes
    drawn = _view("er-whole", image, (0, 0, *size), overlay, text, letter)
    if layout != "er-one":
        cited = ", ".join(_cited(face))
        text = said["closeup" if cited else "closeup_plain"].format(number=number, regions=cited)
        scale = image.width / size[0]
        left, top, width, height = near
        cut = image.crop((left * scale, top * scale, (left + width) * scale, (top + height) * scale))
        drawn += _view("er-near", cut, near, regions, text, LETTER_BESIDE)
    return layout, f'{drawn}<p class="er-source" title="{escape(name)}">{escape(name)}</p>'


def _near(face: FaceAnalysis, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the face with a margin, within the picture."""
    if face.face.square is None:
        return 0, 0, *size
    x, y, side, _ = face.face.square
    half = side * (0.5 + MARGIN)
    left, top = max(0, int(x - half)), max(0, int(y - half))
    return left, top, min(size[0], int(x + half) + 1) - left, min(size[1], int(y + half) + 1) - top


def _view(kind: str, part: Image.Image, box: tuple[int, int, int, int], overlay: str, text: str, letter: int) -> str:
    left, top, width, height = box
    return (
        f'<svg class="er-view {kind}" viewBox="{left} {top} {width} {height}" role="img" aria-label="{escape(text)}"'
        f' style="--er-ratio:{width / height:.3f};font-size:{max(width, height) / letter:.1f}px">'
        f'<image href="{data_uri(part, MAX_SIDE)}" x="{left}" y="{top}" width="{width}" height="{height}"'
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


def data_uri(image: Image.Image, longest: int) -> str:
    scale = min(1.0, longest / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
