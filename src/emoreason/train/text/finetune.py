"""The words of `emoreason finetune --data`: projector and LoRA learn your texts, from the base model's explainer."""

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
from emoreason.train.settings import LoopSettings, WordsSettings, one_of
from emoreason.train.text import own_texts as words_data
from emoreason.train.text.choose_steps import decide_steps
from emoreason.train.text.config import ExplainerConfig, ExplainerData, Loss, Run, Stage
from emoreason.train.text.describe import Plan
from emoreason.train.text.explainer import Trainer
from emoreason.train.text.own_texts import FaceText
from emoreason.train.text.own_texts_report import Written, table, theirs, written_by
from emoreason.train.text.steps import ExplainerTask
from emoreason.train.text.texts import Set, encode_set, read_texts

MIN_TEXTS = 8  # texts to learn from
PRIVATE = "words"  # crops and conversations, while the run goes on; a finished run holds no face
PATIENCE = 3
Notify = Callable[[str], None]


def has_messages(source: str | Path) -> bool:
    """Whether the file holds conversations about pictures and not a table. Only its first entry is looked at."""
    return messages.matches(Path(source))


def check_words(settings: WordsSettings) -> None:
    """Choices that nobody knows are told before anything is done."""
    one_of("words.source", settings.source, ("auto", "engine", "none"))
    one_of("words.form", settings.form, ("auto", "sections", "free"))


def finetune_texts(
    rows: Iterable[tuple[Sample, str]],
    reasoner: Reasoner,
    settings: WordsSettings,
    folder: Path,
    notify: Notify = lambda text: None,
    **more: Any,
) -> dict[str, Any] | None:
    """Learn the texts of these faces, each with its part (train, holdout, report), into `folder/explainer`.

    More: as of `learn`. -> what stands in metrics.json; None where there is nothing to learn from."""
    check_words(settings)
    if settings.source == "none":
        return None
    told = words_data.face_texts(rows, settings.source == "engine")
    n = sum(face.part == "train" for face in told)
    if n < MIN_TEXTS:
        if n or settings.source == "engine":
            notify(f"the words are left as they are: {n} texts to learn from, {MIN_TEXTS} are needed")
        return None
    return finetune_explainer(told, reasoner, settings, folder, notify, **more)


def finetune_conversations(
    path: Path,
    reasoner: Reasoner,
    settings: WordsSettings,
    folder: Path,
    notify: Notify = lambda text: None,
    **more: Any,
) -> dict[str, Any]:
    """The same from a file of conversations (`messages` + `images` and the like); follow-up turns are learned too."""
    told = words_data.face_texts_in(path)
    n = sum(face.part == "train" for face in told)
    if n < MIN_TEXTS:
        raise EmoreasonError(f"{path}: {n} conversations to learn from, {MIN_TEXTS} are needed")
    return finetune_explainer(told, reasoner, settings, folder, notify, **more)


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
    """detector: None for crops. labels: of sheets and verdict. model: whose explainer to go on from."""
    labels = tuple(labels) or reasoner.default_labels
    private, out = folder / PRIVATE, folder / OWN_FOLDER
    accelerator = make_accelerator(devices.choose(device))
    form = _form(faces, settings)
    if accelerator.is_main_process:  # of those that `accelerate launch` started
        for old in () if resume else (private, out):
            shutil.rmtree(old, ignore_errors=True)
        plan = Plan(turns=settings.turns, seed=seed)
        try:
            words_data.write(
                faces, reasoner, detector, labels, private, form=form, question=settings.question, plan=plan
            )
        except OSError as error:
            raise EmoreasonError(f"{private} cannot be written: {error.strerror or error}") from None
    accelerator.wait_for_everyone()
    counts = words_data.counts(private)
    _told_counts(counts, form, notify)
    config = _config(settings, private, out, labels, model, seed, device, counts)
    trainer = Trainer(config, notify, _shared(reasoner, config))
    report = encode_set(read_texts(str(private / "report.jsonl")), trainer.coder, trainer.vlm.encoder)
    first = accelerator.is_main_process
    texts = written_by(config.start, reasoner, private, settings.look_texts) if config.start and first else None
    before = Written(texts, _loss(trainer, report))
    steps, why = decide_steps(trainer, settings, private, notify)
    align = dataclasses.replace(config.align, steps=0 if config.start else steps // 4)
    trainer.config = dataclasses.replace(config, align=align, tune=dataclasses.replace(config.tune, steps=steps))
    started = time.monotonic()
    trainer.fit()
    seconds = time.monotonic() - started
    loss = _loss(trainer, report)
    figures: dict[str, Any] = {}
    if first:
        after = Written(written_by(str(out), reasoner, private, settings.look_texts), loss)
        figures = {
            "form": "free" if trainer.free else "sections", "counts": counts, "steps": steps, "why": why,
            "seconds": round(seconds, 1), "start": config.start and model, "language": config.language,
            "before": before.figures(), "after": after.figures(), "theirs": theirs(private, settings.look_texts),
        }  # fmt: skip
        figures |= {"table": table(figures), "told": _sentence(figures)}
        for finished in (private, out / "checkpoints"):
            shutil.rmtree(finished, ignore_errors=True)
    accelerator.wait_for_everyone()
    return figures


def _form(faces: Sequence[FaceText], settings: WordsSettings) -> str:
    if any(face.given is not None for face in faces):
        return "free"
    if all(face.text is None for face in faces):
        return "sections"
    found = words_data.form_of(faces)
    if settings.form == "sections" and found == "free":
        raise UsageError(
            "words.form sections: most texts do not have the three sections (Key observations: …, Overall emotional "
            "interpretation: …, Conclusion: …); --words.form free learns them as they are"
        )
    return found if settings.form == "auto" else settings.form


def _told_counts(counts: dict[str, int], form: str, notify: Notify) -> None:
    if min(counts["train"], counts["report"]) < 1 or counts["train"] < MIN_TEXTS:
        raise EmoreasonError(
            f"too few texts whose picture shows a face: {counts}; {MIN_TEXTS} to train and one to report on"
        )
    notify(
        f"words: {counts['train']} texts to learn from, {counts['holdout']} to choose by, {counts['report']} for the "
        f"report; form: {form}"
    )


def _config(
    settings: WordsSettings, private: Path, out: Path, labels: Sequence[str], model: str, seed: int, device: str,
    counts: dict[str, int],
) -> ExplainerConfig:  # fmt: skip
    """From the model's own explainer, or a fresh one on the language model that the settings name."""
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
                f"{own} has its LoRA merged and cannot be trained on: train on the model that it came from"
            )
        vocabulary = str(own) if spec.language.startswith(PACKAGE_PREFIX) else ""
        common |= {"start": str(own), "vocabulary": vocabulary, "grid": spec.grid, "align": Stage(verdict_every=0)}
        return ExplainerConfig(name=model, encoder=spec.encoder, language=spec.language, **common)
    if not settings.language:
        raise UsageError(
            f"{model} has no explainer to go on from: --words.language NAME names a transformers language model, "
            "--words.source none leaves the words out"
        )
    common["align"] = Stage(lr=1e-3, batch_size=settings.batch_size, verdict_every=0)
    return ExplainerConfig(name=model, encoder=model, language=settings.language, **common)


def _shared(reasoner: Reasoner, config: ExplainerConfig) -> Any:
    encoder = reasoner.reader.zeroshot.encoder
    return encoder if encoder.name == config.encoder else None


@torch.no_grad()
def _loss(trainer: Trainer, report: Set) -> float:
    """Cross-entropy a token of the held-back answers."""
    work = ExplainerTask("tune", trainer.vlm, trainer.config, trainer.coder, report, report, {}).eval()
    total = 0.0
    for start in range(0, len(report), 16):
        with trainer.accelerator.autocast():
            total += float(work(0, range(start, min(start + 16, len(report))), held=True)["held_out"])
    return total / len(report)


def _sentence(figures: dict[str, Any]) -> str:
    how = f"LoRA and projector learned {figures['counts']['train']} texts in {figures['steps']} steps"
    whence = f"from {figures['start']}'s own explainer" if figures["start"] else f"fresh, on {figures['language']}"
    return f"{how}, {whence}; {figures['why']}. Texts of the form: {figures['form']}."
