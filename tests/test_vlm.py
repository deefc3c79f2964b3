"""Encoder, projector and language model in one folder: saved, loaded, merged, batched."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from emoreason.core.device import choose
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.explain.backends.decoding import Session
from emoreason.explain.backends.drafts import Draft
from emoreason.explain.backends.local import LocalExplainer
from emoreason.explain.backends.parts import CANDIDATES, ROUTES
from emoreason.explain.check.answers import check_answer
from emoreason.explain.explanation import Question, Subject, Turn, combine, consume
from emoreason.explain.sheet import Placed, Sheet
from emoreason.models.encoder import load_encoder
from emoreason.models.language import load_language
from emoreason.models.vlm import ADAPTER, PROJECTOR, SPEC, ExplainerSpec, VisionLanguageModel
from emoreason.train.recipes.smoke_texts import save_language

LABELS = ("neutral", "happiness", "surprise", "sadness")


def fresh(folder, kind="gemma3", lora=True):
    from peft import LoraConfig

    encoder = load_encoder("mini", choose("cpu"))
    spec = ExplainerSpec("mini", str(folder), grid=2, labels=LABELS, verdict={"temperature": 1.0, "weight": 0.4})
    vlm = VisionLanguageModel.create(spec, encoder, load_language(str(folder)))
    if lora:
        vlm.add_lora(LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        torch.manual_seed(1)
        for name, parameter in vlm.language.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)  # as if it had been trained
    return vlm.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["gemma3", "qwen2", "llama"])
def tiny(request, tmp_path_factory):
    return fresh(save_language(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(autouse=True)
def short_texts(monkeypatch):
    """Random models do not end by themselves."""
    monkeypatch.setattr("emoreason.explain.backends.drafts.MAX_TOKENS", 12)


def faces(n, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)) for _ in range(n)]


def logits(vlm, crop):
    session = Session(vlm, 1)
    session.read(["\nMovements: slight lip corner puller."], list(vlm.see([crop])))
    return vlm.head(session.hidden)


def test_a_saved_folder_gives_the_same_logits(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "adapter")
    again = VisionLanguageModel.from_pretrained(tmp_path / "adapter", quantize="float32", merge=False)
    crop = faces(1)[0]
    assert torch.equal(logits(tiny, crop), logits(again, crop))
    merged = VisionLanguageModel.from_pretrained(tmp_path / "adapter", quantize="float32")
    assert torch.allclose(logits(tiny, crop), logits(merged, crop), atol=1e-4)
    assert not any("lora" in name for name, _ in merged.language.named_parameters())
    assert dataclasses.replace(again.spec, prompts="") == dataclasses.replace(tiny.spec, prompts="")


def test_peft_itself_reads_the_adapter(tiny, tmp_path):
    from peft import PeftConfig

    tiny.save_pretrained(tmp_path)
    assert PeftConfig.from_pretrained(str(tmp_path)).peft_type == "LORA"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*ADAPTER, PROJECTOR, SPEC])


@pytest.mark.parametrize("part", [*ADAPTER, PROJECTOR, SPEC])
def test_a_folder_that_misses_a_part_says_which(tiny, tmp_path, part):
    tiny.save_pretrained(tmp_path)
    (tmp_path / part).unlink()
    with pytest.raises(EmoreasonError, match=part.replace(".", r"\.")):
        VisionLanguageModel.from_pretrained(tmp_path)


def test_no_folder_is_an_error_with_the_way_out():
    with pytest.raises(EmoreasonError, match="explainer.json"):
        VisionLanguageModel.from_pretrained("no/such/folder/anywhere")


def test_rows_of_a_batch_compute_what_they_compute_alone(tiny):
    crops = faces(3)
    prompts = ["\nMovements: slight lip corner puller.", " the", "\nMovements: none. Key observations: the lips"]
    together = Session(tiny, 3)
    together.read(prompts, list(tiny.see(crops)))
    together.read([" shows", None, " of the face"])
    for row, (crop, prompt, more) in enumerate(zip(crops, prompts, [" shows", None, " of the face"], strict=True)):
        alone = Session(tiny, 1)
        alone.read([prompt], list(tiny.see([crop])))
        if more:
            alone.read([more])
        assert torch.allclose(alone.hidden[0], together.hidden[row], atol=1e-4), row


def test_labels_of_several_tokens_are_scored_as_if_each_was_read_alone(tiny):
    options = ["happiness", "an unheard-of word", "bored"]
    session = Session(tiny, 2)
    session.read(["\nMovements: none.", " the face shows"], list(tiny.see(faces(2))))
    scores = session.score(options)
    assert torch.allclose(scores, session.score(options)), "scoring must leave no trace"
    for row in range(2):
        for at, option in enumerate(options):
            alone = Session(tiny, 1)
            alone.read([["\nMovements: none.", " the face shows"][row]], [tiny.see(faces(2))[row]])
            total = 0.0
            for token in tiny.tokenizer.encode(f" {option}"):
                total += float(tiny.head(alone.hidden).log_softmax(1)[0, token])
                alone.feed([tiny.embed([token])])
            assert abs(total - float(scores[row, at])) < 1e-3


# ---- writing ---------------------------------------------------------------------------------------------------------


def tokens_of(vlm, end, max_tokens=6, temperature=0.0, seed=0):
    """The tokens of two rows."""
    session = Session(vlm, 2)
    session.read(["\nMovements: none.\nSeen:", " the face shows"], list(vlm.see(faces(2))))
    rngs = [torch.Generator().manual_seed(seed + row) for row in range(2)]
    written = [[], []]
    for row, token in session.write(end, rngs, temperature, max_tokens):
        written[row].append(token)
    return written


def test_a_row_ends_at_its_end_token_and_the_other_goes_on(tiny):
    eos = tiny.tokenizer.eos
    whole = tokens_of(tiny, eos)
    assert tokens_of(tiny, eos, 3) == [row[:3] for row in whole]
    end = whole[0][-1]
    cut = [row[: row.index(end)] if end in row else row for row in whole]
    assert tokens_of(tiny, end) == cut != whole


def test_words_are_drawn_by_the_seed(tiny):
    drawn = [tokens_of(tiny, tiny.tokenizer.eos, 12, 1.0, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def draft(vlm, rows=(0, 1)):
    crops = faces(2)
    made = Draft(vlm, list(vlm.see([crops[row] for row in rows])), [10 + row for row in rows], vlm.tokenizer.eos)
    made.most_tokens = 8
    made.read([f"\nMovements: {('none', 'slight lip corner puller')[row]}.\nSeen:" for row in rows])
    return made


def built_in(row):
    return f"The face {row} shows brows."


def passes(row, text):
    return []


def test_a_text_that_passes_is_taken_as_it_is(tiny):
    parts = consume(draft(tiny).write(passes, built_in))
    assert [part.route for part in parts] == ["model", "model"]
    assert parts == consume(draft(tiny).write(passes, built_in)), "the same picture, the same words"


def test_a_refused_text_is_written_again_and_then_replaced(tiny):
    first = [part.text for part in consume(draft(tiny).write(passes, built_in))]
    judged = []

    def other_words(row, text):
        judged.append(row)
        return ["that again"] if text in first else []

    again = consume(draft(tiny).write(other_words, built_in))
    assert [part.route for part in again] == ["retried", "retried"]
    assert not {part.text for part in again} & set(first)
    assert again == consume(draft(tiny).write(other_words, built_in))

    judged.clear()

    def never_the_second(row, text):
        judged.append((row, text))
        return ["no"] * row

    writing = draft(tiny)
    parts = consume(writing.write(never_the_second, built_in))
    assert [part.route for part in parts] == ["model", "written"]
    assert parts[0].text == first[0] and parts[1].text == built_in(1)
    assert [row for row, _ in judged] == [0, 1, *[1] * CANDIDATES]
    assert len({text for row, text in judged if row == 1}) > 1
    assert tiny.tokenizer.decode(writing.tokens[1]).endswith(built_in(1)), "the next part goes on from it"


def test_a_replaced_text_beside_it_does_not_change_a_row(tiny):
    """The second row is refused, so everything is read again; the first row goes on as it does alone."""
    hidden = []
    for rows in ((0,), (0, 1)):
        writing = draft(tiny, rows)
        consume(writing.write(lambda row, text: ["no"] * row, built_in))
        writing.read(["\nThe expression shown is"] * len(rows))
        hidden.append(writing.session.hidden[0])
    assert torch.allclose(*hidden, atol=1e-4)


def test_writing_stops_between_two_words(tiny):
    writing = draft(tiny).write(lambda row, text: ["no"], built_in)
    for _ in range(20):  # the first texts have eight words each at most: this is in the second tries
        next(writing)
    writing.close()


# ---- the explainer ---------------------------------------------------------------------------------------------------


def subject(seed, **units):
    probabilities = dict(zip(LABELS, (0.1, 0.7, 0.15, 0.05), strict=True))
    sheet = Sheet({"12": 0.7, "25": 0.5, "4": 0.0, **units}, probabilities)
    return Subject(sheet, faces(1, seed)[0])


def pieces_of(run):
    """All pieces, and the result."""
    pieces = []
    while True:
        try:
            pieces.append(next(run))
        except StopIteration as done:
            return pieces, done.value


def test_explanations_of_a_random_model_are_true_to_the_sheet(tiny):
    subjects = [subject(0), subject(1, **{"4": 0.9, "12": 0.0})]
    explainer = LocalExplainer(tiny, "tiny")
    together = consume(explainer.explain(subjects))
    for made in together:
        assert made.checks.ok and made.checks.route in ROUTES, made.checks.problems()
        assert made.checks.evidence_recall == 1.0 and made.checks.label_agrees
        assert abs(sum(made.reasoned.probabilities.values()) - 1) < 1e-5
    assert json.loads(json.dumps(together[0].to_dict()))["checks"]["parsed"] is True
    alone = consume(explainer.explain(subjects[:1]))[0]
    assert alone.text == together[0].text and alone.checks.route == together[0].checks.route
    for label, p in alone.reasoned.probabilities.items():
        assert abs(p - together[0].reasoned.probabilities[label]) < 0.02


def test_the_text_comes_in_the_order_in_which_it_is_read(tiny):
    pieces, made = pieces_of(LocalExplainer(tiny, "tiny").explain([subject(0), subject(1)]))
    for row in range(2):
        shown = [piece.text for piece in pieces if piece.row == row and piece.text]
        sections = made[row].sections
        assert "".join(shown) == made[row].short
        assert shown == [f"{sections.conclusion} {sections.observations}", f" {sections.interpretation}"]
    assert sum(not piece.text for piece in pieces) > 20  # so that whoever waits can stop


def test_closing_stops_the_model(tiny):
    pieces = LocalExplainer(tiny, "tiny").explain([subject(0)])
    assert [next(pieces).text for _ in range(5)] == [""] * 5
    pieces.close()
    with pytest.raises(StopIteration):
        next(pieces)


def test_without_checks_the_first_texts_are_shown(tiny):
    made = consume(LocalExplainer(tiny, "tiny", checked=False).explain([subject(0)]))[0]
    assert made.checks.route == "model" and not made.checks.ok  # random words


def test_a_face_without_a_label_is_described_and_not_named(tiny):
    why = "the best label has 70%, below the 90% that was asked for"
    sheet = dataclasses.replace(subject(0).sheet, abstained=True, why=why)
    made = consume(LocalExplainer(tiny, "tiny").explain([Subject(sheet, faces(1)[0])]))[0]
    assert made.checks.ok and made.checks.stated is None and made.reasoned is not None
    assert {mention.action_unit for mention in made.mentions if mention.present} == {"12", "25"}


def test_a_face_that_was_not_read_is_not_described(tiny):
    why = "the picture is almost even: nothing to read"
    sheet = dataclasses.replace(subject(0).sheet, units={}, abstained=True, why=why)
    pieces, (made, beside) = pieces_of(LocalExplainer(tiny, "tiny").explain([Subject(sheet, faces(1)[0]), subject(1)]))
    assert made.reasoned is None and made.checks.ok and made.checks.stated is None and made.mentions == []
    assert made.checks.route == "written" and "almost even" in made.text
    assert pieces[0] == (0, made.short) and {piece.row for piece in pieces[1:]} == {1}
    assert made.short == made.sections.conclusion and beside.checks.ok


def test_who_decides(tiny):
    explainer = LocalExplainer(tiny, "tiny")
    made = consume(explainer.explain([subject(0)], decide="reasoned"))[0]
    assert made.sheet.probabilities == pytest.approx(made.reasoned.probabilities)
    assert made.checks.ok and made.checks.label == made.reasoned.label
    both = combine({"a": 0.8, "b": 0.2}, {"a": 0.5, "b": 0.5}, "both", 0.5)
    assert both["a"] == pytest.approx(2 / 3) and sum(both.values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="evidence, reasoned, both"):
        combine({}, {}, "nobody", 0.5)


def asked(text, *subjects, about=(0,), explanation=None, history=()):
    places = ("",) if len(subjects) == 1 else ("left", "right")
    placed = [Placed(each.sheet, i + 1, place) for i, (each, place) in enumerate(zip(subjects, places, strict=True))]
    return Question(text, placed, about[0], about, [each.crop for each in subjects], explanation, history)


def test_answers_of_a_random_model_are_true(tiny):
    explainer = LocalExplainer(tiny, "tiny")
    first, second = subject(0), subject(1, **{"4": 0.9, "12": 0.0})
    made = consume(explainer.explain([first]))[0]
    questions = [
        asked("Is she smiling?", first, explanation=made, history=[Turn("Why?", "The brows.", (0,))]),
        asked("Compare them.", first, second, about=(0, 1)),
        asked("Is he lying?", first, second, about=(1,)),
    ]
    pieces, together = pieces_of(explainer.answer(questions))
    for row, (question, answer) in enumerate(zip(questions, together, strict=True)):
        assert answer.route in ROUTES and not check_answer(answer.text, question.text, question.view)
        assert "".join(piece.text for piece in pieces if piece.row == row) == answer.text
    assert [consume(explainer.answer([question]))[0] for question in questions] == together
    (free,) = consume(LocalExplainer(tiny, "tiny", checked=False).answer(questions[:1]))
    assert free.route == "model"
