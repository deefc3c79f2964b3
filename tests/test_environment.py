"""`emoreason env` on this machine and on a broken one; the choice of the number type."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emoreason.apps.cli.main import execute
from emoreason.core import device
from emoreason.core.environment import PACKAGES, REPAIR, describe, explain_pair
from emoreason.core.errors import UsageError


def test_it_tells_versions_device_number_type_and_why(capsys):
    assert execute(["env"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for word in (*PACKAGES, "python", "device", "dtype", "why", "a matching pair", torch.__version__):
        assert word in printed.out
    assert device.choose("auto").reason in printed.out


def broken(folder: Path, package: str, content: str) -> dict[str, str]:
    """An environment whose `package` cannot be imported."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(content)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


BREAKS = {
    "torchvision of another build": (
        "torchvision",
        "raise RuntimeError('operator torchvision::nms does not exist\\nsecond line')",
        "operator torchvision::nms does not exist",
    ),
    "torchvision half imported": ("torchvision", "import torchvision; torchvision.extension", "were not built for"),
    "torchvision of another CUDA": ("torchvision", "raise OSError('libcudart.so.13: not found')", "libcudart"),
    "torch without its libraries": ("torch", "raise OSError('libtorch.so: not found')", "torch cannot be imported"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_pair_is_recognised_and_told_how_to_repair(tmp_path, name):
    package, content, symptom = BREAKS[name]
    environment = broken(tmp_path, package, content)
    done = subprocess.run([sys.executable, "-m", "emoreason", "env"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert symptom in line and line.endswith(f"type  {REPAIR}")
    assert "torchvision" in done.stdout and "matching pair" not in done.stdout


def test_the_broken_pair_is_recognised_where_it_hurts(tmp_path, astronaut):
    """Not only by those who know of `emoreason env`."""
    environment = broken(tmp_path, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    command = [sys.executable, "-m", "emoreason", "explain", str(astronaut), "--model", "ViT-B-32/openai"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: torch ") and "were not built for each other" in line and REPAIR in line


def test_describe_never_raises_and_names_no_problem_here():
    assert describe().problems == []


def test_the_explanation_names_both_versions():
    text = explain_pair("2.13.0+cpu", "0.28.0+cu130", "symptom")
    assert "2.13.0+cpu" in text and "0.28.0+cu130" in text and "symptom" in text and REPAIR in text


# ---- device and number type ----------------------------------------------------------------------


def test_the_choice_is_the_same_every_time():
    found = {(device.choose.__wrapped__("cpu").dtype, device.choose.__wrapped__("cpu").reason) for _ in range(20)}
    assert len(found) == 1


def test_bfloat16_is_chosen_exactly_where_the_processor_has_it():
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or "flags" not in flags.read_text():
        pytest.skip("no flags of the processor to compare with")
    words = next(line for line in flags.read_text().splitlines() if line.startswith("flags")).split()
    expected = tuple(unit for unit in device.BF16_UNITS if unit in words)
    assert device.bf16_units() == expected
    chosen = device.choose("cpu")
    assert chosen.dtype == ("bfloat16" if expected else "float32")
    assert ", ".join(expected) in chosen.reason and chosen.torch_dtype is getattr(torch, chosen.dtype)


def test_older_torch_is_asked_by_its_private_names():
    """Those of this torch agree with the public answer."""
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch is an older one itself")
    private = {unit: getattr(torch.cpu, name)() for unit, name in device.BF16_UNITS.items()}
    assert private["avx512_bf16"] == ("avx512_bf16" in device.bf16_units())
    assert private["amx_bf16"] >= ("amx_bf16" in device.bf16_units())


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", "cpu:1", "", "cuda:99"])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(UsageError, match="use auto"):
        device.choose(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_computes_in_the_type_it_has_units_for():
    chosen = device.choose("auto")
    assert chosen.device == "cuda" and chosen.dtype == (
        "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"
    )
