"""Encoder training: configuration, data, augmentation, and a whole small run that ends in a model that labels."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.resources import resource
from emoreason.train.augment import augment, mix
from emoreason.train.recipes import mini_captions as captions
from emoreason.train.recipes.config import Config, load_config, parse_overrides
from emoreason.train.recipes.mini_faces import EMOTIONS, read_faces, split
from emoreason.train.settings import AugmentConfig

RECIPE = resource("finetune/mini-encoder.yaml")


def write_parquet(path: Path, n: int, seed: int) -> list[str]:
    """FER+'s layout with drawn faces: the brightness of the upper half tells the label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        label = i % 8
        pixels = rng.integers(0, 60, (48, 48), dtype=np.uint8)
        pixels[:24] += np.uint8(20 * label)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        votes = [0] * 10
        votes[label], votes[(label + 1) % 8] = 8, 2
        rows.append(
            {
                "image": {"bytes": buffer.getvalue(), "path": f"fer{seed}{i:05d}.png"},
                "votes": votes,
                "fer2013_label": None,
            }
        )
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("votes", pa.list_(pa.int8(), 10)), ("fer2013_label", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return [row["image"]["path"] for row in rows]


def face_mesh(n: int, rng: np.random.Generator, noise: float = 0.2) -> np.ndarray:
    """n noisy copies of one schematic face, (n, 478, 3): only the measured points stand where a face has them."""
    face = rng.normal(24, 8, (478, 3))
    for number, place in {
        33: (14, 20, 0), 133: (20, 20, -1), 362: (28, 20, -1), 263: (34, 20, 0), 168: (24, 19, -3), 6: (24, 21, -4),
        197: (24, 23, -5), 195: (24, 25, -6), 10: (24, 4, 0), 127: (9, 22, 6), 356: (39, 22, 6), 234: (8, 26, 8),
        454: (40, 26, 8), 109: (20, 4, 0), 338: (28, 4, 0),
        152: (24, 46, 0), 2: (24, 31, -5), 61: (18, 37, -1), 291: (30, 37, -1), 13: (24, 37, -3), 14: (24, 37.4, -3),
        0: (24, 35.5, -4), 37: (22, 35.5, -4), 267: (26, 35.5, -4),
        17: (24, 39.5, -4), 84: (22, 39.5, -4), 314: (26, 39.5, -4),
        107: (20, 15, -2), 55: (20, 16, -2), 336: (28, 15, -2), 285: (28, 16, -2),
        70: (12, 15, 0), 46: (12, 16, 0), 300: (36, 15, 0), 276: (36, 16, 0),
        158: (17, 18.5, -1), 159: (17, 18.5, -1), 160: (17, 18.5, -1),
        144: (17, 21.5, -1), 145: (17, 21.5, -1), 153: (17, 21.5, -1),
        385: (31, 18.5, -1), 386: (31, 18.5, -1), 387: (31, 18.5, -1),
        373: (31, 21.5, -1), 374: (31, 21.5, -1), 380: (31, 21.5, -1),
    }.items():  # fmt: skip
        face[number] = place
    return face + rng.normal(0, noise, (n, 478, 3))


def write_landmarks(path: Path, names: list[str], seed: int = 0) -> None:
    points = face_mesh(len(names), np.random.default_rng(seed))
    np.savez(path, name=np.array(names), found=np.ones(len(names), bool), points=points)


@pytest.fixture(scope="module")
def small_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    names = write_parquet(folder / "train.parquet", 160, seed=1)
    write_parquet(folder / "validation.parquet", 32, seed=2)
    write_landmarks(folder / "landmarks.npz", names)
    return folder


def small_config(data: Path, out: Path, **more: str) -> Config:
    given = {
        "data.train": str(data / "train.parquet"),
        "data.validation": str(data / "validation.parquet"),
        "data.landmarks": str(data / "landmarks.npz"),
        "data.holdout": "32",
        "train.epochs": "2",
        "train.batch_size": "32",
        "text": str(data / "text.yaml"),
        "name": "small",
        "out": str(out),
    }
    return load_config(RECIPE, given | {k.replace("__", "."): v for k, v in more.items()})


@pytest.fixture(scope="module")
def small_text(small_data) -> Path:
    """The shipped training text cut down, so that a test does not embed thousands of prompts."""
    text = yaml.safe_load(resource("prompts/training.yaml").read_text())
    text["templates"] = text["templates"][:3]
    text["words"] = {k: v[:2] for k, v in text["words"].items()}
    (small_data / "text.yaml").write_text(yaml.safe_dump(text))
    return small_data


def test_a_small_run_ends_in_a_model_that_labels(small_text, tmp_path, astronaut):
    import emoreason
    from emoreason.train.recipes.mini_encoder import train_encoder

    out = train_encoder(small_config(small_text, tmp_path / "run"))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2] and all(np.isfinite(line["loss"]) for line in log)
    assert yaml.safe_load((out / "config.yaml").read_text())["seed"] == 7
    assert len(json.loads((out / "run.json").read_text())["data_sha256"]) == 64
    face = emoreason.load(str(out), device_name="cpu").analyze(astronaut).faces[0]
    assert face.label in EMOTIONS and sum(face.probabilities.values()) == pytest.approx(1)
    assert not face.action_units  # they are read off the network by a later recipe


def test_a_killed_run_goes_on_to_the_same_weights(small_text, tmp_path):
    """kill -9 after the first epoch, start again: the same final weights as a run that nobody disturbed."""
    from safetensors.numpy import load_file

    program = (
        "import sys; from pathlib import Path; from emoreason.train.recipes.config import load_config\n"
        "from emoreason.train.recipes.mini_encoder import train_encoder\n"
        "train_encoder(load_config(Path(sys.argv[1])))"
    )

    def start(name: str) -> subprocess.Popen:
        from dataclasses import asdict

        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump(asdict(small_config(small_text, tmp_path / name, train__epochs="3"))))
        command = [sys.executable, "-c", program, str(recipe)]
        one_core = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=one_core)

    whole = start("whole")
    assert whole.wait() == 0, whole.stderr.read().decode()[-2000:]
    killed, checkpoint = start("killed"), tmp_path / "killed" / "checkpoint.pt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    again = start("killed")
    assert again.wait() == 0, again.stderr.read().decode()[-2000:]
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def test_config_errors_name_the_key_and_the_nearest_one(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {epoch: 3}")
    with pytest.raises(UsageError, match=r"unknown key train\.epoch; did you mean train\.epochs"):
        load_config(recipe)
    recipe.write_text("train: {epochs: many}")
    with pytest.raises(UsageError, match="'many' is not a whole number"):
        load_config(recipe)
    with pytest.raises(UsageError, match="--train.lr has no value"):
        parse_overrides(["--train.lr"])
    assert parse_overrides(["--train.lr", "1e-4", "--out=x"]) == {"train.lr": "1e-4", "out": "x"}
    assert load_config(RECIPE, {"train.lr": "1e-4"}).train.lr == 1e-4


def test_every_shipped_recipe_loads():
    for recipe in resource("finetune").glob("*.yaml"):
        config = load_config(recipe)
        if config.kind != "readout":
            assert config.tune.steps > 0 if config.kind == "explainer" else config.train.epochs > 0


def test_training_text_holds_no_held_out_word():
    import re

    text = yaml.safe_load(resource("prompts/training.yaml").read_text())
    used = [*text["templates"], *text["captions"], *sum(text["words"].values(), []), *sum(text["units"].values(), [])]
    for root in text["held_out_roots"]:
        assert not [line for line in used if re.search(rf"\b{root}", line)], root
    assert {"joyful", "furious", "terrified", "astonished", "sorrowful", "repulsed", "calm"} <= set(text["held_out"])
    for word in text["held_out"]:
        assert any(re.match(root, word) for root in text["held_out_roots"]), word


def test_split_removes_copies_doubles_and_unusable_faces(small_data):
    faces = read_faces(small_data / "train.parquet", small_data / "landmarks.npz")
    votes = faces.votes.copy()
    votes[3] = 0
    votes[3, 9] = 10  # not a face
    pixels = faces.pixels.copy()
    pixels[9] = pixels[8]
    faces = type(faces)(faces.names, pixels, votes, faces.units)
    train, holdout, dropped = split(faces, {str(faces.names[5])}, holdout=20)
    assert dropped == {"unusable": 1, "copies_of_validation": 1, "doubles": 1}
    assert len(holdout) == 20 and len(train) == 160 - 3 - 20
    assert not set(train.digests) & set(holdout.digests)
    np.testing.assert_allclose(train.distribution.sum(axis=1), 1, rtol=1e-6)


def test_landmarks_of_another_file_are_refused(small_data, tmp_path):
    write_landmarks(tmp_path / "other.npz", [f"x{i}.png" for i in range(160)])
    with pytest.raises(EmoreasonError, match="made from another file"):
        read_faces(small_data / "train.parquet", tmp_path / "other.npz")


def test_augmentation_keeps_the_range_and_depends_on_the_seed_alone():
    faces = torch.rand(16, 1, 48, 48)
    once, again, other = (augment(faces, AugmentConfig(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert once.shape == faces.shape and once.min() >= 0 and once.max() <= 1
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_without_augmentation_only_mirroring_is_left():
    faces = torch.rand(32, 1, 48, 48)
    still = augment(faces, AugmentConfig(0, 0, 0, 0, 0, 0, 0), torch.Generator().manual_seed(0))
    same, mirrored = ((still - other).abs().amax(dim=(1, 2, 3)) < 1e-4 for other in (faces, faces.flip(3)))
    assert bool((same | mirrored).all()) and same.any() and mirrored.any()


def test_mixing_keeps_distributions_and_unknown_units():
    torch.manual_seed(0)
    shares = torch.softmax(torch.randn(32, 8), dim=1)
    units = torch.full((32, 3), float("nan"))
    for seed in range(10):
        _, (mixed, unknown) = mix(torch.rand(32, 1, 48, 48), [shares, units], 0.5, torch.Generator().manual_seed(seed))
        assert torch.allclose(mixed.sum(dim=1), torch.ones(32)) and unknown.isnan().all()


def test_caption_targets_prefer_the_own_caption():
    shares = torch.eye(8)
    wanted = captions.caption_targets(shares, torch.zeros(8, 3))
    assert torch.allclose(wanted.sum(dim=1), torch.ones(8)) and bool((wanted.argmax(dim=1) == torch.arange(8)).all())
