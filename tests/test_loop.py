"""The training loop: what kills, starves or poisons a run changes nothing of what it learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from emoreason.core.errors import EmoreasonError
from emoreason.train.curve import draw
from emoreason.train.settings import LoopSettings
from loop_works import Lines, run

HERE = Path(__file__).parent


def script(folder: Path, kill_at: int, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(HERE / "loop_works.py"), str(folder), str(kill_at), *more]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_it_learns_and_keeps_the_best_weights(tmp_path):
    fitted = run(tmp_path)
    looks = {line["step"]: line["held_out"] for line in fitted.log if "held_out" in line}
    assert looks[fitted.step] == min(looks.values()) < looks[0] / 2
    losses = [line["labels"] for line in fitted.log if "labels" in line]
    assert losses[-1] < losses[0] and fitted.rows_per_second > 0 and fitted.peak_bytes > 0


@pytest.mark.parametrize("kill_at", [2, 4, 11, 29])
def test_a_run_that_is_killed_at_any_step_goes_on_exactly(tmp_path, kill_at):
    """Weights, optimizer, data order, random draws, log: bit by bit."""
    whole = run(tmp_path / "whole_")
    folder = tmp_path / "killed"
    folder.mkdir()
    assert script(folder, kill_at).returncode == -9
    assert not (folder / "result.pt").exists()
    assert script(folder, -1).returncode == 0
    again = torch.load(folder / "result.pt", weights_only=True)
    assert same(again["learned"], whole.learned) and again["step"] == whole.step
    assert again["log"] == whole.log


def test_micro_batches_change_nothing(tmp_path):
    whole = run(tmp_path / "a", starve=99)
    parts = run(tmp_path / "b", starve=99, settings=LoopSettings(micro_batch=3, log_every=3, patience=9))
    for name, value in whole.learned.items():
        assert torch.allclose(value, parts.learned[name], atol=1e-5), name


def test_out_of_memory_halves_once_and_says_so(tmp_path):
    said: list[str] = []
    starved = run(tmp_path / "a", starve=8, notify=said.append)
    assert said == ["out of memory with 16 rows at once: 8 from now on; the batch stays the same"]
    well_fed = run(tmp_path / "b", starve=99)
    assert torch.allclose(starved.learned["map.weight"], well_fed.learned["map.weight"], atol=1e-5)
    with pytest.raises(EmoreasonError, match=r"--loop.micro_batch 4 --resume"):
        run(tmp_path / "c", starve=7)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path):
    class Broken(Lines):
        def forward(self, number, rows, held=False):
            raise RuntimeError("shapes do not fit")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="shapes"):
        patch.setattr("loop_works.Lines", Broken)
        run(tmp_path)


def test_a_loss_that_is_no_number_stops_and_keeps_its_batch(tmp_path):
    with pytest.raises(EmoreasonError, match=r"step 10: the loss is not a number \(labels nan\)"):
        run(tmp_path, poison=9)
    with safe_open(tmp_path / "bad-step-10.safetensors", "pt") as file:
        assert file.get_tensor("x").shape == (16, 6) and file.metadata()["step"] == "10"
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]
    assert state["step"] == 8  # the one before it is whole


def test_a_full_disk_loses_no_checkpoint(tmp_path):
    """The second run may write files of 2,000 bytes only, and a checkpoint is larger."""
    assert script(tmp_path, 11).returncode == -9
    before = (tmp_path / "checkpoint.pt").read_bytes()
    full = script(tmp_path, -1, "2000")
    assert full.returncode == 1 and "cannot be written" in full.stderr and "--resume" in full.stderr
    assert "Traceback" not in full.stderr
    assert (tmp_path / "checkpoint.pt").read_bytes() == before and not (tmp_path / "checkpoint.tmp").exists()


def test_a_damaged_checkpoint_is_told(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(EmoreasonError, match=r"damaged .* --overwrite"):
        run(tmp_path)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    run(tmp_path, steps=8)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EmoreasonError, match="the data differs"):
        patch.setattr("loop_works.Lines.digest", "other data")
        run(tmp_path, steps=8)


def test_training_stops_when_held_out_rows_gain_nothing(tmp_path):
    fitted = run(tmp_path, steps=600, settings=LoopSettings(patience=2))
    assert fitted.log[-1]["step"] == fitted.step + 2 * 6 < 600


def test_losses_are_drawn_also_where_there_are_none():
    points = [(1.0, 2.0), (2.0, 1.0)]
    drawn = [draw({}, "step", "loss"), draw({"train": points, "held out": []}, "step", "loss"),
             draw({"train": points}, "step", "loss", kept=2)]  # fmt: skip
    assert all(picture.startswith(b"\x89PNG") for picture in drawn) and len(set(drawn)) == 3
    assert draw({"train": points}, "step", "loss") == drawn[1]
