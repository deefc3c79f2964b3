"""Beside the training of a projection: its card, and the smoke run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.train.exp_clip_config import ExpClipConfig
from emoreason.train.run_card import majority, score_rows


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
            *score_rows(metrics["before"], after),
            "",
            f"By the labels' words alone, without calibration. {majority(after)}",
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
