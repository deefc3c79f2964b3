"""The card of a projection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoreason.train.recipes.exp_clip_config import ExpClipConfig
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
