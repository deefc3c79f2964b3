"""Every text of the interface, one file a language: another language is another file."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def words(language: str = "en") -> dict[str, Any]:
    """The texts as a nested dict, one section per module."""
    return yaml.safe_load(files(__name__).joinpath(f"{language}.yaml").read_text(encoding="utf-8"))
