"""What is read off a face besides its label: units with sides, pose, landmarks, covered areas, distance, non-faces."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from emoreason.explain.sheet import Sheet
from emoreason.knowledge.facs import ABSENT, ACTION_UNITS, BANDS, SIDED, SURE
from emoreason.media.images import open_picture
from emoreason.models.face_readout import KNOTS, scaled
from emoreason.train.recipes.coded_faces import UNITS, consensus, read_line
from emoreason.train.recipes.corruptions import corrupt, cover
from emoreason.train.recipes.face_targets import blendshape_ranges, mirrored_blendshapes, pose_degrees
from emoreason.train.recipes.nonfaces import draw_nonfaces

SIDE = 160


@pytest.fixture(scope="module")
def smile(mini, astronaut) -> Image.Image:
    (face,) = mini.faces(open_picture(astronaut))
    return face.crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def read(mini, crop: Image.Image):
    return mini.analyze(crop, detect=False, explain=False).faces[0].evidence


def test_a_smile_has_its_units_on_both_sides(mini, smile):
    evidence = read(mini, smile)
    assert evidence.action_units["12"] > SURE and evidence.action_units["25"] > SURE
    assert evidence.action_units["15"] < ABSENT and evidence.action_units["27"] < BANDS[0][1]
    assert set(evidence.sides) <= set(SIDED) and all(0 <= x <= 1 for pair in evidence.sides.values() for x in pair)
    left, right = evidence.sides["12"]
    assert abs(left - right) < 0.3 and max(left, right) >= evidence.action_units["12"] - 1e-6
    assert evidence.label == "happiness" and evidence.calibrated and not evidence.covered and not evidence.notes


def test_a_mirror_image_swaps_left_and_right(mini, smile):
    one, other = read(mini, smile), read(mini, ImageOps.mirror(smile))
    assert one.pose[0] == pytest.approx(-other.pose[0], abs=0.5) and one.pose[2] == pytest.approx(
        -other.pose[2], abs=0.5
    )
    assert one.pose[1] == pytest.approx(other.pose[1], abs=0.5)
    for code, (left, right) in one.sides.items():
        assert (left, right) == pytest.approx(other.sides[code][::-1], abs=0.02), code
    flipped = other.landmarks.copy()
    flipped[:, 0] = SIDE - flipped[:, 0]
    order = mini.reader.zeroshot.encoder.readout.mirror.numpy()
    assert np.abs(flipped[order] - one.landmarks).mean() < 0.02 * SIDE


def test_landmarks_lie_on_the_face_they_belong_to(mini, astronaut):
    picture = open_picture(astronaut)
    (face,) = mini.analyze(astronaut, explain=False).faces
    x, y, w, h = face.face.box
    points = face.evidence.landmarks
    inside = (points[:, 0] > x - 0.3 * w) & (points[:, 0] < x + 1.3 * w) & (points[:, 1] > y - 0.3 * h)
    assert points.shape == (478, 2) and (inside & (points[:, 1] < y + 1.3 * h)).mean() > 0.99
    eyes, mouth = points[[33, 263]], points[[13, 14]]
    assert eyes[0, 0] < mouth[:, 0].mean() < eyes[1, 0] and eyes[:, 1].max() < mouth[:, 1].min()
    turned = mini.analyze(picture.image.rotate(20, fillcolor="gray"), explain=False).faces[0].evidence
    assert turned.pose is not None


def test_nothing_is_said_of_a_covered_mouth(mini, smile):
    masked = smile.copy()
    ImageDraw.Draw(masked).rectangle((0, round(0.56 * SIDE), SIDE, SIDE), fill=(120, 150, 180))
    evidence = read(mini, masked)
    assert "mouth" in evidence.covered and any("the mouth cannot be seen" in note for note in evidence.notes)
    assert {ACTION_UNITS[code].region for code in evidence.action_units} <= {"brows", "eyes"}
    assert set(evidence.sides) <= set(evidence.action_units)
    sheet = Sheet.of(evidence)
    assert {ACTION_UNITS[code].region for code in (*sheet.visible, *sheet.absent)} <= {"brows", "eyes"}


def test_what_is_no_face_gets_no_answer(mini, smile):
    rng = np.random.default_rng(0)
    grey = np.asarray(smile.convert("L").resize((48, 48)))
    made = draw_nonfaces(grey[None], [], 40, rng)
    answered = [not read(mini, Image.fromarray(picture).resize((96, 96))).abstained for picture in made]
    assert np.mean(answered) <= 0.15
    upside_down = read(mini, smile.rotate(180))
    assert upside_down.abstained and "upright face" in upside_down.why and not upside_down.action_units


def test_a_spoilt_face_is_farther_away_and_less_sure(mini, smile):
    clean = read(mini, smile)
    noise = np.random.default_rng(1).normal(0, 90, (SIDE, SIDE, 3))
    spoilt = Image.fromarray(
        np.clip(np.asarray(smile.filter(ImageFilter.GaussianBlur(8))) * 0.3 + noise, 0, 255).astype("uint8")
    )
    worse = read(mini, spoilt)
    assert worse.shift > clean.shift and worse.confidence < clean.confidence
    assert clean.shift < 1.2


def test_rows_and_json_have_the_new_columns(mini, smile):
    analysis = mini.analyze(smile, detect=False, explain=False)
    (row,) = analysis.rows()
    told = analysis.to_dict()["faces"][0]
    assert row["au_12_left"] == told["action_unit_sides"]["12"]["left"] and row["yaw"] == told["pose"]["yaw"]
    assert row["shift"] == told["shift"] and row["notes"] == "" and told["notes"] == []


# ---- the pieces ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 0.98), min_size=4, max_size=4, unique=True), st.lists(st.floats(0, 1), min_size=2))
def test_intensities_rise_with_the_probability_and_pass_through_the_knots(knots, probabilities):
    knots = sorted(knots)
    if min(np.diff(knots)) < 1e-3:
        return
    table = torch.tensor([knots])
    values = scaled(torch.tensor(sorted(probabilities))[:, None], table)[:, 0]
    assert (values.diff() >= -1e-6).all() and values.min() >= 0 and values.max() <= 1 + 1e-6
    assert scaled(table.T.float(), table)[:, 0].numpy() == pytest.approx(KNOTS, abs=1e-3)
    assert scaled(torch.tensor([[0.0], [1.0]]), table)[:, 0].numpy() == pytest.approx([0, 1], abs=1e-5)


def test_knots_are_the_thresholds_of_texts():
    assert (ABSENT, BANDS[0][1], SURE, BANDS[-1][1]) == KNOTS


def test_codes_by_eye_are_read_as_written():
    codes = dict(zip(UNITS, read_line("1 4< 15? 25 | x 43 12"), strict=True))
    assert codes["1"] == codes["4"] == codes["25"] == 1 and codes["15"] == 0.5 and codes["2"] == 0
    assert np.isnan(codes["43"]) and np.isnan(codes["12"]) and np.nansum(read_line("-")) == 0
    passes = [np.array([[1.0, 0.0, np.nan]]), np.array([[1.0, 1.0, 1.0]]), np.array([[0.0, 0.5, np.nan]])]
    agreed = consensus(passes)[0]
    assert agreed[0] == 1 and agreed[1] == 0.5 and np.isnan(agreed[2])


def test_left_becomes_right_in_a_mirror():
    swapped = mirrored_blendshapes()
    assert (swapped[swapped] == np.arange(len(swapped))).all() and (swapped != np.arange(len(swapped))).sum() == 40


def test_the_teachers_numbers_are_scaled_by_their_range():
    values = np.zeros((200, 2))
    values[:, 0] = np.linspace(0, 0.5, 200)
    top = blendshape_ranges(values)
    assert top[0] == pytest.approx(0.495, abs=0.01) and np.isinf(top[1])  # never used: carries nothing


def test_rotations_are_angles_one_can_picture():
    angle = np.radians(30)
    yaw = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    assert pose_degrees(yaw[None])[0] == pytest.approx([30, 0, 0], abs=1e-4)


def test_corruptions_keep_shape_and_range_and_tell_what_they_cover():
    rng = torch.Generator().manual_seed(0)
    faces = torch.rand(64, 1, 48, 48, generator=rng)
    spoilt = corrupt(faces.clone(), rng)
    assert spoilt.shape == faces.shape and spoilt.min() >= 0 and spoilt.max() <= 1
    assert (spoilt != faces).flatten(1).any(dim=1).float().mean() > 0.3
    eyes, mouth = torch.tensor([[10.0, 16, 38, 23]]).repeat(64, 1), torch.tensor([[14.0, 32, 34, 43]]).repeat(64, 1)
    covered, visible = cover(faces, eyes, mouth, 1.0, rng)
    kept = (covered == faces)[:, 0, 32:43, 14:34].flatten(1).float().mean(dim=1)
    assert (
        (kept[~visible[:, 1]] < 0.7).all()
        and (kept[visible[:, 1]] > 0.45).all()
        and 0.2 < visible[:, 1].float().mean() < 0.9
    )
