"""The annotated picture: whole, readable, and right about where the faces are."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from emoreason.drawing import ACCENT, CARD_WIDTH, LONGEST, PAPER, SMALLEST, WITHHELD


def has(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image.convert("RGB")) == colour).all(axis=2)


@pytest.fixture(scope="module")
def smile(mini, astronaut):
    return mini.analyze(astronaut)


def test_the_box_is_drawn_around_the_face(smile):
    drawn = smile.draw()
    assert drawn.size[0] == 512 + CARD_WIDTH and drawn.height >= 512
    rows, columns = np.nonzero(has(drawn, ACCENT)[:, :512])
    x, y, w, h = smile.faces[0].face.box
    assert abs(columns.min() - x) <= 2 and abs(columns.max() - (x + w)) <= 3
    assert abs(rows.min() - y) <= 2 and abs(rows.max() - (y + h)) <= 3


def test_bars_are_as_long_as_their_probability(smile):
    card = has(smile.draw().crop((512, 40, 512 + CARD_WIDTH, 70)), ACCENT)
    longest = card[:, 120:270].sum(axis=1).max()
    assert abs(longest - 140 * smile.faces[0].confidence) <= 2


@pytest.mark.parametrize("size", [(48, 48), (20, 48), (300, 100), (3000, 900), (1, 5000)])
def test_pictures_of_any_size_stay_readable(mini, size):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    analysis = mini.analyze(pixels, detect=False)
    drawn = analysis.draw()
    scale = min(max(max(size), SMALLEST), LONGEST) / max(size)
    assert drawn.width == max(1, round(size[0] * scale)) + CARD_WIDTH
    assert drawn.height >= round(size[1] * scale)
    # The frame of a whole picture follows its own height and not its width.
    colour = WITHHELD if analysis.faces[0].status == "abstained" else ACCENT
    if min(size) > 90:
        rows = np.nonzero(has(drawn, colour)[:, : drawn.width - CARD_WIDTH])[0]
        assert abs(rows.max() + 1 - round(size[1] * scale)) <= 1


def test_many_faces_get_columns_of_cards(smile):
    face = smile.faces[0]
    many = tuple(replace(face, face=replace(face.face, face_id=n)) for n in range(9))
    drawn = replace(smile, faces=many).draw()
    cards = (drawn.width - 512) // CARD_WIDTH
    assert cards > 1 and (drawn.width - 512) % CARD_WIDTH == 0 and drawn.height < 9 * 200


def test_withheld_answers_have_a_colour_of_their_own(smile):
    face = smile.faces[0]
    withheld = replace(face, evidence=replace(face.evidence, abstained=True, why="asked"))
    drawn = replace(smile, faces=(withheld,)).draw()
    assert has(drawn, WITHHELD).any() and not has(drawn, ACCENT).any()


def test_no_face_is_said(mini):
    drawn = mini.analyze(np.full((200, 300, 3), 90, np.uint8)).draw()
    assert has(drawn, WITHHELD).any() and drawn.width == 360 + CARD_WIDTH


@pytest.mark.parametrize("label", ["x" * 200, "two\nlines", "très étonné", "радость", "開心", ""])
def test_any_label_fits_its_card(smile, label):
    face = smile.faces[0]
    evidence = replace(face.evidence, label=label, probabilities={label: 0.9, "other": 0.1}, confidence=0.9)
    drawn = replace(smile, faces=(replace(face, evidence=evidence),)).draw()
    border = np.asarray(drawn)[:60, -8:]
    assert (border == PAPER).all()  # nothing runs out of the card


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_it_is_written_where_it_is_told(smile, tmp_path, suffix):
    drawn = smile.draw(tmp_path / f"drawn{suffix}")
    assert Image.open(tmp_path / f"drawn{suffix}").size == drawn.size
