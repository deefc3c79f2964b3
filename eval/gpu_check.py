"""Runs everything that needs CUDA in under 8 minutes, and prints a Markdown table with one row for each check.

    python eval/gpu_check.py -o gpu.json
    python eval/gpu_check.py --only 0.5B encoder     only the checks with one of these words in their name
    python eval/gpu_check.py --smoke                 tiny shapes on a CPU, to test this script

The language models are random, in the shapes of Qwen2 0.5B and Llama 7B (Vicuna 7B), and made here: nothing is
downloaded, and their texts mean nothing. Everything else is the package's own code: loading and quantizing, chat models
as explainers, the training loop, the mini. Every check runs in its own process with a time limit, so a failure, a
crash or a stuck kernel costs one row. The 7B weights need 14 GB of disk (--work) and, in bfloat16, 20 GB on the GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {"kind": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
             "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "7B": {"kind": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
           "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
           "tie_word_embeddings": False},
}  # fmt: skip
TINY = {"vocab_size": 1200, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
BATCH, STEPS, NEW_TOKENS, CROPS = 8, 8, 64, 512
GB = 1e9


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    setting: str = ""
    seconds: float = 0.0
    throughput: str = ""
    memory: str = ""
    result: str = "ok"


@dataclass(frozen=True)
class Place:
    """Where a check runs. The models that an earlier check made or trained are in the folder."""

    folder: Path
    device: str
    smoke: bool

    def amount(self, many: int, few: int) -> int:
        return few if self.smoke else many


@dataclass(frozen=True)
class Figures:
    throughput: str
    memory: str
    setting: str


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[Place], Figures]
    limit: float = 75.0  # seconds, with the start of Python


# ---- measuring -------------------------------------------------------------------------------------------------------


def now(place: Place) -> float:
    """The time when everything asked for so far is computed."""
    if place.device != "cpu":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def allocated(place: Place) -> float:
    if place.device == "cpu":
        return 0.0
    import torch

    return torch.cuda.memory_allocated() / GB


def memory(place: Place, weights: float = 0.0) -> str:
    """The peak of the GPU (of the process, on a CPU), and what the weights take."""
    import torch

    from emoreason.train.processes import peak_memory

    peak = f"{peak_memory(torch.device(place.device)) / GB:.2f} GB at the peak"
    return f"{weights:.2f} GB of weights, {peak}" if weights else peak


def compute_of(place: Place) -> Any:
    from emoreason.core.device import choose

    return choose(place.device)


# ---- language models -------------------------------------------------------------------------------------------------


def make_language(place: Place, shape: str) -> Figures:
    """Saves a random language model of this shape in bfloat16, with a small tokenizer."""
    import torch
    import transformers as hf

    from emoreason.train.recipes.smoke_texts import save_tokenizer

    sizes = SHAPES[shape] | (TINY if place.smoke else {})
    kind, folder = sizes.pop("kind"), place.folder / shape
    tokenizer = save_tokenizer(folder, kind)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = (hf.Qwen2Config if kind == "qwen2" else hf.LlamaConfig)(**sizes, **special)
    torch.manual_seed(0)
    with torch.device(place.device):
        model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Figures("", memory(place), f"{model.num_parameters() / 1e9:.2f} B parameters, {size / GB:.2f} GB on disk")


def write_texts(place: Place, shape: str, quantize: str) -> Figures:
    """Loads the model as `text:FOLDER`, and has it write and score labels."""
    from emoreason.core.messages import Message
    from emoreason.explain.backends.transformers_chat import TransformersChat

    chat = TransformersChat.load(str(place.folder / shape), compute_of(place), quantize or None)
    weights = allocated(place)
    chat.model.generation_config.eos_token_id = None  # a random model would stop anywhere
    asked = [Message("user", "The measured movements of the face: lip corner puller, marked. " * 8)]

    def seconds(tokens: int) -> float:
        chat.most_tokens = tokens
        start = now(place)
        list(chat.complete(asked))
        return now(place) - start

    seconds(4)  # the first call compiles and fills caches
    new = place.amount(NEW_TOKENS, 4)
    first, whole = seconds(1), seconds(1 + new)
    scores = chat.score(asked, (), LABELS)
    if scores is None or not np.isfinite(scores).all():
        raise RuntimeError(f"the scores of the labels are {scores}")
    rate = f"{new / (whole - first):.1f} tokens/s" if whole > first else "too few tokens to time"
    said = f"{rate}, {1e3 * first:.0f} ms to the first"
    return Figures(said, memory(place, weights), f"{new} tokens, one text at a time")


# ---- training --------------------------------------------------------------------------------------------------------


def encoder_for_training(place: Place) -> Any:
    """A random CLIP, which needs no weights; the mini in the smoke test."""
    from emoreason.models.encoder import Encoder, create_clip, load_encoder

    if place.smoke:
        return load_encoder("mini", compute_of(place))
    clip, tokenizer = create_clip("ViT-B-32")
    return Encoder(clip, tokenizer, "ViT-B-32/random", "random", compute_of(place))


def adapter(place: Place, shape: str, quantize: str) -> Path:
    return place.folder / f"{shape}-{quantize or 'bf16'}-trained"


def train_texts(place: Place, shape: str, quantize: str) -> Figures:
    """A few steps of an explainer recipe on made-up conversations: LoRA on all linear layers, and the projector."""
    from emoreason.train.recipes.smoke_texts import smoke_config
    from emoreason.train.settings import LoopSettings
    from emoreason.train.text.config import ExplainerConfig, Run, Stage
    from emoreason.train.text.explainer import Trainer

    steps, encoder = place.amount(STEPS, 2), encoder_for_training(place)
    out = adapter(place, shape, quantize)
    config = smoke_config(ExplainerConfig(), place.folder / f"{out.name}-data")
    config = replace(
        config, encoder=encoder.name, language=str(place.folder / shape), quantize=quantize, device=place.device,
        out=str(out), data=replace(config.data, holdout="", validation=""),
        align=Stage(steps=0), tune=Stage(steps=steps, lr=2e-4, batch_size=place.amount(BATCH, 2), verdict_every=0),
        run=Run(checkpointing=shape == "7B", max_tokens=place.amount(768, 256)),
        loop=LoopSettings(log_every=1, checkpoint_every=1000),
    )  # fmt: skip
    ends: list[float] = []

    def notify(text: str) -> None:
        if '"step"' in text:
            ends.append(now(place))

    trainer = Trainer(config, notify, encoder)
    weights = allocated(place)
    trainer.fit()
    step = float(np.median(np.diff(ends)))  # without the first, which compiles and fills caches
    tokens = config.tune.batch_size * float(np.mean([len(item) for item in trainer.train.encoded]))
    rate = f"{1e3 * step:.0f} ms a step, {tokens / step:.0f} tokens/s"
    setting = f"{config.tune.batch_size} texts, about {tokens:.0f} tokens a step, rank {config.lora.r}"
    return Figures(rate, memory(place, weights), setting)


def own_explainer(place: Place, shape: str, quantize: str) -> Figures:
    """Loads what `train_texts` saved, and explains made-up faces."""
    from emoreason.explain.backends.factory import load_explainer

    explainer = load_explainer(
        str(adapter(place, shape, quantize)),
        quantize=quantize or None,
        device=place.device,
        encoder=encoder_for_training(place),
    )
    return explain(place, explainer)


def explain(place: Place, explainer: Any) -> Figures:
    """Texts for a batch of random pictures with made-up measurements."""
    from PIL import Image

    from emoreason.explain.explanation import Subject, consume
    from emoreason.explain.sheet import Sheet
    from emoreason.train.recipes.mini_geometry import UNITS

    rng, n = np.random.default_rng(0), place.amount(BATCH, 1)
    shares = rng.dirichlet(np.full(len(LABELS), 0.3), n)
    subjects = [
        Subject(
            Sheet(
                {unit.code: float(rng.random()) for unit in UNITS}, dict(zip(LABELS, map(float, share), strict=True))
            ),
            Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)),
        )
        for share in shares
    ]
    weights = allocated(place)
    if not place.smoke:
        consume(explainer.explain(subjects[:1]))
    start = now(place)
    explanations = consume(explainer.explain(subjects))
    seconds = now(place) - start
    tokens = sum(explainer.count_tokens(explanation.text) for explanation in explanations)
    if not all(explanation.text for explanation in explanations):
        raise RuntimeError("a text is empty")
    return Figures(
        f"{n / seconds:.2f} faces/s, {tokens / seconds:.0f} tokens/s", memory(place, weights), f"{n} faces at once"
    )


# ---- the mini --------------------------------------------------------------------------------------------------------


def encode(place: Place) -> Figures:
    """The mini's encoder on random crops, compared with a CPU in float32."""
    from emoreason.core.device import Compute
    from emoreason.models.encoder import load_encoder

    encoder = load_encoder("mini", compute_of(place))
    exact = load_encoder("mini", Compute("cpu", "float32", "a comparison"))
    n, rng = place.amount(4096, 8), np.random.default_rng(0)
    pixels = rng.integers(0, 255, (n, encoder.size, encoder.size, 3), dtype=np.uint8)
    few = pixels[:16]
    cosine = float((encoder.encode_pixels(few).embedding * exact.encode_pixels(few).embedding).sum(1).min())
    if cosine < 0.99:
        raise RuntimeError(f"the embeddings differ from a CPU's: cosine {cosine:.4f}")
    batch = min(n, 512)
    encoder.encode_pixels(pixels[:batch])
    start = now(place)
    for at in range(0, n, batch):
        encoder.encode_pixels(pixels[at : at + batch])
    rate = n / (now(place) - start)
    setting = f"{n} crops in batches of {batch}, {encoder.compute.dtype}; smallest cosine to float32 {cosine:.4f}"
    return Figures(f"{rate:.0f} faces/s", memory(place), setting)


def label(place: Place) -> Figures:
    """`emoreason label --no-detect`, from files to rows."""
    from bench_label import label_files, write_crops

    import emoreason
    from emoreason.label import LabelJob

    reasoner = emoreason.load("mini", device_name=place.device, explainer="none")
    n = place.amount(CROPS, 4)
    write_crops(place.folder / "crops", n, None)
    job = LabelJob((str(place.folder / "crops"),), detect=False)
    sources = job.sources()
    label_files(reasoner, job, sources[: n // 2])
    start = now(place)
    rows = label_files(reasoner, job, sources)
    seconds = now(place) - start
    if rows != n:
        raise RuntimeError(f"{rows} rows for {n} crops")
    return Figures(f"{n / seconds:.0f} faces/s", memory(place), f"{n} crops of the example picture, files to rows")


def explain_mini(place: Place) -> Figures:
    from emoreason.explain.backends.factory import load_explainer

    explainer = load_explainer("auto", device=place.device)
    if explainer is None:
        raise RuntimeError("the mini has no explainer here")
    return explain(place, explainer)


# ---- all of them -----------------------------------------------------------------------------------------------------


def checks() -> list[Check]:
    """In order of what matters if time runs out."""
    found = [
        Check("encoder of the mini", encode),
        Check("label with the mini", label),
        Check("explainer of the mini", explain_mini),
    ]
    for shape in SHAPES:
        found.append(Check(f"make {shape}", lambda place, s=shape: make_language(place, s), 100))
        for level, name in (("4bit", "nf4 QLoRA"), ("", "bf16 LoRA")):
            found.append(Check(f"train {shape}, {name}", lambda place, s=shape, q=level: train_texts(place, s, q)))
        for level in ("4bit", "8bit", ""):
            found.append(Check(f"write with {shape}, {level or 'bf16'}",
                               lambda place, s=shape, q=level: write_texts(place, s, q)))  # fmt: skip
        found.append(Check(f"explain with {shape} as trained, 4bit",
                           lambda place, s=shape: own_explainer(place, s, "4bit")))  # fmt: skip
    return found


def run_here(check: Check, place: Place) -> Row:
    """Runs a check in this process. An error becomes the row's result."""
    start = time.perf_counter()
    try:
        figures = check.run(place)
    except Exception as error:
        return Row(check.name, seconds=time.perf_counter() - start, result=f"failed: {reason(error)}")
    seconds = time.perf_counter() - start
    return Row(check.name, figures.setting, seconds, figures.throughput, figures.memory)


def run_alone(check: Check, place: Place, limit: float) -> Row:
    """Runs a check in a process of its own, which is killed at the limit."""
    command = [sys.executable, __file__, "--work", str(place.folder), "--one", check.name]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        return Row(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        result = f"failed: over its limit of {limit:.0f} s"
    except (IndexError, ValueError, TypeError):  # it ended without a row: killed, or crashed
        said = done.stderr.strip().splitlines() or ["no message"]
        result = f"failed: ended with {done.returncode}: {said[-1][:200]}"
    return Row(check.name, seconds=time.perf_counter() - start, result=result)


def run_all(chosen: list[Check], place: Place, minutes: float) -> Iterator[Row]:
    end = time.monotonic() + 60 * minutes
    for check in chosen:
        left = end - time.monotonic()
        if place.smoke:
            yield run_here(check, place)
        elif left < 10:
            yield Row(check.name, result="not run: no time was left")
        else:
            yield run_alone(check, place, min(check.limit, left))


def reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def line(row: Row) -> str:
    cells = (row.check, row.setting, f"{row.seconds:.1f} s", row.throughput, row.memory, row.result)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


HEAD = "| step | setting | time, with loading | throughput | memory | result |\n| --- | --- | ---: | --- | --- | --- |"


def machine(device: str) -> str:
    import torch

    found = {package.metadata["Name"]: package.version for package in distributions()}
    names = ("torch", "transformers", "peft", "bitsandbytes")
    versions = ", ".join(f"{name} {found.get(name, 'not installed')}" for name in names)
    if device == "cpu":
        return f"a CPU, {versions}"
    gpu = torch.cuda.get_device_properties(0)
    return f"{gpu.name}, {gpu.total_memory / GB:.0f} GB, {versions}"


def main(arguments: list[str] | None = None) -> int:
    """0: every check passed; 1: one failed or was not run; 2: there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU, all in this process")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only checks with one of these words in their name")
    parser.add_argument("--minutes", type=float, default=7.5, help="no check runs longer than this after the start")
    parser.add_argument("--work", type=Path, help="folder for the models (15 GB), kept; by default a temporary one")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(arguments)
    every = {check.name: check for check in checks()}
    if options.one:
        print("\n" + json.dumps(asdict(run_here(every[options.one], Place(options.work, "cuda", False)))))
        return 0
    import torch

    if not options.smoke and not torch.cuda.is_available():
        print(
            "There is no CUDA device here, and these checks need one. `emoreason env` says what torch sees; a build of "
            "torch for CPUs sees no GPU. To try the script itself on a CPU: python eval/gpu_check.py --smoke",
            file=sys.stderr,
        )
        return 2
    device = "cpu" if options.smoke else "cuda"
    chosen = [c for c in every.values() if not options.only or any(word in c.name for word in options.only)]
    if not chosen:
        parser.error(f"--only {' '.join(options.only)}: the checks are {', '.join(every)}")
    print(f"{machine(device)}\n\n{HEAD}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for row in run_all(chosen, Place(folder, device, options.smoke), options.minutes):
            rows.append(row)
            print(line(row), flush=True)
            if options.output:
                report = {"machine": machine(device), "rows": [asdict(row) for row in rows]}
                options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(any(row.result != "ok" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
