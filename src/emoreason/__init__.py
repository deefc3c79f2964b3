"""Reads facial expressions and says why.

import emoreason
model = emoreason.load("mini")
analysis = model.analyze("photo.jpg")
print(analysis.faces[0].label, analysis.faces[0].confidence)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emoreason.analysis import Analysis, FaceAnalysis
    from emoreason.core.errors import EmoreasonError, UsageError
    from emoreason.reasoner import Reasoner, load

__version__ = "0.1.0"
__all__ = ["Analysis", "EmoreasonError", "FaceAnalysis", "Reasoner", "UsageError", "__version__", "load"]

_HOME = {
    "Analysis": "analysis",
    "FaceAnalysis": "analysis",
    "EmoreasonError": "core.errors",
    "UsageError": "core.errors",
    "Reasoner": "reasoner",
    "load": "reasoner",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `import emoreason` is fast."""
    if name not in _HOME:
        raise AttributeError(f"module 'emoreason' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"emoreason.{_HOME[name]}"), name)
