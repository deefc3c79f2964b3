"""Train an explainer: stage 1 aligns the projector, stage 2 tunes LoRA with it, both by train/loop.py.

Everything random follows from seed and step. Step k of a stage is the same whatever came before it, so a run that was
killed goes on exactly where it stood.
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
from emoreason.core.errors import EmoreasonError
from emoreason.core.resources import resource
from emoreason.explain.prompts import load_prompts
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.models.encoder import Encoder, load_encoder
from emoreason.models.language import load_language
from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel
from emoreason.train import loop
from emoreason.train.processes import is_spread, make_accelerator
from emoreason.train.settings import LoraSettings
from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.encoding import Coder
from emoreason.train.text.report import look, plot_log, write_card
from emoreason.train.text.steps import ExplainerTask
from emoreason.train.text.texts import encode_set, read_texts
from emoreason.train.text.verdict import calibrate

STAGES = ("align", "tune")
FITTED_ON = 20  # held-out faces; a verdict's temperature of fewer would be noise


def label_tokens(vlm: VisionLanguageModel, labels: Iterable[str]) -> dict[str, list[int]]:
    """label -> single tokens that ask for it, the label itself first; nothing where a label has none."""
    words = yaml.safe_load(resource("prompts/training.yaml").read_text())["words"]
    found = {}
    for label in labels:
        spelled = [vlm.tokenizer.encode(f" {word}") for word in (label, *words.get(label, ()))]
        found[label] = list(dict.fromkeys(tokens[0] for tokens in spelled if len(tokens) == 1))
    firsts = [tokens[0] for tokens in found.values() if tokens]
    return found if len(set(firsts)) == len(found) else {}


class Trainer:
    def __init__(
        self,
        config: ExplainerConfig,
        notify: Callable[[str], None] = lambda text: print(text, flush=True),
        encoder: Encoder | None = None,
    ):
        """encoder: the loaded one, to share it."""
        self.config, self.out, self.notify = config, Path(config.out), notify
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmoreasonError(f"--out {self.out} cannot be written: {error.strerror or error}") from None
        torch.manual_seed(config.seed)
        self.compute = device.choose(config.device)
        self.accelerator = make_accelerator(self.compute)
        self.vlm = build(config, self.compute, encoder)
        self.labels = label_names(config.data.labels)
        texts = read_texts(config.data.train, config.data.label_share, config.seed)
        self.free, self.question = texts.free, texts.question
        self.options = {} if self.free else label_tokens(self.vlm, self.labels)
        if not self.options and (config.align.verdict_every == 1 or config.tune.verdict_every == 1):
            raise EmoreasonError(
                "a step of the verdict needs conversations of `emoreason data describe` and labels of one token each; "
                "without it: --align.verdict_every 0 --tune.verdict_every 0"
            )
        self.coder = Coder(self.vlm, config.run.max_tokens, self.free, bool(self.options))
        self.train = encode_set(texts, self.coder, self.vlm.encoder)
        self.held, self.fitted_on = None, 0
        if config.data.holdout:
            held = read_texts(config.data.holdout)
            self.fitted_on = len(held.given)  # the verdict; the loss is looked at on the first ones only
            held = dataclasses.replace(held, given=held.given[: config.run.look_faces])
            self.held = encode_set(held, self.coder, self.vlm.encoder)
        self.started = time.time()

    def fit(self) -> Path:
        run_folder_text(self.out / "config.yaml", yaml.safe_dump(dataclasses.asdict(self.config), sort_keys=False))
        stages = [name for name in STAGES if getattr(self.config, name).steps]
        if len(stages) > 1 and is_spread(self.accelerator):
            raise EmoreasonError(
                "where the weights are spread over processes, a run has one stage: first --tune.steps 0, then "
                "--align.steps 0 --start FOLDER"
            )
        lines: list[dict[str, Any]] = []
        for name in stages:
            fitted = self.fit_stage(name)
            lines += [{"stage": name, **_rounded(line)} for line in fitted.log]
            self.notify(f"{name}: {fitted.step} steps, {fitted.rows_per_second:.2f} conversations/s, "
                     f"{fitted.peak_bytes / 2**30:.1f} GiB at most")  # fmt: skip
        if self.accelerator.is_main_process:
            run_folder_text(self.out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
            try:
                self.save()
            except OSError as error:
                raise EmoreasonError(
                    f"{self.out} cannot be written: {error.strerror or error}; the checkpoints are whole: free space, "
                    "start again, and it ends"
                ) from None
        self.accelerator.wait_for_everyone()
        return self.out

    def work(self, name: str) -> ExplainerTask:
        work = ExplainerTask(name, self.vlm, self.config, self.coder, self.train, self.held, self.options)
        work.set_trained()
        if self.config.run.checkpointing:
            self.vlm.language.gradient_checkpointing_enable({"use_reentrant": False})
        return work.train()

    def fit_stage(self, name: str) -> loop.Fitted:
        work = self.work(name)
        folder = self.out / "checkpoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        per_pass = max(1, len(self.train) // work.stage.batch_size)
        return loop.fit(work, work.stage.steps, per_pass, self.config.loop, folder, self.accelerator, self.config.seed,
                        self.notify, lambda step: self._tell(name, step, work.stage.steps))  # fmt: skip

    def _tell(self, name: str, step: int, steps: int) -> None:
        if step % self.config.loop.log_every == 0 or step == steps:
            told = {"stage": name, "step": step, "of": steps, "seconds": round(time.time() - self.started, 1)}
            self.notify(json.dumps(told))

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
        if self.held and self.options and self.fitted_on >= FITTED_ON and all(item.votes for item in self.held.encoded):
            fitted = calibrate(self.out, Path(data.holdout), Path(data.train.split(",")[0].strip()), self.labels)
            self.notify(f"the verdict, fitted on {data.holdout}: {fitted}")
        if data.validation and self.options:
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"validation": look(self.out, self.config)}) + "\n")
        plot_log(self.out)
        write_card(self.out)


def run_folder_text(path: Path, text: str) -> None:
    from emoreason.core.files import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise EmoreasonError(f"{path} cannot be written: {error.strerror or error}") from None


def _rounded(line: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) if isinstance(v, float) and k != "lr" else v for k, v in line.items()}


def build(config: ExplainerConfig, compute: device.Compute, encoder: Encoder | None = None) -> VisionLanguageModel:
    """Base models by name, a fresh projector and a fresh adapter, or those of an earlier run."""
    encoder = encoder or load_encoder(config.encoder, compute)
    low = None
    if config.quantize:
        from emoreason.models.quantize import bitsandbytes_config

        low = bitsandbytes_config(config.quantize, compute.torch_dtype)
    folder = Path(config.vocabulary) if config.vocabulary else None
    language = load_language(config.language, folder, low, compute.torch_dtype)
    vlm = VisionLanguageModel.create(ExplainerSpec(config.encoder, config.language, config.grid), encoder, language)
    if low is None:
        vlm.to(compute.device)
    if config.start:
        vlm._load_parts(Path(config.start))
    else:
        vlm.add_lora(lora_config(config.lora))
    for key, parameter in vlm.language.named_parameters():
        if "lora_" in key:
            parameter.data = parameter.data.float()  # small, and AdamW's steps are smaller than bfloat16 can hold
    vlm.projector.float()
    return vlm


def lora_config(lora: LoraSettings) -> Any:
    from peft import LoraConfig

    wanted = lora.targets if lora.targets == "all-linear" else [name.strip() for name in lora.targets.split(",")]
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wanted,
                      task_type="CAUSAL_LM")  # fmt: skip


def label_names(given: str) -> tuple[str, ...]:
    if given in LABEL_SETS:
        return LABEL_SETS[given].labels
    return tuple(label.strip() for label in given.split(",") if label.strip())


def train_explainer(config: ExplainerConfig) -> Path:
    return Trainer(config).fit()
