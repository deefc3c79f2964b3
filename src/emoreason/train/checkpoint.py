"""Checkpoints: everything that a killed run needs to continue exactly. They stay inside the run folder."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emoreason.core.errors import EmoreasonError, first_line


def write_checkpoint(path: Path, state: dict[str, Any], on_written: Callable[[], None] = lambda: None) -> None:
    """Replace the checkpoint atomically: a crash leaves the old file or the new one, never half of one.

    The format is torch's own. on_written: called when the new file is complete, just before it replaces the old one."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        on_written()
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        previous = f"the previous one is intact: free space, then --resume ({path})"
        hint = previous if path.is_file() else "there is no previous one"
        raise EmoreasonError(f"the checkpoint cannot be written ({error}); {hint}") from None


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Load a checkpoint with `weights_only=True`; None if there is no file."""
    if not path.is_file():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file makes the reader raise almost anything
        reason = first_line(error).partition(". ")[0]
        raise EmoreasonError(f"{path} is damaged ({reason}); --overwrite trains again") from None


class Checkpoints:
    """The checkpoint of `train/loop.py`: one file, and a folder beside it when the weights are sharded."""

    def __init__(self, out: Path, accelerator: Any, sharded: bool):
        self.file, self.folder = out / "checkpoint.pt", out / "checkpoint"
        self.accelerator, self.sharded = accelerator, sharded
        out.mkdir(parents=True, exist_ok=True)

    def write(self, state: dict[str, Any], best: dict[str, Tensor], work: Any, optimizer: Any) -> None:
        content = {"state": state, "best": best}
        if self.sharded:  # every process writes its own shard
            self.accelerator.save_state(str(self._new_folder))
        else:
            content |= {"learned": work.learned(), "optimizer": optimizer.state_dict()}
        if self.accelerator.is_main_process:
            write_checkpoint(self.file, content, self._replace_folder if self.sharded else lambda: None)
        self.accelerator.wait_for_everyone()

    @property
    def _new_folder(self) -> Path:
        return self.folder.with_name("checkpoint.new")

    def _replace_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._new_folder.replace(self.folder)

    def read(self, work: Any, optimizer: Any) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if (content := read_checkpoint(self.file)) is None:
            return None
        if self.sharded:
            self.accelerator.load_state(str(self.folder))
        else:
            work.load_learned(content["learned"])
            optimizer.load_state_dict(content["optimizer"])
        return content["state"], content["best"]

    def full_weights(self, work: Any, model: nn.Module) -> dict[str, Tensor]:
        """The trained weights, complete on every process."""
        if not self.sharded:
            return work.learned()
        gathered = self.accelerator.get_state_dict(model)
        names = work.learned_names()
        return {name: value for name, value in gathered.items() if name in names}

    def save_bad_step(
        self, number: int, rows: Sequence[int], values: dict[str, float], inputs: dict[str, Tensor]
    ) -> Path:
        """Save the batch whose loss was not finite, with its rows and losses as metadata."""
        from safetensors.torch import save_file

        path = self.file.with_name(f"bad-step-{number + 1}.safetensors")
        metadata = {"step": str(number + 1), "rows": json.dumps([int(row) for row in rows]), "losses": json.dumps(
            {name: str(value) for name, value in values.items()})}  # fmt: skip
        save_file({name: value.detach().cpu().contiguous() for name, value in inputs.items()}, path, metadata)
        return path
