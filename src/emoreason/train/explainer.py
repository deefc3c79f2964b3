"""Train an explainer: stage 1 aligns the projector, stage 2 tunes LoRA with it.

Everything random follows from seed and step. Step k of a stage is the same whatever came before it, so a run that was
killed goes on exactly where it stood.
"""

import dataclasses
import hashlib
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

from emoreason import device
from emoreason.data import messages
from emoreason.emotions import LABEL_SETS
from emoreason.encoder import load_encoder
from emoreason.errors import EmoreasonError
from emoreason.explain.script import load_script
from emoreason.explain.sheet import Sheet
from emoreason.language import load_language
from emoreason.resources import resource
from emoreason.train.augment import augment
from emoreason.train.conversations import VISUAL, Batch, Encoded, Encoder, collate, grouped_by_length
from emoreason.train.explainer_config import ExplainerConfig, Stage
from emoreason.train.runlog import look, plot_log, write_card
from emoreason.train.verdict import calibrate
from emoreason.vlm import ExplainerSpec, VisionLanguageModel

STAGES = ("align", "tune")


@dataclasses.dataclass(frozen=True)
class Set:
    """One file of conversations: crops in memory, texts as tokens."""

    pixels: np.ndarray  # (n, S, S, 3) uint8
    encoded: list[Encoded]
    sheets: list[Sheet | None]
    digest: str

    def __len__(self) -> int:
        return len(self.encoded)


def read_set(path: str, vlm: VisionLanguageModel, max_tokens: int) -> Set:
    coder = Encoder(vlm, max_tokens)
    pixels, encoded, sheets = [], [], []
    for conversation in messages.read(path):
        if len(conversation.images) != 1:
            raise EmoreasonError(f"{path}: one picture per conversation was expected, found {len(conversation.images)}")
        crop = Image.open(Path(path).parent / conversation.images[0])
        pixels.append(vlm.encoder.pixels(crop.convert("RGB")))
        encoded.append(coder.conversation(conversation))
        evidence = conversation.evidence or {}
        known = "units" in evidence and "probabilities" in evidence
        sheets.append(Sheet(evidence["units"], evidence["probabilities"]) if known else None)
    if not encoded:
        raise EmoreasonError(f"{path} holds no conversation")
    return Set(np.stack(pixels), encoded, sheets, hashlib.sha256(Path(path).read_bytes()).hexdigest())


class Trainer:
    def __init__(self, config: ExplainerConfig):
        from accelerate import Accelerator

        self.config, self.out = config, Path(config.out)
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.compute = device.choose(config.device)
        low = self.compute.dtype == "bfloat16"
        self.accelerator = Accelerator(mixed_precision="bf16" if low else "no", cpu=self.compute.device == "cpu")
        self.vlm = build(config, self.compute)
        self.labels = label_names(config.data.labels)
        self.script = load_script()
        self.coder = Encoder(self.vlm, config.run.max_tokens)
        self.train = read_set(config.data.train, self.vlm, config.run.max_tokens)
        self.options = self._options()
        self.started = time.time()

    def _options(self) -> dict[str, list[int]]:
        """label -> single tokens that ask for it; the label itself first."""
        words = yaml.safe_load(resource("prompts/training.yaml").read_text())["words"]
        found = {}
        for label in self.labels:
            spelled = [self.vlm.tokenizer.encode(f" {word}") for word in (label, *words.get(label, ()))]
            found[label] = list(dict.fromkeys(tokens[0] for tokens in spelled if len(tokens) == 1))
        short = [label for label, tokens in found.items() if not tokens]
        if short:
            raise EmoreasonError(f"no single token for {', '.join(short)}: the verdict of training needs one per label")
        return found

    # ---- one step -------------------------------------------------------------------------------------------------

    def verdict_batch(self, rows: list[int], rng: random.Random) -> Batch:
        items = []
        for row in rows:
            sheet, votes = self.train.sheets[row], self.train.encoded[row].votes
            if sheet is None or votes is None:
                raise EmoreasonError(
                    "a verdict needs `evidence` with units, probabilities and votes in the training file"
                )
            drawn = rng.random()
            hide_units = drawn < self.config.loss.drop_units
            hide_picture = not hide_units and drawn > 1 - self.config.loss.drop_picture
            told = "" if hide_units else self.script.measured_units(sheet)
            items.append(self.coder.verdict_only(told, self.script.verdict, votes, picture=not hide_picture))
        return collate(items, self.vlm.tokenizer.pad)

    def loss(self, batch: Batch, rows: list[int], rng: random.Random, noise: torch.Generator) -> tuple[Tensor, dict]:
        """Cross-entropy of the model's own words, and of the verdict against the votes."""
        faces = torch.from_numpy(self.train.pixels[rows]).permute(0, 3, 1, 2).float() / 255
        patches = self.vlm.encoder.patches(augment(faces, self.config.augment, noise))
        hidden = run_model(self.vlm, batch, patches)
        total, told = hidden.new_zeros(()), {}
        wanted = batch.targets.to(hidden.device) >= 0
        if wanted.any():
            text = F.cross_entropy(self.vlm.head(hidden[wanted]), batch.targets.to(hidden.device)[wanted])
            total, told["text"] = total + text, text.item()
        asked = [(row, int(at)) for row, at in enumerate(batch.verdicts) if at >= 0 and batch.votes[row]]
        if asked:
            other = rng.random() < self.config.loss.synonyms
            tokens = [rng.choice(self.options[label]) if other else self.options[label][0] for label in self.labels]
            target = torch.tensor([[batch.votes[row].get(label, 0.0) for label in self.labels] for row, _ in asked])  # type: ignore[union-attr]
            at = torch.stack([hidden[row, where] for row, where in asked])
            logits = self.vlm.head(at)[:, tokens]  # (A, L)
            target = target.to(logits.device) / target.sum(dim=1, keepdim=True).to(logits.device)
            verdict = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
            total, told["verdict"] = total + self.config.loss.verdict * verdict, verdict.item()
        return total, told

    # ---- the run --------------------------------------------------------------------------------------------------

    def fit(self) -> Path:
        resolved = yaml.safe_dump(dataclasses.asdict(self.config), sort_keys=False)
        (self.out / "config.yaml").write_text(resolved, encoding="utf-8")
        at = self._resume()
        for stage in STAGES[STAGES.index(at["stage"]) :]:
            self._stage(stage, at if stage == at["stage"] else {"step": 0})
        self.save()
        return self.out

    def _stage(self, name: str, at: dict[str, Any]) -> None:
        stage: Stage = getattr(self.config, name)
        if not stage.steps:
            return
        learned = [*self.vlm.projector.parameters()]
        self.vlm.projector.requires_grad_(True)
        for key, parameter in self.vlm.language.named_parameters():
            if "lora_" in key:
                parameter.requires_grad_(name == "tune")
                learned += [parameter] if name == "tune" else []
        optimizer = torch.optim.AdamW(
            learned, lr=stage.lr, weight_decay=self.config.run.weight_decay, betas=(0.9, 0.98)
        )
        if "optimizer" in at:
            optimizer.load_state_dict(at["optimizer"])
        self.vlm.train()
        step, meter = at["step"], _Meter()
        while step < stage.steps:
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * _rate(step, stage.steps, stage.warmup)
            optimizer.zero_grad()
            for part in range(stage.accumulate):
                rows, batch, rng, noise = self._batch(name, stage, step, part)
                with self.accelerator.autocast():
                    loss, told = self.loss(batch, rows, rng, noise)
                if not torch.isfinite(loss):
                    raise EmoreasonError(
                        f"the loss became {loss.item()} in step {step} of {name}: try a smaller {name}.lr"
                    )
                self.accelerator.backward(loss / stage.accumulate)
                meter.add(told, int(batch.mask.sum()))
            norm = torch.nn.utils.clip_grad_norm_(learned, self.config.run.clip_norm)
            optimizer.step()
            step += 1
            if step % self.config.run.log_every == 0 or step == stage.steps:
                self._log({"stage": name, "step": step, **meter.take(), "norm": round(float(norm), 3),
                           "lr": optimizer.param_groups[0]["lr"],
                           "seconds": round(time.time() - self.started, 1)})  # fmt: skip
            if step % self.config.run.checkpoint_every == 0 or step == stage.steps:
                self._checkpoint(name, step, optimizer)

    def _batch(self, name: str, stage: Stage, step: int, part: int) -> tuple[list[int], Batch, random.Random, Any]:
        """The rows of a step: a function of seed, stage, step and part alone."""
        rng = random.Random(f"{self.config.seed}/{name}/{step}/{part}")
        noise = torch.Generator().manual_seed(rng.randrange(2**31))
        verdict_step = bool(stage.verdict_every) and (stage.verdict_every == 1 or step % stage.verdict_every == 1)
        size = (stage.verdict_batch if verdict_step else stage.batch_size) // stage.accumulate
        place = step * stage.accumulate + part
        if verdict_step:
            per_pass = max(1, len(self.train) // size)
            order = np.random.default_rng([self.config.seed, 1, place // per_pass]).permutation(len(self.train))
            rows = order[place % per_pass * size :][:size].tolist()
            return rows, self.verdict_batch(rows, rng), rng, noise
        per_pass = max(1, len(self.train) // size)
        batches = self._passes(size, place // per_pass)
        rows = batches[place % len(batches)]
        return rows, collate([self.train.encoded[row] for row in rows], self.vlm.tokenizer.pad), rng, noise

    def _passes(self, size: int, number: int) -> list[list[int]]:
        if getattr(self, "_pass", (None,))[0] != (size, number):
            lengths = [len(item) for item in self.train.encoded]
            self._pass = ((size, number), grouped_by_length(lengths, size, self.config.seed + number))
        return self._pass[1]

    def _log(self, line: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    # ---- keeping --------------------------------------------------------------------------------------------------

    def _learned(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        adapter = {f"language.{k}": v for k, v in get_peft_model_state_dict(self.vlm.language).items()}
        return adapter | {f"projector.{k}": v for k, v in self.vlm.projector.state_dict().items()}

    def _checkpoint(self, stage: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        """It never leaves the run folder, so torch's own format is fine; read back with weights_only."""
        state = {"stage": stage, "step": step, "learned": self._learned(), "optimizer": optimizer.state_dict()}
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")

    def _resume(self) -> dict[str, Any]:
        from peft import set_peft_model_state_dict

        path = self.out / "checkpoint.pt"
        if not path.exists():
            (self.out / "log.jsonl").unlink(missing_ok=True)
            return {"stage": STAGES[0], "step": 0}
        state = torch.load(path, weights_only=True)
        learned = state["learned"]
        adapter = {k.removeprefix("language."): v for k, v in learned.items() if k.startswith("language.")}
        set_peft_model_state_dict(self.vlm.language, adapter)
        projector = {k.removeprefix("projector."): v for k, v in learned.items() if k.startswith("projector.")}
        self.vlm.projector.load_state_dict(projector)
        log = self.out / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        done = STAGES.index(state["stage"]), state["step"]
        kept = [line for line in lines if "stage" not in line or (STAGES.index(line["stage"]), line["step"]) <= done]
        log.write_text("".join(json.dumps(line) + "\n" for line in kept))
        print(f"going on after step {state['step']} of {state['stage']}", flush=True)
        return state

    def save(self) -> None:
        spec = dataclasses.replace(
            self.vlm.spec, labels=self.labels, prompts=self.script.id,
            encoder_revision=self.vlm.encoder.revision,
            trained_on={"data_sha256": self.train.digest, "conversations": len(self.train), "seed": self.config.seed,
                        "dtype": self.compute.dtype, "torch": torch.__version__},
        )  # fmt: skip
        self.vlm.spec = spec
        self.vlm.save_pretrained(self.out, torch.float16)
        if self.config.data.holdout:
            fitted = calibrate(self.out, Path(self.config.data.holdout), Path(self.config.data.train), self.labels)
            print(f"the verdict, fitted on {self.config.data.holdout}: {fitted}", flush=True)
        if self.config.data.validation:
            self._log({"validation": look(self.out, self.config)})
        plot_log(self.out)
        write_card(self.out)


def run_model(vlm: VisionLanguageModel, batch: Batch, patches: Tensor) -> Tensor:
    """(B, n) tokens with visual tokens filled in -> (B, n, H)."""
    tokens = batch.tokens.to(vlm.device)
    embedded = vlm.embed(tokens.clamp(min=0))  # (B, n, H)
    places = tokens == VISUAL
    if places.any():
        seeing = places.any(dim=1)
        visual = vlm.project(patches)[seeing.to(patches.device)]  # (S, V, H)
        embedded = embedded.masked_scatter(places.unsqueeze(2), visual.reshape(-1, visual.shape[2]).to(embedded.dtype))
    positions = torch.arange(tokens.shape[1], device=vlm.device).expand(len(tokens), -1)
    return vlm.hidden(embedded, batch.mask.to(vlm.device), positions)


def build(config: ExplainerConfig, compute: device.Compute) -> VisionLanguageModel:
    """Base models by name, a fresh projector and a fresh adapter, or those of an earlier run."""
    from peft import LoraConfig

    encoder = load_encoder(config.encoder, compute)
    low = None
    if config.quantize:
        from emoreason.quantize import bitsandbytes_config

        low = bitsandbytes_config(config.quantize, compute.torch_dtype)
    folder = Path(config.vocabulary) if config.vocabulary else None
    language = load_language(config.language, folder, low, compute.torch_dtype)
    vlm = VisionLanguageModel.create(ExplainerSpec(config.encoder, config.language, config.grid), encoder, language)
    if low is None:
        vlm.to(compute.device)
    if config.start:
        vlm._load_parts(Path(config.start))
        for key, parameter in vlm.language.named_parameters():
            parameter.requires_grad_("lora_" in key)
    else:
        targets = config.lora.targets
        wanted = targets if targets == "all-linear" else [name.strip() for name in targets.split(",")]
        vlm.add_lora(LoraConfig(r=config.lora.r, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout,
                                target_modules=wanted, task_type="CAUSAL_LM"))  # fmt: skip
    for key, parameter in vlm.language.named_parameters():
        if "lora_" in key:
            parameter.data = parameter.data.float()  # small, and AdamW's steps are smaller than bfloat16 can hold
    vlm.projector.float()
    return vlm


def label_names(given: str) -> tuple[str, ...]:
    if given in LABEL_SETS:
        return LABEL_SETS[given].labels
    return tuple(label.strip() for label in given.split(",") if label.strip())


def _rate(step: int, steps: int, warmup: float) -> float:
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


class _Meter:
    """Means since the last line of the log."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._tokens, self._since = 0, time.time()

    def add(self, told: dict[str, float], tokens: int) -> None:
        for key, value in told.items():
            self._sums.setdefault(key, []).append(value)
        self._tokens += tokens

    def take(self) -> dict[str, float]:
        line = {key: round(float(np.mean(values)), 4) for key, values in self._sums.items()}
        line["tokens_per_s"] = round(self._tokens / (time.time() - self._since), 1)
        self._sums, self._tokens, self._since = {}, 0, time.time()
        return line


def train_explainer(config: ExplainerConfig) -> Path:
    return Trainer(config).fit()
