"""`emoreason explain` with its words: contract, who decides, cited regions, bad input."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from emoreason.apps.cli.main import execute
from emoreason.explain.explanation import consume, sentence
from emoreason.explain.read.sections import parse, stated_label
from emoreason.faces.regions import BOXES, outline

WORDS = {"observations", "interpretation", "conclusion", "text", "short"}
PARTS = WORDS | {"reasoned", "agreement", "checks", "explainer", "repaired"}


@pytest.fixture(scope="module")
def model(mini_with_words):
    return mini_with_words


def test_the_json_is_the_contract(capsys):
    assert execute(["explain", "example", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["faces"][0]["explanation"]
    assert set(said) == PARTS and said["explainer"] == "mini"
    assert {"action_unit", "band", "region", "text"} <= set(said["observations"][0])
    for observation in said["observations"]:
        assert observation["text"] in said["text"]
    assert abs(sum(said["reasoned"]["probabilities"].values()) - 1) < 1e-3
    assert said["short"].startswith(said["conclusion"]) and said["short"].endswith(said["interpretation"])
    own = said["reasoned"]
    assert own["label"] == max(own["probabilities"], key=own["probabilities"].get)
    assert said["checks"]["ok"] and said["agreement"] is (own["label"] == "happiness")
    assert said["repaired"] is (said["checks"]["route"] == "retried")
    assert "/" not in json.dumps(said["explainer"])


@pytest.mark.parametrize("decide", ["reasoned", "both"])
def test_the_language_model_may_have_a_say(capsys, decide):
    assert execute(["explain", "example", "--json", "--decide", decide]) == 0
    face = json.loads(capsys.readouterr().out)["faces"][0]
    assert face["label"] == "happiness" and face["evidence"]["label"] == "happiness"
    assert face["explanation"]["checks"]["ok"], face["explanation"]["checks"]["problems"]
    if decide == "reasoned":
        assert face["probabilities"] == pytest.approx(face["explanation"]["reasoned"]["probabilities"], abs=1e-5)


def test_own_labels_are_explained_too(capsys):
    assert execute(["explain", "example", "--json", "--labels", "bored,delighted,confused"]) == 0
    face = json.loads(capsys.readouterr().out)["faces"][0]
    assert set(face["explanation"]["reasoned"]["probabilities"]) == {"bored", "delighted", "confused"}
    assert face["explanation"]["checks"]["ok"] and face["explanation"]["checks"]["label_agrees"]


def test_numbers_alone_need_no_language_model(capsys):
    assert execute(["explain", "example", "--json", "--explainer", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"][0]["explanation"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--decide", "chance"], "evidence, reasoned, both"),
        (["--explainer", "no/such/place/anywhere"], "no such explainer"),
        (["--quantize", "3bit"], "3bit"),
        (["--quantize", "4bit"], "4bit"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, told):
    assert execute(["explain", "example", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


def test_what_shows_nothing_is_claimed_nothing_of(model):
    face = model.analyze(Image.new("RGB", (96, 96), (120, 120, 120)), detect=False).faces[0]
    assert face.status == "abstained"
    assert face.explanation.checks.ok and face.explanation.checks.stated is None
    assert face.explanation.mentions == [] and face.explanation.reasoned is None
    assert face.explanation.checks.route == "written"


def test_a_face_below_the_threshold_is_described_and_not_named(model, astronaut):
    analysis = model.analyze(astronaut, explain=False)
    face = analysis.faces[0]
    evidence = replace(face.evidence, abstained=True, why="the best label has 99%, below the 100% that was asked for")
    unsure = replace(analysis, faces=(replace(face, evidence=evidence),))
    made = consume(model.explain([unsure]))[0].faces[0].explanation
    assert made.checks.ok and made.checks.stated is None and made.reasoned is not None
    assert {m.action_unit for m in made.mentions if m.present} >= {unit.code for unit in made.sheet.named}


def test_rows_carry_the_text(model, astronaut):
    row = next(iter(model.label([str(astronaut)], explain=True)))
    sections = parse(row["explanation"])
    assert sections is not None and stated_label(sections.conclusion, model.default_labels) == row["label"]
    assert next(iter(model.label([str(astronaut)])))["explanation"] == ""


def test_faces_are_explained_together_as_alone(model, astronaut):
    analysis = model.analyze(astronaut, explain=False)
    alone = consume(model.explain([analysis]))[0].faces[0].explanation
    both = consume(model.explain([analysis, analysis]))
    assert [a.faces[0].explanation.checks.ok for a in both] == [True, True]
    assert both[0].faces[0].explanation.reasoned.label == alone.reasoned.label


def test_cited_regions_are_drawn_where_the_face_is(model, astronaut, tmp_path):
    analysis = model.analyze(astronaut)
    drawn, plain = analysis.draw(tmp_path / "a.png"), model.analyze(astronaut, explain=False).draw()
    assert drawn.tobytes() != plain.tobytes()
    face = analysis.faces[0].face
    x, y, w, h = face.box
    for region in BOXES:
        corners = outline(face, region)
        middle = sum(c[0] for c in corners) / 4, sum(c[1] for c in corners) / 4
        assert x - w / 4 < middle[0] < x + 1.25 * w and y - h / 4 < middle[1] < y + 1.25 * h
    eyes, mouth = outline(face, "eyes"), outline(face, "mouth")
    assert eyes[0][1] < mouth[0][1]


def test_a_sentence_is_found_around_a_place():
    text = "The brows are raised. The lips part a little; so does the jaw. No more."
    assert sentence(text, 5) == "The brows are raised."
    assert sentence(text, text.index("jaw")) == "The lips part a little; so does the jaw."
    assert sentence(text, len(text) - 2) == "No more."


def test_faces_are_described_for_training(capsys, astronaut, tmp_path):
    head = Image.open(astronaut).convert("RGB").crop((110, 0, 350, 240))
    for label, turn in (("happy", 0), ("happy", 10), ("sad", 20), ("sad", 30)):
        (tmp_path / "faces" / label).mkdir(parents=True, exist_ok=True)
        head.rotate(turn).save(tmp_path / "faces" / label / f"{turn}.png")
    out = tmp_path / "out"
    command = ["data", "describe", str(tmp_path / "faces"), "-o", str(out), "--holdout", "1", "--turns", "2"]
    assert execute(command) == 0
    assert "3 conversations" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and (out / "holdout.jsonl").exists()
    for line in lines:
        assert [m["role"] for m in line["messages"]] == ["user", "assistant"] * 6  # four steps, two questions
        assert (out / line["images"][0]).is_file() and line["messages"][0]["content"].startswith("<image>")
        assert line["messages"][3]["content"] in line["evidence"]["probabilities"]
        assert line["provenance"]["writer"] == "built-in"
