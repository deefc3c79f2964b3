"""Measures how fast the image tower trains, compared with what this machine's processor (or GPU) can compute.

    python eval/bench_tune.py -o eval/results/finetune/speed.json

Machine: the rate of a large matrix product, and of each convolution of the tower, forward and backward. Training: the
package's own loop on noise, which takes as long as faces; with `full`, a face costs as much arithmetic as three forward
passes. Every way runs in its own process, so that its peak memory can be measured.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

FACES, BATCH, STEPS = 256, 64, 12
WAYS = {
    "head on features": {"what": "head"},
    "lora": {"what": "lora"},
    "full": {"what": "full"},
    "full, checkpointing": {"what": "full", "checkpointing": True},
    "full, micro-batches of 16": {"what": "full", "micro": 16},
}


def machine(dtype: str, device: str) -> dict[str, float]:
    """GFLOP/s of a matrix product, and of the tower's convolutions forward and backward."""
    import torch

    from emoreason.core.device import Compute
    from emoreason.models.encoder import load_encoder

    kind = getattr(torch, dtype)
    size = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    matmul = _rate(lambda: a @ b, 2 * size**3, device)
    encoder = load_encoder("mini", Compute(device, "float32", "a measurement"))
    layers = _convolutions(encoder, device)
    flops, seconds = 0.0, 0.0
    for layer, inputs in layers:
        layer = layer.to(kind).requires_grad_(True)
        x = inputs.to(kind).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        y = layer(x)
        gradient = torch.ones_like(y)
        work = 3 * 2 * y.numel() * layer.weight[0].numel()

        def both(layer=layer, x=x, gradient=gradient) -> None:
            torch.autograd.grad(layer(x), [x, layer.weight], gradient)

        flops += work
        seconds += work / _rate(both, work, device) / 1e9
    return {"matmul": matmul, "convolutions": flops / seconds / 1e9, "flops_a_face": flops / BATCH}


def _convolutions(encoder, device: str) -> list:  # noqa: ANN001
    """Every convolution, with its input for one batch."""
    import torch

    layers: list = []
    hooks = [
        module.register_forward_hook(lambda layer, inputs, _: layers.append((layer, inputs[0].detach())))
        for module in encoder.visual.modules()
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size[0] > 1
    ]
    with torch.no_grad():
        encoder.visual(torch.rand(BATCH, 3, encoder.size, encoder.size, device=device))
    for hook in hooks:
        hook.remove()
    return layers


def _rate(call, flops: float, device: str) -> float:  # noqa: ANN001
    """GFLOP/s, as the median of several calls."""
    import torch

    times = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return flops / sorted(times[2:])[2] / 1e9


def train(what: str, dtype: str, device: str, checkpointing: bool, micro: int) -> dict[str, float]:
    """Faces per second of the loop after its first steps, and the peak memory."""
    import tempfile

    import numpy as np

    from emoreason.core.device import Compute
    from emoreason.models.encoder import load_encoder
    from emoreason.train.finetune_config import FinetuneConfig, HeadTraining, LoopSettings, TowerTraining
    from emoreason.train.heads.training import HeadData, train_head
    from emoreason.train.loop import fit
    from emoreason.train.processes import make_accelerator
    from emoreason.train.tower.lora import make_tower
    from emoreason.train.tower.steps import Crops, TowerTask

    rng = np.random.default_rng(0)
    targets = np.eye(8, dtype=np.float32)[rng.integers(0, 8, FACES)]
    weight = rng.normal(size=(8, 384)).astype(np.float32)
    if what == "head":
        n, epochs = 25_000, 10
        features = HeadData(rng.normal(size=(n, 384)).astype(np.float32), np.eye(8, dtype=np.float32)[np.arange(n) % 8])
        few = HeadData(features.features[:64], features.targets[:64])
        start = time.perf_counter()
        train_head(weight, 1.0, features, few, HeadTraining(epochs=epochs, patience=epochs), 0)
        return {"faces_per_second": n * epochs / (time.perf_counter() - start), "peak_gb": _peak(device)}
    compute = Compute(device, dtype, "a measurement")
    encoder = load_encoder("mini", compute)
    config = FinetuneConfig(what=what, tower=TowerTraining(batch_size=BATCH, checkpointing=checkpointing))
    tower = make_tower(encoder, what, config.lora, weight, np.zeros(8, np.float32)).to(device)
    if checkpointing:
        encoder.visual.set_grad_checkpointing(True)
    pixels = rng.integers(0, 255, (FACES, encoder.size, encoder.size, 3), dtype=np.uint8)
    work = TowerTask(tower, Crops(pixels, targets), Crops(pixels[:0], targets[:0]), config, encoder.normalise)
    with tempfile.TemporaryDirectory() as folder:
        loop = LoopSettings(micro_batch=micro, checkpoint_every=10_000)
        accelerator = make_accelerator(compute)
        fit(work, 3, 10_000, loop, Path(folder) / "warm", accelerator, 0)
        done = fit(work, STEPS, 10_000, loop, Path(folder) / "run", accelerator, 0)
    return {"faces_per_second": done.rows_per_second, "peak_gb": _peak(device)}


def _peak(device: str) -> float:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # settings of the measurement in a process of its own
    options = parser.parse_args()
    if options.one:
        settings = json.loads(options.one)
        print(json.dumps(machine(**settings) if "what" not in settings else train(**settings)))
        return
    dtypes = ("float32", "bfloat16")
    report: dict = {"processor": platform.processor() or platform.machine(), "device": options.device}
    for dtype in dtypes:
        report[f"machine, {dtype}"] = _in_process({"dtype": dtype, "device": options.device})
    for name, way in WAYS.items():
        for dtype in dtypes[: 1 if name.startswith("head") else 2]:
            settings = {"checkpointing": False, "micro": 0} | way
            report[f"{name}, {dtype}"] = _in_process(settings | {"dtype": dtype, "device": options.device})
    flops, rate = report["machine, float32"]["flops_a_face"], report["machine, float32"]
    for dtype in dtypes:
        reached = report[f"full, {dtype}"]["faces_per_second"] * flops / 1e9
        report[f"full, {dtype}"] |= {
            "gflops": reached, "of_fp32_matmul": reached / rate["matmul"],
            "of_fp32_convolutions": reached / rate["convolutions"],
        }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _in_process(settings: dict) -> dict:
    command = [sys.executable, __file__, "-o", "unused", "--one", json.dumps(settings)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
