"""Draws the annotated picture: a numbered box around each face and, beside the picture, a card with bars per face."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from emoreason.core.probabilities import percent
from emoreason.core.types import Picture

INK, PALE, PAPER, ACCENT, WITHHELD = (32, 33, 36), (110, 113, 119), (255, 255, 255), (0, 96, 160), (176, 96, 0)
CITED = (255, 193, 7)
CARD_WIDTH, LINE = 330, 22
BARS = 4  # labels per card
SMALLEST, LONGEST = 360, 1600  # limits for the longest side of the drawn picture, so that the cards stay readable


@dataclass(frozen=True)
class Card:
    """The parts of one face that are drawn."""

    number: int
    box: tuple[int, int, int, int] | None  # None: the whole picture is the face
    abstained: bool
    label: str
    probabilities: dict[str, float]
    units: list[tuple[str, str, str]]  # code, name and band of the visible action units, strongest first
    has_units: bool  # whether the model measures action units
    regions: dict[str, list[tuple[float, float]]]  # name -> corners of each region that the explanation mentions


def annotate(picture: Picture, faces: Sequence[Card]) -> Image.Image:
    """The picture at the left, the cards at the right."""
    image = _scaled(picture.image)
    scale = image.width / picture.size[0]
    cards = [_card(face) for face in faces] or [_no_face_card()]
    columns = _columns(cards, max(image.height, SMALLEST))
    height = max(image.height, *(sum(card.height for card in column) for column in columns))
    canvas = Image.new("RGB", (image.width + CARD_WIDTH * len(columns), height), PAPER)
    canvas.paste(image, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for face in faces:
        _regions(draw, face, scale)
        _box(draw, face, scale, image.size)
    for number, column in enumerate(columns):
        top = 0
        for card in column:
            canvas.paste(card, (image.width + number * CARD_WIDTH, top))
            top += card.height
    return canvas


def _scaled(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    target = min(max(longest, SMALLEST), LONGEST)
    width, height = (max(1, round(side * target / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _columns(cards: list[Image.Image], height: int) -> list[list[Image.Image]]:
    columns: list[list[Image.Image]] = [[]]
    for card in cards:
        if columns[-1] and sum(c.height for c in columns[-1]) + card.height > height:
            columns.append([])
        columns[-1].append(card)
    return columns


def _box(draw: ImageDraw.ImageDraw, face: Card, scale: float, size: tuple[int, int]) -> None:
    colour = WITHHELD if face.abstained else ACCENT
    width, height = size
    x, y, w, h = (side * scale for side in face.box) if face.box else (0, 0, width - 1, height - 1)
    thick = max(2, round(width / 250))
    draw.rectangle((x, y, x + w, y + h), outline=colour, width=thick)
    font, text = _font(max(13, width // 45)), str(face.number)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    draw.rectangle((x, y, x + right - left + 10, y + bottom - top + 10), fill=colour)
    draw.text((x + 5 - left, y + 5 - top), text, fill=PAPER, font=font)


def _regions(draw: ImageDraw.ImageDraw, face: Card, scale: float) -> None:
    for region, outline in face.regions.items():
        corners = [(x * scale, y * scale) for x, y in outline]
        if corners:
            draw.line([*corners, corners[0]], fill=CITED, width=2 if _wide(corners) else 1)
            if _wide(corners):  # on a small face the name would cover the region
                draw.text((corners[0][0] + 3, corners[0][1] + 1), region, fill=CITED, font=_font(12))


def _wide(corners: list[tuple[float, float]]) -> bool:
    return abs(corners[1][0] - corners[0][0]) > 120


def _card(face: Card) -> Image.Image:
    ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])[:BARS]
    units = face.units[:5]
    card = Image.new("RGB", (CARD_WIDTH, 62 + LINE * (len(ranked) + max(len(units), 1)) + 22), PAPER)
    draw = ImageDraw.Draw(card)
    colour = WITHHELD if face.abstained else ACCENT
    head = "no answer" if face.abstained else f"{face.label}  {percent(face.probabilities[face.label])}"
    draw.text((16, 14), _fit(draw, f"{face.number}   {head}", CARD_WIDTH - 28, 19), fill=colour, font=_font(19))
    y = 48
    for label, p in ranked:
        draw.text((16, y), _fit(draw, label, 105), fill=INK, font=_font(14))
        draw.rectangle((126, y + 3, 126 + 140 * p, y + 14), fill=colour)
        draw.text((274, y), percent(p), fill=PALE, font=_font(14))
        y += LINE
    y += 6
    for code, name, band in units:
        draw.text((16, y), _fit(draw, f"AU{code}  {name.lower()}, {band}", CARD_WIDTH - 28), fill=PALE, font=_font(14))
        y += LINE
    if not units:
        text = "no action unit stands out" if face.has_units else "no action units in this model"
        draw.text((16, y), text, fill=PALE, font=_font(14))
    draw.line((16, card.height - 2, CARD_WIDTH - 16, card.height - 2), fill=(225, 227, 230))
    return card


def _no_face_card() -> Image.Image:
    card = Image.new("RGB", (CARD_WIDTH, 60), PAPER)
    ImageDraw.Draw(card).text((16, 18), "no face was found", fill=WITHHELD, font=_font(19))
    return card


def _fit(draw: ImageDraw.ImageDraw, text: str, width: int, size: int = 14) -> str:
    text = " ".join(text.split())  # one line of a card
    if draw.textlength(text, font=_font(size)) <= width:
        return text
    while text and draw.textlength(text + "…", font=_font(size)) > width:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which ships with matplotlib: it has Latin, Greek, Cyrillic and Arabic letters on every machine."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
