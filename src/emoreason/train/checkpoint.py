"""What a run that was killed needs to go on exactly. It never leaves the run folder."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emoreason.core.errors import EmoreasonError, first_line


def write_checkpoint(path: Path, state: dict[str, Any], also: Callable[[], None] = lambda: None) -> None:
    """Replace the checkpoint: the old one or the new one is there, never half of one. It is torch's own format.

    also: what is to be replaced with it; called when the new file is complete."""
    fresh = path.with_suffix(".tmp")
    try:
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        also()
        fresh.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        fresh.unlink(missing_ok=True)
        before = f"the one before it is whole: free space, then --resume ({path})"
        kept = before if path.is_file() else "there is none before it"
        raise EmoreasonError(f"the checkpoint cannot be written ({error}); {kept}") from None


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote, read as weights only; None where there is none."""
    if not path.is_file():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file makes the reader raise almost anything
        reason = first_line(error).partition(". ")[0]
        raise EmoreasonError(f"{path} is damaged ({reason}); --overwrite trains again") from None


class Checkpoints:
    """One checkpoint, replaced when the next one is whole. It is torch's own format, read back as weights only."""

    def __init__(self, out: Path, accelerator: Any, spread: bool):
        self.file, self.folder = out / "checkpoint.pt", out / "checkpoint"
        self.accelerator, self.spread = accelerator, spread
        out.mkdir(parents=True, exist_ok=True)

    def write(self, state: dict[str, Any], best: dict[str, Tensor], work: Any, optimizer: Any) -> None:
        kept = {"state": state, "best": best}
        if self.spread:  # every process writes its own piece
            self.accelerator.save_state(str(self._fresh))
        else:
            kept |= {"learned": work.learned(), "optimizer": optimizer.state_dict()}
        if self.accelerator.is_main_process:
            write_checkpoint(self.file, kept, self._replace_folder if self.spread else lambda: None)
        self.accelerator.wait_for_everyone()

    @property
    def _fresh(self) -> Path:
        return self.folder.with_name("checkpoint.new")

    def _replace_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._fresh.replace(self.folder)

    def read(self, work: Any, optimizer: Any) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if (kept := read_checkpoint(self.file)) is None:
            return None
        if self.spread:
            self.accelerator.load_state(str(self.folder))
        else:
            work.load_learned(kept["learned"])
            optimizer.load_state_dict(kept["optimizer"])
        return kept["state"], kept["best"]

    def whole(self, work: Any, model: nn.Module) -> dict[str, Tensor]:
        """What was learned, in one piece on every process."""
        if not self.spread:
            return work.learned()
        gathered = self.accelerator.get_state_dict(model)
        names = work.learned_names()
        return {name: value for name, value in gathered.items() if name in names}

    def keep_bad(self, number: int, rows: Sequence[int], values: dict[str, float], inputs: dict[str, Tensor]) -> Path:
        from safetensors.torch import save_file

        place = self.file.with_name(f"bad-step-{number + 1}.safetensors")
        told = {"step": str(number + 1), "rows": json.dumps([int(row) for row in rows]), "losses": json.dumps(
            {name: str(value) for name, value in values.items()})}  # fmt: skip
        save_file({name: value.detach().cpu().contiguous() for name, value in inputs.items()}, place, told)
        return place
