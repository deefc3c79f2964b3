"""All texts of the page. Each language has its own YAML file."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def words(language: str = "en") -> dict[str, Any]:
    """The texts as a nested dict, with one section per module."""
    return yaml.safe_load(files(__name__).joinpath(f"{language}.yaml").read_text(encoding="utf-8"))
