"""Chooses the number of training steps for texts, by a time limit on a CPU and by passes on a GPU."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from emoreason.train.settings import WordsSettings
from emoreason.train.text.explainer import Trainer

MAX_PASSES, GPU_PASSES, MIN_STEPS = 12, 3, 8


def choose_steps(
    trainer: Trainer, settings: WordsSettings, private: Path, notify: Callable[[str], None]
) -> tuple[int, str]:
    """The number of steps and the reason. They are stored, so that a resumed run uses the same number."""
    path = private / "steps.json"
    digest = hashlib.sha256((private / "train.jsonl").read_bytes()).hexdigest()
    if not path.is_file() or json.loads(path.read_text())["data"] != digest:
        steps, why = _compute_steps(trainer, settings)
        if trainer.accelerator.is_main_process:
            path.write_text(json.dumps({"data": digest, "steps": steps, "why": why}))
    trainer.accelerator.wait_for_everyone()  # the main process decides
    stored = json.loads(path.read_text())
    notify(f"words: {stored['steps']} steps of {min(settings.batch_size, len(trainer.train))} texts ({stored['why']})")
    return stored["steps"], stored["why"]


def _compute_steps(trainer: Trainer, settings: WordsSettings) -> tuple[int, str]:
    per_pass = max(1, len(trainer.train) // settings.batch_size)
    if settings.steps:
        return settings.steps, "as asked"
    if trainer.compute.device.startswith("cuda"):
        why = f"{GPU_PASSES} passes over the texts, on {trainer.compute.device}"
        return max(GPU_PASSES * per_pass, MIN_STEPS), why
    seconds = _seconds_per_step(trainer)
    fitting = int(60 * settings.minutes / seconds)
    steps = max(MIN_STEPS, min(fitting, MAX_PASSES * per_pass))
    limit = f"{settings.minutes:g} minutes" if steps <= fitting else f"the minimum of {MIN_STEPS} steps"
    limit = f"{MAX_PASSES} passes" if steps == MAX_PASSES * per_pass < fitting else limit
    return steps, f"a step takes {seconds:.1f} s on this processor, and the limit is {limit}"


def _seconds_per_step(trainer: Trainer) -> float:
    work = trainer.work("tune")
    rows = work.step(0).rows
    with trainer.accelerator.autocast():
        sum(work(0, rows[:1]).values()).backward()  # warm-up: the first pass allocates memory
        started = time.monotonic()
        sum(work(0, rows).values()).backward()
    work.zero_grad()
    return time.monotonic() - started
