"""Beside the training of a projection: vectors that are kept by content, the curve, the card, and the smoke run."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.train.exp_clip_config import ExpClipConfig
from emoreason.train.features import store
from emoreason.train.run_folder import interval

ROWS = 512  # vectors in a file


class Kept:
    """Vectors by the key of a picture, for one model and one way of looking; a cache folder that cannot be written
    costs time only. They are float16: a teacher's 4,096 numbers for 50,000 faces are then 0.4 GB."""

    def __init__(self, who: str, folder: Path | None = None):
        from platformdirs import user_cache_path
        from safetensors.numpy import load_file

        base = folder or user_cache_path("emoreason") / "exp-clip"
        self.folder = base / hashlib.sha256(who.encode()).hexdigest()[:16]
        self.rows: dict[bytes, np.ndarray] = {}
        self.fresh: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                stored = load_file(path)
                self.rows |= {key.tobytes(): row for key, row in zip(stored["keys"], stored["rows"], strict=True)}
            except Exception:  # a damaged file makes the reader raise almost anything; its faces are looked at again
                continue

    def __contains__(self, key: bytes) -> bool:
        return key in self.rows

    def __getitem__(self, key: bytes) -> np.ndarray:
        return self.rows[key]

    def add(self, rows: Mapping[bytes, np.ndarray]) -> None:
        small = {key: row.astype(np.float16) for key, row in rows.items()}
        self.rows |= small
        self.fresh |= small
        if len(self.fresh) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.fresh:
            return
        keys = np.frombuffer(b"".join(self.fresh), np.uint8).reshape(len(self.fresh), -1)
        store(self.folder, {"keys": keys, "rows": np.stack(list(self.fresh.values()))})
        self.fresh = {}


def plot(log: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6))
    axes = figure.add_subplot()
    axes.plot([line["step"] for line in log], [line["loss"] for line in log], color="#0072B2")
    axes.set(xlabel="step", ylabel="InfoNCE", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return picture.getvalue()


def card(config: ExpClipConfig, revision: str, metrics: Mapping[str, Any]) -> str:
    """README.md of the run."""
    out = Path(config.out).as_posix()
    lines = [
        f"# A projection for {config.model}",
        "",
        f"One bias-free linear map to {metrics['width']} dimensions, shared by faces and texts, on the encoder of "
        f"`{config.model}` (revision {revision}). Learned by Exp-CLIP's recipe (Zhao et al., WACV 2025) from "
        f"{metrics['faces']} faces without labels; the teacher is `{config.teacher.model}` with the instruction "
        f"“{config.teacher.instruction}”",
        "",
        f"    emoreason explain photo.jpg --model {config.model} --projection {out}/projection.safetensors",
        "",
        f"Data: {config.data.source}; SHA-256 {metrics['data_sha256'][:12]}; {metrics['copies_left_out']} copies of "
        f"validation faces left out. {_end(metrics['last'])}",
        "",
        "![Loss](loss.png)",
    ]
    if "after" in metrics:
        after = metrics["after"]
        lines += [
            "",
            f"| zero-shot, {after['n']} faces of {metrics['validation']} | before | after |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| {name} | {interval(metrics['before'][key])} | {interval(after[key])} |"
            for name, key in (("accuracy (WAR)", "accuracy"), ("UAR", "uar"), ("macro-F1", "macro_f1"))
        ]
        lines += [
            "",
            f"By the labels' words alone, without calibration. Always *{after['majority']['label']}* would be right in "
            f"{100 * after['majority']['accuracy']:.1f} %. In brackets: 95 % bootstrap intervals.",
        ]
    lines += [
        "",
        "It speaks of the expression that is shown, not of what a person feels. Not for use at work or in education, "
        "not a lie detector, not a diagnosis.",
        "",
    ]
    return "\n".join(lines)


def _end(last: Mapping[str, float] | None) -> str:
    if last is None:
        return "Not trained: this is the random map that a training begins with."
    return (
        f"In the last batch the loss was {last['loss']:.4f} and {100 * last['top1']:.1f} % of the faces found their "
        "own text first."
    )


def smoke_config(config: ExpClipConfig, folder: Path) -> ExpClipConfig:
    """The recipe with a tiny random BLIP-2, the mini and made-up faces: what is left runs the same code."""
    from PIL import Image

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


def save_blip2(folder: Path) -> Path:
    """A random BLIP-2 with a T5, as transformers keeps it."""
    import torch
    import transformers as hf

    from emoreason.train.smoke import save_tokenizer

    tokenizer = save_tokenizer(folder)
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision = hf.Blip2VisionConfig(**small, image_size=32, patch_size=16)
    qformer = hf.Blip2QFormerConfig(**small, vocab_size=32, encoder_hidden_size=16, cross_attention_frequency=1)
    text = hf.T5Config(vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
                       is_encoder_decoder=True, pad_token_id=0, eos_token_id=1)  # fmt: skip
    torch.manual_seed(0)
    about = hf.Blip2Config(vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=4)
    hf.Blip2ForConditionalGeneration(about).save_pretrained(folder)
    return folder
