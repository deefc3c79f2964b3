"""What becomes of a run: kept under a name, checked, merged, exported, and all numbers stay as they were."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import emoreason
from drawn_faces import drawn, write_folder
from emoreason.apps.cli.main import execute
from emoreason.convert.export import export
from emoreason.convert.merge import merge
from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.models.bundle import SUMS, find_bundle, models_folder, read_bundle
from emoreason.models.encoder import load_encoder
from emoreason.models.files import model_files, verify
from emoreason.models.gguf import read_gemma
from emoreason.models.registry import add, card, list_models, remove, require
from emoreason.models.vlm import VisionLanguageModel
from emoreason.train.finetune import finetune
from emoreason.train.finetune_config import FinetuneConfig, FinetuneData, LoraSettings
from emoreason.train.recipes.smoke_texts import save_language
from emoreason.train.tower.lora import add_lora, save_adapter
from test_vlm import faces, fresh, logits

OWN = ("bored", "engaged", "confused")
PROMPT = "the face shows happiness and raised brows, 90% happiness. Answer:"


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch) -> Path:
    """Nobody's models but the test's own."""
    monkeypatch.setenv("EMOREASON_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        data = write_folder(tmp_path_factory.mktemp("own") / "my_faces", each=12)
        config = FinetuneConfig(out=str(tmp_path_factory.mktemp("runs") / "mine"), device="cpu", what="head",
                            data=FinetuneData(source=str(data), labels=",".join(OWN)))  # fmt: skip
        config.train.epochs = 40
        return finetune(config).folder


@pytest.fixture(scope="module")
def explainer(tmp_path_factory) -> Path:
    """An explainer on a tiny random Gemma 3, with a LoRA that changes its numbers."""
    folder = tmp_path_factory.mktemp("words")
    fresh(save_language(folder / "language")).save_pretrained(folder / "explainer")
    return folder / "explainer"


def crops(n: int = 3, size: int = 48) -> np.ndarray:
    return np.stack([np.asarray(drawn("up", i, size).convert("RGB")) for i in range(n)])


def read(folder: Path | str) -> dict[str, float]:
    model = emoreason.load(str(folder), device_name="cpu", explainer="none")
    return model.analyze(drawn("up", 5).convert("RGB"), detect=False).faces[0].probabilities


# ---- names -----------------------------------------------------------------------------------------------------------


def test_an_added_model_goes_by_its_name(run, kept, capsys):
    assert execute(["models", "add", str(run), "--name", "my-faces"]) == 0
    assert "--model my-faces" in capsys.readouterr().out
    assert models_folder() == kept and {p.name for p in (kept / "my-faces").iterdir()} == {
        *(p.name for p in run.iterdir() if p.name != "split.csv"), SUMS}  # fmt: skip
    assert read("my-faces") == read(run)
    assert emoreason.load("my-faces", device_name="cpu", explainer="none").name == "my-faces"
    assert execute(["models", "list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("my-faces"))
    after = json.loads((run / "metrics.json").read_text())["after"]
    for key in ("accuracy", "uar"):
        assert f"{100 * after[key]['value']:.1f} %" in line
    assert "3: bored" in line and "mini" in line
    assert execute(["models", "show", "my-faces"]) == 0
    shown = capsys.readouterr().out
    assert "## Protocol" in shown and "    emoreason explain photo.jpg --model my-faces\n" in shown
    assert execute(["models", "show", str(run)]) == 0 and "## Protocol" in capsys.readouterr().out
    assert execute(["models", "verify", "my-faces"]) == 0 and "weights are whole" in capsys.readouterr().out
    assert execute(["models", "remove", "my-faces", "--yes"]) == 0
    assert find_bundle("my-faces") is None and (run / "model.json").is_file()


def test_the_mini_is_listed_with_both_figures():
    (mini,) = list_models()
    assert (mini.name, mini.accuracy, mini.uar) == ("mini", 85.7, 73.3) and len(mini.labels) == 8
    assert "# mini" in card("mini")


@pytest.mark.parametrize("name", ["mini", "MINI", "../mine", "a/b", "", ".", "..", "-x", "x" * 70])
def test_names_that_are_paths_or_taken_are_refused(run, kept, name):
    with pytest.raises(UsageError, match="name"):
        add(run, name or " ")
    assert not kept.exists()


def test_nothing_is_replaced_unless_asked(run, kept):
    add(run, "mine")
    with pytest.raises(UsageError, match="--overwrite"):
        add(run, "mine")
    (kept / "mine" / "old.txt").write_text("of the one before")
    add(run, "mine", overwrite=True)
    assert not (kept / "mine" / "old.txt").exists() and [p.name for p in kept.iterdir()] == ["mine"]


def test_only_whole_runs_are_added(run, kept, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "model.json").unlink()
    with pytest.raises(UsageError, match="it was stopped early"):
        add(other)
    spec = json.loads((run / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(spec | {"base_revision": "0123456789ab"}))
    with pytest.raises(EmoreasonError, match="was trained on mini 0123456789ab"):
        add(other)
    (other / "model.json").write_text(json.dumps({k: v for k, v in spec.items() if k != "labels"}))
    with pytest.raises(EmoreasonError, match="no labels"):
        add(other)
    (other / "model.json").write_text(json.dumps(spec))
    (other / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(EmoreasonError, match=r"weights\.safetensors is damaged"):
        add(other)
    with pytest.raises(UsageError, match="no model.json"):
        add(tmp_path)
    with pytest.raises(UsageError, match="cannot be removed"):
        remove("mini")
    with pytest.raises(UsageError, match="was added"):
        remove("../other")
    assert not kept.exists() and (tmp_path / "other").is_dir()


def test_every_file_with_a_checksum_is_compared(run, kept):
    add(run, "mine")
    assert set(verify(kept / "mine")) == {f.as_posix() for f in model_files(kept / "mine")}
    (kept / "mine" / "README.md").write_text("another card")
    with pytest.raises(EmoreasonError, match=r"README\.md is damaged or was changed"):
        verify(kept / "mine")
    (kept / "mine" / "README.md").unlink()
    with pytest.raises(EmoreasonError, match=r"README\.md is missing"):
        verify(kept / "mine")


def test_pictures_checkpoints_and_names_of_pictures_are_no_part_of_a_model(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    for name in ("face.png", "checkpoint.pt", "images/a.png", "checkpoint-3/weights.safetensors", "notes.txt",
                 "explainer/part-1/config.yaml", "explainer/face.jpg", ".hidden/model.json"):  # fmt: skip
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(b"x")
    assert model_files(other) == model_files(run) and Path("split.csv") not in model_files(run)


def test_a_name_that_is_not_there_is_told_with_the_nearest(run):
    add(run, "my-faces")
    with pytest.raises(UsageError, match="did you mean my-faces"):
        require("my-face")
    with pytest.raises(UsageError, match="nearest: my-faces"):
        emoreason.load("my-face")


# ---- merged ----------------------------------------------------------------------------------------------------------


def test_a_merged_run_needs_no_other_model(run, tmp_path, monkeypatch):
    before = read(run)
    whole = merge(str(run), tmp_path / "whole")
    with pytest.raises(UsageError, match="--overwrite"):
        merge(str(run), whole)
    monkeypatch.setattr("emoreason.models.bundle.BUNDLES", tmp_path / "nothing")  # a package without a mini
    assert read(whole) == before
    model = emoreason.load(str(whole), device_name="cpu")
    assert model.has_words and model.default_labels == OWN
    asked = ["happiness", "sadness"]  # other labels: by the words of the base model
    assert model.analyze(Image.fromarray(crops(1)[0]), asked, detect=False, explain=False).faces[0].action_units
    assert "base/weights.safetensors" in verify(whole) and "in `base/` of this folder" in card(str(whole))


def with_lora(run: Path, folder: Path) -> Path:
    """The run as if its image tower had been trained through LoRA."""
    from safetensors.torch import load_file, save_file

    from emoreason.core.files import sha256

    shutil.copytree(run, folder)
    encoder = load_encoder("mini", Compute("cpu", "float32", "a test"))
    visual = add_lora(encoder.visual, LoraSettings(r=4, alpha=8))
    torch.manual_seed(2)
    for name, parameter in visual.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    save_adapter(visual, folder / "adapter")
    save_file(load_file(run / "weights.safetensors"), folder / "weights.safetensors")
    spec = json.loads((run / "model.json").read_text()) | {"what": "lora"}
    files = {"adapter/adapter_model.safetensors": sha256(folder / "adapter" / "adapter_model.safetensors")}
    spec |= {"sha256": sha256(folder / "weights.safetensors"), "files": files}
    (folder / "model.json").write_text(json.dumps(spec))
    return folder


def test_lora_of_the_image_tower_is_merged_to_the_same_numbers(run, tmp_path):
    tuned = with_lora(run, tmp_path / "tuned")
    whole = merge(str(tuned), tmp_path / "whole")
    assert read_bundle(whole).spec["what"] == "full" and not (whole / "adapter").exists()
    exact = Compute("cpu", "float32", "a test")
    first, second, base = (load_encoder(str(name), exact).encode_pixels(crops()) for name in (tuned, whole, "mini"))
    assert np.abs(first.embedding - second.embedding).max() < 1e-4 and np.abs(first.units - second.units).max() < 1e-4
    assert np.abs(first.embedding - base.embedding).max() > 1e-3  # the LoRA does something
    add(tuned, "tuned")
    assert read("tuned") == read(tuned)


def test_both_towers_of_an_open_clip_model_come_along(tmp_path, run):
    """Of one that is named as open_clip names it, by a file: the mini's architecture, all weights random."""
    from safetensors.torch import save_file

    from emoreason.models.encoder import create_clip

    torch.manual_seed(0)
    clip, _ = create_clip("emoreason-mini")
    file = tmp_path / "random.safetensors"
    save_file({k: v.clone() for k, v in clip.state_dict().items()}, file)
    other = shutil.copytree(run, tmp_path / "other")
    spec = json.loads((run / "model.json").read_text())
    base = f"emoreason-mini/{file}"
    (other / "model.json").write_text(json.dumps(spec | {"base": base, "base_revision": str(file)}))
    whole = merge(str(other), tmp_path / "whole")
    exact = Compute("cpu", "float32", "a test")
    first, second = (load_encoder(str(name), exact) for name in (other, whole))
    file.unlink()
    assert np.allclose(first.encode_pixels(crops()).embedding, second.encode_pixels(crops()).embedding, atol=1e-5)
    words = ["a happy face", "a face"]
    assert np.allclose(first.encode_texts(words), second.encode_texts(words), atol=1e-5)
    assert first.logit_scale == second.logit_scale and not second.unit_codes


def language_logits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers, and what the explainer's own language model makes of them."""
    vlm = VisionLanguageModel.from_pretrained(folder, quantize="float32", merge=False)
    ids = torch.tensor([vlm.tokenizer.encode(PROMPT)])
    return ids, vlm.language(input_ids=ids).logits


def test_a_merged_explainer_is_a_plain_language_model(explainer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = merge(str(explainer), tmp_path / "whole")
    ids, wanted = language_logits(explainer)
    plain = AutoModelForCausalLM.from_pretrained(whole / "language")
    assert torch.allclose(plain(input_ids=ids).logits, wanted, atol=1e-4)
    assert AutoTokenizer.from_pretrained(whole / "language")(PROMPT)["input_ids"] == ids[0].tolist()
    shutil.move(explainer.parent / "language", tmp_path / "gone")  # it needs no other folder
    try:
        again = VisionLanguageModel.from_pretrained(whole, quantize="float32")
    finally:
        shutil.move(tmp_path / "gone", explainer.parent / "language")
    first = VisionLanguageModel.from_pretrained(explainer, quantize="float32")
    crop = faces(1)[0]
    assert torch.allclose(logits(first, crop), logits(again, crop), atol=1e-4)
    with pytest.raises(UsageError, match="has no adapter because it was merged"):
        export(str(whole), "peft", tmp_path / "adapter")


def test_a_run_with_words_is_merged_with_them(run, explainer, tmp_path):
    both = shutil.copytree(run, tmp_path / "both")
    shutil.copytree(explainer, both / "explainer")
    whole = merge(str(both), tmp_path / "whole")
    assert (whole / "explainer" / "language" / "model.safetensors").is_file()
    assert not (whole / "explainer" / "adapter_model.safetensors").exists()
    model = emoreason.load(str(whole), device_name="cpu")
    assert model.explainer.name == "mine" and model.explainer.vlm.spec.merged
    assert merge(str(both), whole, overwrite=True) == whole


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["merge", "mini", "-o", "x"], "nothing to merge"),
        (["merge", "nobody", "-o", "x"], "expected a folder with explainer.json"),
        (["merge", "{run}", "-o", "."], "does not contain a model"),
        (["export", "{run}", "--to", "tflite", "-o", "x"], "onnx, peft, transformers, gguf"),
        (["export", "{run}", "--to", "onnx", "-o", "x"], "ends in .onnx"),
        (["export", "{run}", "--to", "gguf", "-o", "x.gguf"], "has no explainer of its own"),
        (["export", "{run}", "--to", "onnx", "-o", "x.onnx", "--dtype", "float16"], "written in float32"),
        (["export", "{run}", "--to", "transformers", "-o", "x", "--base", "y"], "--to peft"),
        (["push", "{run}", "--repo", "me"], "OWNER/NAME"),
        (["push", "mini", "--repo", "me/mini"], "is part of the package"),
    ],
)
def test_mistakes_are_told_in_a_line(given, told, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.txt").write_text("not to be lost")
    monkeypatch.chdir(tmp_path)
    options = ["--overwrite"] if "." in given else []
    assert execute(["models", *(word.format(run=run) for word in given), *options]) == 2
    assert told in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


# ---- exported --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["run", "mini"])
def test_onnx_computes_what_torch_computes(source, run, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    name = str(run) if source == "run" else source
    point = "accurate" if source == "run" else "photo"
    file = export(name, "onnx", tmp_path / "model.onnx", point=point)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    model = emoreason.load(name, device_name="cpu", explainer="none", point=point)
    assert json.loads(told["labels"]) == list(model.default_labels) and told["revision"] == model.revision
    exact = load_encoder(name, Compute("cpu", "float32", "a test"))
    reader = replace(model.reader, zeroshot=replace(model.reader.zeroshot, encoder=exact))
    for n in (1, 3):
        pixels = crops(n)
        probabilities, embedding, units = session.run(None, {"pixels": pixels})
        features = exact.encode_pixels(pixels)
        wanted = reader.distribution(features, model.default_labels).probabilities
        assert np.abs(probabilities - wanted).max() < 1e-4 and np.abs(embedding - features.embedding).max() < 1e-4
        assert np.abs(units - features.units).max() < 1e-4
    stored = onnx.load(file)
    assert {opset.domain: opset.version for opset in stored.opset_import}[""] >= 18
    assert str(Path(emoreason.__file__).parent).encode() not in file.read_bytes()  # no place of this machine
    with pytest.raises(UsageError, match="--overwrite"):
        export(name, "onnx", file)


def test_peft_reads_the_exported_adapter_by_itself(explainer, tmp_path):
    from peft import AutoPeftModelForCausalLM

    out = export(str(explainer), "peft", tmp_path / "adapter")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(explainer.parent / "language")
    ids, wanted = language_logits(explainer)
    assert torch.allclose(AutoPeftModelForCausalLM.from_pretrained(out)(input_ids=ids).logits, wanted, atol=1e-4)
    assert "projector" in (out / "README.md").read_text() and (out / "tokenizer.json").is_file()
    named = export(str(explainer), "peft", tmp_path / "named", base="owner/model")
    assert json.loads((named / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/model"


def test_the_minis_adapter_names_gemma(tmp_path):
    from emoreason.models.files import HUB_NAMES
    from emoreason.models.vlm import ExplainerSpec

    language = ExplainerSpec.read(find_bundle("mini").folder / "explainer").language
    assert HUB_NAMES[language.removeprefix("package:")] == "google/gemma-3-270m"


def test_gguf_is_read_back_by_transformers_and_by_us(explainer, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    file = export(str(explainer), "gguf", tmp_path / "words.gguf", dtype="float32")
    ids, wanted = language_logits(explainer)
    assert torch.allclose(read_gemma(file)(input_ids=ids).logits, wanted, atol=1e-4)
    config = AutoConfig.from_pretrained(tmp_path, gguf_file=file.name)
    config.query_pre_attn_scalar = config.head_dim  # transformers takes 256, which is right for the real ones
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, config=config)
    assert torch.allclose(theirs(input_ids=ids).logits, wanted, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    assert tokenizer(PROMPT, add_special_tokens=False)["input_ids"] == ids[0].tolist()
    for dtype, far in (("float16", 0.01), ("q8_0", 0.2)):
        small = export(str(explainer), "gguf", tmp_path / f"{dtype}.gguf", dtype=dtype)
        assert (read_gemma(small)(input_ids=ids).logits - wanted).abs().max() < far * wanted.abs().max()
        assert small.stat().st_size < file.stat().st_size


def test_gguf_of_another_model_is_refused_with_the_way_out(tmp_path):
    fresh(save_language(tmp_path / "language", "qwen2")).save_pretrained(tmp_path / "explainer")
    with pytest.raises(UsageError, match="convert_hf_to_gguf"):
        export(str(tmp_path / "explainer"), "gguf", tmp_path / "words.gguf")


def test_what_is_missing_for_onnx_is_told(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(EmoreasonError, match=r"pip install 'emoreason\[onnx\]'"):
        export(str(run), "onnx", tmp_path / "model.onnx")
