"""Compares three ways of computing a training step of the language model: conversations per second, and memory.

    python eval/bench_words.py described/train.jsonl -o eval/results/words

padded, whole     random batches, padded to the longest; logits and loss at every token (a plain training loop)
padded, answers   the same batches; logits and loss only at the tokens of the answers
packed, answers   the same conversations in one row, each attending to itself; used by `emoreason finetune`

All three get the same conversations in the same order and take turns in one process. On a CPU, the seconds are CPU
seconds of this process, so other work on the machine does not count. `two-part` is the mix of ExpLLM's recipe: three
questions for the label to one description.
"""

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

from emoreason.core import device
from emoreason.core.environment import describe
from emoreason.core.malloc import give_back_memory
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.data import messages
from emoreason.data.messages import EXPLLM_LABEL_QUESTION
from emoreason.explain.prompts import load_prompts
from emoreason.models.bundle import find_bundle
from emoreason.models.vlm import VisionLanguageModel
from emoreason.train.processes import make_accelerator
from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.encoding import IGNORED, Coder, collate
from emoreason.train.text.explainer import build
from emoreason.train.text.packing import NAME, use_packed
from emoreason.train.text.steps import run_model
from emoreason.train.text.texts import Set, Texts, encode_set
from emoreason.train.text.token_loss import token_loss

WAYS = ("padded, whole", "padded, answers", "packed, answers")


def loss(vlm: VisionLanguageModel, data: Set, rows: list[int], way: str) -> torch.Tensor:
    items = [data.encoded[row] for row in rows]
    if way == "padded, whole":
        items = [replace(item, written=(True,) * len(item)) for item in items]
    packed = way.startswith("packed")
    vlm.language.config._attn_implementation = NAME if packed else "sdpa"
    batch = collate(items, vlm.tokenizer.pad, packed)
    hidden = run_model(vlm, batch, vlm.encoder.patches(data.tensor(rows)))
    targets = torch.where(batch.targets < 0, IGNORED, batch.targets).to(hidden.device)
    if way == "padded, whole":
        return F.cross_entropy(vlm.head(hidden).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    wanted = targets >= 0
    if way == "padded, answers":
        return F.cross_entropy(vlm.head(hidden[wanted]), targets[wanted])
    return token_loss(vlm, hidden[wanted], targets[wanted]) / wanted.sum()


def label_question(conversation: Conversation) -> Conversation:
    """A question for the label of the same face, as in ExpLLM's recipe."""
    votes = (conversation.evidence or {})["votes"]
    question = IMAGE + load_prompts().turn(EXPLLM_LABEL_QUESTION)
    answer = Message("assistant", max(votes, key=votes.__getitem__))
    return replace(conversation, messages=(Message("user", question), answer), evidence=None)


class Memory:
    """Peak memory of a step above the memory before it. Sampled on a CPU, counted by torch on CUDA."""

    def __init__(self, cuda: bool):
        self.cuda, self.peak, self.running = cuda, 0, False

    def measure(self, work: Callable[[], None]) -> int:
        give_back_memory()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            work()
            return torch.cuda.max_memory_allocated() - before
        before, self.peak, self.running = _resident(), 0, True
        thread = threading.Thread(target=self._watch)
        thread.start()
        work()
        self.running = False
        thread.join()
        return self.peak - before

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, _resident())
            time.sleep(0.02)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("described", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    bundle = find_bundle("mini")
    assert bundle is not None
    own = str(bundle.folder / "explainer")
    compute = device.choose()
    vlm = build(ExplainerConfig(start=own, vocabulary=own), compute)
    vlm.projector.requires_grad_(True)
    trained = list(vlm.projector.parameters())
    for name, parameter in vlm.language.named_parameters():
        parameter.requires_grad_("lora_" in name)
        trained += [parameter] if "lora_" in name else []
    optimizer, accelerator = torch.optim.AdamW(trained, lr=1e-6), make_accelerator(compute)
    vlm.train()
    use_packed(vlm.language)
    n = options.batch * options.rounds
    described = list(islice(messages.read(options.described), n))
    mixed = [c if i % 4 == 0 else label_question(c) for i, c in enumerate(described)]
    cuda = compute.device.startswith("cuda")
    results = {}
    for name, conversations in (("described", described), ("two-part", mixed)):
        texts = Texts([(options.described, c) for c in conversations], False, "", "")
        data = encode_set(texts, Coder(vlm, 512), vlm.encoder)
        lengths = [len(item) for item in data.encoded]
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        memory = dict.fromkeys(WAYS, 0)
        for turn in range(-1, options.rounds):  # turn -1 is a warm-up
            rows = list(range(max(turn, 0) * options.batch, (max(turn, 0) + 1) * options.batch))
            for way in WAYS:

                def step(rows: list[int] = rows, way: str = way, data: Set = data) -> None:
                    with accelerator.autocast():
                        value = loss(vlm, data, rows, way)
                    value.backward()
                    optimizer.step()
                    optimizer.zero_grad()

                if turn < 0:
                    rows = rows[:2]
                    step(rows)
                    continue
                clock = time.monotonic if cuda else time.process_time
                torch.cuda.synchronize() if cuda else None
                started = clock()
                used = Memory(cuda).measure(step)
                torch.cuda.synchronize() if cuda else None
                seconds[way].append(clock() - started)
                memory[way] = max(memory[way], used)
                print(f"{name}, {way}: {seconds[way][-1]:.1f} s, {used / 2**20:.0f} MiB", flush=True)
        ways = {
            way: {
                "samples_per_s": options.batch * options.rounds / sum(seconds[way]),
                "times": sum(seconds[WAYS[0]]) / sum(seconds[way]),
                "peak_mib": memory[way] / 2**20,
            }
            for way in WAYS
        }
        results[name] = {
            "conversations": len(data),
            "tokens_mean": statistics.mean(lengths),
            "tokens_max": max(lengths),
            "learned_mean": statistics.mean(item.learned for item in data.encoded),
            "ways": ways,
        }
    report = {"batch": options.batch, "rounds": options.rounds, "device": compute.device,
              "dtype": compute.dtype, "threads": torch.get_num_threads(), "results": results,
              "environment": describe().text}  # fmt: skip
    text = table(report)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{compute.device}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (options.out / f"{compute.device}.md").write_text(text + "\n", encoding="utf-8")


def table(report: dict) -> str:
    lines = [
        f"Batches of {report['batch']}, {report['rounds']} of each, {report['device']} ({report['threads']} threads), "
        f"{report['dtype']}.",
        "",
        "| conversations | tokens, mean / most | way | conversations/s | times | memory above the weights |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, found in report["results"].items():
        for way, figures in found["ways"].items():
            tokens = f"{found['tokens_mean']:.0f} / {found['tokens_max']}"
            lines.append(f"| {name} | {tokens} | {way} | {figures['samples_per_s']:.2f} | {figures['times']:.2f} | "
                         f"{figures['peak_mib']:.0f} MiB |")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
