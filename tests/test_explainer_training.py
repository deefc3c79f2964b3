"""Training an explainer: the whole path on tiny models, exact resuming, what is learned and what is not."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from emoreason.core.device import choose
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.resources import resource
from emoreason.data.messages import read, write
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.models.vlm import ADAPTER, PROJECTOR, SPEC, Projector, VisionLanguageModel
from emoreason.train.recipes.config import load_config, parse_overrides
from emoreason.train.recipes.smoke_texts import save_language, smoke_config
from emoreason.train.text import token_loss
from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.encoding import IGNORED, VISUAL, collate, one_pass
from emoreason.train.text.explainer import Trainer, build, lora_config, train_explainer
from emoreason.train.text.handwritten import verdict
from emoreason.train.text.packing import use_packed
from emoreason.train.text.texts import read_texts, sheet_of
from emoreason.train.text.verdict import calibrate
from explainer_memory import GIB, NF4, VIT_L_14, lora_parameters, memory, projector_parameters
from test_vlm import faces, logits

RECIPES = sorted(
    f"finetune/{path.name}"
    for path in resource("finetune/head.yaml").parent.glob("*.yaml")
    if "kind: explainer" in path.read_text()
)

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def short_texts():
    """Models that learned for four steps do not end by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emoreason.explain.backends.drafts.MAX_TOKENS", 12)
        patch.setattr("emoreason.explain.backends.local.FREE_TEXT", 24)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> ExplainerConfig:
    return smoke_config(ExplainerConfig(), tmp_path_factory.mktemp("smoke"))


@pytest.fixture(scope="module")
def trained(small) -> Path:
    return train_explainer(small)


def curve(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: line[k] for k in line if k not in ("seconds", "tokens_per_s")} for line in lines if "stage" in line]


def test_a_run_leaves_all_that_a_newcomer_needs(trained):
    names = {path.name for path in trained.iterdir()}
    assert {*ADAPTER, PROJECTOR, SPEC, "config.yaml", "log.jsonl", "loss.png", "README.md"} <= names
    assert yaml.safe_load((trained / "config.yaml").read_text())["kind"] == "explainer"
    assert [line["stage"] for line in curve(trained) if "lr" in line] == ["align", "align", "tune", "tune"]
    assert [line["step"] for line in curve(trained) if "held_out" in line] == [0, 4, 0, 4]
    spec = json.loads((trained / SPEC).read_text())
    assert set(spec["verdict"]) == {"temperature", "prior_strength", "weight"} and spec["prompts"]
    assert "| evidence |" in (trained / "README.md").read_text()
    VisionLanguageModel.from_pretrained(trained)


def test_the_same_recipe_gives_the_same_numbers(small, trained, tmp_path):
    again = train_explainer(dataclasses.replace(small, out=str(tmp_path)))
    assert curve(again) == curve(trained)


def test_the_first_stage_leaves_the_language_model_alone(small, tmp_path):
    config = dataclasses.replace(small, out=str(tmp_path), tune=dataclasses.replace(small.tune, steps=0))
    trainer = Trainer(config)
    before = {k: v.clone() for k, v in trainer.vlm.language.state_dict().items()}
    projector = {k: v.clone() for k, v in trainer.vlm.projector.state_dict().items()}
    trainer.fit()
    after = trainer.vlm.language.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert any(not torch.equal(projector[k], v) for k, v in trainer.vlm.projector.state_dict().items())


def test_only_the_models_own_words_are_learned(small):
    trainer = Trainer(dataclasses.replace(small, run=dataclasses.replace(small.run, max_tokens=4000)))
    item = trainer.train.encoded[0]
    batch = collate([item, trainer.train.encoded[1]], trainer.vlm.tokenizer.pad)
    tokenizer = trainer.vlm.tokenizer
    learned = tokenizer.decode([t for t in batch.targets[0].tolist() if t != IGNORED])
    said = [m.content for m in list(_conversations(small))[0].messages if m.role == "assistant"]
    assert "".join(learned.split()) == "".join("".join(text.split()) for i, text in enumerate(said) if i != 1)
    assert sum(t == VISUAL for t in item.tokens) == small.grid**2
    assert tokenizer.decode([item.tokens[item.verdict]]).strip() == "is"


def _conversations(config):
    return read(config.data.train)


def test_questions_and_faces_with_votes_are_drawn_apart(small, tmp_path):
    """Some conversations have no votes, and some faces are only asked for their label."""
    told = list(_conversations(small))
    only = [
        verdict(f"v{i}", sheet_of(talk), talk.images[0], talk.evidence["votes"]) for i, talk in enumerate(told[:12])
    ]
    path = Path(small.data.train).with_name("apart.jsonl")
    write(iter([*only, *(dataclasses.replace(talk, evidence=None) for talk in told[12:])]), path)
    data = dataclasses.replace(small.data, train=str(path))
    work = Trainer(dataclasses.replace(small, out=str(tmp_path), data=data)).work("tune")
    drawn: dict[bool, set[int]] = {True: set(), False: set()}
    for number in range(8):
        rows = work.step(number).rows
        drawn[work._is_verdict_step(number)].update(rows)
        assert all(torch.isfinite(loss) for loss in work(number, rows).values())
    assert drawn[True] and drawn[True] <= set(range(12))
    assert drawn[False] and drawn[False] <= set(range(12, len(told)))


def test_the_prior_comes_from_the_faces_with_votes(small, trained, tmp_path):
    """Conversations without votes stand in the same file."""
    lines = Path(small.data.train).read_text().splitlines()
    without = json.loads(lines[0])
    del without["evidence"]
    mixed = Path(small.data.train).with_name("mixed.jsonl")
    mixed.write_text("\n".join([*lines, json.dumps(without)]))
    folder, labels = shutil.copytree(trained, tmp_path / "run"), LABEL_SETS["ferplus8"].labels
    fitted = calibrate(folder, Path(small.data.holdout), mixed, labels)
    before, after = (json.loads((path / SPEC).read_text()) for path in (trained, folder))
    assert fitted == after["verdict"] == before["verdict"] and after["prior"] == before["prior"]


def test_a_wider_adapter_begins_where_the_narrow_one_ended(small, trained):
    def started(r: int, alpha: int) -> VisionLanguageModel:
        lora = dataclasses.replace(small.lora, r=r, alpha=alpha)
        vlm = build(dataclasses.replace(small, start=str(trained), lora=lora), choose("cpu"))
        vlm.language.float()
        return vlm.eval()

    narrow, wide = (started(k * small.lora.r, k * small.lora.alpha) for k in (1, 2))
    with torch.no_grad():
        assert torch.allclose(logits(narrow, faces(1)[0]), logits(wide, faces(1)[0]), atol=1e-4)
    ranks = [value.shape[0] for name, value in wide.language.named_parameters() if "lora_A" in name]
    assert set(ranks) == {2 * small.lora.r}
    with pytest.raises(UsageError, match=f"needs alpha {2 * small.lora.alpha}"):
        started(2 * small.lora.r, small.lora.alpha)


def test_nothing_before_the_verdict_names_a_label(small):
    from emoreason.knowledge.emotion_words import leaks

    for conversation in _conversations(small):
        before = " ".join(m.content for m in conversation.messages[:2])
        assert not leaks(before, list(conversation.evidence["probabilities"]))


def test_killed_in_the_middle_it_ends_with_the_same_numbers(small, tmp_path):
    config = dataclasses.replace(small, out=str(tmp_path / "run"))
    config = dataclasses.replace(
        config,
        tune=dataclasses.replace(config.tune, steps=8),
        data=dataclasses.replace(config.data, validation="", holdout=""),
    )
    straight = train_explainer(dataclasses.replace(config, out=str(tmp_path / "straight")))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(dataclasses.asdict(config)))
    command = [sys.executable, "-m", "emoreason", "finetune", str(recipe)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ))
    for line in run.stdout:
        if '"stage": "tune"' in line and '"step": 4' in line:
            run.send_signal(signal.SIGKILL)
            break
    run.wait()
    for _ in range(50):
        if (tmp_path / "run" / "checkpoint.pt").exists():
            break
        time.sleep(0.1)
    subprocess.run(command, check=True, capture_output=True)
    assert curve(tmp_path / "run") == curve(straight)
    for name in (PROJECTOR, ADAPTER[1]):
        assert (tmp_path / "run" / name).read_bytes() == (straight / name).read_bytes()


@pytest.mark.parametrize("kind", ["gemma3", "qwen2", "llama"])
def test_packed_conversations_have_the_loss_of_separate_ones(small, tmp_path, kind):
    """Also where a sliding window is shorter than a conversation."""
    language = save_language(tmp_path / kind, kind, window=24)
    config = dataclasses.replace(small, language=str(language), out=str(tmp_path / "run"))
    work = Trainer(config).work("tune")
    work.vlm.language.float()  # bfloat16 would round by more than the test allows
    rows = list(range(8))
    sums = {}
    for packed in (True, False):
        work.packed = packed
        if not packed:
            work.vlm.language.config._attn_implementation = "sdpa"  # transformers' own
        work.zero_grad()
        found = work(0, work.step(0).rows) | work(0, rows, held=True)
        sum(found.values()).backward()
        gradient = torch.cat([p.grad.flatten() for p in work.parameters() if p.grad is not None])
        sums[packed] = {name: value.item() for name, value in found.items()}, gradient
    assert len({len(item) for item in work.train_set.encoded[:8]}) > 1
    assert sums[True][0] == pytest.approx(sums[False][0], rel=1e-5)
    assert (sums[True][1] - sums[False][1]).norm() < 1e-4 * sums[False][1].norm()


@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("frozen", [True, False])
def test_words_at_a_time_have_the_loss_of_all_at_once(small, tmp_path, monkeypatch, frozen, cap):
    vlm = Trainer(dataclasses.replace(small, out=str(tmp_path))).work("tune").vlm
    table = vlm.language.get_output_embeddings().weight.requires_grad_(not frozen)
    vlm.language.float().config.final_logit_softcapping = cap
    monkeypatch.setattr(token_loss, "AT_ONCE", 3 * len(table))  # three words at a time, and one
    torch.manual_seed(0)
    hidden, targets = torch.randn(7, table.shape[1], requires_grad=True), torch.randint(len(table), (7,))
    learned = [hidden] if frozen else [hidden, table]
    plain = torch.nn.functional.cross_entropy(vlm.head(hidden), targets, reduction="sum")
    parts = token_loss.token_loss(vlm, hidden, targets)
    assert parts.item() == pytest.approx(plain.item(), rel=1e-6)
    pairs = zip(torch.autograd.grad(0.5 * parts, learned), torch.autograd.grad(0.5 * plain, learned), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in pairs)
    with torch.no_grad():
        assert token_loss.token_loss(vlm, hidden.detach(), targets).item() == pytest.approx(plain.item(), rel=1e-6)


def test_what_cannot_be_packed_is_not(tmp_path):
    """Layers that carry a state along the row would carry it from text to text."""
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(save_language(tmp_path, "qwen2"))
    model.config.layer_types = ["full_attention", "linear_attention"]
    assert not use_packed(model) and model.config._attn_implementation == "sdpa"
    model.config.layer_types = ["full_attention", "full_attention"]
    assert use_packed(model)


def test_a_pass_has_every_row_once():
    batches = one_pass(10, 3, (7, 1))
    assert len(batches) == 3 and len({row for batch in batches for row in batch}) == 9
    assert one_pass(10, 3, (7, 1)) == batches != one_pass(10, 3, (7, 2))


def test_a_step_in_parts_is_the_step_as_a_whole(small, tmp_path):
    """Augmentation, words of the verdict and what is hidden do not depend on who computes the row."""
    work = Trainer(dataclasses.replace(small, out=str(tmp_path))).work("tune")
    for number in (0, 1):  # words, verdicts
        rows = work.step(number).rows
        whole = work(number, rows)
        parts = [work(number, rows[:1]), work(number, rows[1:])]
        for name, value in whole.items():
            assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5)


def test_a_loss_that_is_no_number_stops_with_the_batch(small, tmp_path):
    config = dataclasses.replace(small, out=str(tmp_path), align=dataclasses.replace(small.align, steps=0),
                                 tune=dataclasses.replace(small.tune, lr=1e30, verdict_every=0, steps=8))  # fmt: skip
    with pytest.raises(EmoreasonError, match="not a number") as told:
        train_explainer(config)
    (kept,) = (tmp_path / "checkpoints" / "tune").glob("bad-step-*.safetensors")
    assert str(kept) in str(told.value)
    from safetensors.torch import load_file

    assert {"rows", "tokens", "targets"} <= load_file(kept).keys()


def test_checkpointing_changes_no_number(small, tmp_path):
    sums = []
    for on in (False, True):
        run = dataclasses.replace(small.run, checkpointing=on)
        work = Trainer(dataclasses.replace(small, out=str(tmp_path), run=run)).work("tune")
        loss = work(0, work.step(0).rows)["text"]
        loss.backward()
        sums.append((loss.item(), work.vlm.projector.outer.weight.grad.norm().item()))
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_with_smoke(recipe, tmp_path):
    """The recipe's own stages, losses, LoRA and kinds of text; only what is large is replaced."""
    config = load_config(resource(recipe))
    small = smoke_config(config, tmp_path)
    assert small.loss == config.loss and small.lora == config.lora and small.grid == config.grid
    out = train_explainer(small)
    stages = [name for name in ("align", "tune") if getattr(config, name).steps]
    assert list(dict.fromkeys(line["stage"] for line in curve(out))) == stages
    spec = json.loads((out / SPEC).read_text())
    assert spec["form"] == ("free" if config.data.label_share else "sections")


def test_the_mix_of_expllm_is_three_label_questions_to_a_description(tmp_path):
    small = smoke_config(load_config(resource("finetune/expllm-like.yaml")), tmp_path)
    texts = read_texts(small.data.train, small.data.label_share, small.seed)
    asked = [conversation.messages[0].content for _, conversation in texts.conversations]
    assert len(asked) == 96 and sum("Answer with its label" in text for text in asked) == 72
    assert texts.free and texts.question == "Describe the facial expression step by step."
    labels = {c.messages[1].content for _, c in texts.conversations if "Answer with its label" in c.messages[0].content}
    assert labels <= set(LABEL_SETS["ferplus8"].labels)


def test_the_memory_in_the_header_is_that_of_the_shapes():
    """Shapes of Qwen2.5-7B on the meta device: counted there, computed by `memory`, written in the recipe."""
    import transformers as hf

    config = load_config(path := resource("finetune/clip-l14-7b-qlora.yaml"))
    shape = hf.Qwen2Config(vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
                           num_attention_heads=28, num_key_value_heads=4, tie_word_embeddings=False)  # fmt: skip
    with torch.device("meta"):
        model = hf.Qwen2ForCausalLM(shape)
        wide = Projector(VIT_L_14.channels, shape.hidden_size, config.grid, 1.0)
    blocks = sum(m.weight.numel() for m in model.model.layers.modules() if isinstance(m, torch.nn.Linear))
    needed = memory(config, shape, VIT_L_14)
    assert needed["blocks"] * GIB == pytest.approx(blocks * NF4)
    assert needed["embedding and head"] * GIB == 2 * 2 * model.lm_head.weight.numel()
    assert projector_parameters(shape, VIT_L_14) == sum(p.numel() for p in wide.parameters())
    import peft

    with torch.device("meta"):
        tuned = peft.get_peft_model(model, lora_config(config.lora), low_cpu_mem_usage=True)
    assert lora_parameters(shape, config) == sum(p.numel() for n, p in tuned.named_parameters() if "lora_" in n)
    told = {name: float(gib) for name, gib in re.findall(r"^#   ([A-Za-z ]+?) +(\d+\.\d\d)\b", path.read_text(), re.M)}
    assert told == pytest.approx(needed, abs=0.006)
    assert needed["all"] < 24 - 4


def test_an_unknown_key_is_told_with_the_nearest(tmp_path):
    (tmp_path / "r.yaml").write_text("kind: explainer\ntune:\n  learning_rate: 1\n")
    with pytest.raises(UsageError, match="tune.learning_rate"):
        load_config(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("kind: explainer\nlora:\n  rr: 1\n")
    with pytest.raises(UsageError, match=r"did you mean lora\.r"):
        load_config(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("kind: explainr\n")
    with pytest.raises(UsageError, match="encoder, eyes, readout, explainer"):
        load_config(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("kind: explainer\n")
    assert load_config(tmp_path / "r.yaml", parse_overrides(["--tune.lr", "1e-3", "--lora.r=8"])).tune.lr == 1e-3


def test_conversations_that_are_missing_or_empty_are_told(small, tmp_path):
    missing = dataclasses.replace(small, data=dataclasses.replace(small.data, train=str(tmp_path / "no.jsonl")))
    with pytest.raises(EmoreasonError, match="data describe"):
        Trainer(missing)
    (tmp_path / "no.jsonl").write_text("")
    with pytest.raises(EmoreasonError, match="no conversation"):
        Trainer(missing)


def test_two_processes_learn_what_one_does(small, tmp_path):
    """Over gloo, both stages; sums are divided by the counts of the whole step."""
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        data = dataclasses.replace(small.data, validation="")
        recipe = tmp_path / f"{processes}.yaml"
        config = dataclasses.replace(small, out=str(out), data=data)
        recipe.write_text(yaml.safe_dump(dataclasses.asdict(config)))
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
        command = [sys.executable, *launcher, "-m", "emoreason", "finetune", str(recipe)]
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
        curves.append(curve(out))
    assert len(curves[0]) == len(curves[1]) > 4
    for alone, together in zip(*curves, strict=True):
        assert {k: v for k, v in alone.items() if k != "stage"} == pytest.approx(
            {k: v for k, v in together.items() if k != "stage"}, rel=2e-3
        )  # the language model computes in bfloat16 where there are units
