"""finetune's words: own texts in any form, conversations, the engine; what a run of them writes afterwards."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.data.schema import Sample
from emoreason.explain.backends.factory import load_explainer
from emoreason.explain.backends.local import LocalExplainer
from emoreason.explain.check.answers import check_answer
from emoreason.explain.explanation import Explanation, Question, Subject, consume
from emoreason.explain.explanation import Turn as Asked
from emoreason.explain.read.sections import HEADINGS
from emoreason.explain.sheet import Placed, Sheet
from emoreason.models.vlm import ExplainerSpec
from emoreason.train.recipes.smoke_texts import save_language
from emoreason.train.settings import WordsSettings
from emoreason.train.text import user_texts
from emoreason.train.text.convert_prompts import to_our_prompts
from emoreason.train.text.finetune import finetune_conversations, finetune_texts, has_messages
from emoreason.train.text.user_texts_report import score_texts

LABELS = ("happiness", "sadness")


@pytest.fixture(scope="module", autouse=True)
def short_texts():
    """Models that learned for two steps do not end by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emoreason.explain.backends.drafts.MAX_TOKENS", 12)
        patch.setattr("emoreason.explain.backends.local.FREE_TEXT", 24)
        yield


@pytest.fixture(scope="module")
def reasoner(mini):
    return mini


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> WordsSettings:
    language = save_language(tmp_path_factory.mktemp("language"), "qwen2")
    return WordsSettings(language=str(language), steps=2, batch_size=4, look_texts=2)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[tuple[Sample, str]]:
    folder, made = tmp_path_factory.mktemp("faces"), []
    for n in range(14):
        pixels = np.random.default_rng(n).integers(0, 255, (48, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        part = "train" if n < 10 else "holdout" if n < 12 else "report"
        text = f"What a face!\nI would say {LABELS[n % 2]}, friend."
        made.append((Sample(f"{n}", str(folder / f"{n}.png"), LABELS[n % 2], explanation=text), part))
    return made


@pytest.fixture(scope="module")
def free(rows, reasoner, settings, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("free"), []
    return folder, finetune_texts(rows, reasoner, settings, folder, said.append, labels=LABELS, device="cpu"), said


def test_own_texts_are_learned_as_they_are(free):
    folder, figures, said = free
    assert figures["form"] == "free" and figures["counts"] == {"train": 10, "holdout": 2, "report": 2}
    assert figures["after"]["perplexity"] < figures["before"]["perplexity"]
    assert figures["theirs"]["parsed"] == 0 and figures["theirs"]["leaking"] == 1
    assert "2 steps of 4 texts (as asked)" in " ".join(said)
    assert figures["table"][0].startswith("| 2 held-back faces") and "2 steps" in figures["told"]
    assert sorted(path.name for path in folder.iterdir()) == ["explainer"]  # no face is left behind
    assert not (folder / "explainer" / "checkpoints").exists()


def test_such_an_explainer_writes_freely_and_the_checks_say_so(free):
    folder, *_ = free
    explainer = load_explainer(str(folder / "explainer"), device="cpu")
    assert explainer.vlm.spec.form == "free" and explainer.vlm.spec.question == "Describe the facial expression."
    face = Image.new("RGB", (64, 64), "grey")
    subject = Subject(Sheet({"12": 0.9}, {"happiness": 0.9, "sadness": 0.1}), face)
    nothing = Subject(Sheet({}, {"happiness": 0.9, "sadness": 0.1}, abstained=True, why="no face"), face)
    made, silent = consume(explainer.explain([subject, nothing]))
    told = made.to_dict()
    assert not any(heading in made.text for heading in HEADINGS) and not told["checks"]["parsed"]
    assert told["text"] == told["short"] == made.text and told["interpretation"] is None and told["observations"] == []
    assert made.unchecked and not silent.unchecked and "no face" in silent.text
    again = consume(explainer.explain([subject]))
    assert again[0].text == made.text  # greedy, and alone as in company
    questions = [Question(text, [Placed(subject.sheet)], 0, (0,), [face], made)
                 for text in ("What is seen?", "Is she lying?")]  # fmt: skip
    for question, answer in zip(questions, consume(explainer.answer(questions)), strict=True):
        assert not check_answer(answer.text, question.text, question.view)
    with pytest.raises(UsageError, match="no verdict"):
        consume(explainer.explain([subject], decide="both"))


def test_the_prompt_of_training_is_the_prompt_of_use(free, settings):
    """What is read before the first word of a free text: picture, movements, question."""
    folder, *_ = free
    sheet = Sheet({"12": 0.9}, {"happiness": 1.0})
    turns = [("user", f"{IMAGE}\nDescribe the facial expression."), ("assistant", "Oh."), ("user", "Sure?"),
             ("assistant", "Quite."), ("user", "Really?"), ("assistant", "Yes.")]  # fmt: skip
    given = Conversation(tuple(Message(role, text) for role, text in turns), ("x.png",))
    taught = to_our_prompts(given, sheet).messages
    explainer = LocalExplainer(load_explainer(str(folder / "explainer"), device="cpu").vlm, "x")
    read = []

    class Listening:
        def read(self, prompts):
            read.extend(prompts)
            raise InterruptedError

    explainer._draft = lambda subjects, style: Listening()
    face = Image.new("RGB", (48, 48))
    with pytest.raises(InterruptedError):
        consume(explainer.explain([Subject(sheet, face)]))
    assert read == [taught[0].content.removeprefix(IMAGE)]
    made = Explanation.of("Oh.", sheet, "x", free=True)
    question = Question("Really?", [Placed(sheet)], 0, (0,), [face], made, [Asked("Sure?", "Quite.", (0,))])
    before = "".join(m.content if m.role == "user" else f" {m.content}" for m in taught[:5])
    assert explainer._free_prompt(question) == before.removeprefix(IMAGE)


def test_an_old_folder_is_one_of_sections(tmp_path):
    (tmp_path / "explainer.json").write_text(json.dumps({"encoder": "mini", "language": "x"}))
    spec = ExplainerSpec.read(tmp_path)
    assert spec.form == "sections" and spec.sheet


def test_texts_with_the_three_sections_keep_their_form(rows, reasoner, settings, tmp_path):
    text = "Key observations: Lip corners up.\nOverall emotional interpretation: A smile.\nConclusion: Happiness."
    shaped = [(dataclasses.replace(sample, explanation=text), part) for sample, part in rows]
    assert user_texts.form_of(user_texts.face_texts(shaped, False)) == "sections"
    figures = finetune_texts(shaped, reasoner, settings, tmp_path, labels=LABELS, device="cpu")
    spec = ExplainerSpec.read(tmp_path / "explainer")
    assert figures["form"] == spec.form == "sections" and spec.labels == LABELS
    assert figures["theirs"]["parsed"] == 1 and figures["after"]["parsed"] == 1
    with pytest.raises(UsageError, match="words.form free"):
        finetune_texts(rows, reasoner, dataclasses.replace(settings, form="sections"), tmp_path, device="cpu")


def test_without_texts_nothing_is_done_unless_the_engine_is_asked(rows, reasoner, settings, tmp_path):
    bare = [(dataclasses.replace(sample, explanation=None), part) for sample, part in rows]
    assert finetune_texts(bare, reasoner, settings, tmp_path) is None and not list(tmp_path.iterdir())
    engine = dataclasses.replace(settings, source="engine")
    figures = finetune_texts(bare, reasoner, engine, tmp_path, labels=LABELS, device="cpu")
    assert figures["form"] == "sections" and figures["theirs"]["precision"] in (None, 1)  # None: no unit is sure
    with pytest.raises(UsageError, match="words.source"):
        finetune_texts(rows, reasoner, dataclasses.replace(settings, source="engin"), tmp_path)


def test_conversations_are_learned_with_their_later_turns(rows, reasoner, settings, tmp_path):
    lines = []
    for sample, _ in rows:
        turns = [
            ("user", "<image>What do you see?"),
            ("assistant", "A face."),
            ("user", "Sure?"),
            ("assistant", "Quite."),
        ]
        said = [{"role": role, "content": content} for role, content in turns]
        lines.append(json.dumps({"messages": said, "images": [sample.image]}))
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines))
    assert has_messages(path)
    figures = finetune_conversations(path, reasoner, settings, tmp_path / "run", device="cpu")
    assert figures["counts"] == {"train": 12, "holdout": 1, "report": 1}
    assert ExplainerSpec.read(tmp_path / "run" / "explainer").question == "What do you see?"
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lines[:3]))
    with pytest.raises(EmoreasonError, match="8 are needed"):
        finetune_conversations(few, reasoner, settings, tmp_path / "few", device="cpu")


def test_a_table_is_no_conversation(tmp_path):
    table = tmp_path / "rows.jsonl"
    table.write_text('{"path": "a.png", "label": "happiness"}\n')
    assert not has_messages(table) and not has_messages(tmp_path) and not has_messages("hub:me/faces")


def test_texts_are_measured_as_a_whole_where_they_have_no_sections():
    sheet = Sheet({"12": 0.9, "4": 0.0}, {"happiness": 0.8, "anger": 0.2})
    found = score_texts(
        ["Both lip corners are pulled up markedly.", "The brows are lowered; she looks happy."], [sheet, sheet]
    )
    assert found["parsed"] == 0 and found["leaking"] == 0.5 and found["precision"] == 0.5 and found["recall"] == 0.5


def test_an_encoder_without_an_explainer_asks_for_a_language_model(rows, reasoner, settings, tmp_path):
    with pytest.raises(UsageError, match="words.language"):
        finetune_texts(rows, reasoner, dataclasses.replace(settings, language=""), tmp_path, model="ViT-L-14/openai")


def test_what_a_run_decided_is_kept_when_it_goes_on(rows, reasoner, settings, tmp_path, monkeypatch):
    """Killed after the first step and resumed, it ends with the weights of a run that was not."""
    from emoreason.train.text.explainer import Trainer

    straight = finetune_texts(rows, reasoner, settings, tmp_path / "a", labels=LABELS, device="cpu")
    tell = Trainer._log_progress

    def killed(self, name, step, steps):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_log_progress", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune_texts(rows, reasoner, settings, tmp_path / "b", labels=LABELS, device="cpu")
    assert (tmp_path / "b" / "words" / "train.jsonl").is_file()
    monkeypatch.setattr(Trainer, "_log_progress", tell)
    again = finetune_texts(rows, reasoner, settings, tmp_path / "b", labels=LABELS, device="cpu", resume=True)
    assert again["after"] == straight["after"] and again["steps"] == 2
    weights = [Path(tmp_path / run / "explainer" / "projector.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
