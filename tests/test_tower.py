"""`emoreason finetune --what lora|full`: the image tower learns too, and the folder is still a model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import emoreason
from drawn_faces import MOUTHS, drawn, write_folder
from emoreason.apps.cli.main import execute
from emoreason.core import device
from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.models.encoder import load_encoder
from emoreason.train.finetune import finetune
from emoreason.train.finetune_config import FinetuneConfig, FinetuneData, HeadTraining, TowerTraining
from emoreason.train.processes import make_accelerator
from emoreason.train.settings import LoraSettings
from emoreason.train.tower.finetune import choose_what
from emoreason.train.tower.lora import add_lora, make_tower, merged
from emoreason.train.tower.steps import Crops, TowerTask

OWN = ("bored", "engaged", "confused")
FEW = {"data.limit": "60", "tower.epochs": "2", "tower.batch_size": "16", "train.epochs": "5"}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("own") / "my_faces", each=30, size=48)


def config(data: Path, out: Path, what: str, **tower) -> FinetuneConfig:
    settings = TowerTraining(**({"epochs": 3, "batch_size": 16} | tower))
    return FinetuneConfig(out=str(out), device="cpu", what=what, tower=settings, train=HeadTraining(epochs=5),
                      data=FinetuneData(source=str(data), labels=",".join(OWN), crops="yes"))  # fmt: skip


@pytest.fixture(scope="module", params=["lora", "full"])
def run(request, data, tmp_path_factory, module_cache) -> Path:
    return finetune(config(data, tmp_path_factory.mktemp("runs") / "mine", request.param)).folder


def test_the_folder_is_a_model_and_the_head_alone_is_worse(run, data, mini, astronaut, capsys):
    metrics, spec = (json.loads((run / name).read_text()) for name in ("metrics.json", "model.json"))
    held_out = [line["held_out"] for line in map(json.loads, (run / "log.jsonl").open()) if "held_out" in line]
    assert min(held_out) < 0.7 * held_out[0]  # the first look is the head on the frozen tower
    assert metrics["what"] == spec["what"] and metrics["after"]["accuracy"]["value"] > 0.9
    assert (run / "adapter" / "adapter_model.safetensors").is_file() == (spec["what"] == "lora")
    assert not list(run.rglob("*.pt"))
    model = emoreason.load(str(run), device_name="cpu")
    face = model.analyze(astronaut).faces[0]
    assert model.explainer.vlm.encoder.revision == mini.revision  # it looks through the tower that it learned with
    assert tuple(face.probabilities) == OWN and face.explanation is not None and not face.evidence.calibrated
    below = mini.analyze(astronaut, explain=False).faces[0].action_units
    assert max(abs(face.action_units[code] - below[code]) for code in below) < 0.6
    assert np.mean([abs(face.action_units[code] - below[code]) for code in below]) < 0.1
    rows = list(model.label([str(data / "bored")], detect=False))
    assert sum(row["label"] == "bored" for row in rows) >= 27
    assert execute(["models", "verify", str(run)]) == 0


def test_what_is_served_is_what_was_measured(run, data, tmp_path):
    """The report's faces through `label`: the same number of right answers as in metrics.json."""
    import csv

    kept = [row for row in csv.DictReader((run / "split.csv").open()) if row["part"] == "report"]
    model = emoreason.load(str(run), device_name="cpu", explainer="none")
    rows = list(model.label([str(data / row["id"]) for row in kept], detect=False))
    right = [row["label"] == wanted["id"].split("/")[0] for row, wanted in zip(rows, kept, strict=True)]
    assert np.mean(right) == pytest.approx(json.loads((run / "metrics.json").read_text())["after"]["accuracy"]["value"])


def test_damage_is_told(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    files = [*copy.rglob("*.safetensors")]
    broken = next((f for f in files if f.parent.name == "adapter"), files[0])
    broken.write_bytes(broken.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(EmoreasonError, match="damaged"):
        emoreason.load(str(copy), device_name="cpu")
    broken.unlink()
    with pytest.raises(EmoreasonError, match="missing"):
        emoreason.load(str(copy), device_name="cpu")


def test_the_same_seed_gives_the_same_weights(data, tmp_path, module_cache):
    one, two = (finetune(config(data, tmp_path / name, "lora", epochs=1)).folder for name in ("one", "two"))
    for name in ("weights.safetensors", "adapter/adapter_model.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def command(data: Path, out: Path, *more: str, processes: int = 1) -> list[str]:
    fields = [word for key, value in FEW.items() for word in (f"--{key}", value)]
    launcher = [sys.executable, "-m"] if processes == 1 else [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"
    ]  # fmt: skip
    return [*launcher, "emoreason", "finetune", "--data", str(data), "--labels", ",".join(OWN), "--no-detect",
            "--what", "lora", "--device", "cpu", "--out", str(out), *fields, *more]  # fmt: skip


def losses(run: Path) -> list[tuple]:
    return [(line.get("step"), line.get("labels"), line.get("units"), line.get("held_out"))
            for line in map(json.loads, (run / "log.jsonl").open())]  # fmt: skip


def test_two_processes_equal_one_step_by_step_and_a_killed_run_goes_on(data, tmp_path):
    """torchrun over gloo; and kill -9 in the middle, resumed: the same losses in every line of the log."""
    each = ("--loop.log_every", "1", "--loop.checkpoint_every", "1")
    one, two, killed = (tmp_path / name for name in ("one", "two", "killed"))
    assert subprocess.run(command(data, one, *each), env=ENVIRONMENT).returncode == 0
    assert subprocess.run(command(data, two, *each, processes=2), env=ENVIRONMENT).returncode == 0
    assert len(losses(one)) == len(losses(two)) >= 8
    for alone, together in zip(losses(one), losses(two), strict=True):
        assert alone == pytest.approx(together, abs=2e-5)
    process = subprocess.Popen(command(data, killed, *each), env=ENVIRONMENT)
    while process.poll() is None and not (killed / "checkpoint.pt").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (killed / "checkpoint.pt").is_file() and not (killed / "model.json").exists()
    assert subprocess.run(command(data, killed, *each, "--resume"), env=ENVIRONMENT).returncode == 0
    assert losses(killed) == losses(one)
    for name in ("weights.safetensors", "adapter/adapter_model.safetensors"):
        assert (killed / name).read_bytes() == (one / name).read_bytes()


def crops(n: int = 24) -> Crops:
    pixels = [np.asarray(drawn(mouth, i, 48).convert("RGB")) for i in range(n // 3) for mouth in MOUTHS.values()]
    return Crops(np.stack(pixels), np.tile(np.eye(3, dtype=np.float32), (n // 3, 1)))


def work(what: str = "full", **settings) -> TowerTask:
    torch.manual_seed(0)
    encoder = load_encoder("mini", Compute("cpu", "float32", "a test"))
    weight = np.random.default_rng(0).normal(size=(3, 384)).astype(np.float32)
    tower = make_tower(encoder, what, LoraSettings(), weight, np.zeros(3, np.float32))
    chosen_config = FinetuneConfig(what=what, tower=TowerTraining(batch_size=24, **settings))
    return TowerTask(tower, crops(), crops(6), chosen_config, encoder.normalise)


def test_parts_of_a_step_add_up_to_the_step():
    whole = work().train()
    rows = whole.step(3).rows
    with torch.no_grad():
        together = whole(3, rows)["labels"]
        parts = sum(whole(3, rows[start : start + 5])["labels"] for start in range(0, 24, 5))
    assert float(together) == pytest.approx(float(parts), rel=1e-5)


def test_gradient_checkpointing_changes_memory_and_no_gradient():
    plain, frugal = work(), work()
    frugal.tower.visual.set_grad_checkpointing(True)
    for each in (plain, frugal):
        each.train()
        each(0, each.step(0).rows)["labels"].backward()
    gradients = [
        dict(each.tower.named_parameters())["visual.trunk.blocks.0.conv1.weight"].grad for each in (plain, frugal)
    ]
    assert torch.allclose(*gradients, atol=1e-5) and float(gradients[0].abs().max()) > 0


def test_lora_changes_nothing_before_training_and_merges_into_plain_layers():
    encoder = load_encoder("mini", device.choose("cpu"))
    faces = torch.rand(2, 3, 48, 48)
    before = encoder.visual(faces)
    adapted = add_lora(encoder.visual, LoraSettings(r=4))
    assert torch.allclose(adapted(faces), before, atol=1e-5)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    moved = adapted.eval()(faces)
    plain = merged(adapted)
    assert not any("lora" in name for name, _ in plain.named_parameters())
    assert torch.allclose(plain(faces), moved, atol=1e-4) and not torch.allclose(moved, before, atol=1e-3)
    with pytest.raises(UsageError, match="matches no layer"):
        add_lora(plain, LoraSettings(targets="attention"))


def test_lora_reaches_the_attention_of_a_vision_transformer():
    """A small one as open_clip builds it: in its attention and in its linear layers."""
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(image_size=32, patch_size=16, width=32, layers=2, heads=2, mlp_ratio=2, output_dim=16)
    adapted = add_lora(vit.requires_grad_(False), LoraSettings(r=2))
    learned = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert any(".attn." in name for name in learned) and any(".c_fc." in name for name in learned)
    assert all("lora_" in name for name in learned)
    adapted(torch.rand(2, 3, 32, 32)).sum().backward()
    assert merged(adapted)(torch.rand(1, 3, 32, 32)).shape == (1, 16)


def test_a_tower_from_nothing_learns_and_is_saved_without_batch_norms(data, tmp_path, module_cache):
    settings = config(data, tmp_path / "fresh", "full", fresh=True, epochs=25, lr=0.003)
    settings.loop.patience = 25
    done = finetune(settings)
    assert done.metrics["after"]["accuracy"]["value"] >= 0.6
    model = emoreason.load(str(done.folder), device_name="cpu", explainer="none")
    assert not any("bn1.weight" in name for name in model.reader.zeroshot.encoder.visual.state_dict())
    with pytest.raises(UsageError, match="--what full"):
        finetune(config(data, tmp_path / "other", "lora", fresh=True))


def test_few_labels_and_many_faces_without(data, tmp_path, module_cache):
    """--data.unlabeled with Ada-CM; faces that are measured on are not among them."""
    unlabeled = write_folder(tmp_path / "more", each=10, seed=70, size=48)
    shutil.copytree(data, unlabeled / "again")
    settings = config(data, tmp_path / "run", "lora", epochs=1)
    settings.data.unlabeled, settings.loss.name = str(unlabeled), "ada-cm"
    said: list[str] = []
    done = finetune(settings, notify=said.append)
    told = next(line for line in said if "without labels" in line)
    counts = done.metrics["faces"]
    assert told.startswith(f"{30 + 90 - counts['holdout'] - counts['report']} faces")
    with pytest.raises(UsageError, match="--what lora"):
        settings.what, settings.out = "head", str(tmp_path / "head")
        finetune(settings)
    with pytest.raises(UsageError, match="go together"):
        settings.data.unlabeled = ""
        finetune(settings)


def test_what_is_trained_is_told_with_a_reason():
    gpu = Compute("cuda", "bfloat16", "a test")
    assert choose_what("auto", Compute("cpu", "float32", ""), 90_000)[0] == "head"
    assert choose_what("auto", gpu, 300)[0] == "head" and choose_what("auto", gpu, 30_000)[0] == "lora"
    assert choose_what("full", Compute("cpu", "float32", ""), 3) == ("full", "as asked")


@pytest.mark.parametrize("name", ["one-gpu", "ddp", "fsdp", "zero-2", "zero-3"])
def test_the_launcher_reads_every_configuration(name):
    from accelerate.commands.config.config_args import load_config_from_file

    path = Path(__file__).parent.parent / "finetune" / "accelerate" / f"{name}.yaml"
    read = load_config_from_file(str(path))
    wanted = {"one-gpu": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP"}.get(name, "DEEPSPEED")
    assert str(read.distributed_type).endswith(wanted) and f"{name}.yaml" in path.read_text()


def test_one_process_is_the_default():
    assert make_accelerator(Compute("cpu", "float32", "a test")).num_processes == 1


def test_half_of_each_batch_has_labels_however_few_there_are():
    few = crops(30)
    targets = few.targets.copy()
    targets[6:] = 0
    settings = FinetuneConfig(what="lora", tower=TowerTraining(batch_size=8))
    settings.loss.name = "ada-cm"
    encoder = load_encoder("mini", Compute("cpu", "float32", "a test"))
    tower = make_tower(encoder, "lora", LoraSettings(), np.zeros((3, 384), np.float32), np.zeros(3, np.float32))
    mixed = TowerTask(tower, Crops(few.pixels, targets), crops(3), settings, encoder.normalise)
    assert mixed.pass_steps == 6
    seen = [row for number in range(mixed.pass_steps) for row in mixed.step(number).rows]
    assert {sum(row < 6 for row in mixed.step(number).rows) for number in range(6)} == {4}
    assert {row for row in seen if row >= 6} == set(range(6, 30))
    assert torch.isfinite(mixed.train()(0, mixed.step(0).rows)["labels"])
