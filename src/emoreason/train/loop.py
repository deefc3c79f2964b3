"""The training loop of everything with a gradient that does not fit in a second: towers and language models.

What happens in a step follows from the seed and the step's number alone, and a loss is a sum over rows divided by the
count of the whole step. So a run that was killed goes on exactly, and micro-batches and processes change nothing.
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
from emoreason.train.processes import is_spread, no_sync, peak_memory, tell_deepspeed
from emoreason.train.settings import LoopSettings


@dataclass(frozen=True)
class Step:
    rows: tuple[int, ...]  # of the whole step, over all processes
    counts: dict[str, float]  # name of a loss -> what its sum is divided by


class Trainable(nn.Module):
    """What is trained. `forward` gives sums over rows, by name; the loop divides, weighs and adds them."""

    weights: dict[str, float]  # of the losses; those without one are only told
    held: int = 0  # number of held-out rows
    digest: str = ""  # of the data: a checkpoint of other data is refused

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
        """What a checkpoint keeps: everything that training changes."""
        names = self.learned_names()
        return {name: value for name, value in self.state_dict().items() if name in names}

    def load_learned(self, learned: dict[str, Tensor]) -> None:
        self.load_state_dict(learned, strict=False)

    def inputs(self, number: int, rows: Sequence[int]) -> dict[str, Tensor]:
        """What is kept of a step whose loss is not a number."""
        return {"rows": torch.tensor(list(rows))}

    def epoch(self, number: int) -> None:
        """Called before each pass over the data, 1 the first."""


@dataclass(frozen=True)
class Fitted:
    step: int  # whose weights are kept
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
) -> Fitted:
    """Train `work` in place. pass_steps: steps between looks at the held-out rows (one pass over the data)."""
    return _Run(work, steps, pass_steps, settings, out, accelerator, seed, notify, progress).go()


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
        tell_deepspeed(self.accelerator, len(self.work.step(0).rows), self.settings)
        self.model, self.optimizer = self.accelerator.prepare(self.work, torch.optim.AdamW(groups))
        self.checkpoints = Checkpoints(self.out, self.accelerator, is_spread(self.accelerator))
        self.micro, self.halved = self.settings.micro_batch, False
        self.state: dict[str, Any] = {"step": 0, "best": math.inf, "best_step": 0, "log": [], "meter": {}}
        self.best: dict[str, Tensor] = {}

    def go(self) -> Fitted:
        self._resume()
        self.model.train()
        rows, started = 0, time.monotonic()
        if self.work.held and not self.best:
            self._look()
        while self.state["step"] < self.steps and not self._patience_is_over():
            number = self.state["step"]
            if number % self.pass_steps == 0:
                self.work.epoch(number // self.pass_steps + 1)
            plan = self.work.step(number)
            told = self._step(number, plan)
            self.state["step"] = number + 1
            rows += len(plan.rows)
            for name, value in told.items():
                self.state["meter"].setdefault(name, []).append(value)
            self.progress(number + 1)
            ends_pass = (number + 1) % self.pass_steps == 0 or number + 1 == self.steps
            if (number + 1) % self.settings.log_every == 0 or ends_pass:
                means = {name: sum(values) / len(values) for name, values in self.state["meter"].items()}
                self.state["log"].append({"step": number + 1, **means, "lr": self.optimizer.param_groups[0]["lr"]})
                self.state["meter"] = {}
            if ends_pass and self.work.held:
                self._look()
            if (number + 1) % self.settings.checkpoint_every == 0 or ends_pass:
                self._keep()
        seconds = time.monotonic() - started
        learned = self.best or self.checkpoints.whole(self.work, self.model)
        if not self.checkpoints.spread:
            self.work.load_learned(learned)
        kept = self.state["best_step"] if self.work.held else self.state["step"]
        speed = rows / seconds if rows else 0.0
        return Fitted(kept, learned, self.state["log"], speed, peak_memory(self.accelerator.device))

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
                self._halve(error, len(mine))
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        if norm is not None and not math.isfinite(float(norm)):
            self._not_a_number(number, mine, {"norm of the gradient": float(norm)})
        self.optimizer.step()
        return sums

    def _gradients(self, number: int, mine: Sequence[int], plan: Step) -> dict[str, float]:
        """Backward over this process's share, part by part. -> the losses of the whole step."""
        size, world = self.micro or len(mine), self.accelerator.num_processes
        parts = [mine[start : start + size] for start in range(0, len(mine), size)]
        sums: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            torch.manual_seed(self.seed * 1_000_003 + number * 131 + i)  # dropout, where there is some
            whole = i + 1 == len(parts)
            with no_sync(self.accelerator, self.model, not whole):
                with self.accelerator.autocast():
                    found = self.model(number, part)
                shares = {name: value / plan.counts.get(name, 1.0) for name, value in found.items()}
                loss = sum(
                    self.work.weights[name] * value for name, value in shares.items() if name in self.work.weights
                )
                if not torch.isfinite(loss):
                    self._not_a_number(number, part, {name: float(value.detach()) for name, value in shares.items()})
                self.accelerator.backward(loss * world)  # what is averaged over processes is to be summed
            for name, value in shares.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        return {name: float(self.accelerator.reduce(value, "sum")) for name, value in sums.items()}

    def _halve(self, error: RuntimeError, share: int) -> None:
        told = str(error).lower()
        if "out of memory" not in told and "can't allocate memory" not in told:
            raise error
        size = self.micro or share
        way_out = f"--loop.micro_batch {max(1, size // 2)}"
        if self.halved or size < 2 or self.accelerator.num_processes > 1:
            again = "a smaller encoder, or --tower.checkpointing true" if size < 2 else f"{way_out} --resume"
            raise EmoreasonError(
                f"out of memory with {size} rows at once; the last checkpoint is whole: {again}"
            ) from None
        self.micro, self.halved = (size + 1) // 2, True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.notify(f"out of memory with {size} rows at once: {self.micro} from here on, with the same batch a step")

    def _not_a_number(self, number: int, rows: Sequence[int], values: dict[str, float]) -> None:
        """The batch that did it is kept, so that it can be looked at."""
        where = self.checkpoints.keep_bad(number, rows, values, self.work.inputs(number, rows))
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        raise EmoreasonError(
            f"step {number + 1}: the loss is not a number ({told}). The batch is in {where}; the last checkpoint is "
            "whole. Try a smaller learning rate, or look at these rows"
        )

    # ---- looking and keeping --------------------------------------------------------------------------------------

    @torch.no_grad()
    def _look(self) -> None:
        """The mean loss of the held-out rows decides which weights are kept."""
        self.model.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        size = self.micro or 128
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        rounds = math.ceil(self.work.held / (size * world))  # the same number everywhere: sharded weights need company
        for i in range(rounds):
            rows = range(self.work.held)[(i * world + rank) * size : (i * world + rank + 1) * size] or range(1)
            with self.accelerator.autocast():
                found = self.model(self.state["step"], rows, True)["held_out"]
            total += found.double() if (i * world + rank) * size < self.work.held else 0.0
        self.model.train()
        held_out = float(self.accelerator.reduce(total, "sum")) / self.work.held
        self.state["log"].append({"step": self.state["step"], "held_out": held_out})
        if held_out < self.state["best"] or not self.best:
            self.state |= {"best": held_out, "best_step": self.state["step"]}
            whole = self.checkpoints.whole(self.work, self.model)
            self.best = {name: value.detach().cpu().clone() for name, value in whole.items()}

    def _patience_is_over(self) -> bool:
        since = self.state["step"] - self.state["best_step"]
        return bool(self.work.held) and since >= self.settings.patience * self.pass_steps

    def _keep(self) -> None:
        state = self.state | {"micro": self.micro, "digest": self.work.digest}
        self.checkpoints.write(state, self.best, self.work, self.optimizer)

    def _resume(self) -> None:
        found = self.checkpoints.read(self.work, self.optimizer)
        if found is None:
            return
        state, self.best = found
        if state.pop("digest") != self.work.digest:
            raise EmoreasonError("the data is not that of the run that was stopped; --overwrite trains again")
        self.micro = state.pop("micro")
        self.state = state
        self.notify(f"going on after step {state['step']}")


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the highest learning rate: a line up, then a cosine down."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
