"""The training steps of an explainer: the loss of the text that it writes, and of its verdict."""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from emoreason.core.errors import EmoreasonError
from emoreason.explain.prompts import load_prompts
from emoreason.models.vlm import VisionLanguageModel
from emoreason.train.augment import apply, draw
from emoreason.train.loop import Step, Trainable
from emoreason.train.text.config import ExplainerConfig, Stage
from emoreason.train.text.encoding import VISUAL, Batch, Coder, Encoded, collate, one_pass
from emoreason.train.text.packing import use_packed
from emoreason.train.text.texts import ConversationSet
from emoreason.train.text.token_loss import token_loss


class ExplainerTask(Trainable):
    """One stage of training: align (only the projector) or tune (projector and LoRA)."""

    def __init__(
        self,
        name: str,
        vlm: VisionLanguageModel,
        config: ExplainerConfig,
        coder: Coder,
        train: ConversationSet,
        held: ConversationSet | None,
        options: dict[str, list[int]],
    ):
        """options: label -> its single tokens; without options the verdict is not trained."""
        super().__init__()
        self.name, self.vlm, self.config, self.coder = name, vlm, config, coder
        self.packed = use_packed(vlm.language)
        self.stage: Stage = getattr(config, name)
        self.train_set, self.held_set, self.options = train, held, options
        self.held = len(held) if held else 0
        self.weights = {"text": 1.0, "verdict": config.loss.verdict}
        self.text_rows = [i for i, item in enumerate(train.encoded) if item.learned]
        self.verdict_rows = [i for i, item in enumerate(train.encoded) if item.votes and train.sheets[i] is not None]
        self.plan = lru_cache(maxsize=2)(self._plan)
        self.passes = lru_cache(maxsize=2)(self._pass)

    def set_trained(self) -> None:
        """Make the projector trainable, and LoRA in stage `tune`."""
        self.vlm.requires_grad_(False)
        self.vlm.projector.requires_grad_(True)
        for key, parameter in self.vlm.language.named_parameters():
            if "lora_" in key:
                parameter.requires_grad_(self.name == "tune")

    def groups(self) -> list[dict[str, Any]]:
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": learned, "lr": self.stage.lr, "weight_decay": self.config.run.weight_decay, "betas": (0.9, 0.98)}
        ]

    def learned_names(self) -> set[str]:
        """The trainable parameters only; the buffers of the language model never change."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    # ---- which rows -----------------------------------------------------------------------------------------------

    def step(self, number: int) -> Step:
        return self.plan(number)

    def _is_verdict_step(self, number: int) -> bool:
        """Whether this is a verdict step, which asks only for the verdict."""
        every = self.stage.verdict_every if self.options else 0
        return bool(every) and (every == 1 or number % every == 1)

    def _pass(self, kind: str, size: int, number: int) -> list[list[int]]:
        rows = self.verdict_rows if kind == "verdict" else self.text_rows
        order = one_pass(len(rows), size, [self.config.seed, self.name, kind, number])
        return [[rows[at] for at in batch] for batch in order]

    def _plan(self, number: int) -> Step:
        """The rows of a step. They depend only on seed, stage and number."""
        verdict_only = self._is_verdict_step(number)
        n = len(self.verdict_rows if verdict_only else self.text_rows)
        if not n:
            raise EmoreasonError(
                "verdict steps need `evidence` with units, probabilities and votes in the training file; "
                "to train without them: --align.verdict_every 0 --tune.verdict_every 0"
            )
        size = min(self.stage.verdict_batch if verdict_only else self.stage.batch_size, n)
        per_pass = n // size
        rows = self.passes("verdict" if verdict_only else "text", size, number // per_pass)[number % per_pass]
        items = [self.train_set.encoded[row] for row in rows]
        if verdict_only:
            return Step(tuple(rows), {"verdict": float(len(rows))})
        voted = sum(_voted(item) for item in items)
        return Step(tuple(rows), {"text": float(max(1, sum(item.learned for item in items))),
                                  "verdict": float(max(1, voted))})  # fmt: skip

    def items(self, number: int, rows: Sequence[int]) -> list[Encoded]:
        if not self._is_verdict_step(number):
            return [self.train_set.encoded[row] for row in rows]
        return [self._verdict_item(number, row) for row in rows]

    def _verdict_item(self, number: int, row: int) -> Encoded:
        sheet, votes = self.train_set.sheets[row], self.train_set.encoded[row].votes
        assert sheet is not None and votes is not None
        script = load_prompts()
        drawn = random.Random(f"{self.config.seed}/{self.name}/{number}/{row}").random()
        hide_units = drawn < self.config.loss.drop_units
        hide_picture = not hide_units and drawn > 1 - self.config.loss.drop_picture
        sheet_text = "" if hide_units else script.measured(sheet)
        return self.coder.verdict_only(sheet_text, script.verdict, votes, picture=not hide_picture)

    # ---- the loss -------------------------------------------------------------------------------------------------

    def forward(self, number: int, rows: Sequence[int], held: bool = False) -> dict[str, Tensor]:
        if held:
            return {"held_out": self._held_sum(rows)}
        items = self.items(number, rows)
        batch = collate(items, self.coder.tokenizer.pad, self.packed)
        faces, step = self.train_set.tensor(rows), self.plan(number)
        noise = torch.Generator().manual_seed(
            random.Random(f"{self.config.seed}/{self.name}/{number}").randrange(2**31)
        )
        draws = draw(len(step.rows), faces.shape[2], faces.shape[3], self.config.augment, noise)
        faces = apply(faces, draws.take(torch.tensor([step.rows.index(row) for row in rows])))
        text, verdict = self._sums(items, batch, faces, self._verdict_tokens(number))
        return {"verdict": verdict} if self._is_verdict_step(number) else {"text": text, "verdict": verdict}

    def _held_sum(self, rows: Sequence[int]) -> Tensor:
        """The held-out loss, scaled so that its mean over held-out rows is a loss per token plus one per verdict."""
        assert self.held_set is not None
        everything = self.held_set.encoded
        items = [everything[row] for row in rows]
        batch = collate(items, self.coder.tokenizer.pad, self.packed)
        firsts = [tokens[0] for tokens in self.options.values()]
        text, verdict = self._sums(items, batch, self.held_set.tensor(rows), firsts)
        n_words, n_verdicts = sum(item.learned for item in everything), sum(_voted(item) for item in everything)
        total = verdict * (self.weights["verdict"] * self.held / max(1, n_verdicts))
        return total if self.options and self.stage.verdict_every == 1 else total + text * (self.held / max(1, n_words))

    def _sums(self, items: list[Encoded], batch: Batch, faces: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of the learned tokens, and of the verdicts against the votes."""
        hidden = run_model(self.vlm, batch, self.vlm.encoder.patches(faces))
        targets = batch.targets.to(hidden.device)
        wanted = targets >= 0
        text = token_loss(self.vlm, hidden[wanted], targets[wanted])
        verdicts = [(votes, row, at) for i, row, at in batch.verdicts if tokens and (votes := items[i].votes)]
        if not verdicts:
            return text, hidden.sum() * 0.0
        target = torch.tensor([[votes.get(label, 0.0) for label in self.options] for votes, _, _ in verdicts])
        at = torch.stack([hidden[row, place] for _, row, place in verdicts])
        logits = self.vlm.head(at)[:, tokens]  # (A, L)
        target = (target / target.sum(dim=1, keepdim=True).clamp(min=1e-9)).to(logits.device)
        return text, -(target * logits.log_softmax(dim=1)).sum()

    def _verdict_tokens(self, number: int) -> list[int]:
        rng = random.Random(f"{self.config.seed}/{self.name}/{number}/words")
        other = rng.random() < self.config.loss.synonyms
        return [rng.choice(tokens) if other else tokens[0] for tokens in self.options.values()]

    def inputs(self, number: int, rows: Sequence[int]) -> dict[str, Tensor]:
        batch = collate(self.items(number, rows), self.coder.tokenizer.pad)
        return {"rows": torch.tensor(list(rows)), "tokens": batch.tokens, "targets": batch.targets}


def _voted(item: Encoded) -> bool:
    return item.verdict is not None and bool(item.votes)


def run_model(vlm: VisionLanguageModel, batch: Batch, patches: Tensor) -> Tensor:
    """Fill in the visual tokens and run the language model: (R, n) tokens -> (R, n, H)."""
    tokens = batch.tokens.to(vlm.device)
    embedded = vlm.embed(tokens.clamp(min=0))  # (R, n, H)
    visual = vlm.project(patches)  # (B, V, H)
    if batch.order:
        shown = visual[torch.tensor(batch.order, device=visual.device)].reshape(-1, visual.shape[2])
        embedded = embedded.masked_scatter((tokens == VISUAL).unsqueeze(2), shown.to(embedded.dtype))
    else:
        embedded = embedded + 0.0 * visual.sum()  # DDP needs the projector in every step
    return vlm.hidden(embedded, None, batch.positions.to(vlm.device))
