"""Encoder, projector and language model in one folder: saved, loaded, merged, batched."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from emoreason.core.device import choose
from emoreason.core.errors import EmoreasonError
from emoreason.explain.backends.decoding import Session
from emoreason.explain.backends.local import LocalExplainer
from emoreason.explain.sheet import Sheet
from emoreason.explain.write.constrain import Walk
from emoreason.explain.write.grammar import accepts, template
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


def test_the_walk_writes_only_what_the_grammar_accepts(tiny):
    node = template("[the|both] lips [are|look] [slightly|a little|clearly] [parted|raised], [and|while] so on.")
    explainer = LocalExplainer(tiny, "tiny")
    session = Session(tiny, 2)
    session.read(["\nKey observations:", " the"], list(tiny.see(faces(2))))
    walks = [Walk(node, explainer.atoms, explainer.line) for _ in range(2)]
    rngs = [torch.Generator().manual_seed(i) for i in range(2)]
    for _ in session.write(walks, rngs):
        pass
    for walk in walks:
        assert walk.done and accepts(node, tiny.tokenizer.decode(walk.tokens))


def subject(seed, **units):
    from emoreason.explain.explanation import Subject

    probabilities = dict(zip(LABELS, (0.1, 0.7, 0.15, 0.05), strict=True))
    sheet = Sheet({"12": 0.7, "25": 0.5, "4": 0.0, **units}, probabilities)
    return Subject(sheet, faces(1, seed)[0])


def test_explanations_of_a_random_model_are_true_to_the_sheet(tiny):
    from emoreason.explain.explanation import consume

    subjects = [subject(0), subject(1, **{"4": 0.9, "12": 0.0})]
    explainer = LocalExplainer(tiny, "tiny")
    together = consume(explainer.explain(subjects))
    for made in together:
        assert made.checks.parsed and not made.checks.leaks and not made.checks.unsupported
        assert made.checks.evidence_recall == 1.0 and made.checks.label_agrees
        assert abs(sum(made.reasoned.probabilities.values()) - 1) < 1e-5
    assert json.loads(json.dumps(together[0].to_dict()))["checks"]["parsed"] is True
    alone = consume(explainer.explain(subjects[:1]))[0]
    for label, p in alone.reasoned.probabilities.items():
        assert abs(p - together[0].reasoned.probabilities[label]) < 0.02


def test_the_text_streams_and_closing_stops_the_model(tiny):
    pieces = LocalExplainer(tiny, "tiny").explain([subject(0)])
    first = [next(pieces).text for _ in range(5)]
    assert "".join(first).startswith("Key observations:")
    pieces.close()


def test_an_abstained_sheet_is_given_no_claim(tiny):
    from emoreason.explain.explanation import Subject, consume

    sheet = dataclasses.replace(subject(0).sheet, abstained=True, why="the picture is almost even: nothing to read")
    made = consume(LocalExplainer(tiny, "tiny").explain([Subject(sheet, faces(1)[0])]))[0]
    assert made.reasoned is None and made.checks.parsed and made.checks.stated is None and "almost even" in made.text


def test_who_decides(tiny):
    from emoreason.core.errors import UsageError
    from emoreason.explain.explanation import combine, consume

    explainer = LocalExplainer(tiny, "tiny")
    made = consume(explainer.explain([subject(0)], decide="reasoned"))[0]
    assert made.sheet.probabilities == pytest.approx(made.reasoned.probabilities)
    both = combine({"a": 0.8, "b": 0.2}, {"a": 0.5, "b": 0.5}, "both", 0.5)
    assert both["a"] == pytest.approx(2 / 3) and sum(both.values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="evidence, reasoned, both"):
        combine({}, {}, "nobody", 0.5)
