"""The evaluation of robustness: what corruptions do to pictures, and the report on a few drawn faces."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_faces import MOUTHS, drawn, write_folder
from emoreason.apps.cli.main import execute
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import read
from emoreason.evaluate.robustness.corruptions import CORRUPTIONS, COVERS, Square, corrupt
from emoreason.evaluate.robustness.nonfaces import EACH, draw_nonfaces
from emoreason.evaluate.robustness.run import PARTS, random_of, run_robustness
from emoreason.faces.regions import BOXES

SEVERITIES = {kind: range(1, len(CORRUPTIONS[kind]) + 1) for kind in CORRUPTIONS}
ROWS = [("clean", 0), *((kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES[kind])]


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, Square]:
    """A photo in colour that is not square, and the place of its face."""
    photo = Image.open(Path(__file__).parent.parent / "examples" / "astronaut.jpg").convert("RGB")
    return np.asarray(photo.crop((100, 20, 340, 240))), (122.0, 101.0, 130.0, 4.0)


@pytest.fixture(scope="module")
def crops() -> list[tuple[np.ndarray, Square]]:
    """Twelve drawn faces, each filling its picture, of 48 and of 96 pixels."""
    found = []
    for i in range(12):
        side = 48 if i % 2 else 96
        face = drawn(list(MOUTHS.values())[i % 3], i, side).convert("RGB")
        found.append((np.asarray(face), (side / 2, side / 2, float(side), 0.0)))
    return found


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "faces", each=2, size=48)


# ---- corruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_changes_the_picture_and_keeps_its_size(kind, portrait):
    pixels, square = portrait
    before = pixels.copy()
    for severity in SEVERITIES[kind]:
        after = corrupt(pixels, kind, severity, square, random_of(0, kind, "a")).pixels
        assert after.shape == pixels.shape and after.dtype == np.uint8
        assert (after != pixels).mean() > 0.01
        again = corrupt(pixels, kind, severity, square, random_of(0, kind, "a")).pixels
        assert np.array_equal(after, again)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if kind != "grey"])
def test_higher_severities_are_further_from_the_clean_picture(kind, portrait, crops):
    distances = np.zeros(len(SEVERITIES[kind]))
    for i, (pixels, square) in enumerate((*crops, portrait)):
        for severity in SEVERITIES[kind]:
            after = corrupt(pixels, kind, severity, square, random_of(1, kind, str(i))).pixels
            distances[severity - 1] += np.abs(after.astype(int) - pixels).mean()
    assert (np.diff(distances) > 0).all(), distances


@pytest.mark.parametrize("kind", COVERS)
def test_covers_grow_around_the_same_place_and_tell_what_they_hide(kind, portrait, crops):
    whole = {"mask": {"mouth", "chin", "jaw"}, "band": {"eyes", "brows"}, "hand": {"mouth"}, "patch": set()}[kind]
    apart = {"mask": "eyes", "band": "mouth", "hand": "eyes"}.get(kind)
    for i, (pixels, square) in enumerate((*crops, portrait)):
        hidden: set[str] = set()
        for severity in SEVERITIES[kind]:
            found = corrupt(pixels, kind, severity, square, random_of(2, kind, str(i))).hidden
            assert whole | hidden <= set(found) <= set(BOXES) and apart not in found
            hidden = set(found)


def test_a_patch_covers_the_share_that_it_should():
    black, square = np.zeros((100, 80, 3), np.uint8), (40.0, 50.0, 100.0, 0.0)
    for severity, share in enumerate(CORRUPTIONS["patch"], 1):
        covered = corrupt(black, "patch", severity, square, random_of(0, "patch", "a")).pixels.any(axis=2)
        assert covered.mean() == pytest.approx(share, abs=0.02)


def test_small_and_large_pictures_of_a_face_are_harmed_alike(crops):
    small, square = crops[1]
    large = np.asarray(Image.fromarray(small).resize((480, 480), Image.Resampling.BICUBIC))
    for kind in ("noise", "blur", "motion", "pixels", "turn", "mask", "hand"):
        harm = [
            np.abs(corrupt(pixels, kind, 3, place, random_of(0, kind, "a")).pixels.astype(int) - pixels).mean()
            for pixels, place in ((small, square), (large, tuple(10 * value for value in square)))
        ]
        assert harm[1] == pytest.approx(harm[0], rel=0.35), kind


def test_pictures_without_a_face_are_drawn_by_seed(crops):
    images = [Image.fromarray(pixels) for pixels, _ in crops]
    first, same, other = (
        list(draw_nonfaces(images, lambda name, s=seed: random_of(s, "", name))) for seed in (0, 0, 1)
    )
    assert len(first) == sum(EACH.values()) == 300
    assert first == same and all(a != b for a, b in zip(first, other, strict=True))
    assert len({image.tobytes() for _, image in first}) == 300


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_has_every_row_and_depends_only_on_the_seed(faces, mini, tmp_path):
    def report(seed: int, folder: str, parts: list[str] | None = None) -> tuple[dict, str]:
        run_robustness(read(faces), mini, tmp_path / folder, seed=seed, parts=parts, data="faces")
        written = json.loads((tmp_path / folder / "report.json").read_text())
        timeless = {key: value for key, value in written.items() if key not in ("started", "seconds")}
        return timeless, (tmp_path / folder / "report.md").read_text().partition("## Where")[0]

    first, text = report(0, "a")
    assert report(0, "b") == (first, text)
    noise = slice(1, 6)
    assert report(0, "c", ["noise"])[0]["conditions"][noise] == first["conditions"][noise]
    assert report(1, "d", ["noise"])[0]["conditions"][noise] != first["conditions"][noise]
    assert [(row["corruption"], row["severity"]) for row in first["conditions"]] == ROWS
    assert all(row["n"] == 6 and 0 <= row["accuracy"]["value"] <= 1 for row in first["conditions"])
    assert first["labels"] == ["boredom", "confusion", "interest"] and first["calibrated"] is False
    for row in first["conditions"]:
        if row["corruption"] in ("mask", "band", "hand"):
            assert row["n_covered"] == 6 and 0 <= row["false_sentences"] <= row["false_units"] <= 1
        elif row["corruption"] != "patch":
            assert row["n_covered"] == 0 and row["false_sentences"] is None
    assert {row["kind"]: row["n"] for row in first["nonfaces"]} == EACH
    assert all(f"\n| {kind} | {severity} | 6 |" in text for kind, severity in ROWS[1:])
    assert Image.open(tmp_path / "a" / "robustness.png").width > 800


def test_a_picture_that_cannot_be_read_is_wrong_under_every_corruption(faces, mini, tmp_path):
    (faces / "bored" / "bored0.png").write_bytes(b"no picture")
    report = run_robustness(read(faces), mini, tmp_path / "out", parts=["blur"])
    assert report["n"] == 6 and report["n_unreadable"] == 1 and "is not a picture" in report["errors"][0][0]
    assert [row["n_no_answer"] for row in report["conditions"]] == [1] * 6
    assert report["nonfaces"] == []


def test_a_photo_is_searched_for_its_face(astronaut, mini, tmp_path):
    for label in ("happiness", "sadness"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    Image.open(astronaut).save(tmp_path / "photos" / "happiness" / "a.jpg")
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "photos" / "sadness" / "b.png")
    report = run_robustness(read(tmp_path / "photos"), mini, tmp_path / "out", parts=["blur", "mask"], detect=True)
    clean, *rows = report["conditions"]
    assert report["labels"] == list(mini.default_labels) and report["calibrated"] is True
    assert clean["n_no_answer"] == 1 and clean["accuracy"]["value"] == 0.5
    assert rows[0]["accuracy"]["value"] == 0.5 and rows[5]["n_covered"] <= 1


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_from_a_folder_to_a_report(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "animals" / "cats").mkdir(parents=True)
    Image.effect_noise((64, 64), 90).save("animals/cats/1.png")
    command = "eval robustness --data faces --limit 4 --seed 3 --parts jpeg,band,nonfaces --nonfaces animals -o out"
    assert execute(command.split()) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["n"] == report["limit"] == 4 and report["seed"] == 3 and report["settings"]["detect"] is False
    assert len(report["conditions"]) == 11 and report["nonfaces"][-1]["kind"] == "cats"
    assert "# Robustness: mini" in printed and "| jpeg |" in printed and "| cats | 1 |" in printed
    (tmp_path / "animals" / "cats" / "2.png").write_bytes(b"no picture")
    assert execute([*command.split(), "--parts", "nonfaces"]) == 3
    assert not (tmp_path / "out" / "robustness.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        ("", 2, "--data is missing"),
        ("--data gone", 1, "gone does not exist"),
        ("--data faces --parts vibes", 2, "choose from noise"),
        ("--data faces --protocol best", 2, "majority"),
        ("--data faces --nonfaces gone", 2, "expected a folder"),
        ("--data faces --nonfaces empty", 1, "no pictures found"),
        ("--data faces --labels glad,cross", 1, "--labels"),
    ],
)
def test_a_mistake_says_what_to_type_next(arguments, code, hint, faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert execute(["eval", "robustness", *arguments.split(), "-o", "out"]) == code
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_measured(faces, mini, tmp_path):
    for path in faces.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(EmoreasonError, match="none of the 6 pictures can be read"):
        run_robustness(read(faces), mini, tmp_path / "out")
    with pytest.raises(UsageError, match="no part vibes"):
        run_robustness(read(faces), mini, tmp_path / "out", parts=["vibes"])
    assert "nonfaces" in PARTS
