"""Trains the explainer in `emoreason finetune --data`: projector and LoRA learn your texts."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from emoreason.core import device as devices
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import messages
from emoreason.data.schema import Sample
from emoreason.explain.backends.factory import OWN_FOLDER
from emoreason.faces.detect import Detector
from emoreason.models.bundle import PACKAGE_PREFIX, find_bundle
from emoreason.models.vlm import ExplainerSpec
from emoreason.reasoner import Reasoner
from emoreason.train.processes import make_accelerator
from emoreason.train.settings import LoopSettings, WordsSettings, require_one_of
from emoreason.train.text import user_texts
from emoreason.train.text.choose_steps import choose_steps
from emoreason.train.text.config import ExplainerConfig, ExplainerData, Loss, Run, Stage
from emoreason.train.text.describe import Plan
from emoreason.train.text.explainer import Trainer
from emoreason.train.text.steps import ExplainerTask
from emoreason.train.text.texts import ConversationSet, encode_set, read_texts
from emoreason.train.text.user_texts import FaceText
from emoreason.train.text.user_texts_report import TextScores, score_generated, score_references, table

MIN_TEXTS = 8  # training texts
PRIVATE = "words"  # folder of crops and conversations; deleted at the end, so a finished run holds no face
PATIENCE = 3
Notify = Callable[[str], None]


def has_messages(source: str | Path) -> bool:
    """Whether the file has conversations about pictures instead of a table, by its first entry."""
    return messages.matches(Path(source))


def check_words(settings: WordsSettings) -> None:
    """Raise a UsageError for unknown choices, before any work is done."""
    require_one_of("words.source", settings.source, ("auto", "engine", "none"))
    require_one_of("words.form", settings.form, ("auto", "sections", "free"))


def finetune_texts(
    rows: Iterable[tuple[Sample, str]],
    reasoner: Reasoner,
    settings: WordsSettings,
    folder: Path,
    notify: Notify = lambda text: None,
    **more: Any,
) -> dict[str, Any] | None:
    """Train `folder/explainer` on the texts of these faces, each with its part (train, holdout, report).

    more: keyword arguments of `finetune_explainer`. Returns the figures for metrics.json; None without enough texts."""
    check_words(settings)
    if settings.source == "none":
        return None
    texts = user_texts.face_texts(rows, settings.source == "engine")
    n = sum(face.part == "train" for face in texts)
    if n < MIN_TEXTS:
        if n or settings.source == "engine":
            notify(f"the explainer is not trained: {n} texts to learn from, {MIN_TEXTS} are needed")
        return None
    return finetune_explainer(texts, reasoner, settings, folder, notify, **more)


def finetune_conversations(
    path: Path,
    reasoner: Reasoner,
    settings: WordsSettings,
    folder: Path,
    notify: Notify = lambda text: None,
    **more: Any,
) -> dict[str, Any]:
    """Train `folder/explainer` on a file of conversations, such as `messages` + `images`, including follow-up turns."""
    texts = user_texts.face_texts_in(path)
    n = sum(face.part == "train" for face in texts)
    if n < MIN_TEXTS:
        raise EmoreasonError(f"{path}: {n} conversations to learn from, {MIN_TEXTS} are needed")
    return finetune_explainer(texts, reasoner, settings, folder, notify, **more)


def finetune_explainer(
    faces: Sequence[FaceText],
    reasoner: Reasoner,
    settings: WordsSettings,
    folder: Path,
    notify: Notify,
    *,
    detector: Detector | None = None,
    labels: Sequence[str] = (),
    model: str = "mini",
    seed: int = 7,
    device: str = "auto",
    resume: bool = False,
) -> dict[str, Any]:
    """Train the explainer and score it on the report texts before and after.

    detector: None for face crops. labels: for sheets and verdict. model: the model whose explainer to train further."""
    labels = tuple(labels) or reasoner.default_labels
    private, out = folder / PRIVATE, folder / OWN_FOLDER
    accelerator = make_accelerator(devices.choose(device))
    form = _form(faces, settings)
    if accelerator.is_main_process:  # under `accelerate launch` only the main process writes
        for old in () if resume else (private, out):
            shutil.rmtree(old, ignore_errors=True)
        plan = Plan(turns=settings.turns, seed=seed)
        try:
            user_texts.write(
                faces, reasoner, detector, labels, private, form=form, question=settings.question, plan=plan
            )
        except OSError as error:
            raise EmoreasonError(f"{private} cannot be written: {error.strerror or error}") from None
    accelerator.wait_for_everyone()
    counts = user_texts.counts(private)
    _check_counts(counts, form, notify)
    config = _config(settings, private, out, labels, model, seed, device, counts)
    trainer = Trainer(config, notify, _shared(reasoner, config))
    report = encode_set(read_texts(str(private / "report.jsonl")), trainer.coder, trainer.vlm.encoder)
    first = accelerator.is_main_process
    texts = score_generated(config.start, reasoner, private, settings.look_texts) if config.start and first else None
    before = TextScores(texts, _loss(trainer, report))
    steps, why = choose_steps(trainer, settings, private, notify)
    align = dataclasses.replace(config.align, steps=0 if config.start else steps // 4)
    trainer.config = dataclasses.replace(config, align=align, tune=dataclasses.replace(config.tune, steps=steps))
    started = time.monotonic()
    trainer.fit()
    seconds = time.monotonic() - started
    loss = _loss(trainer, report)
    figures: dict[str, Any] = {}
    if first:
        after = TextScores(score_generated(str(out), reasoner, private, settings.look_texts), loss)
        figures = {
            "form": "free" if trainer.free else "sections", "counts": counts, "steps": steps, "why": why,
            "seconds": round(seconds, 1), "start": config.start and model, "language": config.language,
            "before": before.figures(), "after": after.figures(),
            "theirs": score_references(private, settings.look_texts),
        }  # fmt: skip
        figures |= {"table": table(figures), "told": _summary(figures)}
        for finished in (private, out / "checkpoints"):
            shutil.rmtree(finished, ignore_errors=True)
    accelerator.wait_for_everyone()
    return figures


def _form(faces: Sequence[FaceText], settings: WordsSettings) -> str:
    if any(face.conversation is not None for face in faces):
        return "free"
    if all(face.text is None for face in faces):
        return "sections"
    form = user_texts.form_of(faces)
    if settings.form == "sections" and form == "free":
        raise UsageError(
            "words.form sections: most texts do not have the three sections (Key observations: …, Overall emotional "
            "interpretation: …, Conclusion: …); --words.form free learns them as they are"
        )
    return form if settings.form == "auto" else settings.form


def _check_counts(counts: dict[str, int], form: str, notify: Notify) -> None:
    if min(counts["train"], counts["report"]) < 1 or counts["train"] < MIN_TEXTS:
        raise EmoreasonError(
            f"too few texts whose picture shows a face: {counts}; {MIN_TEXTS} to train and one to report on are needed"
        )
    notify(
        f"words: {counts['train']} texts to learn from, {counts['holdout']} held out to choose on, "
        f"{counts['report']} for the report; form: {form}"
    )


def _config(
    settings: WordsSettings, private: Path, out: Path, labels: Sequence[str], model: str, seed: int, device: str,
    counts: dict[str, int],
) -> ExplainerConfig:  # fmt: skip
    """Start from the model's own explainer, or from a new one on the language model that the settings name."""
    bundle = find_bundle(model)
    own = bundle.folder / OWN_FOLDER if bundle else None
    data = ExplainerData(
        train=str(private / "train.jsonl"), holdout=str(private / "holdout.jsonl") if counts["holdout"] else "",
        labels=",".join(labels),
    )  # fmt: skip
    common: dict[str, Any] = {
        "seed": seed, "out": str(out), "device": device, "data": data, "quantize": settings.quantize,
        "tune": Stage(lr=settings.lr, batch_size=settings.batch_size, verdict_every=0), "loss": Loss(synonyms=0.0),
        "loop": LoopSettings(checkpoint_every=25, patience=PATIENCE), "run": Run(max_tokens=640),
    }  # fmt: skip
    if not settings.language and own is not None and (own / "explainer.json").is_file():
        spec = ExplainerSpec.read(own)
        if spec.merged:
            raise UsageError(
                f"{own} has its LoRA merged and cannot be trained further: train the model that it was made from"
            )
        vocabulary = str(own) if spec.language.startswith(PACKAGE_PREFIX) else ""
        common |= {"start": str(own), "vocabulary": vocabulary, "grid": spec.grid, "align": Stage(verdict_every=0)}
        return ExplainerConfig(name=model, encoder=spec.encoder, language=spec.language, **common)
    if not settings.language:
        raise UsageError(
            f"{model} has no explainer to start from: give a transformers language model with --words.language NAME, "
            "or skip the explainer with --words.source none"
        )
    common["align"] = Stage(lr=1e-3, batch_size=settings.batch_size, verdict_every=0)
    return ExplainerConfig(name=model, encoder=model, language=settings.language, **common)


def _shared(reasoner: Reasoner, config: ExplainerConfig) -> Any:
    encoder = reasoner.reader.zeroshot.encoder
    return encoder if encoder.name == config.encoder else None


@torch.no_grad()
def _loss(trainer: Trainer, report: ConversationSet) -> float:
    """Mean cross-entropy per token of the report answers."""
    work = ExplainerTask("tune", trainer.vlm, trainer.config, trainer.coder, report, report, {}).eval()
    total = 0.0
    for start in range(0, len(report), 16):
        with trainer.accelerator.autocast():
            total += float(work(0, range(start, min(start + 16, len(report))), held=True)["held_out"])
    return total / len(report)


def _summary(figures: dict[str, Any]) -> str:
    how = f"LoRA and projector learned {figures['counts']['train']} texts in {figures['steps']} steps"
    start = f"from {figures['start']}'s own explainer" if figures["start"] else f"new, on {figures['language']}"
    return f"{how}, {start}; {figures['why']}. Texts of the form: {figures['form']}."
