"""What the page keeps: exports, opinions, and what it says about the model."""

import base64
import csv
import io
import json
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from emoreason import __version__, data, load
from emoreason.analysis import Analysis
from emoreason.apps.ui import about
from emoreason.apps.ui.export import as_csv, as_json, as_markdown, escaped
from emoreason.apps.ui.feedback import Feedback, default_folder
from emoreason.apps.ui.folder import row_columns, rows_file
from emoreason.apps.ui.words import words
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.probabilities import percent
from emoreason.core.types import Picture
from emoreason.data.check import check
from emoreason.evaluate.benchmark import target_of
from emoreason.explain.explanation import Style
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.models.bundle import bundles

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "<script>alert(1)</script>\n# Title\n- *a* [x](http://evil) | `b` $c$ & \\"


@dataclass(frozen=True)
class Settings:
    model: str = "mini"
    labels: tuple[str, ...] | None = None
    detect: bool = True
    decide: str = "evidence"
    style: Style = Style()


@dataclass
class Exchange:
    text: str = ""
    names: tuple[str, ...] = ()
    settings: Settings = Settings()
    analyses: tuple[Analysis, ...] = ()
    first: int = 0
    answer: str = ""
    about: tuple[int, ...] = ()
    error: str = ""
    stopped: bool = False


@dataclass
class Conversation:
    exchanges: list[Exchange] = field(default_factory=list)


@pytest.fixture(scope="module")
def model(mini_with_words):
    return mini_with_words


@pytest.fixture(scope="module")
def smile(model, astronaut) -> Analysis:
    """One face, explained."""
    return replace(model.analyze(astronaut), picture=Picture("smile.jpg", Image.open(astronaut).convert("RGB")))


@pytest.fixture(scope="module")
def two(model, astronaut) -> Analysis:
    """Two faces, other labels, no words, and a name that wants to be HTML."""
    face = Image.open(astronaut).convert("RGB").crop((110, 0, 350, 240))
    both = Image.new("RGB", (480, 240))
    both.paste(face, (0, 0))
    both.paste(ImageOps.mirror(face), (240, 0))
    picture = Picture("<b>two</b> | [x].png", both)
    return model.analyze_faces([(picture, model.faces(picture))], ["bored", "<i>engaged</i>"])[0]


@pytest.fixture(scope="module")
def wall(model) -> Analysis:
    picture = Picture("wall.png", Image.new("RGB", (64, 64), "grey"))
    return model.analyze_faces([(picture, [])])[0]


@pytest.fixture
def conversation(smile, two, wall) -> Conversation:
    own = Settings(labels=("bored", "<i>engaged</i>"), style=Style(temperature=0.5, brief=True))
    return Conversation(
        [
            Exchange(names=("smile.jpg",), analyses=(smile,), first=1),
            Exchange(text="How sure are you?", answer="Quite sure, at 99%.\n\nIt is the mouth.", about=(1,)),
            Exchange(text=HOSTILE, names=("two.png", "wall.png"), settings=own, analyses=(two, wall), first=2),
            Exchange(text="And?", error="the model was <busy>", stopped=True),
        ]
    )


# ---- exports ---------------------------------------------------------------------------------------------------------


def test_markdown_tells_all_of_it(conversation, smile):
    text = as_markdown(conversation)
    face = smile.faces[0]
    sections = face.explanation.sections
    for part in (sections.observations, sections.interpretation, sections.conclusion):
        assert escaped(part) in text
    assert f"| Shown expression | {face.label} |" in text and f"{percent(face.confidence)}, calibrated" in text
    assert "lip corner puller (AU12, strong)" in text
    assert "Checked: every statement matches the evidence." in text
    assert "### Face 1" in text and "### Face 2" in text and "### Face 3" in text
    assert "No face was found in wall.png." in text
    assert "About face 1:" in text and "Quite sure, at 99%." in text and "It is the mouth." in text
    assert "The model was" not in text and "This could not be answered: the model was &lt;busy&gt;" in text
    assert "The answer was stopped here." in text
    assert f"emoreason {__version__}" in text and f"revision {smile.revision}" in text
    assert "temperature 0.5" in text and "length short" in text
    assert text.rstrip().endswith(words()["page"]["policy"])


def test_pictures_in_markdown_are_small_jpegs_with_boxes(conversation, smile):
    found = re.findall(r"!\[[^\n]*\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)", as_markdown(conversation))
    assert len(found) == 3
    image = Image.open(io.BytesIO(base64.b64decode(found[0])))
    assert image.format == "JPEG" and max(image.size) == 480 and len(found[0]) < 100_000
    x, y, w, h = (side * 480 / 512 for side in smile.faces[0].face.box)
    across = [image.getpixel((round(x + w) + step, round(y + h / 2))) for step in (-2, -1, 0, 1)]
    assert any(blue > red + 60 for red, _, blue in across), across


def test_markdown_shows_what_was_typed_and_nothing_else(conversation):
    text = as_markdown(conversation)
    assert not re.search(r"<(?!/?policy)", text)
    assert "\n# Title" not in text and "[x](http" not in text
    assert all(line.count("|") - line.count(r"\|") == 3 for line in text.splitlines() if line.startswith("| "))


def test_escaped_text_renders_as_it_was_typed():
    markdown = pytest.importorskip("markdown_it")
    for typed in (HOSTILE, "a_b_c", "**x**", "1 < 2 & 3", "~~no~~", "<img src=x onerror=1>", "![a](b)", "| a |", "a\\",
                  "# a", "- a", "+ a", "1. a", "1) a", "===", "> a", "    a"):  # fmt: skip
        html = markdown.MarkdownIt("gfm-like", {"linkify": False}).render(escaped(typed))
        shown = re.sub("&lt;", "<", re.sub("&gt;", ">", re.sub("&quot;", '"', html.replace("&amp;", "&"))))
        assert shown == f"<p>{' '.join(typed.split())}</p>\n"


def test_json_round_trip(conversation, smile):
    read = json.loads(as_json(conversation))
    assert read["emoreason"] == __version__ and re.match(r"\d{4}-\d\d-\d\dT", read["made"])
    assert len(read["exchanges"]) == 4
    first, question, own, last = read["exchanges"]
    assert first["analyses"] == [json.loads(smile.to_json())] and first["pictures"] == ["smile.jpg"]
    assert question["about"] == [1] and question["answer"].startswith("Quite")
    assert own["settings"]["labels"] == ["bored", "<i>engaged</i>"] and own["settings"]["manner"]["brief"] is True
    assert own["text"] == HOSTILE and own["first"] == 2
    assert last["error"] == "the model was <busy>" and last["stopped"] is True
    assert set(first) == {
        *("text", "pictures", "settings", "first", "analyses", "answer", "about", "error", "stopped")
    }  # fmt: skip


def test_csv_is_that_of_the_command_line(model, smile):
    one = Conversation([Exchange(names=("smile.jpg",), analyses=(smile,), first=1)])
    assert as_csv(one).encode() == rows_file(smile.rows(), row_columns(model), "csv")


def test_csv_of_several_label_sets(conversation, smile):
    rows = list(csv.DictReader(io.StringIO(as_csv(conversation), newline="")))
    assert [row["status"] for row in rows][-1] == "no_face" and len(rows) == 4
    probabilities = [name for name in rows[0] if name.startswith("p_")]
    assert probabilities == [*(f"p_{label}" for label in smile.faces[0].probabilities), "p_bored", "p_<i>engaged</i>"]
    assert rows[0]["p_bored"] == "" and rows[1]["p_happiness"] == "" and float(rows[1]["p_bored"]) >= 0


def test_an_empty_conversation_is_exported_too():
    empty = Conversation()
    assert json.loads(as_json(empty))["exchanges"] == []
    assert as_csv(empty).startswith("source,frame,time_s") and "# A conversation" in as_markdown(empty)


def test_names_that_are_no_utf8_can_be_written(smile):
    odd = replace(smile, picture=replace(smile.picture, source="caf\udce9.jpg"))
    one = Conversation([Exchange(names=("caf\udce9.jpg",), analyses=(odd,), first=1)])
    for export in (as_markdown, as_json, as_csv):
        export(one).encode()


# ---- opinions --------------------------------------------------------------------------------------------------------


def lines(feedback: Feedback) -> list[dict]:
    return [json.loads(line) for line in feedback.file.read_text().splitlines()]


def test_nothing_is_on_disk_before_the_first_opinion(tmp_path, smile):
    feedback = Feedback(tmp_path / "a" / "feedback")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="right label"):
        feedback.add(smile, smile.faces[0])
    with pytest.raises(UsageError, match="60 characters"):
        feedback.add(smile, smile.faces[0], right_label="x" * 61)
    assert list(tmp_path.iterdir()) == []
    feedback.add(smile, smile.faces[0], thumb="up")
    assert stat.S_IMODE(feedback.folder.stat().st_mode) == 0o700
    assert default_folder().name == "feedback"


def test_opinions_are_a_training_set(tmp_path, smile, two):
    feedback = Feedback(tmp_path)
    face = smile.faces[0]
    feedback.add(smile, face, thumb="up")
    feedback.add(two, two.faces[0], thumb="down", right_label="  happy ")
    feedback.add(two, two.faces[1], thumb="down")
    feedback.add(smile, face, thumb="up", about="answer")
    feedback.add(smile, face, right_label="surprise")
    rows = lines(feedback)
    assert [(row["label"], row["label_source"], row["rated"]) for row in rows] == [
        ("happiness", "human_confirmed", "up"), ("happy", "human", "down"), (None, None, "down"), (None, None, "up"),
        ("surprise", "human", None),
    ]  # fmt: skip
    assert rows[0]["explanation"] == face.explanation.text and rows[0]["suggested"] == "happiness"
    assert rows[0]["model"] == "mini" and rows[0]["revision"] == smile.revision
    samples = list(data.read(feedback.file))
    assert [sample.label for sample in samples] == ["happiness", "happiness", None, None, "surprise"]
    assert all(sample.problem is None and sample.votes is None for sample in samples)
    crop = Image.open(samples[0].image)
    assert crop.format == "PNG" and crop.size == face.face.crop.size
    report = check(feedback.file)
    assert report.ok and report.n == 5 and not report.broken and not report.missing
    assert len(list((tmp_path / "faces").iterdir())) == 3


def test_rows_without_a_label_are_not_scored(tmp_path, smile):
    """A thumb down alone says that the label is wrong and not what is right: such a row counts nowhere."""
    feedback = Feedback(tmp_path)
    feedback.add(smile, smile.faces[0], thumb="down")
    (sample,) = data.read(feedback.file)
    assert target_of(sample.label, sample.votes, "label", LABEL_SETS["ferplus8"].labels) is None


def test_an_abstained_face_is_not_confirmed(tmp_path, smile):
    face = smile.faces[0]
    unsure = replace(face, evidence=replace(face.evidence, abstained=True, why="too even"))
    feedback = Feedback(tmp_path)
    feedback.add(smile, unsure, thumb="up")
    assert lines(feedback)[0]["label"] is None


@pytest.mark.parametrize("label", ["", "  ", "a\x00b", "x" * 61, "\udce9"])
def test_labels_that_are_none(tmp_path, smile, label):
    with pytest.raises(UsageError, match="one or a few words"):
        Feedback(tmp_path).add(smile, smile.faces[0], right_label=label)


def test_a_full_folder_is_a_sentence(tmp_path, smile):
    feedback = Feedback(tmp_path, max_bytes=20_000)  # the face alone has more
    feedback.add(smile, smile.faces[0], thumb="up")
    with pytest.raises(EmoreasonError, match="so nothing more is saved"):
        feedback.add(smile, smile.faces[0], thumb="up")
    assert len(lines(feedback)) == 1


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path, smile):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmoreasonError, match="Cannot write to"):
        Feedback(tmp_path / "file").add(smile, smile.faces[0], thumb="up")


def test_half_a_line_is_cut_off(tmp_path, smile):
    feedback = Feedback(tmp_path)
    feedback.add(smile, smile.faces[0], thumb="up")
    with feedback.file.open("a") as file:
        file.write('{"id": "half')
    feedback.add(smile, smile.faces[0], thumb="down")
    assert [row["rated"] for row in lines(feedback)] == ["up", "down"]
    feedback.file.write_text("half")
    feedback.add(smile, smile.faces[0], thumb="up")
    assert len(lines(feedback)) == 1


MANY = """
import sys
from pathlib import Path
from PIL import Image
from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.core.types import Evidence
from emoreason.faces.detect import whole_picture
from emoreason.core.types import Picture
from emoreason.apps.ui.feedback import Feedback
for number in range(60):
    picture = Picture("x", Image.new("RGB", (24, 24), (number, 0, 0)))
    face = FaceAnalysis(whole_picture(picture), Evidence({"neutral": 1.0}, "neutral", 1.0, True))
    analysis = Analysis(picture, "mini", "r" * 3000, "p", (face,))
    Feedback(Path(sys.argv[1])).add(analysis, face, thumb="up")
"""


def test_two_processes_at_once(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    rows = lines(Feedback(tmp_path))
    assert len(rows) == len({row["id"] for row in rows}) == 120
    assert len(list((tmp_path / "faces").glob("*.png"))) == 60 == len(list((tmp_path / "faces").iterdir()))
    assert check(tmp_path / "feedback.jsonl").ok


# ---- about the model -------------------------------------------------------------------------------------------------


def test_facts_of_the_shipped_model(model):
    text = about.model_facts(model)
    for part in (
        *("mini", model.revision, "3.4 million parameters", "48×48", "gemma3", "ferplus8", "AU12", "photo"),
        f"{model.reader.calibration.abstain_below:.0%}",
        *model.default_labels,
    ):
        assert escaped(part) in text, part
    assert str(ROOT) not in text and all(name in text.replace("\\", "") for name in LABEL_SETS)


def test_scores_are_those_of_the_reports(model):
    text = about.scores(model)
    for point in ("photo", "accurate", "balanced"):
        report = json.loads((ROOT / f"eval/results/mini/majority-{point}/report.json").read_text())
        for key in ("accuracy", "uar", "macro_f1"):
            assert f"{100 * report[key]['value']:.2f}" in text, (point, key)
    assert text.startswith("### Scores on FER+ validation") and "Per class" not in text


def test_the_card_is_the_shipped_one(model):
    card = about.card(model)
    assert card.lstrip().startswith("# mini") and "## Limits" in card and "<!--" not in card
    assert card.strip() in (ROOT / "model_cards" / "mini.md").read_text()


def test_a_model_that_only_bears_the_name_gets_no_figures(model):
    class Other:
        """The same model as if it had been trained further."""

        revision = "0123456789ab"

        def __getattr__(self, name):
            return getattr(model, name)

    assert "No model card comes with mini" in about.card(Other())
    assert "There are no scores for mini" in about.scores(Other())
    assert "have their own terms" in about.licence(Other())
    assert "2.9 million" not in about.model_facts(Other()) and "0123456789ab" in about.model_facts(Other())


def test_uncalibrated_models_say_so():
    changed = load("mini", device_name="cpu", explainer="none", threshold=0.0, descriptors=True, point="balanced")
    text = about.model_facts(changed)
    assert "were not checked" in text and "answers at any confidence" in text and "balanced" in text
    assert "writes no text" in text
    strict = load("mini", device_name="cpu", explainer="none", threshold=0.9)
    assert "no answer below 90% confidence" in about.model_facts(strict)


def test_the_model_tab_says_on_how_many_faces_percentages_were_checked(model):
    assert "1500 faces held out of train" in about.model_facts(model)
    few = replace(
        model, reader=replace(model.reader, calibration=replace(model.reader.calibration, fitted_on="64 faces"))
    )
    assert "contempt, on 64 faces" in about.model_facts(few)


def test_the_policy_is_that_of_the_documentation():
    """Every heading of the policy stands in docs/limits.md, and every one of there stands here."""
    section = (ROOT / "docs" / "limits.md").read_text().split("## What it is not for")[1].split("\n## ")[0]
    wanted = re.findall(r"- \*\*(.*?)\*\*", section)
    assert re.findall(r"- \*\*(.*?)\*\*", about.policy()) == wanted and len(wanted) == 6
    assert "article 5(1)(f)" in about.policy()


def test_licence_and_versions(model):
    assert "MIT" in about.licence(model) and "ai.google.dev/gemma/terms" in about.licence(model)
    assert bundles()["mini"].spec["sha256"].startswith(model.revision)
    assert "torch" in about.versions() and "python" in about.versions()
