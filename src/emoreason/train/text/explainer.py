"""Trains an explainer with train/loop.py: stage 1 aligns the projector, stage 2 tunes LoRA and the projector.

All random numbers depend only on the seed and the step, so a killed run continues exactly where it stopped.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import yaml

from emoreason.core import device
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.resources import resource
from emoreason.explain.prompts import load_prompts
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.models.encoder import Encoder, load_encoder
from emoreason.models.language import load_language
from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel
from emoreason.train import loop
from emoreason.train.processes import is_sharded, make_accelerator
from emoreason.train.settings import LoraSettings
from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.encoding import Coder
from emoreason.train.text.report import plot_log, score_validation, write_card
from emoreason.train.text.steps import ExplainerTask
from emoreason.train.text.texts import encode_set, read_texts
from emoreason.train.text.verdict import calibrate

STAGES = ("align", "tune")
MIN_FITTED = 20  # held-out faces; a verdict's temperature fitted on fewer would be noise


def label_tokens(vlm: VisionLanguageModel, labels: Iterable[str]) -> dict[str, list[int]]:
    """label -> its single tokens, the label first, then synonyms; {} unless every label has its own first token."""
    words = yaml.safe_load(resource("prompts/training.yaml").read_text())["words"]
    by_label = {}
    for label in labels:
        spelled = [vlm.tokenizer.encode(f" {word}") for word in (label, *words.get(label, ()))]
        by_label[label] = list(dict.fromkeys(tokens[0] for tokens in spelled if len(tokens) == 1))
    firsts = [tokens[0] for tokens in by_label.values() if tokens]
    return by_label if len(set(firsts)) == len(by_label) else {}


class Trainer:
    def __init__(
        self,
        config: ExplainerConfig,
        notify: Callable[[str], None] = lambda text: print(text, flush=True),
        encoder: Encoder | None = None,
    ):
        """encoder: share this loaded encoder instead of loading one."""
        self.config, self.out, self.notify = config, Path(config.out), notify
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmoreasonError(f"--out {self.out} cannot be written: {error.strerror or error}") from None
        torch.manual_seed(config.seed)
        self.compute = device.choose(config.device)
        self.accelerator = make_accelerator(self.compute)
        self.vlm = build(config, self.compute, encoder)
        self.labels = parse_labels(config.data.labels)
        texts = read_texts(config.data.train, config.data.label_share, config.seed)
        self.free, self.question = texts.free, texts.question
        self.options = {} if self.free else label_tokens(self.vlm, self.labels)
        if not self.options and (config.align.verdict_every == 1 or config.tune.verdict_every == 1):
            raise EmoreasonError(
                "verdict steps need conversations of `emoreason data describe` and labels of one token each; to train "
                "without them: --align.verdict_every 0 --tune.verdict_every 0"
            )
        self.coder = Coder(self.vlm, config.run.max_tokens, self.free, bool(self.options))
        self.train = encode_set(texts, self.coder, self.vlm.encoder)
        self.held, self.fitted_on = None, 0
        if config.data.holdout:
            held = read_texts(config.data.holdout)
            voted = all((conversation.evidence or {}).get("votes") for _, conversation in held.conversations)
            self.fitted_on = len(held.conversations) if voted else 0  # the loss uses only the first look_faces
            if config.run.look_faces:
                held = dataclasses.replace(held, conversations=held.conversations[: config.run.look_faces])
                self.held = encode_set(held, self.coder, self.vlm.encoder)
        self.started = time.time()

    def fit(self) -> Path:
        _write_text(self.out / "config.yaml", yaml.safe_dump(dataclasses.asdict(self.config), sort_keys=False))
        stages = [name for name in STAGES if getattr(self.config, name).steps]
        if len(stages) > 1 and is_sharded(self.accelerator):
            raise EmoreasonError(
                "with weights sharded over processes, a run can only have one stage: first --tune.steps 0, then "
                "--align.steps 0 --start FOLDER"
            )
        lines: list[dict[str, Any]] = []
        for name in stages:
            fitted = self.fit_stage(name)
            lines += [{"stage": name, **_rounded(line)} for line in fitted.log]
            self.notify(f"{name}: {fitted.step} steps, {fitted.rows_per_second:.2f} conversations/s, "
                     f"{fitted.peak_bytes / 2**30:.1f} GiB at the peak")  # fmt: skip
        if self.accelerator.is_main_process:
            _write_text(self.out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
            try:
                self.save()
            except OSError as error:
                raise EmoreasonError(
                    f"{self.out} cannot be written: {error.strerror or error}. The checkpoints are intact: free some "
                    "space and start again, and only this last part is repeated"
                ) from None
        self.accelerator.wait_for_everyone()
        return self.out

    def work(self, name: str) -> ExplainerTask:
        work = ExplainerTask(name, self.vlm, self.config, self.coder, self.train, self.held, self.options)
        work.set_trained()
        if self.config.run.checkpointing:
            self.vlm.language.gradient_checkpointing_enable({"use_reentrant": False})
        return work.train()

    def fit_stage(self, name: str) -> loop.FitResult:
        work = self.work(name)
        folder = self.out / "checkpoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        per_pass = max(1, len(self.train) // work.stage.batch_size)
        return loop.fit(work, work.stage.steps, per_pass, self.config.loop, folder, self.accelerator, self.config.seed,
                        self.notify, lambda step: self._log_progress(name, step, work.stage.steps))  # fmt: skip

    def _log_progress(self, name: str, step: int, steps: int) -> None:
        if step % self.config.loop.log_every == 0 or step == steps:
            line = {"stage": name, "step": step, "of": steps, "seconds": round(time.time() - self.started, 1)}
            self.notify(json.dumps(line))

    def save(self) -> None:
        data, before = self.config.data, ExplainerSpec.read(Path(self.config.start)) if self.config.start else None
        spec = dataclasses.replace(
            self.vlm.spec, labels=() if self.free else self.labels, prompts=load_prompts().id,
            encoder_revision=self.vlm.encoder.revision,
            trained_on={"data_sha256": self.train.digest, "conversations": len(self.train), "seed": self.config.seed,
                        "dtype": self.compute.dtype, "torch": torch.__version__},
            form="free" if self.free else "sections", question=self.question, sheet=self.train.sheets[0] is not None,
        )  # fmt: skip
        if before and before.labels == spec.labels:
            spec = dataclasses.replace(spec, verdict=before.verdict, prior=before.prior)
        self.vlm.spec = spec
        self.vlm.save_pretrained(self.out, torch.float16)
        if self.options and self.fitted_on >= MIN_FITTED:
            fitted = calibrate(self.out, Path(data.holdout), Path(data.train.split(",")[0].strip()), self.labels)
            self.notify(f"the verdict, fitted on {data.holdout}: {fitted}")
        if data.validation and self.options:
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"validation": score_validation(self.out, self.config)}) + "\n")
        plot_log(self.out)
        write_card(self.out)


def _write_text(path: Path, text: str) -> None:
    from emoreason.core.files import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise EmoreasonError(f"{path} cannot be written: {error.strerror or error}") from None


def _rounded(line: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) if isinstance(v, float) and k != "lr" else v for k, v in line.items()}


def build(config: ExplainerConfig, compute: device.Compute, encoder: Encoder | None = None) -> VisionLanguageModel:
    """Load the base models, with a new projector and adapter or those of an earlier run."""
    encoder = encoder or load_encoder(config.encoder, compute)
    quantization = None
    if config.quantize:
        from emoreason.models.quantize import bitsandbytes_config

        quantization = bitsandbytes_config(config.quantize, compute.torch_dtype)
    folder = Path(config.vocabulary) if config.vocabulary else None
    language = load_language(config.language, folder, quantization, compute.torch_dtype)
    vlm = VisionLanguageModel.create(ExplainerSpec(config.encoder, config.language, config.grid), encoder, language)
    if quantization is None:
        vlm.to(compute.device)
    if config.start:
        vlm._load_parts(Path(config.start))
        vlm.language = _widen(vlm.language, lora_config(config.lora))
    else:
        vlm.add_lora(lora_config(config.lora))
    for key, parameter in vlm.language.named_parameters():
        if "lora_" in key:
            parameter.data = parameter.data.float()  # AdamW's steps are smaller than bfloat16 can represent
    vlm.projector.float()
    return vlm


def _widen(language: Any, lora: Any) -> Any:
    """The model with a LoRA of a higher rank that computes the same: the new columns begin at zero."""
    from peft import get_peft_model

    old = language.peft_config["default"]
    if lora.r <= old.r:
        return language
    if lora.lora_alpha * old.r != old.lora_alpha * lora.r:
        needed = old.lora_alpha * lora.r // old.r
        raise UsageError(f"--lora.alpha {lora.lora_alpha}: a wider adapter needs alpha {needed}")
    before = {name: value.detach().clone() for name, value in language.named_parameters() if "lora_" in name}
    language = get_peft_model(language.unload(), lora)
    with torch.no_grad():
        for name, value in language.named_parameters():
            if "lora_A" in name:
                value[: old.r] = before[name]
            elif "lora_B" in name:
                value[:, : old.r] = before[name]
    return language


def lora_config(lora: LoraSettings) -> Any:
    from peft import LoraConfig

    wanted = lora.targets if lora.targets == "all-linear" else [name.strip() for name in lora.targets.split(",")]
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wanted,
                      task_type="CAUSAL_LM")  # fmt: skip


def parse_labels(names: str) -> tuple[str, ...]:
    if names in LABEL_SETS:
        return LABEL_SETS[names].labels
    return tuple(label.strip() for label in names.split(",") if label.strip())


def train_explainer(config: ExplainerConfig) -> Path:
    return Trainer(config).fit()
