"""The training loop for image towers and language models.

A step depends only on the seed and its number, and a loss is a sum over rows divided by the count of the whole step.
So a killed run continues exactly, and micro-batches and several processes do not change the result.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emoreason.core.errors import EmoreasonError
from emoreason.train.checkpoint import Checkpoints
from emoreason.train.processes import configure_deepspeed, is_sharded, no_sync, peak_memory
from emoreason.train.settings import LoopSettings


@dataclass(frozen=True)
class Step:
    rows: tuple[int, ...]  # rows of the whole step, over all processes
    counts: dict[str, float]  # name of a loss -> divisor of its sum


class Trainable(nn.Module):
    """A model with its data and losses. `forward` returns sums over rows; the loop divides, weights and adds them."""

    weights: dict[str, float]  # weight of each loss; losses without a weight are only logged
    held: int = 0  # number of held-out rows
    digest: str = ""  # hash of the data: a checkpoint of other data is refused

    def step(self, number: int) -> Step:
        raise NotImplementedError

    def forward(self, number: int, rows: Sequence[int], held: bool = False) -> dict[str, Tensor]:
        """The sums over these rows of step `number`; with `held`, {"held_out": sum} over held-out rows."""
        raise NotImplementedError

    def groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups, each with its highest "lr"."""
        raise NotImplementedError

    def learned_names(self) -> set[str]:
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return trained | {name for name, _ in self.named_buffers()}

    def learned(self) -> dict[str, Tensor]:
        """Everything that training changes, for the checkpoint."""
        names = self.learned_names()
        return {name: value for name, value in self.state_dict().items() if name in names}

    def load_learned(self, learned: dict[str, Tensor]) -> None:
        self.load_state_dict(learned, strict=False)

    def inputs(self, number: int, rows: Sequence[int]) -> dict[str, Tensor]:
        """The inputs of a step, saved if its loss is not a number."""
        return {"rows": torch.tensor(list(rows))}

    def epoch(self, number: int) -> None:
        """Called before each pass over the data; the first is 1."""


@dataclass(frozen=True)
class FitResult:
    step: int  # the step whose weights are kept
    learned: dict[str, Tensor]  # these weights
    log: list[dict[str, Any]] = field(default_factory=list)
    rows_per_second: float = 0.0
    peak_bytes: int = 0


def fit(
    work: Trainable,
    steps: int,
    pass_steps: int,
    settings: LoopSettings,
    out: Path,
    accelerator: Any,
    seed: int,
    notify: Callable[[str], None] = lambda text: None,
    progress: Callable[[int], None] = lambda step: None,
) -> FitResult:
    """Train `work` in place. pass_steps: steps in a pass over the data; after each, the held-out rows are scored."""
    return _Run(work, steps, pass_steps, settings, out, accelerator, seed, notify, progress).run()


@dataclass
class _Run:
    work: Trainable
    steps: int
    pass_steps: int
    settings: LoopSettings
    out: Path
    accelerator: Any
    seed: int
    notify: Callable[[str], None]
    progress: Callable[[int], None]

    def __post_init__(self) -> None:
        groups = self.work.groups()
        self.peaks = [group["lr"] for group in groups]
        configure_deepspeed(self.accelerator, len(self.work.step(0).rows), self.settings)
        self.model, self.optimizer = self.accelerator.prepare(self.work, torch.optim.AdamW(groups))
        self.checkpoints = Checkpoints(self.out, self.accelerator, is_sharded(self.accelerator))
        self.micro, self.halved = self.settings.micro_batch, False
        self.state: dict[str, Any] = {"step": 0, "best": math.inf, "best_step": 0, "log": [], "meter": {}}
        self.best: dict[str, Tensor] = {}

    def run(self) -> FitResult:
        self._resume()
        self.model.train()
        rows, started = 0, time.monotonic()
        if self.work.held and not self.best:
            self._evaluate()
        while self.state["step"] < self.steps and not self._patience_is_over():
            number = self.state["step"]
            if number % self.pass_steps == 0:
                self.work.epoch(number // self.pass_steps + 1)
            plan = self.work.step(number)
            losses = self._step(number, plan)
            self.state["step"] = number + 1
            rows += len(plan.rows)
            for name, value in losses.items():
                self.state["meter"].setdefault(name, []).append(value)
            self.progress(number + 1)
            ends_pass = (number + 1) % self.pass_steps == 0 or number + 1 == self.steps
            if (number + 1) % self.settings.log_every == 0 or ends_pass:
                means = {name: sum(values) / len(values) for name, values in self.state["meter"].items()}
                self.state["log"].append({"step": number + 1, **means, "lr": self.optimizer.param_groups[0]["lr"]})
                self.state["meter"] = {}
            if ends_pass and self.work.held:
                self._evaluate()
            if (number + 1) % self.settings.checkpoint_every == 0 or ends_pass:
                self._save()
        seconds = time.monotonic() - started
        learned = self.best or self.checkpoints.full_weights(self.work, self.model)
        if not self.checkpoints.sharded:
            self.work.load_learned(learned)
        kept_step = self.state["best_step"] if self.work.held else self.state["step"]
        speed = rows / seconds if rows else 0.0
        return FitResult(kept_step, learned, self.state["log"], speed, peak_memory(self.accelerator.device))

    # ---- a step ---------------------------------------------------------------------------------------------------

    def _step(self, number: int, plan: Step) -> dict[str, float]:
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate(number, self.steps, self.settings.warmup)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = plan.rows[rank::world]
        while True:
            self.optimizer.zero_grad()
            try:
                sums = self._gradients(number, mine, plan)
                break
            except RuntimeError as error:  # torch's OutOfMemoryError is one; a processor's says "can't allocate memory"
                self._halve_micro_batch(error, len(mine))
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        if norm is not None and not math.isfinite(float(norm)):
            self._fail_not_finite(number, mine, {"norm of the gradient": float(norm)})
        self.optimizer.step()
        return sums

    def _gradients(self, number: int, mine: Sequence[int], plan: Step) -> dict[str, float]:
        """Backward over this process's rows in micro-batches. Returns the losses of the whole step."""
        size, world = self.micro or len(mine), self.accelerator.num_processes
        parts = [mine[start : start + size] for start in range(0, len(mine), size)]
        sums: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            torch.manual_seed(self.seed * 1_000_003 + number * 131 + i)  # for dropout
            last = i + 1 == len(parts)
            with no_sync(self.accelerator, self.model, not last):
                with self.accelerator.autocast():
                    part_sums = self.model(number, part)
                shares = {name: value / plan.counts.get(name, 1.0) for name, value in part_sums.items()}
                loss = sum(
                    self.work.weights[name] * value for name, value in shares.items() if name in self.work.weights
                )
                if not torch.isfinite(loss):
                    self._fail_not_finite(number, part, {name: float(value.detach()) for name, value in shares.items()})
                self.accelerator.backward(loss * world)  # gradients are averaged over processes, but must be summed
            for name, value in shares.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        return {name: float(self.accelerator.reduce(value, "sum")) for name, value in sums.items()}

    def _halve_micro_batch(self, error: RuntimeError, share: int) -> None:
        message = str(error).lower()
        if "out of memory" not in message and "can't allocate memory" not in message:
            raise error
        size = self.micro or share
        option = f"--loop.micro_batch {max(1, size // 2)}"
        if self.halved or size < 2 or self.accelerator.num_processes > 1:
            advice = "a smaller encoder, or --tower.checkpointing true" if size < 2 else f"{option} --resume"
            raise EmoreasonError(
                f"out of memory with {size} rows at once; the last checkpoint is intact. Try {advice}"
            ) from None
        self.micro, self.halved = (size + 1) // 2, True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.notify(f"out of memory with {size} rows at once: {self.micro} from now on; the batch stays the same")

    def _fail_not_finite(self, number: int, rows: Sequence[int], values: dict[str, float]) -> None:
        """Save the batch for inspection and raise an error."""
        path = self.checkpoints.save_bad_step(number, rows, values, self.work.inputs(number, rows))
        losses = ", ".join(f"{name} {value}" for name, value in values.items())
        raise EmoreasonError(
            f"step {number + 1}: the loss is not a number ({losses}). The batch is in {path}; the last checkpoint is "
            "intact. Try a smaller learning rate, or look at these rows"
        )

    # ---- evaluation and checkpoints ---------------------------------------------------------------------------------

    @torch.no_grad()
    def _evaluate(self) -> None:
        """Compute the mean held-out loss and keep the weights if it is the best so far."""
        self.model.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        size = self.micro or 128
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        rounds = math.ceil(
            self.work.held / (size * world)
        )  # equal on all processes: sharded weights need every process in each forward
        for i in range(rounds):
            rows = range(self.work.held)[(i * world + rank) * size : (i * world + rank + 1) * size] or range(1)
            with self.accelerator.autocast():
                loss = self.model(self.state["step"], rows, True)["held_out"]
            total += loss.double() if (i * world + rank) * size < self.work.held else 0.0
        self.model.train()
        held_out = float(self.accelerator.reduce(total, "sum")) / self.work.held
        self.state["log"].append({"step": self.state["step"], "held_out": held_out})
        if held_out < self.state["best"] or not self.best:
            self.state |= {"best": held_out, "best_step": self.state["step"]}
            weights = self.checkpoints.full_weights(self.work, self.model)
            self.best = {name: value.detach().cpu().clone() for name, value in weights.items()}

    def _patience_is_over(self) -> bool:
        since = self.state["step"] - self.state["best_step"]
        return bool(self.work.held) and since >= self.settings.patience * self.pass_steps

    def _save(self) -> None:
        state = self.state | {"micro": self.micro, "digest": self.work.digest}
        self.checkpoints.write(state, self.best, self.work, self.optimizer)

    def _resume(self) -> None:
        checkpoint = self.checkpoints.read(self.work, self.optimizer)
        if checkpoint is None:
            return
        state, self.best = checkpoint
        if state.pop("digest") != self.work.digest:
            raise EmoreasonError(
                "the data differs from that of the stopped run: give the same data, or --overwrite to train again"
            )
        self.micro = state.pop("micro")
        self.state = state
        self.notify(f"going on after step {state['step']}")


def rate(step: int, steps: int, warmup: float) -> float:
    """Learning rate as a share of the peak: linear warmup, then cosine decay."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
