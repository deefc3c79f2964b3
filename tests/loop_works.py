"""A training small enough to be killed, starved and poisoned: a linear map from 6 numbers to 3 classes."""

import os
import signal
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from emoreason.core.device import Compute
from emoreason.train.loop import FitResult, Step, Trainable, fit
from emoreason.train.processes import make_accelerator
from emoreason.train.settings import LoopSettings

ROWS, BATCH = 96, 16


class Lines(Trainable):
    """`kill_at`, `starve` and `poison` are what may happen to a training."""

    def __init__(self, kill_at: int = -1, starve: int = 0, poison: int = -1):
        super().__init__()
        chance = torch.Generator().manual_seed(1)
        self.x = torch.randn(ROWS, 6, generator=chance)
        self.y = (self.x @ torch.randn(6, 3, generator=chance)).argmax(dim=1)
        torch.manual_seed(5)
        self.map = torch.nn.Linear(6, 3)
        self.weights = {"labels": 1.0}
        self.held = 24
        self.kill_at, self.starve, self.poison = kill_at, starve, poison
        self.register_buffer("seen", torch.zeros(()))  # changes in training without a gradient

    def step(self, number):
        turn, place = divmod(number, ROWS // BATCH)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(turn)).tolist()
        return Step(tuple(order[place * BATCH : (place + 1) * BATCH]), {"labels": float(BATCH)})

    def forward(self, number, rows, held=False):
        rows = list(rows)
        if held:
            return {"held_out": F.cross_entropy(self.map(self.x[rows]), self.y[rows], reduction="sum")}
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.starve and len(rows) > self.starve:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        self.seen += len(rows)
        noisy = self.x[rows] + 0.1 * torch.randn(len(rows), 6) * (not self.starve)  # of torch's own generator
        loss = F.cross_entropy(self.map(noisy), self.y[rows], reduction="sum")
        return {"labels": loss * (float("nan") if number == self.poison else 1.0)}

    def groups(self):
        return [{"params": list(self.map.parameters()), "lr": 0.05, "weight_decay": 0.0}]

    def inputs(self, number, rows):
        return {"x": self.x[list(rows)], "y": self.y[list(rows)]}


def run(
    out: Path, steps: int = 30, notify=lambda text: None, settings: LoopSettings | None = None, **fate
) -> FitResult:
    compute = Compute("cpu", "float32", "a test")
    chosen = settings or LoopSettings(checkpoint_every=4, log_every=3, patience=9)
    return fit(Lines(**fate), steps, ROWS // BATCH, chosen, out, make_accelerator(compute), 7, notify)


if __name__ == "__main__":  # FOLDER KILL_AT [LARGEST_FILE]: a process of its own, to be killed or to fill a disk
    if len(sys.argv) > 3:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    from emoreason.core.errors import EmoreasonError

    try:
        fitted = run(Path(sys.argv[1]), kill_at=int(sys.argv[2]))
    except EmoreasonError as error:
        sys.exit(str(error))
    torch.save({"learned": fitted.learned, "step": fitted.step, "log": fitted.log}, Path(sys.argv[1]) / "result.pt")
