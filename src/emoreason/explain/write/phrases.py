"""Loads the phrases of `prompts/`."""

from functools import cache
from typing import Any

from emoreason.core.resources import resource


@cache
def load_phrases(name: str) -> dict[str, Any]:
    """A file of `prompts/`."""
    import yaml

    return yaml.safe_load(resource(f"prompts/{name}.yaml").read_text(encoding="utf-8"))
