"""Exp-CLIP's recipe: the loss, exact resume, both teachers, and the file that `--projection` reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import emoreason
from emoreason.apps.cli.main import execute
from emoreason.core import device
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.train.recipes import exp_clip
from emoreason.train.recipes.config import load_config
from emoreason.train.recipes.exp_clip import CHECKPOINT, info_nce, train_exp_clip, train_projection
from emoreason.train.recipes.exp_clip_config import ExpClipConfig, ExpClipData, ProjectionTraining, TeacherConfig
from emoreason.train.recipes.exp_clip_teacher import load_teacher
from emoreason.train.recipes.exp_clip_vectors import vector_cache
from emoreason.train.recipes.smoke_faces import smoke_projection
from emoreason.train.recipes.smoke_texts import save_blip2

RANDOM = np.random.default_rng(5)
SEEN = RANDOM.normal(size=(90, 12)).astype(np.float32)
SEEN /= np.linalg.norm(SEEN, axis=1, keepdims=True)
TOLD = (SEEN @ RANDOM.normal(size=(12, 20)) + 0.05 * RANDOM.normal(size=(90, 20))).astype(np.float16)
FEW = ProjectionTraining(epochs=4, batch_size=30, lr=0.05, checkpoint_every=2)


def test_the_loss_is_that_of_the_paper():
    """Both directions, with the scale, over unit-length rows: computed here by hand."""
    weight, scale = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), 7.0
    seen, told = torch.randn(3, 4), torch.randn(3, 5)
    faces = (seen @ weight.T) / (seen @ weight.T).norm(dim=1, keepdim=True)
    logits = scale * faces @ (told / told.norm(dim=1, keepdim=True)).T
    rows = -logits.diag() + logits.logsumexp(dim=1)
    columns = -logits.diag() + logits.logsumexp(dim=0)
    loss, top1 = info_nce(weight, seen, told, scale)
    assert torch.allclose(loss, (rows.mean() + columns.mean()) / 2, atol=1e-5)
    assert top1 == pytest.approx(float((logits.argmax(1) == torch.arange(3)).float().mean()))


def test_it_learns_to_find_each_face_its_own_text(tmp_path: Path):
    weight, log = train_projection(SEEN, TOLD, 10.0, replace(FEW, epochs=60), 1, tmp_path / CHECKPOINT)
    assert weight.shape == (20, 12) and len(log) == 180
    assert log[-1]["loss"] < log[0]["loss"] / 2 and log[-1]["top1"] > 0.8


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path: Path, monkeypatch):
    whole, log = train_projection(SEEN, TOLD, 10.0, FEW, 1, tmp_path / "whole.pt")
    real, calls = info_nce, 0

    def dies(*args):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(exp_clip, "info_nce", dies)
    with pytest.raises(KeyboardInterrupt):
        train_projection(SEEN, TOLD, 10.0, FEW, 1, tmp_path / "cut.pt")
    said: list[str] = []
    again, rest = train_projection(SEEN, TOLD, 10.0, FEW, 1, tmp_path / "cut.pt", said.append)
    assert "going on after step 6 of 12" in said[0]
    assert np.array_equal(whole, again) and log == rest
    with pytest.raises(EmoreasonError, match="from other data"):
        train_projection(SEEN[:60], TOLD[:60], 10.0, FEW, 1, tmp_path / "cut.pt")


def test_without_epochs_it_is_the_random_map_to_compare_with(tmp_path: Path):
    config = smoke_projection(ExpClipConfig(), tmp_path)
    made = train_exp_clip(replace(config, train=replace(config.train, epochs=0)), cache=tmp_path / "cache")
    assert "Not trained" in (made.parent / "README.md").read_text() and (made.parent / "log.jsonl").read_text() == ""
    assert json.loads((made.parent / "metrics.json").read_text())["after"]["n"] == 8


def test_the_recipe_has_the_published_settings():
    config = load_config(Path("finetune/exp-clip.yaml"))
    assert isinstance(config, ExpClipConfig)
    assert config == ExpClipConfig()
    assert (config.train.epochs, config.train.batch_size, config.train.lr, config.train.momentum) == (5, 512, 1e-3, 0.9)
    assert config.train.weight_decay == 1e-4 and config.seed == 1


def test_the_smoke_run_of_the_recipe(tmp_path: Path):
    assert execute(["finetune", "finetune/exp-clip.yaml", "--smoke"]) == 0
    config = smoke_projection(ExpClipConfig(), tmp_path)
    said: list[str] = []
    made = train_exp_clip(config, said.append, tmp_path / "cache")
    folder = made.parent
    assert any((tmp_path / "cache").rglob("*.safetensors"))
    assert {p.name for p in folder.iterdir()} == {
        "projection.safetensors", "config.yaml", "env.txt", "log.jsonl", "loss.png", "metrics.json", "README.md",
    }  # fmt: skip
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 9))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["faces"] == 32 and metrics["before"]["n"] == metrics["after"]["n"] == 8 and metrics["width"] == 24
    assert yaml.safe_load((folder / "config.yaml").read_text())["kind"] == "exp-clip"
    assert "without labels" in (folder / "README.md").read_text()
    with pytest.raises(UsageError, match="finished run"):
        train_exp_clip(config)
    model = emoreason.load("mini", projection=made, device_name="cpu", explainer="none")
    face = model.analyze(next(Path(config.data.source).rglob("*.png")), detect=False, explain=False).faces[0]
    assert sum(face.probabilities.values()) == pytest.approx(1)


def test_labels_are_not_looked_at(tmp_path: Path):
    """The same faces in other class folders give the same projection; a copy of a validation face is left out."""
    config = smoke_projection(ExpClipConfig(), tmp_path / "a")
    first = train_exp_clip(config)
    other = tmp_path / "b"
    for i, file in enumerate(sorted(Path(config.data.source).rglob("*.png"))):
        (other / f"class{i % 3}").mkdir(parents=True, exist_ok=True)
        (other / f"class{i % 3}" / f"{i:03d}.png").write_bytes(file.read_bytes())
    moved = replace(config, out=str(tmp_path / "b_run"), data=replace(config.data, source=str(other)))
    second = train_exp_clip(moved)
    hashes = [json.loads((p.parent / "metrics.json").read_text())["data_sha256"] for p in (first, second)]
    assert hashes[0] == hashes[1]
    leaked = next(Path(config.data.validation).rglob("*.png"))
    (other / "class0" / "leak.png").write_bytes(leaked.read_bytes())
    third = train_exp_clip(replace(moved, out=str(tmp_path / "c_run")))
    told = json.loads((third.parent / "metrics.json").read_text())
    assert told["copies_left_out"] == 1 and told["data_sha256"] == hashes[0]


def test_the_teacher_sees_each_face_once(tmp_path: Path):
    config = smoke_projection(ExpClipConfig(), tmp_path)
    train_exp_clip(config)
    taught = load_teacher(config.teacher, device.choose("cpu"))
    known = [k for k in (vector_cache(f"{taught.id} {dtype} whole") for dtype in ("float32", "bfloat16")) if k.places]
    assert len(known) == 1 and len(known[0].places) == 32
    assert known[0].get(next(iter(known[0].places)))["rows"].shape == (24,)


def test_a_teacher_answers_by_the_face_and_by_the_instruction(tmp_path: Path):
    folder = save_blip2(tmp_path / "blip2")
    crops = [Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(3)]
    compute = device.choose("cpu")
    asked = load_teacher(TeacherConfig(str(folder), "Describe the brows."), compute)
    other = load_teacher(TeacherConfig(str(folder), "Describe the mouth and the lips."), compute)
    told = asked.embed(crops)
    assert told.shape == (3, 24) and not np.allclose(told[0], told[1], atol=1e-4)
    assert not np.allclose(told, other.embed(crops), atol=1e-4) and asked.id != other.id
    assert np.allclose(told[1:2], asked.embed(crops[1:2]), atol=2e-2)  # alone as in company; bfloat16 on some machines


def test_the_own_language_model_is_a_teacher(mini):
    taught = load_teacher(TeacherConfig("own"), device.choose("cpu"))
    told = taught.embed([Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(2)])
    assert told.shape == (2, 640) and np.isfinite(told).all() and not np.allclose(told[0], told[1], atol=1e-4)


def test_mistakes_are_told(tmp_path: Path):
    with pytest.raises(UsageError, match="no labels are needed"):
        train_exp_clip(ExpClipConfig(out=str(tmp_path / "a")))
    with pytest.raises(EmoreasonError, match="teacher.model own needs no download"):
        load_teacher(TeacherConfig(str(tmp_path / "nothing")), device.choose("cpu"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(UsageError, match="other files"):
        train_exp_clip(ExpClipConfig(out=str(tmp_path / "mine"), data=ExpClipData(source=str(tmp_path))))


def test_a_cache_that_is_damaged_or_cannot_be_written_costs_time_only(tmp_path: Path):
    ones, zeros = {"rows": np.ones(3)}, {"rows": np.zeros(3)}
    kept = vector_cache("me", tmp_path)
    kept.add({b"a" * 32: ones, b"b" * 32: zeros})
    kept.flush()
    again = vector_cache("me", tmp_path)
    assert again.get(b"a" * 32)["rows"].tolist() == [1, 1, 1] and b"a" * 32 not in vector_cache("you", tmp_path)
    (file,) = again.folder.glob("*.safetensors")
    file.write_bytes(b"broken")
    assert b"a" * 32 not in vector_cache("me", tmp_path)
    (tmp_path / "file").touch()
    lost = vector_cache("me", tmp_path / "file")
    lost.add({b"c" * 32: ones})
    lost.flush()
    assert lost.get(b"c" * 32)["rows"].tolist() == [1, 1, 1]
