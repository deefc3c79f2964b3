"""`--smoke` for recipes that learn from faces: runs the same code on made-up faces for a few steps."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from emoreason.models.face_head import BLENDSHAPES, POINTS
from emoreason.train.finetune_config import FinetuneConfig
from emoreason.train.recipes.config import Config
from emoreason.train.recipes.exp_clip_config import ExpClipConfig
from emoreason.train.recipes.mini_eyes_config import EyesConfig, EyesData, ReadoutConfig
from emoreason.train.recipes.mini_faces import EMOTIONS
from emoreason.train.recipes.smoke_texts import save_blip2

EACH = 16  # faces of each of the two labels
FERPLUS = 64  # rows of the made-up FER+ file
SIDE = 48
VOTES = 10


def smoke_tune(config: FinetuneConfig, folder: Path) -> FinetuneConfig:
    """Two labels that differ in the mouth, with the mini as the encoder."""
    for k, label in enumerate(("open", "closed")):
        (folder / "faces" / label).mkdir(parents=True)
        for i in range(EACH):
            face(50 * k + i, mouth=12 if label == "open" else 1).save(folder / "faces" / label / f"{i}.png")
    unlabeled = str(folder / "faces") if config.data.unlabeled or config.loss.name == "ada-cm" else ""
    return dataclasses.replace(
        config, model="mini", out=str(folder / "run"), device="cpu",
        data=dataclasses.replace(config.data, source=str(folder / "faces"), labels="", crops="yes", subject="", limit=0,
                                 unlabeled=unlabeled),
        train=dataclasses.replace(config.train, epochs=3),
        tower=dataclasses.replace(config.tower, epochs=2, batch_size=8),
    )  # fmt: skip


def smoke_encoder(config: Config, folder: Path) -> Config:
    """A made-up file in FER+'s layout, with random landmarks."""
    write_ferplus(folder / "validation.parquet", seed=100)
    names = write_ferplus(folder / "train.parquet", seed=0)
    rng = np.random.default_rng(0)
    points = rng.normal(24, 8, (478, 3)) + rng.normal(0, 0.5, (FERPLUS, 478, 3))  # one random face with noise
    np.savez_compressed(folder / "landmarks.npz", name=np.array(names), found=np.ones(FERPLUS, bool), points=points)
    return dataclasses.replace(
        config, out=str(folder / "run"), limit=0,
        data=dataclasses.replace(config.data, train=str(folder / "train.parquet"), holdout=16,
                                 validation=str(folder / "validation.parquet"),
                                 landmarks=str(folder / "landmarks.npz")),
        train=dataclasses.replace(config.train, epochs=1, batch_size=16, start="", teacher=""),
    )  # fmt: skip


def smoke_eyes(config: EyesConfig, folder: Path) -> EyesConfig:
    """A made-up file in FER+'s layout, a teacher's random answers, and an untrained encoder to start from."""
    from emoreason.models.encoder import create_clip
    from emoreason.train.recipes.mini_network import EncoderWithHeads, save_weights

    write_ferplus(folder / "validation.parquet", seed=100)
    names = write_ferplus(folder / "train.parquet", seed=0)
    write_teacher(folder / "train.npz", names)
    save_weights(EncoderWithHeads(create_clip(config.model)[0].visual), folder / "start.safetensors")
    return dataclasses.replace(
        config, out=str(folder / "run"), limit=0, data=_smoke_data(config.data, folder),
        train=dataclasses.replace(config.train, start=str(folder / "start.safetensors"), epochs=1, batch_size=16),
    )  # fmt: skip


def smoke_readout(config: ReadoutConfig, folder: Path) -> ReadoutConfig:
    """The read-outs of such a run, with made-up codes."""
    from emoreason.train.recipes.mini_eyes import train_eyes

    run = train_eyes(smoke_eyes(EyesConfig(), folder))
    rows = [f"ferplus,made0-{i}.png,{'12 25' if i % 2 else '1 4? | x 43'}" for i in range(FERPLUS)]
    (folder / "train.csv").write_text("\n".join(["source,name,codes", *rows]) + "\n")
    return dataclasses.replace(
        config, run=str(run), out=str(folder / "mini"), codes=str(folder), data=_smoke_data(config.data, folder),
        fit=dataclasses.replace(config.fit, shift_rank=8),
    )  # fmt: skip


def _smoke_data(data: EyesData, folder: Path) -> EyesData:
    return dataclasses.replace(data, train=str(folder / "train.parquet"), landmarks=str(folder), holdout=16,
                               validation=str(folder / "validation.parquet"), wild="", pictures="")  # fmt: skip


def write_teacher(path: Path, names: list[str]) -> None:
    """A file as finetune/landmarks.py writes it, for one random face with noise."""
    rng, n = np.random.default_rng(0), len(names)
    points = rng.normal(24, 8, (POINTS, 3)) + rng.normal(0, 0.5, (n, POINTS, 3))
    shapes = rng.random((n, len(BLENDSHAPES)))
    np.savez_compressed(
        path, name=np.array(names), found=np.ones(n, bool), points=points, rotation=np.tile(np.eye(3), (n, 1, 1)),
        blendshapes=shapes, blendshape_names=np.array(BLENDSHAPES),
    )  # fmt: skip


def smoke_projection(config: ExpClipConfig, folder: Path) -> ExpClipConfig:
    """The recipe with a tiny random BLIP-2, the mini and made-up faces."""
    random = np.random.default_rng(0)
    for label in ("happiness", "sadness"):
        for name, n in (("train", 16), ("validation", 4)):
            (folder / name / label).mkdir(parents=True)
            for i in range(n):
                noise = random.integers(0, 256, (48, 48), dtype=np.uint8)
                Image.fromarray(noise).save(folder / name / label / f"{i}.png")
    return dataclasses.replace(
        config, model="mini", out=str(folder / "run"), device="cpu",
        data=dataclasses.replace(config.data, source=str(folder / "train"), validation=str(folder / "validation"),
                                 crops="yes", limit=0),
        teacher=dataclasses.replace(config.teacher, model=str(save_blip2(folder / "blip2"))),
        train=dataclasses.replace(config.train, epochs=2, batch_size=8),
    )  # fmt: skip


def face(seed: int, mouth: int) -> Image.Image:
    """A drawn face with its own lighting, because similar faces would be removed as copies."""
    light = np.random.default_rng(seed).integers(60, 250, (6, 6), dtype=np.uint8)
    picture = Image.fromarray(light).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for x in (14, 32):
        pen.ellipse((x - 2, 16, x + 3, 21), fill=40)
    pen.ellipse((14, 36 - mouth / 2, 34, 36 + mouth / 2), fill=30)
    return picture


def write_ferplus(path: Path, seed: int) -> list[str]:
    """Write a made-up FER+ parquet file. Returns the file names in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for i in range(FERPLUS):
        buffer, votes = io.BytesIO(), [0] * VOTES
        face(seed + i, mouth=1 + i % len(EMOTIONS)).save(buffer, "PNG")
        votes[i % len(EMOTIONS)], votes[(i + 1) % len(EMOTIONS)] = 8, 2
        rows.append({"image": {"bytes": buffer.getvalue(), "path": f"made{seed}-{i}.png"}, "votes": votes})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return [row["image"]["path"] for row in rows]
