"""How long the words are learned, and why."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from emoreason.train.settings import WordsSettings
from emoreason.train.text.explainer import Trainer

MOST_PASSES, GPU_PASSES, FEWEST_STEPS = 12, 3, 8


def decide_steps(
    trainer: Trainer, settings: WordsSettings, private: Path, notify: Callable[[str], None]
) -> tuple[int, str]:
    """A run that goes on keeps what was decided."""
    kept = private / "steps.json"
    digest = hashlib.sha256((private / "train.jsonl").read_bytes()).hexdigest()
    if not kept.is_file() or json.loads(kept.read_text())["data"] != digest:
        steps, why = _chosen(trainer, settings)
        if trainer.accelerator.is_main_process:
            kept.write_text(json.dumps({"data": digest, "steps": steps, "why": why}))
    trainer.accelerator.wait_for_everyone()  # one process decides
    known = json.loads(kept.read_text())
    notify(f"words: {known['steps']} steps of {min(settings.batch_size, len(trainer.train))} texts ({known['why']})")
    return known["steps"], known["why"]


def _chosen(trainer: Trainer, settings: WordsSettings) -> tuple[int, str]:
    per_pass = max(1, len(trainer.train) // settings.batch_size)
    if settings.steps:
        return settings.steps, "as asked"
    if trainer.compute.device.startswith("cuda"):
        why = f"{GPU_PASSES} passes over the texts, on {trainer.compute.device}"
        return max(GPU_PASSES * per_pass, FEWEST_STEPS), why
    seconds = _seconds_a_step(trainer)
    fitting = int(60 * settings.minutes / seconds)
    steps = max(FEWEST_STEPS, min(fitting, MOST_PASSES * per_pass))
    limit = f"{settings.minutes:g} minutes" if steps <= fitting else "no fewer steps than that"
    limit = f"{MOST_PASSES} passes" if steps == MOST_PASSES * per_pass < fitting else limit
    return steps, f"a step takes {seconds:.1f} s on this processor, and the limit is {limit}"


def _seconds_a_step(trainer: Trainer) -> float:
    work = trainer.work("tune")
    rows = work.step(0).rows
    with trainer.accelerator.autocast():
        sum(work(0, rows[:1]).values()).backward()  # the first pass allocates
        started = time.monotonic()
        sum(work(0, rows).values()).backward()
    work.zero_grad()
    return time.monotonic() - started
